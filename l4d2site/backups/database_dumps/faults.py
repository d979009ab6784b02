"""What stands in the way of a dump or a restore, and what to do about it."""

import sqlite3

from django.conf import settings

from jobs.database import find_database_file

_STOP = "If the panel or a worker runs, stop it first."
WAITING = f"Waiting until another program lets go of the database. {_STOP}"
_MOVE_AWAY = "Move {0}, {0}-wal and {0}-shm away, and do this again."
LONG_WAIT_SECONDS = 5.0
"""After how long a restore says that it waits for a lock."""

LOCK_TIMEOUT = "55P03"
"""PostgreSQL's code for a lock that another session keeps for longer than `lock_timeout`."""

_OF_LOCKS = ("40P01", LOCK_TIMEOUT)
"""The former is PostgreSQL's code for a deadlock."""

_NOT_IN_ENCODING = "22021"
"""PostgreSQL's code for bytes that are no text: a database with the encoding SQL_ASCII takes any."""

_DEPENDENT_OBJECTS = "2BP01"
"""PostgreSQL's code for an object that cannot be dropped because another one needs it."""


class DumpError(Exception):
    """The database could not be dumped or restored; the text says why, and what to do."""


def explain(error: BaseException) -> str:
    """Return what came of the database's error, as sentences, and what to do about it."""
    cause = error.__cause__ or error
    if getattr(cause, "sqlstate", None) == _DEPENDENT_OBJECTS:
        detail = cause.diag.message_detail or str(cause)  # type: ignore[attr-defined]
        needs = "; ".join(detail.splitlines())
        return f"{needs}. Drop what is not the panel's, restore, and make it again."
    reason = " ".join(str(error).split()).rstrip(".")
    return f"{reason}. {advise(error)}".rstrip()


def advise(error: BaseException) -> str:
    """Return what to do about the database's error when a backup is put back; empty if nothing is known."""
    cause = error.__cause__ or error
    code = getattr(cause, "sqlstate", None)
    if code in _OF_LOCKS:
        return _STOP
    if code == _NOT_IN_ENCODING:
        return "Correct that text where the backup was made, and make it again."
    file = find_database_file()
    if file is None:
        return ""
    return {
        sqlite3.SQLITE_CANTOPEN: (
            f"See whether {file.parent} is there, and belongs to the account that runs this."
        ),
        sqlite3.SQLITE_BUSY: _STOP,
        sqlite3.SQLITE_LOCKED: _STOP,
        sqlite3.SQLITE_FULL: f"Free some room for {file}, and in {settings.BACKUP_DIR}.",
        sqlite3.SQLITE_IOERR: (
            f"See whether there is room for {file}, and in {settings.BACKUP_DIR}, and whether the disks work."
        ),
        # Its pages may have another size than those of the copy.
        sqlite3.SQLITE_READONLY: f"{_MOVE_AWAY.format(file)} If it cannot be moved, its folder is read-only.",
        sqlite3.SQLITE_CORRUPT: _MOVE_AWAY.format(file),
        sqlite3.SQLITE_NOTADB: _MOVE_AWAY.format(file),
    }.get(getattr(cause, "sqlite_errorcode", 0) & 0xFF, "")
