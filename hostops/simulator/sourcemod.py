"""What the simulated server has of SourceMod: its admins of the simple file, and the commands about them.

It is loaded if MetaMod and SourceMod lie in the tree as their archives have them, and has a command if the
plugin that brings it is there. Nothing of their code is run.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from hostops.simulator.command_buffer import NO_BREAKS, next_word
from hostops.simulator.players import Player

MAX_LINE_BYTES = 254
"""What its plugin reads of a line at a time; what is behind it is a line of its own."""

NEEDED = (
    "addons/metamod.vdf",
    "addons/metamod/sourcemod.vdf",
    "addons/sourcemod/bin/sourcemod_mm_i486.so",
)
FLAG_NAMES = {
    "a": "reservation",
    "b": "generic",
    "c": "kick",
    "d": "ban",
    "e": "unban",
    "f": "slay",
    "g": "map",
    "h": "cvars",
    "i": "cfg",
    "j": "chat",
    "k": "vote",
    "l": "pass",
    "m": "rcon",
    "n": "cheat",
    "o": "custom1",
    "p": "custom2",
    "q": "custom3",
    "r": "custom4",
    "s": "custom5",
    "t": "custom6",
    "z": "root",
}


class SourceMod:
    """SourceMod in one game. `admins` has flags by account, as every notation of a Steam id comes to one."""

    def __init__(self, game_dir: Path, print_line: Callable[[str], None]) -> None:
        self._dir = game_dir
        self._print = print_line
        self._is_loaded = False
        self.admins: dict[str, frozenset[str]] = {}

    def load(self) -> None:
        """Begin, if it is there, and read the admins."""
        self._is_loaded = all((self._dir / path).is_file() for path in NEEDED)
        self._read_admins()

    def carry_out(self, name: str, players: Iterable[Player]) -> bool:
        """Carry out a command, if it has that; return whether it has."""
        if name not in ("sm_reloadadmins", "sm_who") or not self._has_plugin("basecommands"):
            return False
        if name == "sm_reloadadmins":
            self._read_admins()
            self._print("[SM] Admin cache has been refreshed.")
        else:
            self._print(f"    {'Name':24} {'Username':18} Admin access")
            for player in players:
                access = self._access_of(player)
                self._print(f"{player.slot:2}. {player.name[:23]:24} {'':18} {access}")
        return True

    def _access_of(self, player: Player) -> str:
        flags = self.admins.get(player.steam_id.partition(":")[2], frozenset())
        if "z" in flags:
            return "root"
        return ", ".join(FLAG_NAMES[flag] for flag in sorted(flags)) or "none"

    def _has_plugin(self, name: str) -> bool:
        return self._is_loaded and (self._dir / f"addons/sourcemod/plugins/{name}.smx").is_file()

    def _read_admins(self) -> None:
        self.admins = {}
        if not self._has_plugin("admin-flatfile"):
            return
        try:
            content = (self._dir / "addons/sourcemod/configs/admins_simple.ini").read_bytes()
        except OSError:
            self._print("[SM] Could not open file!")
            return
        for whole in content.split(b"\n"):
            for start in range(0, len(whole) or 1, MAX_LINE_BYTES):
                line = whole[start : start + MAX_LINE_BYTES].decode("utf-8", "replace")
                self._read_line(_without_comment(line).strip())

    def _read_line(self, line: str) -> None:
        identity, rest = next_word(line, NO_BREAKS)
        flags, _ = next_word(rest, NO_BREAKS)
        account = _to_account(identity)
        if not account or not flags:
            return  # A name or an address, of which nobody here is an admin; or a bad line.
        letters = flags.rpartition(":")[2]
        if not letters.startswith("@"):
            known = frozenset(letters) & FLAG_NAMES.keys()
            self.admins[account] = self.admins.get(account, frozenset()) | known


def _without_comment(line: str) -> str:
    """Return a line up to `;` or `//` outside of quotes."""
    is_quoted = False
    for position, character in enumerate(line):
        if character == '"':
            is_quoted = not is_quoted
        elif not is_quoted and (character == ";" or line.startswith("//", position)):
            return line[:position]
    return line


def _to_account(identity: str) -> str:
    """Return a Steam id without its universe, as SourceMod compares them; empty if it is none."""
    if identity.startswith("STEAM_"):
        return identity.partition(":")[2]
    if identity.startswith("[U:1:") and identity.endswith("]") and identity[5:-1].isdigit():
        number = int(identity[5:-1])
        return f"{number % 2}:{number // 2}"
    return ""
