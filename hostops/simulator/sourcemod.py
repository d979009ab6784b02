"""The simulated server's SourceMod plugins: the admins in its simple file, and their commands.

A command exists if the plugin that brings it runs; `sourcemod_content.py` decides what is loaded. None of the
plugins' code is run.
"""

from collections.abc import Callable

from hostops.simulator.command_buffer import NO_BREAKS, next_word
from hostops.simulator.game import Game, is_file
from hostops.simulator.player_commands import join_steam_id
from hostops.simulator.players import Player

# Not from typing, whose import takes 2 ms of a start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from hostops.simulator.sourcemod_content import SourceModContent

MAX_LINE_BYTES = 254
"""How much its plugin reads of a line at a time; the rest counts as a line of its own."""

NOBODY = "[SM] No matching client was found."
SEVERAL = "[SM] More than one client matched the given pattern."
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
    """SourceMod in one game. `admins` has flags by account, which all notations of a Steam id share."""

    def __init__(self, game: Game, missing_natives: frozenset[str] = frozenset()) -> None:
        self._game = game
        self._dir = game.game_dir
        self._missing_natives = missing_natives
        self._content: SourceModContent | None = None
        self.admins: dict[str, frozenset[str]] = {}
        self.commands: dict[str, Callable[[list[str], str], None]] = {}
        """What MetaMod, SourceMod and the running plugins have brought, by name."""

    def load(self) -> None:
        """Start, if MetaMod and SourceMod are installed, with the plugins that are, and read the admins."""
        if not is_file(self._dir / "addons/metamod.vdf"):
            return
        from hostops.simulator.metamod import MetaMod  # only a server that has it pays for it

        metamod = MetaMod(self._game)
        metamod.load()
        if not metamod.is_loaded:
            return
        self.commands["meta"] = metamod.run
        if not metamod.has_sourcemod:
            return
        from hostops.simulator.sourcemod_content import SourceModContent

        self._content = SourceModContent(self._game, self._missing_natives)
        self._content.load()
        self.commands["sm"] = self._content.run
        if self._has_plugin("basecommands"):
            self.commands |= {"sm_reloadadmins": self._reload_admins, "sm_who": self._who}
        if self._has_plugin("basechat"):
            self.commands["sm_psay"] = self._private_say
        self._read_admins()

    def _reload_admins(self, *_: object) -> None:
        self._read_admins()
        self._game.print("[SM] Admin cache has been refreshed.")

    def _who(self, *_: object) -> None:
        self._game.print(f"    {'Name':24} {'Username':18} Admin access")
        for player in self._game.players:
            access = self._access_of(player)
            self._game.print(f"{player.slot:2}. {player.name[:23]:24} {'':18} {access}")

    def _private_say(self, arguments: list[str], rest: str) -> None:
        arguments = join_steam_id(arguments, "#STEAM_")
        if len(arguments) < 2:
            self._game.print("[SM] Usage: sm_psay <name or #userid> <message>")
            return
        found = self._find(arguments[0])
        if len(found) != 1:
            self._game.print(SEVERAL if found else NOBODY)
            return
        # All behind the target as it was typed, quotes too (`GetCmdArgString`, `BreakString`).
        self._game.print(f"(Private to {found[0].name}) Console: {_behind_first(rest)}")
        self._game.log.write(
            f'"Console<0><Console><Console>" triggered sm_psay to {found[0].log_name("")}'
        )

    def _find(self, target: str) -> list[Player]:
        """Return the people that a target means: `#` and a user id or Steam id, or part of a name."""
        people = [player for player in self._game.players if not player.is_bot]
        if target.startswith("#"):
            return [one for one in people if target[1:] in (str(one.user_id), one.steam_id)]
        return [one for one in people if target.lower() in one.name.lower()]

    def _access_of(self, player: Player) -> str:
        flags = self.admins.get(player.steam_id.partition(":")[2], frozenset())
        if "z" in flags:
            return "root"
        return ", ".join(FLAG_NAMES[flag] for flag in sorted(flags)) or "none"

    def _has_plugin(self, name: str) -> bool:
        return self._content is not None and self._content.has_plugin(name)

    def _read_admins(self) -> None:
        self.admins = {}
        if not self._has_plugin("admin-flatfile"):
            return
        try:
            content = (self._dir / "addons/sourcemod/configs/admins_simple.ini").read_bytes()
        except OSError:
            self._game.print("[SM] Could not open file!")
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
    """Return a Steam id without its universe, as SourceMod compares them; empty if it is not one."""
    if identity.startswith("STEAM_"):
        return identity.partition(":")[2]
    if identity.startswith("[U:1:") and identity.endswith("]") and identity[5:-1].isdigit():
        number = int(identity[5:-1])
        return f"{number % 2}:{number // 2}"
    return ""


def _behind_first(text: str) -> str:
    text = text.lstrip()
    if text.startswith('"'):
        return text[1:].partition('"')[2].lstrip()
    return text.partition(" ")[2].lstrip()
