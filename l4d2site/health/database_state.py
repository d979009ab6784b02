"""The state of the database: whether it answers, accepts changes, and is as new as the code."""

import logging
import shutil
import sqlite3
from contextlib import suppress
from enum import Enum
from pathlib import Path
from time import time

from django.conf import settings
from django.db import Error as AnyDatabaseError
from django.db import connection, transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from jobs.database import (
    BEHIND,
    Outage,
    are_writable,
    find_database_file,
    find_outage,
    is_schema_behind,
    is_write_locked,
)

logger = logging.getLogger(__name__)

LEAST_FREE_BYTES = 16 * 1024**2
"""With less free space, an SQLite database counts as having none: its log alone grows by more in a minute."""

SILENT_SECONDS = 10.0
"""How long nothing is written to an SQLite database before its lock is looked at: two heartbeats, or this."""

LOCK_SECONDS = 0.5
"""How long to wait for that lock. The rest of the check needs time too."""

# A sort that does not fit into memory writes a temporary file to the server's disk, and leaves nothing behind.
# 8,000 numbers take 96 kB there, and 2 ms.
_LITTLE_MEMORY = "SET LOCAL work_mem = '64kB'"
_WRITING_SORT = (
    "SELECT count(*) FROM"
    " (SELECT n FROM generate_series(1, 8000) AS n ORDER BY n DESC OFFSET 0) AS sorted"
)


class DatabaseState(Enum):
    """One word for programs; `sentence` is for people."""

    OK = "ok"
    AWAY = "away"
    READ_ONLY = "read-only"
    DISK_FULL = "disk full"
    SCHEMA_BEHIND = "schema behind"
    LOCKED = "locked"

    @property
    def sentence(self) -> str:
        """What is wrong and what to do; empty if nothing is."""
        return str(_SENTENCES[self])

    @property
    def can_be_read(self) -> bool:
        """Whether its rows can be read."""
        return self not in (DatabaseState.AWAY, DatabaseState.SCHEMA_BEHIND)


_SENTENCES = {
    DatabaseState.OK: "",
    DatabaseState.AWAY: gettext_lazy("The database does not answer."),
    DatabaseState.READ_ONLY: gettext_lazy(
        "The database accepts no changes: it is read-only, or a standby."
    ),
    DatabaseState.DISK_FULL: gettext_lazy(
        "The disk of the database is full: nothing can be stored."
    ),
    DatabaseState.SCHEMA_BEHIND: BEHIND,
    DatabaseState.LOCKED: gettext_lazy(
        "Another program keeps the database locked: nothing can be stored until it is done."
    ),
}

_STATES = {
    Outage.AWAY: DatabaseState.AWAY,
    Outage.READ_ONLY: DatabaseState.READ_ONLY,
    Outage.FULL: DatabaseState.DISK_FULL,
}


def find_database_state() -> DatabaseState:
    """Check the database in the calling thread. Takes as long as the database takes to answer.

    Only the log has the reason for a failure, because it may name accounts and hosts.
    """
    try:
        return _find_in_file() if connection.vendor == "sqlite" else _find_on_server()
    except (AnyDatabaseError, sqlite3.Error, OSError) as error:
        outage = find_outage(error) or Outage.AWAY
        logger.warning("the database %s: %s", outage, error)
        return _STATES[outage]


def _find_in_file() -> DatabaseState:
    path = find_database_file()
    if path is not None:
        if not path.exists():  # Connecting would create an empty one.
            raise FileNotFoundError(_("%(path)s is not there.") % {"path": path})
        if not are_writable(path):
            return DatabaseState.READ_ONLY
        if shutil.disk_usage(path.parent).free < LEAST_FREE_BYTES:
            return DatabaseState.DISK_FULL
    state = _compare_schema()
    if path is not None and state is DatabaseState.OK and _is_kept_locked(path):
        return DatabaseState.LOCKED
    return state


def _is_kept_locked(path: Path) -> bool:
    """Return whether somebody keeps the lock, and nothing has been written for longer than workers are silent.

    A healthy database is not asked for its lock at all: busy workers seldom leave it free.
    """
    silent_seconds = max(SILENT_SECONDS, settings.JOB_WORKER_LEASE_SECONDS / 3)
    # A time in the future counts too: the clock was set back.
    return abs(time() - _written_at(path)) > silent_seconds and is_write_locked(path, LOCK_SECONDS)


def _written_at(path: Path) -> float:
    """Return when the database or its log was last written, in seconds since the epoch."""
    times = [path.stat().st_mtime]
    with suppress(FileNotFoundError):
        times.append(path.with_name(f"{path.name}-wal").stat().st_mtime)
    return max(times)


def _find_on_server() -> DatabaseState:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SHOW transaction_read_only")
        if cursor.fetchall() == [("on",)]:
            return DatabaseState.READ_ONLY
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_LITTLE_MEMORY)
        cursor.execute(_WRITING_SORT)
    return _compare_schema()


def _compare_schema() -> DatabaseState:
    return DatabaseState.SCHEMA_BEHIND if is_schema_behind() else DatabaseState.OK
