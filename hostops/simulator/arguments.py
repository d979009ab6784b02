"""Reads the command line of srcds, as the worst branch of the engine does (Source SDK, `CCommandLine`).

It joins its arguments into one line without quotes, cuts that, and splits it again. So an argument with blanks
in it reaches the game as several, and one that hides an option sets it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

DEFAULT_PORT = 27015
DEFAULT_MAP = "c1m1_hotel"

MAX_LINE_BYTES = 2047
"""The engine's buffer has 2,048 bytes, the last of them for the NUL."""

MAX_FILE_BYTES = 4096

ADDRESS_WORDS = frozenset({"-ip", "+ip"})
PORT_WORDS = frozenset({"-port", "+port", "+hostport"})


class Arguments:
    """What a srcds was started with.

    `commands` are lines for its console: those given with a plus, in their order, and each word that
    belongs to nothing, which the engine takes for a command as well. `missing_files` are those that
    further arguments were to be read from.
    """

    def __init__(self, words: Sequence[str], missing_files: Sequence[str] = ()) -> None:
        self.ip = "0.0.0.0"  # noqa: S104 - srcds listens everywhere
        self.port = DEFAULT_PORT
        self.commands: list[str] = []
        self.missing_files = tuple(missing_files)
        options: dict[str, str] = {}
        for name, *values in _groups(words):
            value = values[0] if values else ""
            if name.lower() in PORT_WORDS:
                self.port = _number(value, self.port)
            elif name.lower() in ADDRESS_WORDS:
                self.ip = value or self.ip
            elif name.startswith("-"):
                options[name.lower()] = value
            else:
                self.commands.append(" ".join((name.removeprefix("+"), *values)))
        self.game = options.get("-game") or "left4dead2"
        self.max_players = _number(options["-maxplayers"], 8) if "-maxplayers" in options else None
        self.pid_file = options.get("-pidfile")
        self.is_port_strict = "-strictportbind" in options
        self.is_insecure = "-insecure" in options
        self.has_console_log = "-condebug" in options


def parse_arguments(argv: Sequence[str], folder: Path) -> Arguments:
    """Read a command line, program included; files of further arguments are looked for in `folder`."""
    line = " ".join(argv).encode("utf-8", "surrogateescape")[:MAX_LINE_BYTES]
    words: list[str] = []
    missing: list[str] = []
    for word in _split(line.decode("utf-8", "surrogateescape"))[1:]:
        if not word.startswith("@"):
            words.append(word)
            continue
        try:
            with (folder / word[1:]).open("rb") as file:
                text = file.read(MAX_FILE_BYTES).decode("utf-8", "surrogateescape")
        except (OSError, ValueError):
            missing.append(word[1:])
        else:
            words += _split(text)
    return Arguments(words, missing)


def _split(line: str) -> list[str]:
    """Split at whitespace outside of quotes. A quote may begin and end in the middle of a word."""
    words: list[str] = []
    word: str | None = None
    is_quoted = False
    for character in line:
        if character == '"':
            is_quoted = not is_quoted
            word = word or ""
        elif character.isspace() and not is_quoted:
            if word is not None:
                words.append(word)
            word = None
        else:
            word = (word or "") + character
    return words if word is None else [*words, word]


def _groups(words: Sequence[str]) -> Iterator[list[str]]:
    """Yield each option with its value, each command with its words, and each word that stands alone.

    What begins with a dash or a plus is never a value, even if it is a negative number.
    """
    group: list[str] = []
    most = 0
    for word in words:
        if group and (word.startswith(("-", "+")) or len(group) == most):
            yield group
            group = []
        if not group:
            most = {"+": len(words), "-": 2}.get(word[:1], 1)
        group.append(word)
    if group:
        yield group


def _number(text: str, otherwise: int) -> int:
    is_number = text.isascii() and text.isdigit()
    return int(text) if is_number and len(text) < 10 else otherwise
