"""Copies SQLite's write-ahead log into the database: a checkpoint, which no connection does by itself.

Up to 3.51.2 SQLite may lose commits when a connection writes while another one begins a checkpoint: see
https://sqlite.org/wal.html, "The WAL-Reset Bug". So this holds the write lock meanwhile. ADR 11 says more.
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
"""The shortest time between two checkpoints. All writers wait for each: more of them cost jobs a second."""


def copy_log() -> None:
    """Copy what was written to the log, unless a worker did within `EVERY_SECONDS`; nothing on PostgreSQL.

    What an open reader still needs as it was stays in the log. Raises OperationalError while others write for
    longer than the connection waits.
    """
    database = find_database_file()
    if database is None:
        return
    # All workers of the database see there up to which time of writing the log was copied.
    note = turns.open(database)
    written_at, copied_at = when_log_was_written(database), os.fstat(note).st_mtime_ns
    if written_at in (None, copied_at) or 0 <= time_ns() - copied_at < EVERY_SECONDS * 1e9:
        return
    with write_turn(), transaction.atomic(), closing(open_another(database)) as another:
        # PASSIVE: only that waits for nobody who reads, while nobody can write.
        another.execute("PRAGMA wal_checkpoint(PASSIVE)")
    os.utime(note, ns=(written_at, written_at))


def when_log_was_written(database: Path) -> int | None:
    """Return the nanoseconds since the epoch at which the log was written last; None if there is none."""
    try:
        return database.with_name(f"{database.name}-wal").stat().st_mtime_ns
    except FileNotFoundError:
        return None


def open_another(database: Path) -> sqlite3.Connection:
    """Return a connection beside the thread's own: one that is in a transaction makes no checkpoint."""
    return sqlite3.connect(database)
