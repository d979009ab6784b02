"""What really happened on a host, recorded by the processes that did it: the evidence of the chaos run.

A line is a single `write` to a file opened for appending: it is complete, and survives a SIGKILL of its
writer. The database is not asked, since it is on trial.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic

JOURNAL_VARIABLE = "CHAOS_JOURNAL"


@dataclass(frozen=True)
class Entry:
    """One event of a job.

    `begin` and `end` enclose what a job does with the host layer, `enter` and `leave` each verb while it
    holds the host's locks. `subject` is a server's name, or "" for the whole host. `lines` counts the job's
    lines of output up to then.
    """

    event: str
    job: int
    pid: int
    at: float
    host: str = ""
    subject: str = ""
    lines: int = 0
    is_whole: bool = False


class Journal:
    """The writing side; safe for any number of threads and processes."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

    def write(
        self,
        event: str,
        job: int,
        *,
        host: str = "",
        subject: str = "",
        lines: int = 0,
        is_whole: bool = False,
    ) -> None:
        """Record an event; `is_whole` says that the job ended without an exception."""
        entry = Entry(event, job, os.getpid(), monotonic(), host, subject, lines, is_whole)
        os.write(self._descriptor, f"{json.dumps(asdict(entry))}\n".encode())


def read_journal(path: Path) -> Iterator[Entry]:
    """Return the recorded events, in the order of writing."""
    with path.open() as file:
        for line in file:
            yield Entry(**json.loads(line))
