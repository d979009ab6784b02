"""The threads that carry out jobs, how many of them are woken, and how far ahead of them jobs may be claimed.

A commit that survives a power cut costs more than a job that takes a fraction of a millisecond. So such short
jobs are claimed several at a time: as many as are expected to begin within `AHEAD_SECONDS`, judging by how long
the latest ones took. If one then takes longer, those that wait behind it go back into the queue.
"""

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from time import CLOCK_BOOTTIME, clock_gettime
from types import TracebackType
from typing import Self, TypeVar

from django.conf import settings

from jobs.claimed_jobs import ClaimedJob
from jobs.worker.deaths import vital
from jobs.worker.execution import Plan

T = TypeVar("T")

AHEAD_SECONDS = 0.01
"""How long a claimed job may be expected to wait for a thread."""
MOST_PLACES = 128
"""How many jobs may be claimed and unfinished, however short they are, unless there are more threads.

Two pages of the queue: for one more job, a claim would read a third.
"""
NOT_SHORT_SECONDS = 2 * AHEAD_SECONDS
"""Jobs that take this long, or longer, are all the same here: none is claimed ahead, and each gets a thread."""
LATE_SECONDS = 0.05
"""Waiting jobs are given back if every thread is busy this long after the newest submission."""
WEIGHT = 1 / 32
"""Weight of the newest sample in the moving average of job duration.

Some short jobs wait several milliseconds for Python's lock. One of these must not make the others look long.
"""
IDLE = -math.inf
"""Stands for the time at which a thread has begun its job, while it has none."""


def boot_seconds() -> float:
    """Return the seconds since boot, on a clock that is never set and never stops."""
    return clock_gettime(CLOCK_BOOTTIME)


class JobThreads:
    """`count` threads that carry out plans, in the order in which one other thread submits them.

    While jobs are short, threads that compete for Python's lock take longer than one alone. So only as many are
    woken as should begin all waiting jobs within `AHEAD_SECONDS`; `take_back` judges again. `on_refused` is
    called, from a thread that refuses a job because it has waited too long: `take_back` returns it.
    """

    def __init__(
        self, count: int, carry_out: Callable[[Plan], None], on_refused: Callable[[], None]
    ) -> None:
        self._count = count
        self._carry_out = carry_out
        self._on_refused = on_refused
        self._waiting: deque[tuple[Plan, float]] = deque()
        self._refused: deque[Plan] = deque()
        self._calls: SimpleQueue[bool] = SimpleQueue()  # True wakes a thread, False ends one.
        self._began_at = [IDLE] * count
        self._submitted_at = 0.0
        # So long that nothing is claimed ahead until jobs have proved short.
        self._typical_seconds = NOT_SHORT_SECONDS
        # A thread refuses a job that was claimed longer ago: another worker may have failed it.
        self._longest_wait_seconds = settings.JOB_WORKER_LEASE_SECONDS / 2
        self._threads = [
            threading.Thread(target=self._work, args=(number,), name=f"job_{number}")
            for number in range(count)
        ]

    def __enter__(self) -> Self:
        """Start the threads."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the threads once they have carried out all that was submitted."""
        for _ in self._threads:
            self._calls.put(False)
        for thread in self._threads:
            thread.join()

    def submit(self, plans: Sequence[Plan], claimed_at: float) -> None:
        """Queue plans for the next free threads; their jobs were claimed at `claimed_at`, in `boot_seconds`."""
        self._submitted_at = boot_seconds()
        self._waiting.extend((plan, claimed_at) for plan in plans)
        self._wake_threads()

    def _wake_threads(self) -> None:
        """Wake as many more threads as should be needed for what waits."""
        now = boot_seconds()
        # Those that have just begun a job should soon take another. Those in `_calls` are only waking up.
        brisk = sum(now - began_at < AHEAD_SECONDS for began_at in self._began_at)
        jobs = brisk + len(self._waiting)
        # If one of the newest jobs takes this long, or some of them have still not begun, they are not as short
        # as those before: a thread for each.
        is_one_long = any(
            self._submitted_at <= began_at <= now - AHEAD_SECONDS for began_at in self._began_at
        )
        are_late = now - self._submitted_at > 2 * AHEAD_SECONDS
        seconds = AHEAD_SECONDS if is_one_long or are_late else self._typical_seconds
        needed = math.ceil(jobs * seconds / AHEAD_SECONDS)
        needed = min(needed, jobs, self._count)
        for _ in range(needed - brisk - self._calls.qsize()):
            self._calls.put(True)

    @property
    def places(self) -> int:
        """How many jobs may be claimed and unfinished: one for each thread, and those ahead."""
        ahead = self._count * int(AHEAD_SECONDS / self._typical_seconds)
        return max(min(self._count + ahead, MOST_PLACES), self._count)

    def has_waiting(self) -> bool:
        """Return whether a claimed job waits for a thread."""
        return bool(self._waiting)

    def has_ahead(self) -> bool:
        """Return whether a claimed job waits for which no thread is waking up."""
        return len(self._waiting) > self._calls.qsize()

    def look_in_seconds(self) -> float:
        """Return in how many seconds to check for ends and for jobs to `take_back`; infinity for no need."""
        if self._refused:
            return 0.0
        return AHEAD_SECONDS if self.has_waiting() else math.inf

    def take_back(self) -> list[ClaimedJob]:
        """Return the jobs that no thread will begin; wake more threads if the other waiting jobs need them.

        These are the jobs that threads have refused, and all that wait if every thread is busy for too long.
        """
        is_stuck = self.has_waiting() and IDLE not in self._began_at
        if is_stuck and boot_seconds() - self._submitted_at > LATE_SECONDS:
            # Even the newest one has waited too long: the running jobs take longer than expected.
            self._typical_seconds = NOT_SHORT_SECONDS
            self._refused.extend(plan for plan, _claimed_at in take_each(self._waiting))
        elif self.has_waiting():
            self._wake_threads()
        return [plan.job for plan in take_each(self._refused)]

    def _work(self, number: int) -> None:
        with vital(f"job_{number}"):
            has_more = True
            while has_more:
                # Look before sleeping. Until `_began_at` says IDLE, this thread counts as busy, so `submit` may
                # have relied on it and woken none.
                while not self._waiting and has_more:
                    has_more = self._calls.get()
                self._carry_out_all(number)

    def _carry_out_all(self, number: int) -> None:
        for plan, claimed_at in take_each(self._waiting):
            began_at = boot_seconds()
            if began_at - claimed_at > self._longest_wait_seconds:
                # The process was frozen, and another worker may have failed this job in the meantime. Counted
                # from the claim, which is also a heartbeat: the freeze may have come before the submission.
                self._refused.append(plan)
                self._on_refused()
                continue
            self._began_at[number] = began_at
            self._carry_out(plan)
            seconds = boot_seconds() - began_at
            typical = self._typical_seconds + (seconds - self._typical_seconds) * WEIGHT
            self._typical_seconds = min(typical, NOT_SHORT_SECONDS)
        self._began_at[number] = IDLE


def take_each(queue: "deque[T]") -> Iterator[T]:
    """Remove and yield the items of a queue, from which other threads take some too, until it is empty."""
    while True:
        try:
            item = queue.popleft()
        except IndexError:
            return
        yield item
