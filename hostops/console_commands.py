"""Facts about the game's console: what moves a server, what is secret, what ends the game.

Also how the console splits a line (Source SDK, `Cbuf_Execute` and `CCommand::Tokenize`). The engine's branches
differ in what they do with bytes outside of ASCII, and with long lines of a cfg file; which one Left 4 Dead 2
has is not known. So a name counts as used if any branch would read it.
"""

import re
from collections.abc import Iterator, Sequence

PORT_FIELD = "the port is a field of the server"
ADDRESS_FIELD = (
    "only an admin may set the address that a server binds to: it is a field of the server and of its host "
    "in the admin pages"
)
_OWN_CONFIG = (
    "it is a secret, and others can read launch arguments: put it into the server's own config"
)
_NO_OTHER_PORT = "it opens another port; the console is on the server's page"

MOVING: dict[str, str] = {
    "port": PORT_FIELD,
    "hostport": PORT_FIELD,
    "clientport": PORT_FIELD,
    "tv_port": "SourceTV's port is given by the game",
    "ip": ADDRESS_FIELD,
    "hostip": ADDRESS_FIELD,
    "net_start": PORT_FIELD,
}
"""Console variables that move a server to another port or address, and where to set these instead."""

SECRETS: dict[str, str] = {
    "rcon_password": "it is the field “RCON password” of the server",
    "sv_password": "it is the field “Join password” of the server",
    "tv_password": _OWN_CONFIG,
    "tv_relaypassword": _OWN_CONFIG,
    "sv_setsteamaccount": _OWN_CONFIG,
    "netconpassword": _NO_OTHER_PORT,
    "rcon": "it would carry the RCON password: use the server's console",
    "sm_rcon": "use the server's console",
}
"""Console variables and commands that carry a secret, and where it belongs."""

CHANGING_MAP = frozenset({"map", "changelevel", "map_background", "reload"})
"""Commands that load another map, or reload the current one."""

NO_COMMANDS: dict[str, str] = {
    "quit": "it would end the server",
    "exit": "it would end the server",
    "killserver": "it would end the server",
    "_restart": "it would end the server",
    "restart": "it would end the server",
    "crash": "it would end the server",
    "stuffcmds": "it would read the launch arguments again",
}

PASSING_ON = frozenset(
    {
        "alias",
        "sm_cvar",
        "sm_rcon",
        "sm_execcfg",
        "rcon",
        "incrementvar",
        "multvar",
        "toggle",
        "cmd",
        "bind",
        "bindtoggle",
        "setinfo",
        "sm_resetcvar",
        "script",
    }
)
"""Commands that execute, or set, their arguments: `alias x "hostport 27016"`."""

_PASSING_ON_TEXT = frozenset({"alias", "bind", "cmd", "rcon", "sm_rcon"})
"""Of these, those whose arguments become a command that is split again: `alias x "quit{"`."""

EXECUTING = frozenset({"exec", "execifexists", "execwithwhitelist", "sm_execcfg"})
"""Commands that execute a cfg file; `sm_execcfg` is SourceMod's."""

MAX_LINE_BYTES = 1023
"""Of a line of a cfg file: the engine cuts a longer one (`COM_ParseLine`).

Some branches take what is behind the cut for another line, even inside quotes, and others skip it.
"""

_FIRST = re.compile(r"""[^!-~]*(?:\"([^"]*)"?|([{}()':]|[!#-&*-9;-z|~]+))""")
_TOKEN = re.compile(r"""\"([^"]*)"?|([{}()':]|[^\x00-\x20"{}()':]+)""")
_PASSED = re.compile(r"[!#-:<-~]+")
_BREAK = re.compile(r"[{}()':]")
_LINE_ENDS = (re.compile(r"[^\t\x20-\U0010ffff]+"), re.compile(r"[^\t\x20-\x7f]+"))
"""Where a branch ends a line of a cfg file: at control characters, or also at bytes that are not ASCII."""


def split_commands(line: str) -> Iterator[str]:
    """Yield the commands of a line as the console does: outside quotes, `;` ends a command, `//` the line."""
    command = ""
    is_quoted = False
    for position, character in enumerate(line):
        if character == '"':
            is_quoted = not is_quoted
        if not is_quoted and line.startswith("//", position):
            break
        if character == ";" and not is_quoted:
            yield command
            command = ""
        else:
            command += character
    yield command


def possible_commands(line: str) -> Iterator[str]:
    """Yield each command that some branch of the engine finds in a line of a cfg file, each byte a character.

    These are the line's own, and those behind a place where a branch ends the line (`_LINE_ENDS`); a line of
    more than `MAX_LINE_BYTES` has others. There may be repetitions.
    """
    yield from split_commands(line)
    for ends in _LINE_ENDS:
        pieces = ends.split(line)
        for piece in pieces if len(pieces) > 1 else ():
            yield from split_commands(piece)


def split_words(command: str) -> list[str]:
    """Return the words of a command. Outside quotes, each of `{}()':` is a separate word.

    The first one, the name, also ends at what is not ASCII, and what is not ASCII before it is skipped.
    """
    first = _FIRST.match(command)
    if first is None:
        return []
    others = _TOKEN.findall(command, first.end())
    return [first[1] or first[2] or "", *(quoted or plain for quoted, plain in others)]


def names_used(command: str) -> Iterator[str]:
    """Yield, in lower case, the name a command begins with and those it passes on for execution."""
    words = split_words(command)
    if not words:
        return
    # The console executes a quoted first word too.
    first = words[0].strip().lower()
    yield first
    if first in PASSING_ON:
        # What is passed on is split again, without its quotes.
        passed = _PASSED.findall(" ".join(words[1:]).replace("//", " ").lower())
        parts = [_BREAK.split(word) for word in passed]
        is_nested = any(not _PASSING_ON_TEXT.isdisjoint(part) for part in parts)
        for word, split in zip(passed, parts, strict=True):
            yield word
            if first == "script" or (is_nested and first in _PASSING_ON_TEXT):
                yield from split
            elif first in _PASSING_ON_TEXT:
                yield split[0]


def file_executed(command: str) -> str:
    """Return the cfg file that a command executes, as written there; empty if there is none."""
    words = split_words(command)
    return words[1] if len(words) > 1 and words[0].strip().lower() in EXECUTING else ""


def name_character(character: str) -> str:
    """Return a character as a sentence would name it: “—” (em dash)."""
    from unicodedata import name

    called = _CONTROLS.get(character) or name(character, f"U+{ord(character):04X}").lower()
    return f"“{character}” ({called})" if character.isprintable() else f"{character!r} ({called})"


_CONTROLS = {
    "\0": "NUL",
    "\a": "bell",
    "\b": "backspace",
    "\t": "tab",
    "\n": "line feed",
    "\v": "vertical tab",
    "\f": "form feed",
    "\r": "carriage return",
    "\x1b": "escape",
    "\x7f": "delete",
}


_ECHO = 'rcon from "'
"""Begins what the engine prints of each command that it gets over RCON."""


def find_last_said(lines: Sequence[str]) -> str:
    """Return the last line that is not blank, and if there is one, none that echoes a command over RCON."""
    said = [line.strip() for line in lines if line.strip()]
    own = [line for line in said if not line.startswith(_ECHO)]
    return (own or said or [""])[-1]
