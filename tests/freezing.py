"""Freezes processes, but not while one of them holds SQLite's write lock, which would freeze everybody."""

import os
import signal
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from time import sleep

from django.db import connection

from tests.waiting import wait_until


def freeze(*pids: int) -> None:
    """Stop processes; return when they are."""
    while True:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: all(is_stopped(pid) for pid in pids), 10, "they do not stop")
        if connection.vendor != "sqlite" or can_write(str(connection.settings_dict["NAME"])):
            return
        thaw(pids)
        sleep(0.01)  # So that the process that holds the lock can release it.


def thaw(pids: Iterable[int]) -> None:
    """Continue them."""
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def is_stopped(pid: int) -> bool:
    """Return whether every thread of a process is stopped, according to proc(5): they stop one by one."""
    try:
        stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    except (FileNotFoundError, ProcessLookupError):
        return False  # A thread ended meanwhile.
    return all(stat.rpartition(")")[2].split()[0] in "TZ" for stat in stats)


def can_write(path: str) -> bool:
    """Return whether nobody holds the write lock of the SQLite database at `path`."""
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as probe:
        try:
            probe.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        probe.execute("ROLLBACK")
        return True
