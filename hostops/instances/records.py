"""Reads the records of instances and runs, treating them as text that a game may have written.

A record that is missing, of the wrong kind, too large or malformed results in None. A wrong value raises
ValueError.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hostops.linux import untrusted
from hostops.linux.untrusted import UntrustedFileError

MALFORMED = (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError)
"""The exceptions that can come from reading a malformed document."""

MAX_NUMBER = 2**31 - 1
"""The largest number that fits into the panel's database columns."""

_MAX_SECONDS = 253_402_300_000.0  # the end of the year 9999, where Python's dates end


def read_document(path: Path, beneath: Path) -> Mapping[str, Any] | None:
    """Return the object in a JSON file; None if it cannot be read. Only `beneath` is trusted."""
    try:
        document = json.loads(untrusted.read_file(path, beneath))
    except (FileNotFoundError, UntrustedFileError, *MALFORMED):
        return None
    return document if isinstance(document, dict) else None


def whole_number(value: object, low: int = 0, high: int = MAX_NUMBER) -> int:
    """Return a whole number in this range; ValueError for anything else."""
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{str(value)[:80]!r} is no number from {low} to {high}")
    return value


def seconds(value: object) -> float:
    """Return seconds since the epoch that a date can represent; ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{str(value)[:80]!r} is no time")  # noqa: TRY004 - what a reader catches
    if not (math.isfinite(value) and 0 <= value <= _MAX_SECONDS):
        raise ValueError(f"{value} is no time")
    return float(value)


def short_text(value: object, max_chars: int) -> str:
    """Return a text of at most `max_chars` without control characters; ValueError for anything else."""
    if not isinstance(value, str) or len(value) > max_chars or not value.isprintable():
        raise ValueError(f"{str(value)[:80]!r} is no short text")
    return value
