"""Makes the workers that share an SQLite database, and the threads of each, take turns writing.

A connection that finds SQLite locked sleeps longer and longer, up to a tenth of a second, however soon the lock
is free. That is fine for an occasional page, but of four busy workers three would be asleep most of the time.
"""

import fcntl
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from django.db import connection

from jobs.database.file_modes import new_file_mode
from jobs.database.sql import find_database_file

TRY_SECONDS = 0.0002
PATIENCE_SECONDS = 0.1
"""How long to wait for a turn. One that takes longer may be a frozen worker's: then SQLite's lock decides."""


@contextmanager
def write_turn() -> Iterator[None]:
    """Run the block, a transaction, while no other thread runs one. An optimization: nothing relies on it.

    In an open transaction it does nothing. Outside of one, do not nest it: the end of the inner block would end
    the outer turn.
    """
    database = find_database_file()
    if database is None or connection.in_atomic_block:
        yield
        return
    try:
        descriptor = turns.open(database)
    except OSError:  # The disk is full or read-only: the database itself reports that better.
        yield
        return
    until = monotonic() + PATIENCE_SECONDS
    while not has_lock(descriptor) and monotonic() < until:
        sleep(TRY_SECONDS)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


class TurnsFile:
    """The file beside a database that is locked during a turn."""

    def __init__(self, database: Path) -> None:
        path, mode = f"{database}-turns", new_file_mode(database)
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self.descriptor = os.open(path, flags, mode)
            os.fchmod(self.descriptor, mode)  # The umask has removed the group's permissions.
        except FileExistsError:
            self.descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.descriptor)


class Turns(threading.local):
    """The files as one thread has opened them: an flock(2) lock excludes only other open file descriptions."""

    def __init__(self) -> None:
        self._files: dict[Path, TurnsFile] = {}

    def open(self, database: Path) -> int:
        """Return the descriptor of the file beside `database`."""
        if database not in self._files:
            self._files[database] = TurnsFile(database)
        return self._files[database].descriptor


turns = Turns()


def has_lock(descriptor: int) -> bool:
    """Lock the file if it is free; return whether this descriptor has the lock now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
