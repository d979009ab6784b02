"""The threads that carry out a worker's jobs, and how far ahead of them jobs may be claimed.

A commit that survives a power cut costs more than a job that takes a fraction of a millisecond. So such short
jobs are claimed several at a time: as many as are expected to begin within `AHEAD_SECONDS`, judging by how long
the latest ones took. If one then takes longer, those that wait behind it go back into the queue.
"""

import math
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
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
LATE_SECONDS = 0.05
"""How long after the newest submission claimed jobs may wait for a thread, while none becomes free."""
WEIGHT = 1 / 4
"""Weight of the newest sample in the moving average of job duration."""


def boot_seconds() -> float:
    """Return the seconds since boot, on a clock that is never set and never stops."""
    return clock_gettime(CLOCK_BOOTTIME)


class JobThreads:
    """`count` threads that carry out plans, in the order in which one other thread submits them.

    `on_late` is called, from any thread, when there is something to `take_back`.
    """

    def __init__(
        self, count: int, carry_out: Callable[[Plan], None], on_late: Callable[[], None]
    ) -> None:
        self._count = count
        self._carry_out = carry_out
        self._on_late = on_late
        self._waiting: SimpleQueue[tuple[Plan, float] | None] = SimpleQueue()
        self._late: SimpleQueue[Plan] = SimpleQueue()
        self._busy: set[int] = set()
        self._submitted_at = 0.0
        self._typical_seconds = (
            LATE_SECONDS  # So nothing is claimed ahead until jobs have proved short.
        )
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
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def submit(self, plan: Plan, claimed_at: float) -> None:
        """Queue a plan for the next free thread; its job was claimed at `claimed_at`, in `boot_seconds`."""
        self._submitted_at = boot_seconds()
        self._waiting.put((plan, claimed_at))

    @property
    def places(self) -> int:
        """How many jobs may be claimed and unfinished: one for each thread, and those ahead."""
        ahead = self._count * int(AHEAD_SECONDS / self._typical_seconds)
        return max(min(self._count + ahead, MOST_PLACES), self._count)

    def has_waiting(self) -> bool:
        """Return whether a claimed job waits for a thread."""
        return not self._waiting.empty()

    def look_in_seconds(self) -> float:
        """Return in how many seconds to check for ends and for jobs to `take_back`; infinity for no need."""
        if not self._late.empty():
            return 0.0
        return AHEAD_SECONDS if self.has_waiting() else math.inf

    def take_back(self) -> list[ClaimedJob]:
        """Return the jobs that have waited too long for a thread; no thread will begin them."""
        is_stuck = self.has_waiting() and len(self._busy) == self._count
        if is_stuck and boot_seconds() - self._submitted_at > LATE_SECONDS:
            # Even the newest one has waited too long: the running jobs take longer than expected.
            self._typical_seconds = max(self._typical_seconds, LATE_SECONDS)
            for entry in empty(self._waiting):
                if entry:
                    self._late.put(entry[0])
        return [plan.job for plan in empty(self._late)]

    def _work(self, number: int) -> None:
        with vital(f"job_{number}"):
            self._carry_out_all(number)

    def _carry_out_all(self, number: int) -> None:
        while entry := self._waiting.get():
            plan, claimed_at = entry
            began_at = boot_seconds()
            if began_at - claimed_at > self._longest_wait_seconds:
                # The process was frozen, and another worker may have failed this job in the meantime. Counted
                # from the claim, which is also a heartbeat: the freeze may have come before the submission.
                self._late.put(plan)
                self._on_late()
                continue
            self._busy.add(number)
            self._carry_out(plan)
            self._busy.discard(number)
            seconds = boot_seconds() - began_at
            self._typical_seconds += (seconds - self._typical_seconds) * WEIGHT


def empty(queue: "SimpleQueue[T]") -> list[T]:
    """Remove all items from a queue, and return them."""
    items = []
    try:
        while True:
            items.append(queue.get_nowait())
    except Empty:
        return items
