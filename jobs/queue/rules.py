"""Which jobs may run: the rules of the queue, and the only place that has them. No access to the database.

`scheduler` uses them to choose the jobs to claim, `wait_reasons` to explain what a job waits for.
"""

from collections.abc import Iterable
from typing import NamedTuple

from jobs.models import EXCLUSIVE_OPERATIONS, Operation

UNPACKED_AT_ONCE = 2
"""How many uploads a host unpacks at a time: each may keep a core busy for a quarter of an hour."""


class ActiveJob(NamedTuple):
    """What the rules need to know about a job that waits or runs."""

    id: int
    host_id: int | None
    server_id: int | None
    operation: str
    requested_by_id: int | None = None

    @property
    def is_exclusive(self) -> bool:
        """Whether nothing else may run on its host beside it."""
        return self.operation in EXCLUSIVE_OPERATIONS


class Rules:
    """The rules of one host, applied to its queued jobs one by one, oldest first.

    1. A job waits for the running job of its server, on whichever host that runs. An earlier one that may run
       counts as running, so the jobs of a server keep their order.
    2. An exclusive job waits for every running and every earlier job of its host.
    3. All jobs of a host wait for its running exclusive job.
    4. They also wait for an exclusive job that is the oldest waiting job, so that it is not starved. Until it
       is the oldest, an exclusive job holds up nothing.
    5. A job that unpacks an upload also waits for another one of the same person, and while `UNPACKED_AT_ONCE`
       of them run: nobody keeps others waiting by uploading much.
    6. Nothing else makes a job wait, so a blocked job does not block an unrelated one behind it.
    """

    def __init__(self, host_id: int, running: Iterable[ActiveJob]) -> None:
        """Begin with the running jobs of all hosts: a server may move while its old host still works on it."""
        running = list(running)
        self._here = [job for job in running if job.host_id == host_id]
        self._by_server: dict[int | None, ActiveJob] = {
            job.server_id: job for job in running if job.server_id is not None
        }
        # The exclusive job for which all further jobs wait: it runs, may run, or is the oldest waiting one.
        self._closed_by = next((job for job in self._here if job.is_exclusive), None)
        self._oldest_waiting: ActiveJob | None = None

    def admit(self, job: ActiveJob) -> ActiveJob | None:
        """Let the next queued `job` run and return None, or return the job that it waits for.

        A job that may run counts as running from then on, and those that wait are remembered too. So call this
        once for each queued job, oldest first.
        """
        if self._closed_by:
            blocker: ActiveJob | None = self._closed_by
        elif job.is_exclusive:
            blocker = self._here[0] if self._here else self._oldest_waiting
        elif job.operation == Operation.UNPACK:
            blocker = self._find_unpacking(job.requested_by_id)
        else:
            blocker = self._by_server.get(job.server_id)
        if job.is_exclusive and not self._closed_by and not self._oldest_waiting:
            self._closed_by = job
        if blocker:
            self._oldest_waiting = self._oldest_waiting or job
            return blocker
        self._here.append(job)
        if job.server_id is not None:
            self._by_server[job.server_id] = job
        return None

    def _find_unpacking(self, person_id: int | None) -> ActiveJob | None:
        """Return the running job that the next upload of a person waits for."""
        unpacking = [job for job in self._here if job.operation == Operation.UNPACK]
        own = next((job for job in unpacking if job.requested_by_id == person_id), None)
        return own or (unpacking[0] if len(unpacking) >= UNPACKED_AT_ONCE else None)

    @property
    def is_closed(self) -> bool:
        """Whether every further job waits."""
        return self._closed_by is not None

    @property
    def busy_server_ids(self) -> list[int]:
        """The servers whose further jobs wait, each for a job of its own server."""
        return [server_id for server_id in self._by_server if server_id is not None]
