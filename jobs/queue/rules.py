"""Who may run: the rules of the queue, and the only place that has them. Reads nothing from the database.

`scheduler` asks which jobs to claim, `wait_reasons` what a job waits for.
"""

from collections.abc import Iterable
from typing import NamedTuple

from jobs.models import ASIDE_OPERATIONS, EXCLUSIVE_OPERATIONS

ASIDE_JOBS = 2
"""How many jobs run aside on one host at a time: each may keep a core busy for a quarter of an hour."""


class ActiveJob(NamedTuple):
    """What the rules know of a job that waits or runs."""

    id: int
    host_id: int | None
    server_id: int | None
    operation: str
    requested_by_id: int | None = None

    @property
    def is_aside(self) -> bool:
        """Whether it has nothing to do with what the rules are about: games and servers."""
        return self.operation in ASIDE_OPERATIONS

    @property
    def is_exclusive(self) -> bool:
        """Whether it is done to a whole host alone."""
        return self.operation in EXCLUSIVE_OPERATIONS


class Rules:
    """The rules of one host, applied to its queued jobs one by one, oldest first.

    1. A job waits for any job of its server, on whichever host that runs.
    2. An exclusive job waits for every job of its host.
    3. All jobs of a host wait for its running exclusive job.
    4. They also wait for an exclusive job that is the oldest one waiting, so that it is not starved. Until it
       is the oldest, an exclusive job holds up nothing.
    5. A job aside waits for another one of the same person, and while `ASIDE_JOBS` of them run: so nobody keeps
       others waiting by bringing much. The rules above do not hold for it, and no other job waits for it.
    6. Nothing else makes a job wait, so a blocked job does not block an unrelated one behind it.
    """

    def __init__(self, host_id: int, running: Iterable[ActiveJob]) -> None:
        """Begin with the jobs that run on any host: a server may have moved while its old host still acts."""
        running = list(running)
        here = [job for job in running if job.host_id == host_id]
        self._here = [job for job in here if not job.is_aside]
        self._aside = [job for job in here if job.is_aside]
        self._by_server: dict[int | None, ActiveJob] = {
            job.server_id: job for job in running if job.server_id is not None
        }
        self._exclusive = next((job for job in self._here if job.is_exclusive), None)
        self._oldest_waiting: ActiveJob | None = None

    def find_blocker(self, job: ActiveJob) -> ActiveJob | None:
        """Return the job that the next queued `job` waits for.

        None means that it may run. From then on it counts as running.
        """
        if job.is_aside:
            return self._find_blocker_aside(job)
        if self._exclusive:
            blocker: ActiveJob | None = self._exclusive
        elif job.is_exclusive:
            blocker = self._here[0] if self._here else self._oldest_waiting
        else:
            blocker = self._by_server.get(job.server_id)
        if job.is_exclusive and not self._exclusive and not self._oldest_waiting:
            self._exclusive = job  # It runs now, or it is the oldest one waiting.
        if blocker:
            self._oldest_waiting = self._oldest_waiting or job
            return blocker
        self._here.append(job)
        if job.server_id is not None:
            self._by_server[job.server_id] = job
        return None

    def _find_blocker_aside(self, job: ActiveJob) -> ActiveJob | None:
        asked_by = job.requested_by_id
        blocker = next((one for one in self._aside if one.requested_by_id == asked_by), None)
        if blocker is None and len(self._aside) >= ASIDE_JOBS:
            blocker = self._aside[0]
        if blocker is None:
            self._aside.append(job)
        return blocker

    @property
    def is_closed(self) -> bool:
        """Whether all further jobs wait, whatever they are, but for those aside."""
        return self._exclusive is not None

    @property
    def busy_server_ids(self) -> list[int]:
        """The servers whose further jobs wait."""
        return [server_id for server_id in self._by_server if server_id is not None]
