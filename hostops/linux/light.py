"""JSON and `suppress` as in the standard library, for small programs that have to start at once.

`json` and `contextlib` import `re`, `enum` and `collections`, which would take a third of a launcher's time to
start. The C functions below are those that `json` itself uses in CPython.
"""

from __future__ import annotations

__all__ = ["dump_json", "load_json", "suppress"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Settings:
    """What the scanner reads from a `json.JSONDecoder`: the defaults."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float  # NaN, Infinity, -Infinity


def _refuse(value: object) -> object:
    raise TypeError(f"{value!r} cannot be written as JSON")


try:
    from _json import encode_basestring_ascii, make_encoder, make_scanner

    _scan = make_scanner(_Settings())  # type: ignore[arg-type] # any object with these attributes
    # In this order: markers, default, encoder, indent, the separators, sort_keys, skipkeys, allow_nan.
    _encode = make_encoder(
        None, _refuse, encode_basestring_ascii, None, ": ", ", ", False, False, True
    )
except (ImportError, TypeError):  # Another Python, or one in which they take something else.
    from json import dumps as dump_json
    from json import loads as load_json
else:

    def load_json(text: str) -> Any:  # type: ignore[misc] # what it is above takes more
        """Return what `json.loads` returns; raise ValueError if the text is not one JSON document."""
        text = text.strip(" \t\n\r")
        try:
            document, end = _scan(text, 0)
        except StopIteration:
            raise ValueError("This is no JSON.") from None
        if end != len(text):
            raise ValueError(f"The JSON document ends at character {end}, and more follows.")
        return document

    def dump_json(document: object) -> str:  # type: ignore[misc]
        """Return what `json.dumps` returns."""
        return "".join(_encode(document, 0))


class suppress:  # noqa: N801 - it is named after the one in contextlib
    """Suppress these exceptions in a `with` block."""

    def __init__(self, *exceptions: type[BaseException]) -> None:
        self._exceptions = exceptions

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, self._exceptions)
