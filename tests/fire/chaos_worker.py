"""`manage.py runjobs` as the chaos run starts it: the real worker over the real host layer, keeping a journal.

python -m tests.fire.chaos_worker [arguments of runjobs]
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.management import execute_from_command_line

from hostops.callbacks import Callbacks
from hostops.host import Host
from hostops.layout import InstanceLayout
from tests.fire.journal import JOURNAL_VARIABLE, Journal

CURRENT = threading.local()
"""`job`: the one that this thread carries out."""


class JournallingHost(Host):
    """The host layer; each verb is recorded while it holds its locks."""

    journal: Journal

    @contextmanager
    def _whole_host(self, purpose: str, callbacks: Callbacks) -> Iterator[int]:
        with super()._whole_host(purpose, callbacks) as lock, self._written_down(""):
            yield lock

    @contextmanager
    def _instance(self, verb: str, name: str, callbacks: Callbacks) -> Iterator[InstanceLayout]:
        with super()._instance(verb, name, callbacks) as instance, self._written_down(name):
            yield instance

    @contextmanager
    def _written_down(self, subject: str) -> Iterator[None]:
        place = {"host": settings.HOST_NAME, "subject": subject}
        self.journal.write("enter", CURRENT.job, **place)
        try:
            yield
        finally:
            self.journal.write("leave", CURRENT.job, **place)


def keep_journal(journal: Journal) -> None:
    """Put the journalling host under the worker, and record each job's first and last touch of it."""
    from jobs import operations
    from jobs.claimed_jobs import ClaimedJob

    JournallingHost.journal = journal
    vars(operations)["HostLayer"] = JournallingHost  # What `get_host` makes.
    prepare = operations.prepare

    def prepare_written_down(
        job: ClaimedJob, finish_console: operations.FinishConsole
    ) -> operations.Prepared:
        prepared = prepare(job, finish_console)

        def carry_out(*, on_line: Callable[[str, str], None], **callbacks: Any) -> object:
            lines = count()

            def count_line(stream: str, text: str) -> None:
                next(lines)
                on_line(stream, text)

            CURRENT.job = job.pk
            is_whole = False
            journal.write("begin", job.pk)
            try:
                result = prepared.operate(on_line=count_line, **callbacks)
                is_whole = True
            finally:
                journal.write("end", job.pk, lines=next(lines), is_whole=is_whole)
            return result

        return prepared._replace(operate=carry_out)

    operations.prepare = prepare_written_down


def claim_far_ahead() -> None:
    """Make the worker treat the jobs of the chaos run as short ones, of which it claims several per thread."""
    from jobs.worker import job_threads

    vars(job_threads)["AHEAD_SECONDS"] = 0.5


def main() -> None:
    """Run the worker."""
    django.setup()
    claim_far_ahead()
    keep_journal(Journal(Path(os.environ[JOURNAL_VARIABLE])))
    execute_from_command_line(["manage.py", "runjobs", *sys.argv[1:]])


if __name__ == "__main__":
    main()
