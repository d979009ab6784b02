"""Lines as srcds prints them, made up but in the real forms: what the benchmark of the console store stores."""

import random
from collections.abc import Iterator

PLAYERS = ("Nick", "Rochelle", "Coach", "Ellis", "Bill", "Zoey", "Francis", "Louis")
MAPS = ("c1m1_hotel", "c1m2_streets", "c2m1_highway", "c5m3_cemetery", "c8m4_interior")
WORDS = (
    "go",
    "wait",
    "tank",
    "boomer",
    "left",
    "behind",
    "you",
    "need",
    "pills",
    "heal",
    "run",
    "thanks",
)
WEAPONS = ("pistol", "autoshotgun", "rifle_ak47", "melee")
RARE_WORD = "zugzwang"


def make_lines(random_seed: int = 1) -> Iterator[str]:
    """Yield lines without end; the same ones for the same seed."""
    chance = random.Random(random_seed)
    below = chance.randrange
    number = 0
    while True:
        number += 1
        second = number // 3
        day, hour, minute = second // 86_400 % 28 + 1, second // 3_600 % 24, second // 60 % 60
        stamp = f"L 11/{day:02}/2026 - {hour:02}:{minute:02}:{second % 60:02}: "
        name = chance.choice(PLAYERS)
        player = f'"{name}<{below(900)}><STEAM_1:{below(2)}:{below(10**8)}><Survivor>"'
        words = " ".join(chance.choices(WORDS, k=6))
        address = f"{below(224)}.{below(256)}.{below(256)}.{below(256)}:{below(65536)}"
        match below(12):
            case 0:
                yield f'{stamp}{player} say "{words}"'
            case 1:
                yield f'{stamp}{player} connected, address "{address}"'
            case 2:
                yield f'{stamp}{player} disconnected (reason "Disconnect by user.")'
            case 3:
                yield f'{stamp}Loading map "{chance.choice(MAPS)}"'
            case 4:
                yield f'{stamp}rcon from "{address}": command "status"'
            case 5:
                yield f'{stamp}Server cvar "sv_tags" = "{words}"'
            case 6:
                yield f"Dropped {name} from server (Disconnect by user.)"
            case 7:
                yield f"Host_EndGame: {words} [{below(10**6)}]"
            case 8:
                times = f"{below(60)}:{below(60):02} {below(200)} 0 active 30000"
                yield f'# {below(900)} {below(8)} "{name}" STEAM_1:0:{below(10**8)} {times}'
            case _:
                victim = f'"Infected<{below(900)}><BOT><Infected>"'
                weapon = (
                    f'"{chance.choice(WEAPONS)}" (damage "{below(250)}") (health "{below(100)}")'
                )
                yield f"{stamp}{player} attacked {victim} with {weapon}"
