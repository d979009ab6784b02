"""The text a server's cfg file may contain: characters the game reads, and no line that moves the server."""

import re
from collections.abc import Iterator, Sequence

from hostops.console_commands import (
    CHANGING_MAP,
    MOVING,
    name_character,
    names_used,
    split_commands,
    split_words,
)

_SHOWN_FAULTS = 20
_MAY_CHANGE_MAP = re.compile("|".join(sorted(CHANGING_MAP)), re.IGNORECASE)


class ConfigError(ValueError):
    """A config that must not be given to the game; `faults` lists everything wrong, one sentence per line."""

    def __init__(self, faults: Sequence[str]) -> None:
        shown = list(faults[:_SHOWN_FAULTS])
        if len(faults) > len(shown):
            shown.append(f"{len(faults) - len(shown)} more lines are alike.")
        super().__init__("\n".join(shown))
        self.faults = tuple(faults)


def require_config(text: str) -> str:
    """Return the text of a cfg file, or raise `ConfigError` naming every line that would break it.

    Left 4 Dead 2 reads cfg files as ASCII; any other byte, even in a comment, breaks the rest of the file. A
    line ends with a line feed, optionally after a carriage return, and with nothing else.
    """
    lines = enumerate(text.split("\n"), start=1)
    faults = [
        f"Line {number} of the config {what}"
        for number, line in lines
        for what in find_line_faults(line.removesuffix("\r"))
    ]
    if faults:
        raise ConfigError(faults)
    return text


def find_line_faults(line: str) -> Iterator[str]:
    """Yield what is wrong with one line, phrased to follow “Line 3 of the config”."""
    yield from find_character_faults(line)
    for command in split_commands(line):
        for name in names_used(command):
            if reason := MOVING.get(name):
                yield f"sets {name}, which it cannot: {reason}."


def find_character_faults(line: str) -> Iterator[str]:
    """Yield one sentence naming the characters of a line that the game cannot read, if there are any."""
    bad = [one for one in dict.fromkeys(line) if one != "\t" and not " " <= one <= "~"]
    if bad:
        yield f"contains {', '.join(map(name_character, bad))}: the game reads plain ASCII only."


def find_map_changes(text: str) -> Iterator[tuple[int, str]]:
    """Yield the numbers of lines that change the map, and to which; the name is empty if none is given."""
    for number, line in enumerate(text.split("\n"), start=1):
        if _MAY_CHANGE_MAP.search(line) is None:
            continue
        for command in split_commands(line.removesuffix("\r")):
            words = split_words(command)
            if words and words[0].strip().lower() in CHANGING_MAP:
                yield number, words[1].strip() if len(words) > 1 else ""
