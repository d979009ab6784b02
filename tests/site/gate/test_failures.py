"""Failed sign-ins: who has to wait, how long, and who has not."""

import pytest

from l4d2site.gate.failures import WINDOW_SECONDS, Failures


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fail(failures: Failures, times: int, *, address: str = "here", account: str = "alice") -> None:
    for _ in range(times):
        failures.add(address, account)


def test_the_tenth_failure_of_an_address_makes_it_wait(clock: Clock) -> None:
    failures = Failures(per_address=10, per_account=10, clock=clock)
    for number in range(9):
        fail(failures, 1, account=f"guess-{number}")
    assert failures.wait_seconds("here", "alice") == 0
    clock.now += 100
    fail(failures, 1)
    assert failures.wait_seconds("here", "bob") == WINDOW_SECONDS - 100


def test_an_account_waits_only_where_it_failed(clock: Clock) -> None:
    failures = Failures(per_address=100, per_account=10, clock=clock)
    fail(failures, 10)
    assert failures.wait_seconds("here", "alice") == WINDOW_SECONDS
    assert failures.wait_seconds("here", "bob") == 0
    assert failures.wait_seconds("elsewhere", "alice") == 0


def test_the_wait_is_over_when_the_oldest_that_counts_is_old(clock: Clock) -> None:
    failures = Failures(per_address=3, per_account=3, clock=clock)
    for _ in range(3):
        fail(failures, 1)
        clock.now += 10
    assert failures.wait_seconds("here", "alice") == WINDOW_SECONDS - 30
    clock.now += failures.wait_seconds("here", "alice")
    assert failures.wait_seconds("here", "alice") == 0
    fail(failures, 1)
    assert failures.wait_seconds("here", "alice") == 10


def test_success_forgives_the_account_and_no_other(clock: Clock) -> None:
    failures = Failures(per_address=10, per_account=10, clock=clock)
    fail(failures, 9, account="mallory")
    fail(failures, 9, account="victim")
    failures.forgive("here", "mallory")
    fail(failures, 1, account="victim")
    assert failures.wait_seconds("here", "victim") > 0
    failures.forgive("elsewhere", "nobody")


def test_what_is_old_takes_no_memory(clock: Clock) -> None:
    failures = Failures(per_address=10, per_account=10, clock=clock)
    for number in range(1000):
        fail(failures, 1, address=f"address-{number}")
    clock.now += WINDOW_SECONDS
    fail(failures, 1, address="another")
    assert len(failures) == 1
