"""Which text a cfg file of a server may have: characters the game reads, and no line that moves it."""

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
    """A config that the game must not be given; `faults` has all that is wrong, a sentence for each line."""

    def __init__(self, faults: Sequence[str]) -> None:
        shown = list(faults[:_SHOWN_FAULTS])
        if len(faults) > len(shown):
            shown.append(f"{len(faults) - len(shown)} more lines are alike.")
        super().__init__("\n".join(shown))
        self.faults = tuple(faults)


def require_config(text: str) -> str:
    """Return the text of a cfg file, or raise `ConfigError` naming every line that the game would choke on.

    Left 4 Dead 2 reads cfg files as ASCII; other bytes, in comments too, break the rest of the file. A line
    ends with a line feed, alone or behind a carriage return, and with nothing else.
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
    """Yield what is wrong with one line, as what follows “Line 3 of the config”."""
    yield from find_character_faults(line)
    for command in split_commands(line):
        for name in names_used(command):
            if reason := MOVING.get(name):
                yield f"sets {name}, which it cannot: {reason}."


def find_character_faults(line: str) -> Iterator[str]:
    """Yield which characters of a line the game does not read, in one sentence like those of a line."""
    bad = [one for one in dict.fromkeys(line) if one != "\t" and not " " <= one <= "~"]
    if bad:
        yield f"contains {', '.join(map(name_character, bad))}: the game reads plain ASCII only."


def find_map_changes(text: str) -> Iterator[tuple[int, str]]:
    """Yield which lines change the map, and to which; an empty name where none is given."""
    for number, line in enumerate(text.split("\n"), start=1):
        if _MAY_CHANGE_MAP.search(line) is None:
            continue
        for command in split_commands(line.removesuffix("\r")):
            words = split_words(command)
            if words and words[0].strip().lower() in CHANGING_MAP:
                yield number, words[1].strip() if len(words) > 1 else ""
