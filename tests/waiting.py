"""Waiting for a state instead of for a time."""

from collections.abc import Callable
from time import monotonic, sleep
from typing import TypeVar

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], timeout: float, message: str) -> T:
    """Return what `predicate` returns once that is true.

    Raises AssertionError with `message` and the last value when `timeout` seconds are over.
    """
    until = monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if monotonic() > until:
            raise AssertionError(f"{message} (waited {timeout} s; last value: {value!r})")
        sleep(0.01)
