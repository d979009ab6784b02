"""Parses the output of the console command `cvarlist`: every cvar and command, and its purpose.

A row has four columns (Source SDK, `CCvarUtilities::CvarList`): name, number or `cmd`, flags, help text.

    sv_gravity                               : 800      : , "nf"           : World gravity.
    kick                                     : cmd      :                  : Kick a player by name.
"""

import re
from dataclasses import dataclass

MOST_NAMES = 20_000
"""The game has about 2,500, and a server full of plugins twice as many."""

_MOST_CHARS = 4_096
"""The longest accepted row: no help text comes close."""

_ROW = re.compile(
    r"(?P<name>\S{1,128}) *: (?P<value>cmd|-?[0-9.]{1,32}|-?nan|-?inf) *: "
    r"[^:]*+: ?(?P<help>.*)"
)
_END = re.compile(r" *[0-9]+ total convars/concommands")

# Completed names become part of commands, even to other people's servers. So anything that no cvar or command
# of the game or of a plugin needs is left out, including +attack and the like, which mean nothing to a server.
_NAME = re.compile(r"[A-Za-z0-9_]{1,64}")


@dataclass(frozen=True)
class ListedName:
    """One cvar or command. `help` is the text that the game or a plugin gives."""

    name: str
    is_command: bool
    help: str = ""


def parse_cvarlist(text: str) -> tuple[ListedName, ...] | None:
    """Return the names in an answer to `cvarlist`, each once; None if it is no such answer, or incomplete.

    Unrecognized rows are left out, and names that could be taken for more than one word.
    """
    found: dict[str, ListedName] = {}
    is_whole = False
    for line in (one.rstrip("\r") for one in text.split("\n")):
        if len(line) > _MOST_CHARS:
            continue
        if (match := _ROW.fullmatch(line)) and _NAME.fullmatch(match["name"]):
            if len(found) < MOST_NAMES:
                listed = ListedName(match["name"], match["value"] == "cmd", match["help"].strip())
                found.setdefault(listed.name, listed)
        else:
            is_whole = is_whole or bool(_END.fullmatch(line.rstrip()))
    return tuple(found.values()) if is_whole else None
