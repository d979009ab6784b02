"""Checks launch arguments by the way the engine reads them.

The engine joins its arguments into one line and splits that again, in some branches ignoring quotes (Source
SDK, `CCommandLine`). So every word of the joined line is checked, not every argument: a word inside a quoted
value counts. docs/arguments.md has the same table for people; a test keeps them consistent.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from enum import Enum
from ipaddress import IPv4Address
from itertools import pairwise, takewhile
from typing import NamedTuple

from hostops.console_commands import (
    ADDRESS_FIELD,
    MOVING,
    NO_COMMANDS,
    PORT_FIELD,
    SECRETS,
    name_character,
    names_used,
)

MAX_COMMAND_BYTES = 1900
"""The engine's line has 2,048 bytes; anything longer is cut off."""

OWN_COMMAND_BYTES = 150
"""The most that Saferoom's own part of the line takes: the program, the game, the port, an address, a map."""

MAX_TEXT_CHARS = 8_000
"""The longest text that is looked at: with room for blanks, quotation marks and comments to be told of."""


class Who(Enum):
    """Who may set an option of the engine."""

    OWNER = "owners"
    SAFEROOM = "Saferoom"
    ADMIN = "admins"
    NOBODY = "nobody"


class Option(NamedTuple):
    """An option of the engine: who may set it, what it does, and the form of its value ("" for none).

    If owners may not set it, `text` says what to do instead.
    """

    who: Who
    text: str
    value: str = ""
    pattern: str = ""


OPTIONS: dict[str, Option] = {
    "-tickrate": Option(
        Who.OWNER,
        "Ticks a second; needs a plugin that enables it, stock is 30.",
        "30 to 128",
        r"(?:[3-9][0-9]|1[01][0-9]|12[0-8])",
    ),
    "-maxplayers": Option(
        Who.OWNER,
        "The most players; more than 8 need l4dtoolz.",
        "1 to 32",
        r"(?:[1-9]|[12][0-9]|3[0-2])",
    ),
    "-insecure": Option(Who.OWNER, "Switches Valve Anti-Cheat off."),
    "-nohltv": Option(Who.OWNER, "Switches SourceTV off."),
    "-nobots": Option(Who.OWNER, "Starts without bots."),
    "-nomaster": Option(Who.OWNER, "Keeps the server out of the server browser."),
    "-nobreakpad": Option(Who.OWNER, "Sends no crash reports to Valve."),
    "-nominidumps": Option(Who.OWNER, "Writes no crash dumps."),
    "-nowatchdog": Option(Who.OWNER, "Does not end the server by itself when it hangs."),
    "-nodns": Option(Who.OWNER, "Looks up no names."),
    "-novid": Option(Who.OWNER, "Means nothing to a server; common in copied lines."),
    "-nojoy": Option(Who.OWNER, "Means nothing to a server; common in copied lines."),
    "-noipx": Option(Who.OWNER, "Means nothing to a server; common in copied lines."),
    "-usercon": Option(Who.OWNER, "Allows RCON, which is allowed anyway."),
    "-lv": Option(Who.OWNER, "Low violence."),
    "-dev": Option(Who.OWNER, "Prints developer messages."),
    "-high": Option(Who.OWNER, "Asks for a high priority; without effect here."),
    "-threads": Option(
        Who.OWNER, "How many threads the engine uses.", "1 to 16", r"(?:[1-9]|1[0-6])"
    ),
    "-heapsize": Option(Who.OWNER, "The size of the heap, in KiB.", "a number", r"[0-9]{4,7}"),
    "-num_edicts": Option(Who.OWNER, "The most entities.", "a number", r"[0-9]{3,5}"),
    "-language": Option(Who.OWNER, "The language of messages.", "such as english", r"[a-z]{2,16}"),
    "-game": Option(Who.SAFEROOM, "the game is always left4dead2"),
    "-console": Option(Who.SAFEROOM, "the console is always on"),
    "-port": Option(Who.SAFEROOM, PORT_FIELD),
    "-strictportbind": Option(Who.SAFEROOM, "a server that cannot have its port is not started"),
    "-norestart": Option(Who.SAFEROOM, "Saferoom restarts a server itself"),
    "-steam": Option(Who.SAFEROOM, "it is not needed"),
    "-ip": Option(
        Who.ADMIN,
        ADDRESS_FIELD,
    ),
    "-autoupdate": Option(Who.NOBODY, "an admin updates the game in the admin pages"),
    "-steam_dir": Option(Who.NOBODY, "an admin updates the game in the admin pages"),
    "-steamcmd_script": Option(Who.NOBODY, "an admin updates the game in the admin pages"),
    "-steamerr": Option(Who.NOBODY, "an admin updates the game in the admin pages"),
    "-binary": Option(Who.NOBODY, "Saferoom starts the game's own program and no other"),
    "-debug": Option(Who.NOBODY, "Saferoom keeps the last lines and the signal of each crash"),
    "-debuglog": Option(Who.NOBODY, "Saferoom keeps the last lines and the signal of each crash"),
    "-gdb": Option(Who.NOBODY, "Saferoom starts no debugger"),
    "-pidfile": Option(Who.NOBODY, "Saferoom knows the process itself"),
    "-fork": Option(Who.NOBODY, "make one server for each"),
    "-timeout": Option(Who.NOBODY, "Saferoom restarts a server itself"),
    "-ignoresigint": Option(Who.NOBODY, "it would keep the server from being stopped"),
    "-notrap": Option(Who.NOBODY, "it would keep the server from being stopped"),
    "-nodefaultmap": Option(Who.NOBODY, "a server without a map cannot be joined"),
    "-condebug": Option(Who.NOBODY, "Saferoom keeps the console itself"),
    "-consolelog": Option(Who.NOBODY, "Saferoom keeps the console itself"),
    "-conclearlog": Option(Who.NOBODY, "Saferoom keeps the console itself"),
    "-netconport": Option(Who.NOBODY, "it opens another port; the console is on the server's page"),
    "-netconpassword": Option(
        Who.NOBODY, "it opens another port; the console is on the server's page"
    ),
}

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_BEGINS = re.compile(r"\s*(?:\+|-(?![0-9]))")
_MODE_PLACES = {"+map": 1, "+mp_gamemode": 0}
"""The position of the mode among a command's values."""
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u30fc\ufe58\ufe63\uff0d"
_QUOTES = "\u201c\u201d\u201e\u201f\u00ab\u00bb\u2018\u2019\u201a\u201b\u2032\u2033"
_BLANKS = "\u00a0\u2002\u2003\u2009\u202f\u3000"
_INVISIBLE = "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
# East Asian input methods produce these full-width forms of ASCII, all at the same distance.
_FULL_WIDTH = {chr(code + 0xFEE0): chr(code) for code in range(0x21, 0x7F)}
_COMMENTS = ("//", "/*", "*/", "<!--", "#", ";", "::")
_COMMENT_WORDS = ("rem", "--", "-->")
_CONTINUATIONS = ("\\", "^", "`")
"""Continue a line in the next one: in a shell, in cmd.exe, in PowerShell."""
_SHOWN_CHARS = 80
_BLANKS_AT_END = re.compile(rf"[ \t{_BLANKS}]+(?=\n|\Z)")
_CONTINUED = re.compile(r"\\\r?\n")
# The words that `_split` finds, unchanged: with quotations, escapes, and continued lines.
_WORD = re.compile(
    r"""(?: \\\r?\n | \\. | "(?: \\. | [^"\\] )*" | '[^']*' | [^\s"'\\] )+""",
    re.VERBOSE | re.DOTALL,
)


class Fault(NamedTuple):
    """What is wrong with one word of launch arguments, as a sentence, and its place: `Line 2`, or empty."""

    place: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}" if self.place else self.text


class ArgumentsError(ValueError):
    """Launch arguments that the engine must not get; `faults` lists everything wrong, in order."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)


class Argument(NamedTuple):
    """One argument as a shell would split it, and where it begins."""

    text: str
    place: str = ""


def parse_arguments(text: str) -> tuple[str, ...]:
    """Split launch arguments, on any number of lines, as a shell would, and check them.

    A line that ends with a backslash continues in the next one. Raises `ArgumentsError` with every fault; of a
    text that is much too long, only with that.
    """
    _require_short(len(text))
    arguments, faults = _split(text)
    faults += _judge(arguments)
    if faults:
        raise ArgumentsError(sorted(faults, key=lambda fault: _line_number(fault.place)))
    return tuple(_as_words(arguments))


def require_arguments(arguments: Iterable[str]) -> tuple[str, ...]:
    """Check launch arguments that are already split; raise `ArgumentsError` as `parse_arguments` does."""
    kept = [Argument(text) for text in arguments]
    _require_short(sum(len(one.text) for one in kept))
    if faults := _judge(kept):
        raise ArgumentsError(faults)
    return tuple(_as_words(kept))


def _require_short(count: int) -> None:
    if count > MAX_TEXT_CHARS:
        text = (
            f"The launch arguments have {count:,} characters, and the engine takes "
            f"{MAX_COMMAND_BYTES - OWN_COMMAND_BYTES:,}: put cvars into the config."
        )
        raise ArgumentsError([Fault("", text)])


def find_conflicts(arguments: Sequence[str]) -> list[str]:
    """Return contradictions in checked arguments, as sentences: no faults, but hardly intended.

    Which of an option's two values the engine uses depends on its branch; maps are loaded one after another.
    """
    given: dict[str, list[str]] = {}
    for group in _groups([Argument(text) for text in arguments]):
        first, *values = " ".join(argument.text for argument in group).split()
        given.setdefault(first.lower(), []).append(" ".join(values))
    conflicts = []
    for name, all_values in given.items():
        values = list(dict.fromkeys(all_values))
        option = OPTIONS.get(name)
        if len(values) < 2 or not (name == "+map" or (option and option.value)):
            continue  # If a cvar is set twice, the later value wins, as it does in a config.
        named = " and ".join(f"as {value}" if value else "without a value" for value in values)
        what = "loads one after the other" if name == "+map" else "takes one of them"
        conflicts.append(
            f"{name} is given {len(values)} times, {named}: the game {what}. "
            "Keep one, in the blueprint or in the server’s own launch arguments."
        )
    if "-nohltv" in given and given.get("+tv_enable", ["0"])[-1] != "0":
        conflicts.append("+tv_enable switches SourceTV on, and -nohltv off: leave one out.")
    return conflicts


def find_map(arguments: Sequence[str]) -> str | None:
    """Return the map that the engine will load, as written; None if there is no `+map`.

    Empty if a `+map` names none. The engine joins its arguments and splits them again, so a map may be quoted
    together with its mode. If there are several, it loads one after another, and the last one stays.
    """
    words = " ".join(arguments).split()
    places = [index for index, word in enumerate(words) if word.lower() == "+map"]
    if not places:
        return None
    following = words[places[-1] + 1 : places[-1] + 2]
    return "" if not following or following[0].startswith(("+", "-")) else following[0]


def find_mode(arguments: Sequence[str]) -> str | None:
    """Return the game mode that the engine will start with, as written; None if there is none.

    It follows the map, or is a separate cvar. A mode that follows the map takes precedence.
    """
    words = " ".join(arguments).split()
    last: dict[str, str] = {}
    for index, word in enumerate(words):
        name = word.lower()
        if name in _MODE_PLACES:
            values = list(takewhile(lambda one: not _BEGINS.match(one), words[index + 1 :]))
            last[name] = values[_MODE_PLACES[name]] if len(values) > _MODE_PLACES[name] else ""
    return last.get("+map") or last.get("+mp_gamemode") or None


def join_arguments(of_blueprint: Sequence[str], own: Sequence[str]) -> tuple[str, ...]:
    """Return the launch arguments of a server: its blueprint's, then its own, both already checked.

    The server's own map replaces the blueprint's: otherwise the engine would load both. So does a mode that
    follows it.
    """
    overridden: tuple[str, ...] = ()
    if find_map(own):
        overridden = ("+map", "+mp_gamemode") if _names_mode_of_map(own) else ("+map",)
    groups = _groups([Argument(text) for text in of_blueprint])
    kept = (group for group in groups if _name_of(group) not in overridden)
    return (*(argument.text for group in kept for argument in group), *own)


def put_map(text: str, map_name: str, mode: str) -> str:
    """Return launch arguments that name this map and mode exactly once, or no map if `map_name` is empty.

    Everything else stays as written. Neither name is checked here.
    """
    words = list(_WORD.finditer(text))
    cuts: list[tuple[int, int]] = []
    is_cut = False
    for word in words:
        split = _split(word.group())[0]
        begins = split[0].text if split else ""
        if _BEGINS.match(begins):
            is_cut = begins.lower().split()[:1] in (["+map"], ["+mp_gamemode"])
            if is_cut:
                cuts.append(word.span())
        elif is_cut:
            cuts[-1] = (cuts[-1][0], word.end())
    for start, end in reversed(cuts):
        text = _without(text, start, end)
    text = _CONTINUED.sub("", text.strip()) if text.strip().startswith("\\") else text.strip()
    return "\n".join(filter(None, (text, f"+map {map_name} {mode}".rstrip() if map_name else "")))


def _without(text: str, start: int, end: int) -> str:
    """Return a text without this part, and without its line if nothing else was in it."""
    before, after = text[:start].rstrip(" \t"), text[end:].lstrip(" \t")
    if not before or before.endswith("\n"):
        return before + re.sub(r"\A\r?\n", "", after)
    return before + (after if not after or after.startswith(("\r", "\n")) else f" {after}")


def _names_mode_of_map(arguments: Sequence[str]) -> bool:
    groups = list(_groups([Argument(text) for text in arguments]))
    of_maps = [group for group in groups if _name_of(group) == "+map"]
    return any(len(" ".join(one.text for one in group).split()) > 2 for group in of_maps[-1:])


def _name_of(group: Sequence[Argument]) -> str:
    """Return a group's option or command, even if it is quoted together with its value."""
    return "".join(group[0].text.lower().split()[:1])


def drop_faulty(arguments: Iterable[str]) -> tuple[list[str], list[Fault]]:
    """Return the arguments that may be executed, and the faults of the others.

    For arguments stored before these rules: a faulty option or command is dropped with all its values. A
    password is kept: it was there already, and without it a restart would open the server to everybody.
    """
    kept: list[str] = []
    faults: list[Fault] = []
    split = [Argument(text) for text in arguments]
    for group in _groups(split):
        found = list(_judge_group(group))
        if not found or (_is_password(group) and len(found) == 1):
            kept += _as_words(group)
        else:
            faults += found
    size = _length(kept)
    while kept and size > MAX_COMMAND_BYTES - OWN_COMMAND_BYTES:
        last = kept.pop()
        size -= _length([last])
        text = f"“{_shown(last)}” is left out: the line is too long for the engine."
        faults.append(Fault("", text))
    return kept, _hide_secrets(faults, split)


def _is_password(group: Sequence[Argument]) -> bool:
    """Whether it is a password with its value, whose only fault is being a launch argument."""
    names = ("+rcon_password", "+sv_password", "+tv_password", "+sv_setsteamaccount")
    return len(group) == 2 and group[0].text.lower() in names and len(group[1].text.split()) == 1


def _hide_secrets(faults: Iterable[Fault], arguments: Sequence[Argument]) -> list[Fault]:
    """Return the faults without the passwords that they may quote."""
    words = [word for argument in arguments for word in argument.text.split()]
    secret_values = {
        value
        for name, value in pairwise(words)
        if name.lower().lstrip("+-") in SECRETS and not OPTIONS.get(value.lower())
    }
    hidden = {_shown(value) for value in secret_values}
    # A fault may also quote the whole argument, including its blanks.
    hidden |= {
        _shown(argument.text)
        for argument in arguments
        if not secret_values.isdisjoint(argument.text.split())
        and not argument.text.startswith(("+", "-"))
    }
    if not hidden:
        return list(faults)
    # A word that looks like an option is quoted without marks, and without what follows “=”.
    names = {_shown(value.partition("=")[0]) for value in secret_values}
    return [Fault(fault.place, _hide(fault.text, hidden, names)) for fault in faults]


def _hide(text: str, hidden: Collection[str], names: Collection[str]) -> str:
    """Return the text of a fault without what it quotes of `hidden`; its length bounds the work."""
    name, said, rest = text.partition(" is not an ")
    if said and name in names:
        text = f"••••{said}{rest}"
    shown, position = "", 0
    while (begin := text.find("“", position)) >= 0:
        # Quoted words may themselves contain quotation marks: the longest match counts.
        end = text.rfind("”", begin, begin + _SHOWN_CHARS + 2)
        while end > begin and text[begin + 1 : end] not in hidden:
            end = text.rfind("”", begin, end)
        if end > begin:
            shown, position = f"{shown}{text[position:begin]}“••••”", end + 1
        else:
            shown, position = shown + text[position : begin + 1], begin + 1
    return shown + text[position:]


def take_bind_address(text: str) -> tuple[str, str]:
    """Return launch arguments without `-ip ADDRESS`, and the address; the text itself and "" if it has none.

    Only if both are separate words, outside quotation marks. Raises `ArgumentsError` if it is no IPv4 address,
    if there are two, or if the text is too long to be looked at.
    """
    _require_short(len(text))
    words = list(_WORD.finditer(text))
    bare = [_CONTINUED.sub("", word.group()) for word in words]
    places = [index for index, word in enumerate(bare) if word.lower() == "-ip"]
    if not places:
        return text, ""
    address = bare[places[0] + 1] if places[0] + 1 < len(bare) else ""
    if len(places) > 1 or not _is_ipv4(address):
        raise ArgumentsError(
            [
                Fault(
                    "", "-ip takes one IPv4 address, such as -ip 0.0.0.0, and may stand there once."
                )
            ]
        )
    before = text[: words[places[0]].start()].rstrip(" \t")
    after = text[words[places[0] + 1].end() :].lstrip(" \t")
    if not before or before.endswith("\n"):
        return f"{before}{after.lstrip()}".strip(), address
    blank = "" if after.startswith(("\r", "\n")) else " "
    return f"{before}{blank}{after}".strip(), address


def _is_ipv4(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True


def _judge(arguments: Sequence[Argument]) -> list[Fault]:
    faults = [fault for group in _groups(arguments) for fault in _judge_group(group)]
    faults = _hide_secrets(faults, arguments)
    size = _length([argument.text for argument in arguments])
    most = MAX_COMMAND_BYTES - OWN_COMMAND_BYTES
    if size > most:
        faults.append(
            Fault(
                "",
                f"The launch arguments have {size:,} bytes, and the engine takes {most:,}: "
                "put cvars into the config.",
            )
        )
    return faults


def _groups(arguments: Sequence[Argument]) -> Iterator[list[Argument]]:
    """Yield each option or command with the values that follow it."""
    group: list[Argument] = []
    for argument in arguments:
        # A negative number is a value, though the game ignores it: it belongs to the preceding option.
        if group and _BEGINS.match(argument.text):
            yield group
            group = []
        group.append(argument)
        # After an option that has its value, or takes none, the next word stands alone.
        option = OPTIONS.get(group[0].text.lower())
        if option and option.who is Who.OWNER and len(group) > bool(option.value):
            yield group
            group = []
    if group:
        yield group


def _judge_group(group: Sequence[Argument]) -> Iterator[Fault]:
    """Yield what is wrong with an option or a command and its values."""
    for argument in group:
        yield from _judge_characters(argument)
    # A word with a typographic character can only be checked further once that is corrected.
    plain = [one for one in group if one.text.isascii()]
    words = [(word, argument.place) for argument in plain for word in argument.text.split()]
    if group[0] not in plain:
        return
    if not words:
        yield Fault(group[0].place, "An empty argument means nothing to the game: leave it out.")
        return
    (first, place), values = words[0], words[1:]
    if first.startswith(_COMMENTS) or first.lower() in _COMMENT_WORDS:
        yield Fault(
            place,
            f"“{_shown(first)}” looks like a comment: launch arguments have none. Leave the line out.",
        )
        return
    if first in _CONTINUATIONS:
        yield _refuse_continuation(first, place)
        return
    if first.startswith("+"):
        yield from _judge_command(first, place, [word for word, _ in values])
    elif first.startswith("-"):
        is_whole = len(plain) == len(group)
        yield from _judge_option(first, place, [word for word, _ in values], is_whole=is_whole)
    elif first.startswith("@"):
        yield _refuse_file(first, place)
    else:
        yield Fault(
            place,
            f"“{_shown(first)}” stands alone: a launch argument begins with - or +, and its value follows it.",
        )
    yield from _judge_values(first, values)


def _judge_values(first: str, values: Sequence[tuple[str, str]]) -> Iterator[Fault]:
    """Yield which values, each with its place, the game would not take for values of the first word."""
    for word, where in values:
        if word in _CONTINUATIONS:
            yield _refuse_continuation(word, where)
        if "//" in word and first.startswith("+"):
            yield Fault(
                where,
                f"“{_shown(word)}” contains “//”, behind which the game takes all for a comment: "
                f"put “{_shown(first.lstrip('+'))}” into the config, its value in quotation marks.",
            )
        if word.startswith(("-", "+")):
            yield _refuse_hidden(word, where, first)
        elif word.startswith("@"):
            yield _refuse_file(word, where)


def _judge_characters(argument: Argument) -> Iterator[Fault]:
    text, place = argument
    for character in dict.fromkeys(text):
        if character in _DASHES:
            what = f"{name_character(character)}. You probably meant “-”, a plain minus sign."
        elif character in _QUOTES:
            what = f"{name_character(character)}. You probably meant a plain quotation mark."
        elif character in _FULL_WIDTH:
            what = f"{name_character(character)}. You probably meant “{_FULL_WIDTH[character]}”."
        elif character in _INVISIBLE:
            what = f"{name_character(character)}, which is invisible. Type the word again."
        elif character in _BLANKS:
            what = f"{name_character(character)}. You probably meant a plain blank."
        elif character == '"':
            what = "a quotation mark, at which the game ends the value. Leave it out."
        elif character == ";":
            what = (
                "“;”, at which the game begins another command: give each its own +, "
                "or put it into the config."
            )
        elif ord(character) < 32 or ord(character) == 127:
            what = f"the control character {name_character(character)}. Leave it out."
        elif ord(character) > 126:
            what = f"{name_character(character)}: the game reads plain ASCII only."
        else:
            continue
        yield Fault(place, f"“{_shown(text)}” contains {what}")


def _options_of(who: Who) -> list[str]:
    return [name for name, option in OPTIONS.items() if option.who is who]


def _judge_option(
    word: str, place: str, values: Sequence[str], *, is_whole: bool
) -> Iterator[Fault]:
    """Yield what is wrong with an option. Unless it `is_whole`, its value may be a word not checked yet."""
    name, equals, _ = word.partition("=")
    option = OPTIONS.get(name.lower())
    if option is None:
        yield Fault(
            place,
            f"{_shown(name)} is not an option that Saferoom knows: leave it out. "
            f"Options that owners may use: {', '.join(_options_of(Who.OWNER))}.",
        )
    elif option.who is not Who.OWNER:
        yield Fault(place, _refusal(name, option))
    elif equals or name != name.lower():
        yield Fault(
            place, f"Write {_shown(word)} as {name.lower()}{' VALUE' if option.value else ''}."
        )
    elif option.value and not values and not is_whole:
        return
    elif option.value and not values:
        yield Fault(place, f"{name} needs a value: {option.value}.")
    elif option.value and not re.fullmatch(option.pattern, values[0]):
        yield Fault(place, f"{name} takes {option.value}, not “{_shown(values[0])}”.")
    elif len(values) > bool(option.value) and not values[bool(option.value)].startswith(("-", "+")):
        yield Fault(
            place,
            f"{name} takes {'one value' if option.value else 'no value'}: "
            f"“{_shown(' '.join(values))}” is more.",
        )


def _judge_command(word: str, place: str, values: Sequence[str]) -> Iterator[Fault]:
    if not _NAME.fullmatch(word[1:]):
        yield Fault(
            place,
            f"“{_shown(word)}” is no command: a plus sign is followed by the name of a cvar or command.",
        )
        return
    for name in names_used(" ".join((word[1:], *values))):
        if reason := MOVING.get(name) or SECRETS.get(name) or NO_COMMANDS.get(name):
            # Quoted, because words that follow a password's name are masked in logs.
            shown = word if name == word[1:].lower() else f"{word} with {name}"
            yield Fault(place, f"“{shown}” cannot be a launch argument: {reason}.")


def _refuse_hidden(word: str, place: str, first: str) -> Fault:
    name = word.partition("=")[0].lower()
    option = OPTIONS.get(name)
    if option and option.who is not Who.OWNER:
        return Fault(
            place, f"The value of “{_shown(first)}” contains “{name}”, and {_refusal(name, option)}"
        )
    return Fault(
        place,
        f"The value of “{_shown(first)}” contains “{_shown(word)}”, which the game would take for a launch "
        f"argument of its own: put “{_shown(first.lstrip('+-'))}” into the config.",
    )


def _shown(text: str) -> str:
    """Return a text for quoting in a fault: printable, and not too long."""
    text = text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 1]}…"
    return "".join(one if one.isprintable() else "�" for one in text)


def _refuse_continuation(word: str, place: str) -> Fault:
    return Fault(
        place,
        f"“{word}” stands alone, and is no argument. A line goes on in the next one after a backslash with "
        "nothing behind it; a new line between two arguments needs no sign at all. Leave it out.",
    )


def _refuse_file(word: str, place: str) -> Fault:
    return Fault(
        place,
        f"“{_shown(word)}”: the game would read more arguments from a file of that name. Remove it.",
    )


def _refusal(name: str, option: Option) -> str:
    if option.who is Who.SAFEROOM:
        return f"Saferoom sets {name} itself: {option.text}. Leave it out of the launch arguments."
    if option.who is Who.ADMIN:
        return f"“{name}” cannot be a launch argument: {option.text}."
    return f"“{name}” cannot be used: {option.text}. Leave it out of the launch arguments."


def _as_words(arguments: Iterable[Argument]) -> Iterator[str]:
    """Yield arguments as they are executed: an option is split from its value, a command's value is not."""
    for argument in arguments:
        if argument.text.startswith("-"):
            yield from argument.text.split()
        else:
            yield argument.text


def _length(arguments: Sequence[str]) -> int:
    return sum(len(text.encode(errors="replace")) + 1 for text in arguments)


def _line_number(place: str) -> float:
    return float(place.removeprefix("Line ")) if place else float("inf")


def _split(text: str) -> tuple[list[Argument], list[Fault]]:
    """Split as a POSIX shell does, without any expansion; return the arguments, and any unclosed quote."""
    arguments: list[Argument] = []
    faults: list[Fault] = []
    line, quote, current, begun_at = 1, "", None, 1
    text = text.replace("\r\n", "\n")
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        following = text[position : position + 1]
        if character == "\n":
            line += 1
        if character == "\\" and following == "\n" and quote != "'":
            position, line = position + 1, line + 1
        elif (
            character == "\\"
            and not quote
            and current is None
            and (blanks := _BLANKS_AT_END.match(text, position))
        ):
            position = blanks.end()
            faults.append(
                Fault(
                    f"Line {line}",
                    "There are blanks after the backslash at the end of the line. Remove them, and "
                    "the line goes on in the next one.",
                )
            )
        elif (
            character == "\\" and following and (not quote or (quote == '"' and following in '"\\'))
        ):
            current, begun_at = _begun(current, begun_at, line)
            current += following
            position += 1
        elif quote:
            if character == quote:
                quote = ""
            else:
                current = (current or "") + character
        elif character in "\"'":
            current, begun_at = _begun(current, begun_at, line)
            quote = character
        elif character in " \t\n":
            if current is not None:
                arguments.append(Argument(current, f"Line {begun_at}"))
            current = None
        else:
            current, begun_at = _begun(current, begun_at, line)
            current += character
    if quote:
        faults.append(
            Fault(f"Line {begun_at}", f"The quotation mark {quote} is opened and not closed.")
        )
    elif current is not None:
        arguments.append(Argument(current, f"Line {begun_at}"))
    return arguments, faults


def _begun(current: str | None, begun_at: int, line: int) -> tuple[str, int]:
    return ("", line) if current is None else (current, begun_at)
