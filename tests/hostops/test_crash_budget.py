"""The rules for restarting crashed servers: how often, and after which pause."""

import pytest

from hostops.crash_budget import (
    LONGEST_PAUSE_SECONDS,
    PAUSE_SECONDS,
    RESTART_BUDGET,
    RESTART_WINDOW_SECONDS,
    count_restarts,
    is_failure,
    is_spent,
    pause_before,
)

NOW = 1_800_000_000.0


def test_only_the_restarts_within_the_window_count() -> None:
    edge = NOW - RESTART_WINDOW_SECONDS
    assert count_restarts([edge - 1, edge, edge + 1, NOW - 1], NOW) == 2


def test_restarts_from_before_the_clock_was_set_back_do_not_count() -> None:
    assert not is_spent([NOW + 86_400 * day for day in range(1, RESTART_BUDGET + 1)], NOW)
    assert count_restarts([NOW], NOW) == 1


def test_no_more_restarts_are_told_than_the_budget_has() -> None:
    """A launcher of an earlier version did not enforce it."""
    assert count_restarts([NOW - 1] * 50, NOW) == RESTART_BUDGET


def test_the_budget_is_spent_by_as_many_restarts_and_comes_back_as_they_grow_old() -> None:
    restarts = [NOW - 300 + 60 * number for number in range(RESTART_BUDGET)]
    assert not is_spent(restarts[1:], NOW)
    assert is_spent(restarts, NOW)
    assert not is_spent(restarts, restarts[0] + RESTART_WINDOW_SECONDS)


def test_the_pause_grows_from_a_few_seconds_to_a_minute() -> None:
    pauses = [pause_before(restart) for restart in range(1, 8)]
    assert pauses[0] == PAUSE_SECONDS
    assert pauses[1:5] == sorted(set(pauses[1:5]))
    assert pauses[4:] == pytest.approx([LONGEST_PAUSE_SECONDS] * 3)


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("signal killed SEGV", True),
        ("core-dump dumped ABRT", True),
        ("exit-code exited 1", True),
        ("exit-code exited 139", True),
        ("oom-kill killed KILL", True),
        ("unknown", True),
        ("", True),
        # It quit by itself, or on SIGINT.
        ("success exited 0", False),
        ("success exited 130", False),
        ("signal killed INT", False),
    ],
)
def test_a_game_that_quit_by_itself_is_not_started_again(end: str, expected: bool) -> None:
    assert is_failure(end) is expected
