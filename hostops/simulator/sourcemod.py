"""The commands of the simulated console that a plugin of SourceMod brings: one, if its files are there.

Nothing of SourceMod itself runs, so that no file of it can be the wrong one for the game.
"""

from pathlib import Path

from hostops.simulator.game import Game
from hostops.simulator.player_commands import Act, join_steam_id
from hostops.simulator.players import Player

NEEDED = ("addons/metamod.vdf", "addons/sourcemod/plugins/basechat.smx")
"""MetaMod loads SourceMod, and that its plugin for talking."""

NOBODY = "[SM] No matching client was found."
SEVERAL = "[SM] More than one client matched the given pattern."


def find_commands(game: Game) -> dict[str, Act]:
    """Return the commands that the plugins in a game's tree have, by name."""
    if not all(_is_there(game.game_dir / name) for name in NEEDED):
        return {}

    def private_say(arguments: list[str], rest: str) -> None:
        arguments = join_steam_id(arguments, "#STEAM_")
        if len(arguments) < 2:
            game.print("[SM] Usage: sm_psay <name or #userid> <message>")
            return
        found = _find(game, arguments[0])
        if len(found) != 1:
            game.print(SEVERAL if found else NOBODY)
            return
        # All behind the target as it was typed, quotes too (`GetCmdArgString`, `BreakString`).
        text = _behind_first(rest)
        game.print(f"(Private to {found[0].name}) Console: {text}")
        game.log.write(
            f'"Console<0><Console><Console>" triggered sm_psay to {found[0].log_name("")}'
        )

    return {"sm_psay": private_say}


def _find(game: Game, target: str) -> list[Player]:
    """Return the people that a target means: `#` and a user id or Steam id, or a part of a name."""
    people = [player for player in game.players if not player.is_bot]
    if target.startswith("#"):
        return [one for one in people if target[1:] in (str(one.user_id), one.steam_id)]
    return [one for one in people if target.lower() in one.name.lower()]


def _behind_first(text: str) -> str:
    text = text.lstrip()
    if text.startswith('"'):
        return text[1:].partition('"')[2].lstrip()
    return text.partition(" ")[2].lstrip()


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False
