"""Silent workers are identified by a single steady clock, whatever the machines' clocks say."""

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from jobs.models import Worker
from jobs.queue import liveness
from jobs.queue.liveness import ClaimPulse, LeaseWatch, register_worker
from servers.models import Host
from tests.clocks import Clock

pytestmark = pytest.mark.django_db

LEASE_SECONDS = 30.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, settings: object) -> Clock:
    """Return the clock that a watch uses."""
    settings.JOB_WORKER_LEASE_SECONDS = LEASE_SECONDS  # type: ignore[attr-defined]
    clock = Clock()
    monkeypatch.setattr(liveness, "monotonic", clock)
    return clock


@pytest.fixture
def worker(host: Host) -> Worker:
    """Return a worker whose heartbeat is to be watched."""
    return register_worker(host, concurrency=1, is_claiming=True)


def look(watch: LeaseWatch, worker: Worker, clock: Clock, *, seconds: float) -> bool:
    """Check the worker every few seconds for this long; return the result of the last check."""
    has_lapsed = watch.has_lapsed(worker)
    for _ in range(round(seconds / 5)):
        clock.seconds += 5
        has_lapsed = watch.has_lapsed(worker)
    return has_lapsed


@pytest.mark.parametrize("hours", [-5, 0, 5])
def test_silence_is_noticed_whatever_the_workers_clock_says(
    worker: Worker, clock: Clock, hours: int
) -> None:
    worker.heartbeat_at = timezone.now() + timedelta(hours=hours)
    watch = LeaseWatch()
    assert not look(watch, worker, clock, seconds=LEASE_SECONDS - 5)
    assert look(watch, worker, clock, seconds=5)


@pytest.mark.parametrize("jump", [timedelta(hours=-5), timedelta(hours=5)])
def test_a_clock_that_jumps_is_no_silence(worker: Worker, clock: Clock, jump: timedelta) -> None:
    watch = LeaseWatch()
    for _ in range(20):
        assert not look(watch, worker, clock, seconds=10)
        worker.heartbeat_at += jump


def test_a_heartbeat_ends_the_silence(worker: Worker, clock: Clock) -> None:
    watch = LeaseWatch()
    assert look(watch, worker, clock, seconds=LEASE_SECONDS)
    worker.heartbeat_at += timedelta(seconds=5)
    assert not look(watch, worker, clock, seconds=LEASE_SECONDS - 5)


def test_an_observer_that_has_not_looked_for_long_starts_over(worker: Worker, clock: Clock) -> None:
    watch = LeaseWatch()
    assert not look(watch, worker, clock, seconds=LEASE_SECONDS - 5)
    clock.seconds += 10 * LEASE_SECONDS  # This process was frozen, or the database was away.
    assert not look(watch, worker, clock, seconds=LEASE_SECONDS - 5)
    assert look(watch, worker, clock, seconds=5)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("hours_ago", [1, -1], ids=["long ago", "the clock was set back"])
def test_claims_count_as_a_heartbeat_once_a_second(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, hours_ago: int
) -> None:
    seconds = [1000.0]
    monkeypatch.setattr(liveness, "clock_gettime", lambda _clock: seconds[0])
    pulse = ClaimPulse()

    def is_shown(*, commits: bool = True) -> bool:
        before = timezone.now() - timedelta(hours=hours_ago)
        Worker.objects.update(heartbeat_at=before)
        with transaction.atomic():
            pulse.show(worker)
            is_shown = Worker.objects.get().heartbeat_at != before
            transaction.set_rollback(not commits)
        return is_shown

    assert is_shown(commits=False)
    assert is_shown(), "nobody has seen the one that was rolled back"
    assert not is_shown()
    seconds[0] += 1
    assert is_shown()
