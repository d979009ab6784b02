"""Parses Valve's KeyValues text as Steam writes it: `"name" { … }` and `"name" "value"`, with escapes.

Text written by people, such as mission files, needs a more forgiving parser.
"""

import re
from collections.abc import Iterator

_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|([{}])')


def read_values(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield each value with the names that lead to it, outermost first, until the text ends or makes no sense.

    Escapes are not decoded.
    """
    path: list[str] = []
    key: str | None = None
    for match in _TOKEN.finditer(text):
        string, brace = match[1], match[2]
        if brace == "{":
            path.append(key or "")
            key = None
        elif brace == "}":
            if not path:
                return
            path.pop()
            key = None
        elif key is None:
            key = string
        else:
            yield (*path, key), string
            key = None


def find_value(text: str, *path: str) -> str | None:
    """Return the first value that these names lead to; None if there is none."""
    return next((value for names, value in read_values(text) if names == path), None)
