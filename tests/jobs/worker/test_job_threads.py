"""A worker's threads: what they carry out, how far ahead jobs are claimed for them, and what they leave."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from queue import SimpleQueue
from typing import Any

import pytest

from jobs.claimed_jobs import ClaimedJob
from jobs.models import Job
from jobs.worker import job_threads
from jobs.worker.deaths import EXIT_THREAD_DIED, vital
from jobs.worker.execution import Plan
from jobs.worker.job_threads import AHEAD_SECONDS, LATE_SECONDS, MOST_PLACES, JobThreads
from tests.clocks import Clock
from tests.waiting import wait_until


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Give the threads a clock that the test sets."""
    clock = Clock()
    monkeypatch.setattr(job_threads, "boot_seconds", clock)
    return clock


class Work:
    """What the threads carry out: it is recorded, waits until it is opened, and sets the clock forward."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.seconds = 0.0
        self.begun: list[int] = []
        self.is_open = threading.Event()
        self.is_open.set()
        self.has_refused = threading.Event()

    def carry_out(self, plan: Plan) -> None:
        self.begun.append(plan.job.pk)
        self.is_open.wait(60)
        self.clock.seconds += self.seconds


Open = Callable[[int], JobThreads]


@pytest.fixture
def work(clock: Clock) -> Work:
    """Return the work."""
    return Work(clock)


@pytest.fixture
def start(work: Work) -> Iterator[Open]:
    """Return a function that starts this many threads; at the end they are released, and waited for."""
    with ExitStack() as stack:
        stack.callback(work.is_open.set)

        def start(count: int) -> JobThreads:
            return stack.enter_context(JobThreads(count, work.carry_out, work.has_refused.set))

        yield start
        work.is_open.set()


def plan(number: int) -> Plan:
    return Plan(ClaimedJob.of(Job(pk=number)), lambda **_callbacks: None)


def submit(threads: JobThreads, *numbers: int) -> None:
    threads.submit(list(map(plan, numbers)), claimed_at=job_threads.boot_seconds())


def test_plans_are_carried_out_in_order(start: Open, work: Work) -> None:
    submit(start(1), *range(100))
    wait_until(lambda: len(work.begun) == 100, 10, "they are not carried out")
    assert work.begun == list(range(100))


def has_begun(work: Work, numbers: list[int]) -> bool:
    return sorted(work.begun) == numbers


def test_each_job_that_may_take_long_begins_at_once(start: Open, work: Work) -> None:
    work.is_open.clear()
    threads = start(4)
    for numbers in ([1, 2], [3], [4, 5]):
        submit(threads, *numbers)
        expected = list(range(1, min(numbers[-1], 4) + 1))
        wait_until(partial(has_begun, work, expected), 10, f"not {expected} have begun")


def test_while_jobs_are_short_one_thread_does_them_unless_it_is_held_up(
    start: Open, work: Work, clock: Clock
) -> None:
    threads = start(4)

    def have_begun(count: int) -> bool:
        return has_begun(work, list(range(count))) and threads._calls.empty()

    submit(threads, *range(300))
    wait_until(partial(have_begun, 300), 10, "not all have begun")
    work.is_open.clear()
    submit(threads, *range(300, 330))
    wait_until(partial(have_begun, 301), 10, "no thread has begun a job")
    clock.advance(0.6 * AHEAD_SECONDS)
    threads.take_back()
    assert have_begun(301)
    clock.advance(0.6 * AHEAD_SECONDS)
    threads.take_back()
    wait_until(partial(has_begun, work, list(range(304))), 10, "not all threads have begun a job")
    work.is_open.set()
    wait_until(partial(have_begun, 330), 10, "some have not begun")


def test_a_job_behind_a_long_one_gets_another_thread_at_once(
    start: Open, work: Work, clock: Clock
) -> None:
    threads = start(2)
    submit(threads, *range(300))
    wait_until(partial(has_begun, work, list(range(300))), 10, "not all have begun")
    work.is_open.clear()
    submit(threads, 300)  # It was expected to be short, like those before.
    wait_until(partial(has_begun, work, list(range(301))), 10, "no thread has begun it")
    clock.advance(10 * AHEAD_SECONDS)
    submit(threads, 301)
    wait_until(partial(has_begun, work, list(range(302))), 10, "it waits for the long one")


def test_what_is_submitted_while_a_thread_falls_idle_is_begun(start: Open, work: Work) -> None:
    threads = start(1)

    class LastMoment(list[float]):
        def __setitem__(self, number: Any, began_at: Any) -> None:
            if began_at == job_threads.IDLE and len(work.begun) in (60, 61):
                submit(threads, len(work.begun))
            super().__setitem__(number, began_at)

    threads._began_at = LastMoment(threads._began_at)
    submit(threads, *range(60))  # By now jobs are known to be short.
    wait_until(partial(has_begun, work, list(range(62))), 10, "not all have begun")


def test_nothing_is_claimed_ahead_of_threads_that_have_done_nothing_yet(start: Open) -> None:
    assert start(4).places == 4


def test_each_thread_has_a_place_however_many_there_are(work: Work) -> None:
    count = MOST_PLACES + 1
    assert JobThreads(count, work.carry_out, work.has_refused.set).places == count


def test_what_is_short_is_claimed_ahead_and_what_is_not_so_short_is_not(
    start: Open, work: Work
) -> None:
    job_threads = start(1)

    def do(count: int, seconds: float, places: int) -> None:
        work.seconds = seconds
        submit(job_threads, *range(count))
        wait_until(lambda: job_threads.places == places, 10, f"not {places} places")

    do(300, AHEAD_SECONDS / 10.5, 1 + 10)
    do(300, 0.0, MOST_PLACES)
    do(1, 600.0, 1)
    do(150, AHEAD_SECONDS / 2.5, 1 + 2)
    do(300, AHEAD_SECONDS * 1.1, 1)


def test_a_short_job_that_waits_for_the_lock_of_python_changes_little(
    start: Open, work: Work
) -> None:
    threads = start(4)
    work.seconds = AHEAD_SECONDS / 500
    submit(threads, *range(300))
    wait_until(lambda: threads.places == MOST_PLACES, 10, "they do not count as short")
    work.seconds = AHEAD_SECONDS / 2
    submit(threads, 300)
    wait_until(partial(has_begun, work, list(range(301))), 10, "it is not begun")
    submit(threads, 301)
    wait_until(partial(has_begun, work, list(range(302))), 10, "the next is not begun")
    assert threads.places > MOST_PLACES / 2


def test_nothing_is_ahead_of_threads_that_are_waking_up(work: Work) -> None:
    """They have been woken for these jobs, and have not had the time to take them."""
    threads = JobThreads(2, work.carry_out, work.has_refused.set)
    submit(threads, 1, 2)
    assert threads.has_waiting()
    assert not threads.has_ahead()
    submit(threads, 3)
    assert threads.has_ahead()


def test_more_threads_are_woken_for_jobs_that_turn_out_to_take_milliseconds(
    start: Open, work: Work, clock: Clock
) -> None:
    calls = HeldCalls()
    threads = JobThreads(4, work.carry_out, work.has_refused.set)
    threads._calls = calls
    looks: list[int] = []

    def carry_out_and_look(plan: Plan) -> None:
        """Look as the worker's main thread does: about every hundredth of a second."""
        Work.carry_out(work, plan)
        calls.held = 0
        threads.take_back()
        looks.append(calls.held)

    with threads:
        submit(threads, *range(300))
        wait_until(lambda: threads.places == MOST_PLACES, 10, "they do not count as short")
        wait_until(lambda: not threads.has_waiting(), 10, "they are not done")
        work.seconds = 0.9 * AHEAD_SECONDS
        threads._carry_out = carry_out_and_look
        submit(threads, *range(300, 308))
        calls.holds = True
        wait_until(lambda: len(looks) == 8, 10, "not all are carried out")
    assert looks[:4] == [0, 0, 3, 3]


class HeldCalls(SimpleQueue[bool]):
    """Counts the calls that would wake a thread, and holds them back."""

    holds = False
    held = 0

    def put(self, item: bool, *args: Any, **options: Any) -> None:
        if item and self.holds:
            self.held += 1
        else:
            super().put(item, *args, **options)


def test_what_waits_behind_a_long_job_is_given_back_and_not_begun(
    start: Open, work: Work, clock: Clock
) -> None:
    work.is_open.clear()
    job_threads = start(1)
    submit(job_threads, 1)
    wait_until(lambda: work.begun, 10, "the first is not begun")
    submit(job_threads, 2, 3)
    assert job_threads.look_in_seconds() == AHEAD_SECONDS
    clock.seconds += LATE_SECONDS
    assert job_threads.take_back() == []
    clock.seconds += 0.001
    assert [job.pk for job in job_threads.take_back()] == [2, 3]
    assert not job_threads.has_waiting()
    assert job_threads.places == 1
    work.is_open.set()
    submit(job_threads, 4)
    wait_until(lambda: work.begun == [1, 4], 10, f"not 1 and 4, but {work.begun}")


def test_what_a_free_thread_is_about_to_take_is_left_to_it(work: Work, clock: Clock) -> None:
    """However late: on an overloaded machine a thread can take long to wake up."""
    job_threads = JobThreads(1, work.carry_out, work.has_refused.set)
    submit(job_threads, 1)
    clock.seconds += 10 * LATE_SECONDS
    assert job_threads.take_back() == []
    assert job_threads._calls.qsize() == 1
    with job_threads:
        wait_until(lambda: work.begun, 10, "it is not begun")


def test_what_was_claimed_before_a_long_freeze_is_not_begun(
    start: Open, work: Work, clock: Clock, settings: Any
) -> None:
    """By now others may have given its worker up for dead, and the job may be running elsewhere."""
    job_threads = JobThreads(1, work.carry_out, work.has_refused.set)
    submit(job_threads, 1)
    clock.seconds += settings.JOB_WORKER_LEASE_SECONDS
    with job_threads:
        assert work.has_refused.wait(10)
        assert [job.pk for job in job_threads.take_back()] == [1]
    assert work.begun == []


def test_what_was_frozen_between_its_claim_and_its_submission_is_not_begun_either(
    start: Open, work: Work, clock: Clock, settings: Any
) -> None:
    threads = start(1)
    claimed_at = clock.seconds
    clock.seconds += settings.JOB_WORKER_LEASE_SECONDS
    threads.submit([plan(1)], claimed_at)
    assert work.has_refused.wait(10)
    assert [job.pk for job in threads.take_back()] == [1]
    assert work.begun == []


def test_a_thread_that_dies_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def break_down(_plan: Plan) -> None:
        raise RuntimeError("a bug")

    exits: list[int] = []
    monkeypatch.setattr("os._exit", exits.append)
    with JobThreads(1, break_down, lambda: None) as threads:
        threads.submit([plan(1)], claimed_at=job_threads.boot_seconds())
    assert exits == [EXIT_THREAD_DIED]
    assert "The thread “job_0” of this worker has died of RuntimeError: a bug." in caplog.text


@pytest.mark.parametrize("statement", ["SELECT 1", "CREATE INDEX i ON t (a) WHERE a = 1"])
def test_one_that_dies_of_an_index_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, statement: str
) -> None:
    """The index that a statement names was dropped, or is another one."""
    monkeypatch.setattr("os._exit", lambda _code: None)
    with closing(sqlite3.connect(":memory:")) as database, vital("main"):
        database.execute("CREATE TABLE t (a)")
        database.execute(statement)
        database.execute("SELECT a FROM t INDEXED BY i")
    assert "until the index is made again: the Health page says how." in caplog.text
