"""Waiting counts checks, and not time during which nothing could happen."""

from collections.abc import Callable

import pytest

from tests import waiting
from tests.clocks import Clock
from tests.waiting import wait_until


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock used for waiting; pauses set it forward."""
    clock = Clock()
    monkeypatch.setattr(waiting, "monotonic", clock)
    monkeypatch.setattr(waiting, "sleep", clock.advance)
    return clock


def after(looks: int) -> Callable[[], bool]:
    """Return a predicate that becomes true at the check after this many."""
    answers = iter([*[False] * looks, True])
    return lambda: next(answers)


def test_a_machine_that_stands_still_leaves_the_time_that_there_was(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps = iter([11.0, *[0.01] * 99])
    monkeypatch.setattr(waiting, "sleep", lambda _: clock.advance(next(naps)))
    assert wait_until(after(100), 5, "it does not come")


def test_a_look_that_was_held_up_is_not_the_last_one(clock: Clock) -> None:
    looks = after(1)

    def look() -> bool:
        clock.advance(11)
        return looks()

    assert wait_until(look, 5, "it does not come")


def test_a_time_that_is_over_is_told_with_the_last_value(clock: Clock) -> None:
    with pytest.raises(AssertionError, match=r"no rows \(waited 5 s; last value: \[\]\)"):
        wait_until(list, 5, "no rows")
    assert clock.seconds < 1005.1


def test_looks_take_half_of_the_time_at_most(clock: Clock) -> None:
    """And a slow check is not followed by a long pause, in which much may happen."""
    began_at = clock.seconds

    def look() -> bool:
        clock.advance(0.2)
        return clock.seconds >= began_at + 3.9

    wait_until(look, 5, "it does not come")
    assert clock.seconds == pytest.approx(began_at + 4.2, abs=0.3)
    clock.advance(5)
    looks, began_at = after(2), clock.seconds

    def long_look() -> bool:
        clock.advance(2)
        return looks()

    wait_until(long_look, 9, "it does not come")
    assert clock.seconds == pytest.approx(began_at + 7)
