"""A thread that stores what a log writer collects, and copies SQLite's log, as a worker's threads do."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import InterfaceError, OperationalError, connection

from jobs.claimed_jobs import ClaimedJob
from jobs.database.wal_checkpoints import copy_log
from jobs.logs.finishing import Ending
from jobs.logs.log_writer import LogWriter
from tests.waiting import wait_until


class StoringThread:
    """Stores whenever something is due, and retries a little later if the database fails."""

    def __init__(self, on_given_up: Callable[[ClaimedJob], None], **options: Any) -> None:
        self.settled: dict[int, bool] = {}
        self._due = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._run)
        self.writer = LogWriter(
            on_due=self._due.set,
            on_settled=lambda job, is_stored: self.settled.update({job.pk: is_stored}),
            on_given_up=on_given_up,
            **options,
        )

    def finish(self, job: ClaimedJob, ending: Ending, seconds: float = 30) -> bool:
        """End a job; return whether its end was stored, once that is known."""
        self.writer.finish(job, ending)
        wait_until(lambda: job.pk in self.settled, seconds, f"job {job.pk} was not settled")
        return self.settled.pop(job.pk)

    def start(self) -> None:
        """Begin to store."""
        self._thread.start()

    def stop(self) -> None:
        """Store the rest, and end."""
        self._is_over = True
        self._due.set()
        self._thread.join()

    def _run(self) -> None:
        while not (self._is_over and self.writer.is_idle):
            try:
                self.writer.store()
                copy_log()
                seconds = self.writer.due_in_seconds()
            except (OperationalError, InterfaceError):
                connection.close()
                seconds = 0.05
            if not self._is_over or seconds == 0.05:
                self._due.wait(min(seconds, 1.0))
                self._due.clear()
        connection.close()


@contextmanager
def storing(on_given_up: Callable[[ClaimedJob], None], **options: Any) -> Iterator[StoringThread]:
    """Store within the block."""
    thread = StoringThread(on_given_up, **options)
    thread.start()
    yield thread
    thread.stop()
