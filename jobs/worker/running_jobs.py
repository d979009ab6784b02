"""The jobs that a worker process has claimed, or is claiming, and not finished, each with its cancel token."""

import threading
from collections.abc import Iterable

from hostops.specs import CancelToken
from jobs.claimed_jobs import ClaimedJob


class RunningJobs:
    """Jobs by their ids. Safe to use from any thread. Few are cancelled: a token is made when it is needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens: dict[int, CancelToken | None] = {}

    def __len__(self) -> int:
        with self._lock:
            return len(self._tokens)

    def ids(self) -> set[int]:
        """Return the ids of the jobs."""
        with self._lock:
            return set(self._tokens)

    def add(self, jobs: Iterable[ClaimedJob]) -> None:
        """Add claimed jobs."""
        with self._lock:
            self._tokens |= dict.fromkeys(job.id for job in jobs)

    def discard(self, jobs: Iterable[ClaimedJob]) -> None:
        """Remove jobs."""
        with self._lock:
            for job in jobs:
                self._tokens.pop(job.id, None)

    def token_of(self, job: ClaimedJob) -> CancelToken:
        """Return the cancel token of a claimed job."""
        with self._lock:
            return self._make_token(job.id)

    def cancel(self, job_id: int) -> None:
        """Cancel a job because a person requested it, or because nothing of it is stored any more."""
        with self._lock:
            if job_id in self._tokens:
                self._make_token(job_id).cancel()

    def cancel_all(self, reason: str) -> None:
        """Cancel every job."""
        with self._lock:
            for job_id in self._tokens:
                self._make_token(job_id).cancel(reason)

    def _make_token(self, job_id: int) -> CancelToken:
        token = self._tokens[job_id]
        if token is None:
            token = self._tokens[job_id] = CancelToken()
        return token
