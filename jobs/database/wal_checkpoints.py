"""Makes checkpoints: copies SQLite's write-ahead log into the database. No connection does so automatically.

Up to 3.51.2 SQLite may lose commits if one connection writes while another begins a checkpoint: see
https://sqlite.org/wal.html, "The WAL-Reset Bug". So this holds the write lock during a checkpoint. ADR 11 says
more.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from time import time_ns

from django.db import transaction

from jobs.database.sql import find_database_file
from jobs.database.write_turns import turns, write_turn

EVERY_SECONDS = 0.5
"""The shortest time between two checkpoints. All writers wait for each: more of them would slow the queue."""


def copy_log() -> None:
    """Copy the log, unless a worker did within `EVERY_SECONDS`; on PostgreSQL, do nothing.

    What would change the snapshot of an open reader stays in the log. Raises OperationalError if others write
    for longer than the connection waits.
    """
    database = find_database_file()
    if database is None:
        return
    # The file's mtime tells all workers of the database up to which write the log was copied.
    note = turns.open(database)
    written_at, copied_at = when_log_was_written(database), os.fstat(note).st_mtime_ns
    if written_at in (None, copied_at) or 0 <= time_ns() - copied_at < EVERY_SECONDS * 1e9:
        return
    with write_turn(), transaction.atomic(), closing(open_another(database)) as another:
        # PASSIVE, because the other modes wait for readers while nobody can write.
        another.execute("PRAGMA wal_checkpoint(PASSIVE)")
    os.utime(note, ns=(written_at, written_at))


def when_log_was_written(database: Path) -> int | None:
    """Return when the log was last written, in nanoseconds since the epoch; None if there is no log."""
    try:
        return database.with_name(f"{database.name}-wal").stat().st_mtime_ns
    except FileNotFoundError:
        return None


def open_another(database: Path) -> sqlite3.Connection:
    """Return a second connection: the thread's own is in a transaction, and cannot make a checkpoint."""
    return sqlite3.connect(database)
