"""Consoles that flood are checked sooner, and keep less, than others."""

import pytest

from jobs.watch import console_guard
from jobs.watch.console_guard import (
    FLOOD_BYTES,
    LONGEST_WAIT_SECONDS,
    MOST_BYTES,
    SHORTEST_WAIT_SECONDS,
    ConsoleGuard,
)


class Consoles:
    """Sizes that a test sets, and a record of what is trimmed."""

    def __init__(self) -> None:
        self.sizes = {"alpha": 0, "bravo": 10 * MOST_BYTES}
        self.trimmed: list[tuple[str, int]] = []

    def trim_consoles(self, most_bytes: int) -> dict[str, int]:
        """Return the sizes."""
        assert most_bytes == MOST_BYTES
        return dict(self.sizes)

    def trim_console(self, name: str, most_bytes: int) -> int:
        """Remember it."""
        self.trimmed.append((name, most_bytes))
        return self.sizes[name]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a clock, whose last entry is the current time."""
    times = [0.0]
    monkeypatch.setattr(console_guard, "monotonic", lambda: times[-1])
    return times


def test_a_quiet_console_is_left_what_it_may_have(clock: list[float]) -> None:
    consoles = Consoles()
    guard = ConsoleGuard(consoles)
    guard.look()
    clock.append(1.0)
    consoles.sizes["alpha"] += MOST_BYTES // 100
    assert guard.look() == LONGEST_WAIT_SECONDS
    assert consoles.trimmed == []


def test_whatever_a_host_does_it_is_asked_again(clock: list[float]) -> None:
    consoles = Consoles()
    guard = ConsoleGuard(consoles)
    consoles.sizes = {"alpha": "many"}  # type: ignore[dict-item]
    guard.look()
    assert guard.look() == LONGEST_WAIT_SECONDS
    consoles.sizes = {"alpha": 0}
    assert guard.look() == LONGEST_WAIT_SECONDS


def test_only_the_one_that_floods_is_trimmed_to_less_and_soon_again(clock: list[float]) -> None:
    consoles = Consoles()
    guard = ConsoleGuard(consoles)
    guard.look()
    clock.append(1.0)
    consoles.sizes["alpha"] += 4 * MOST_BYTES
    assert SHORTEST_WAIT_SECONDS <= guard.look() == pytest.approx(1 / 16)
    assert consoles.trimmed == [("alpha", FLOOD_BYTES)]
    clock.append(2.0)
    assert guard.look() == LONGEST_WAIT_SECONDS
    assert len(consoles.trimmed) == 1
