"""Ends a process that can no longer write the SQLite database, although others can.

All connections of a process share the files of the write-ahead log as the first of them opened these. If that
one could only read them, because they belonged to another account or their disk was read-only, no connection
can write until all are closed (https://www.sqlite.org/wal.html#read_only_databases). The process cannot see to
that itself: a connection that was closed lives on while anything holds a cursor of it, for example an
exception's traceback, and keeps its files open. ADR 27 says what else was tried.
"""

import errno
import logging
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import sleep

from jobs.database.file_modes import database_files
from jobs.database.outages import causes, try_to_write
from jobs.database.sql import find_database_file

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
LOOKS = 4
"""How many looks in a row have to find that only others can write: descriptors may be short for a moment."""
LOCK_SECONDS = 1.0
ANSWER_SECONDS = 10.0

REFUSALS = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN})
"""The second is what a process meets that has retried until it had no descriptors left."""

WRITE = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=float(sys.argv[2]), uri=True, isolation_level=None)
database.execute("BEGIN IMMEDIATE")
database.execute("PRAGMA user_version = 0")
database.execute("ROLLBACK")
"""


class WriteWatch:
    """Watches the database after a refused write until it can be written, by this process or only by others.

    In the second case it ends this process, for its supervisor to start another. It only does so in a process
    that has a supervisor and said how it ends.
    """

    def __init__(self) -> None:
        self._end: Callable[[], object] | None = None
        self._lock = threading.Lock()
        self._is_watching = False

    def end_by(self, end: Callable[[], object] | None) -> None:
        """From now on, call `end` in a thread to end this process. Without it, nothing is watched."""
        self._end = end

    def note(self, error: BaseException) -> None:
        """Begin to watch, in a thread, if `error` is SQLite's refusal to open or write its files."""
        database = find_database_file()
        if self._end is None or database is None or not is_refusal(error):
            return
        with self._lock:
            if self._is_watching:
                return
            self._is_watching = True
        arguments = (database, self._end)
        watch = threading.Thread(
            target=self._watch, args=arguments, name="write watch", daemon=True
        )
        try:
            watch.start()
        except RuntimeError as failure:
            # The system has no thread for it. The next refusal tries again.
            self._is_watching = False
            logger.warning("nobody watches whether the database can be written: %s", failure)

    def _watch(self, database: Path, end: Callable[[], object]) -> None:
        try:
            found = 0
            while not are_writable(database) or is_refused(database):
                only_others = are_writable(database) and can_others_write(database)
                found = found + 1 if only_others and is_refused(database) else 0
                if found == LOOKS:
                    logger.critical(
                        "This process cannot write the database, which others can. It ends, for its "
                        "supervisor to start another."
                    )
                    end()
                    return
                sleep(LOOK_SECONDS)
        finally:
            self._is_watching = False


def is_refusal(error: BaseException) -> bool:
    """Return whether `error` comes from SQLite's refusal to open its files or to write them."""
    codes = (getattr(cause, "sqlite_errorcode", None) for cause in causes(error))
    return any(code is not None and code & 0xFF in REFUSALS for code in codes)


def are_writable(database: Path) -> bool:
    """Return whether this account may write a database, and make new files beside it. The kernel is asked.

    That is not so on a file system mounted read-only, nor of a file made immutable.
    """
    # Turns are not taken if their file cannot be opened.
    files = (path for path, _status in database_files(database) if not path.name.endswith("-turns"))
    return all(os.access(path, os.W_OK) for path in (database, database.parent, *files))


def is_refused(database: Path) -> bool:
    """Return whether SQLite refuses this process a write. That others keep it locked is no refusal."""
    try:
        try_to_write(database, LOCK_SECONDS)
    except sqlite3.Error as error:
        return is_refusal(error)
    return False


def can_others_write(database: Path) -> bool:
    """Return whether a new process can write the database. It changes nothing."""
    address = f"{database.absolute().as_uri()}?mode=rw"
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", WRITE, address, str(LOCK_SECONDS)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=ANSWER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    except OSError as error:
        # A process without descriptors cannot even ask.
        return error.errno == errno.EMFILE
    return done.returncode == 0


write_watch = WriteWatch()
"""The one of this process."""
