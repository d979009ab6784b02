"""Waiting for a state instead of for a time."""

from collections.abc import Callable
from time import monotonic, sleep
from typing import TypeVar

T = TypeVar("T")

LONGEST_TURN_SECONDS = 1.0
"""A pause longer than this was not our pause: the machine stood still."""
PAUSE_SECONDS = 0.01
LONGEST_PAUSE_SECONDS = 0.5
PART_OF_THE_WAIT = 1 / 20
LONGEST_PART_SECONDS = 0.1
"""A pause is this part of the time that was waited, up to this: what takes long is looked for less often."""


def wait_until(predicate: Callable[[], T], timeout: float, message: str) -> T:
    """Return what `predicate` returns once that is true.

    Raises AssertionError with `message` and the last value when `timeout` seconds are over. Time in which the
    machine stood still does not count, because the awaited event could not happen then either. A pause is at
    least as long as the check before it: otherwise a check that starts a program would keep a core from what
    is awaited.
    """
    waits_since = monotonic()
    until = waits_since + timeout
    while True:
        began_at = monotonic()
        value = predicate()
        if value:
            return value
        # Not the end of this check: it may be about a state from before it was delayed.
        if began_at > until:
            raise AssertionError(f"{message} (waited {timeout} s; last value: {value!r})")
        pauses_at = monotonic()
        part = min((pauses_at - waits_since) * PART_OF_THE_WAIT, LONGEST_PART_SECONDS)
        sleep(min(max(PAUSE_SECONDS, part, pauses_at - began_at), LONGEST_PAUSE_SECONDS))
        until += max(0.0, monotonic() - pauses_at - LONGEST_TURN_SECONDS)
