"""Notices a worker that does not claim jobs it could run, or has another database than everybody else.

It is ended, and its supervisor starts another.
"""

from time import monotonic

from jobs.database import find_database_file, identify_database_file
from jobs.queue import CLAIM_SECONDS, build_scheduler_state
from servers.models import Host

LOOK_SECONDS = 5.0


class ClaimExpectation:
    """Notices that a worker does not claim a job it could run. For one thread, not the one that claims."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._job_id: int | None = None
        self._since = 0.0
        self._looked_at = monotonic()

    def find_breach(self, *, has_free_thread: bool) -> str:
        """Check; return what the worker has failed to do, or an empty text. Raises what the database raises.

        Only the wait of one and the same job counts, and only while this is called regularly: a frozen process
        is no reason to end the worker, nor is an outage of the database. If that can still be read, only the
        thread that claims knows of it: then `has_free_thread` has to be false.
        """
        now = monotonic()
        is_regular = now - self._looked_at < 3 * LOOK_SECONDS
        self._looked_at = now
        previous, self._job_id = self._job_id, None
        if not has_free_thread:
            return ""
        self._job_id = next((job.id for job in build_scheduler_state(self._host).pick(1)), None)
        if self._job_id is None or self._job_id != previous or not is_regular:
            self._since = now
            return ""
        if now - self._since < CLAIM_SECONDS:
            return ""
        return (
            f"Job {self._job_id} of host {self._host.name} could have run for {now - self._since:.0f} s, and a "
            "thread of this worker is free, but it was not claimed: the worker is stuck, and ends."
        )


class DatabaseExpectation:
    """Notices that another file has taken the place of an SQLite database, such as a copy put back by hand.

    Connections that are open keep the file that was removed, and new ones get the other. For one thread.
    """

    def __init__(self) -> None:
        self._file = identify_database_file()

    def find_breach(self) -> str:
        """Check; return what has happened, or an empty text. A file that is missing may come back."""
        found = identify_database_file()
        self._file = self._file or found
        if found is None or found == self._file:
            return ""
        return f"{find_database_file()} is another file than this worker has open: the worker ends."
