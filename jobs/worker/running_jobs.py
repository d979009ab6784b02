"""The jobs that a worker process has claimed and not let go of yet, each with what cancels it."""

import threading
from collections.abc import Iterable

from hostops.specs import CancelToken
from jobs.models import ASIDE_OPERATIONS, Job


class RunningJobs:
    """Jobs by their ids. May be used by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens: dict[int, CancelToken] = {}
        self._aside: set[int] = set()

    def __len__(self) -> int:
        with self._lock:
            return len(self._tokens)

    def count_in_places(self) -> int:
        """Return how many jobs take one of the places that `concurrency` says; those aside take none."""
        with self._lock:
            return len(self._tokens) - len(self._aside)

    def ids(self) -> set[int]:
        """Return the ids of the jobs."""
        with self._lock:
            return set(self._tokens)

    def add(self, jobs: Iterable[Job]) -> None:
        """Note that jobs are claimed."""
        jobs = list(jobs)
        with self._lock:
            self._tokens |= {job.pk: CancelToken() for job in jobs}
            self._aside |= {job.pk for job in jobs if job.operation in ASIDE_OPERATIONS}

    def discard(self, job: Job) -> None:
        """Let go of a job."""
        with self._lock:
            self._tokens.pop(job.pk, None)
            self._aside.discard(job.pk)

    def token_of(self, job: Job) -> CancelToken:
        """Return what cancels a job that is claimed."""
        with self._lock:
            return self._tokens[job.pk]

    def cancel(self, job_id: int) -> None:
        """Cancel a job because a person asked for it, or another worker has it."""
        with self._lock:
            token = self._tokens.get(job_id)
        if token:
            token.cancel()

    def cancel_all(self, reason: str) -> None:
        """Cancel every job."""
        with self._lock:
            tokens = list(self._tokens.values())
        for token in tokens:
            token.cancel(reason)
