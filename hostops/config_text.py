"""The text a server's cfg file may contain: characters the game reads, and no line that moves the server."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from hostops.console_commands import (
    CHANGING_MAP,
    MOVING,
    NO_COMMANDS,
    name_character,
    names_used,
    split_commands,
    split_words,
)

_SHOWN_FAULTS = 20
_SHOWN_CHARACTERS = 10
_MAY_CHANGE_MAP = re.compile("|".join(sorted(CHANGING_MAP)), re.IGNORECASE)


class ConfigError(ValueError):
    """A config that must not be given to the game; `faults` has the first faults, a sentence each.

    Its last sentence says how many `more` there are.
    """

    def __init__(self, faults: Sequence[str], more: int = 0) -> None:
        rest = [f"{more:,} more faults are alike."] if more else []
        self.faults = (*faults, *rest)
        super().__init__("\n".join(self.faults))


def require_config(text: str) -> str:
    """Return the text of a cfg file, or raise `ConfigError` naming the lines that would break it.

    Left 4 Dead 2 reads cfg files as ASCII; any other byte, even in a comment, breaks the rest of the file. A
    line ends with a line feed, optionally after a carriage return, and with nothing else.
    """
    found = _find_faults(text)
    if faults := list(islice(found, _SHOWN_FAULTS)):
        raise ConfigError(faults, more=sum(1 for _ in found))
    return text


def _find_faults(text: str) -> Iterator[str]:
    for number, line in enumerate(text.split("\n"), start=1):
        for what in find_line_faults(line.removesuffix("\r")):
            yield f"Line {number} of the config {what}"


def find_line_faults(line: str) -> Iterator[str]:
    """Yield what is wrong with one line, phrased to follow “Line 3 of the config”."""
    yield from find_character_faults(line)
    for command in split_commands(line):
        yield from tell_moves(names_used(command))


def tell_moves(names: Iterable[str]) -> Iterator[str]:
    """Yield what is wrong with each of the names that move the server, phrased like `find_line_faults`."""
    for name in names:
        if reason := MOVING.get(name):
            yield f"sets {name}, which it cannot: {reason}."


def find_character_faults(line: str) -> Iterator[str]:
    """Yield one sentence naming the characters of a line that the game cannot read, if there are any."""
    bad = [one for one in dict.fromkeys(line) if one != "\t" and not " " <= one <= "~"]
    if bad:
        named = ", ".join(map(name_character, bad[:_SHOWN_CHARACTERS]))
        more = len(bad) - _SHOWN_CHARACTERS
        rest = f" and {more:,} other characters" if more > 0 else ""
        yield f"contains {named}{rest}: the game reads plain ASCII only."


def find_ends(text: str) -> Iterator[str]:
    """Yield a sentence for each command in a config that ends the server as soon as it is read."""
    for number, line in enumerate(text.split("\n"), start=1):
        for command in split_commands(line):
            name = next(iter(split_words(command)), "").lower()
            if reason := NO_COMMANDS.get(name):
                yield f"Line {number} of the config runs {name}, which it must not: {reason}."


def find_map_changes(text: str) -> Iterator[tuple[int, str]]:
    """Yield the numbers of lines that change the map, and to which; the name is empty if none is given."""
    for number, line in enumerate(text.split("\n"), start=1):
        if _MAY_CHANGE_MAP.search(line) is None:
            continue
        for command in split_commands(line.removesuffix("\r")):
            words = split_words(command)
            if words and words[0].strip().lower() in CHANGING_MAP:
                yield number, words[1].strip() if len(words) > 1 else ""
