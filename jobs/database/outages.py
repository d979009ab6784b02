"""Tells a database that is away, which is waited for, from a wrong statement, which waiting never cures.

The only place that decides this, for both engines. Where the driver gives a code, that decides, because
Django's classes do not: PostgreSQL reports a read-only standby and a session that it ended as InternalError,
and SQLite a missing table as OperationalError. An error without a code is a connection that was lost or never
made.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from enum import StrEnum
from pathlib import Path

import psycopg
from django.db import Error, InterfaceError, InternalError, OperationalError, connection

from jobs.database.sql import find_database_file

__all__ = ["Outage", "find_outage", "find_write_outage", "is_away"]


class Outage(StrEnum):
    """Why a database does not do what it will do again later. The texts go into sentences for people."""

    AWAY = "does not answer"
    READ_ONLY = "can only be read at the moment"
    FULL = "has no space left on its disk"
    OLDER = "is older than the panel: an upgrade was not finished, which manage.py migrate does"
    """Found by who asks `is_schema_behind`, after a statement failed; `find_outage` does not return it."""


# https://www.postgresql.org/docs/current/errcodes-appendix.html
POSTGRESQL_CLASSES = {
    "08": Outage.AWAY,  # The connection failed.
    "28": Outage.AWAY,  # Not let in, as while an admin reloads pg_hba.conf.
    "40": Outage.AWAY,  # Rolled back because of others: a deadlock, a conflict with recovery on a standby.
    "53": Outage.AWAY,  # Out of resources: memory, or connections (53300).
    "57": Outage.AWAY,  # An operator: shutdown, crash of another session, start-up, a cancelled statement.
    "58": Outage.AWAY,  # The system around it: 58030 is an I/O error.
}
"""By the first two characters of the SQLSTATE, where its table below does not know better."""

POSTGRESQL_STATES = {
    "25006": Outage.READ_ONLY,  # A standby, or default_transaction_read_only.
    "25P02": Outage.AWAY,  # In a transaction that failed before: its connection is to be given up.
    "25P03": Outage.AWAY,  # idle_in_transaction_session_timeout.
    "25P04": Outage.AWAY,  # transaction_timeout.
    "53100": Outage.FULL,
    "55P03": Outage.AWAY,  # lock_timeout.
    "XX000": Outage.AWAY,  # Something in the server itself. XX001 and XX002, corrupted data, do not pass.
}

# https://www.sqlite.org/rescode.html: of an extended result code, the last eight bits.
SQLITE_CODES = {
    sqlite3.SQLITE_BUSY: Outage.AWAY,  # Another connection writes for longer than this one waits.
    sqlite3.SQLITE_LOCKED: Outage.AWAY,
    sqlite3.SQLITE_NOMEM: Outage.AWAY,
    sqlite3.SQLITE_READONLY: Outage.READ_ONLY,
    sqlite3.SQLITE_INTERRUPT: Outage.AWAY,
    sqlite3.SQLITE_IOERR: Outage.AWAY,
    sqlite3.SQLITE_FULL: Outage.FULL,
    sqlite3.SQLITE_CANTOPEN: Outage.AWAY,
    sqlite3.SQLITE_PROTOCOL: Outage.AWAY,  # The locks of the write-ahead log could not be had.
    sqlite3.SQLITE_SCHEMA: Outage.AWAY,  # Changed while the statement ran.
}

LOCK_SECONDS = 0.1
"""How long another connection may write until SQLite counts as away for whoever asks beforehand."""

OF_CONNECTIONS = (
    *(OperationalError, InterfaceError, InternalError),
    *(psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError),
    *(sqlite3.OperationalError, sqlite3.InterfaceError),
)
"""What stands for a lost connection where it carries no code."""


def is_away(error: BaseException) -> bool:
    """Return whether the database is to blame for `error`, and a later try may succeed.

    Never true of what is wrong with a statement or its values (IntegrityError, ProgrammingError, DataError).
    The connection on which it happened is to be closed before that try.
    """
    return find_outage(error) is not None


def find_outage(error: BaseException) -> Outage | None:
    """Return what is the matter with the database if `error`, Django's or a driver's, comes of that."""
    for cause in causes(error):
        if isinstance(cause, psycopg.Error) and cause.sqlstate:
            by_class = POSTGRESQL_CLASSES.get(cause.sqlstate[:2])
            return POSTGRESQL_STATES.get(cause.sqlstate, by_class)
        if isinstance(cause, sqlite3.Error) and (code := getattr(cause, "sqlite_errorcode", None)):
            return SQLITE_CODES.get(code & 0xFF)
    return Outage.AWAY if isinstance(error, OF_CONNECTIONS) else None


def find_write_outage() -> Outage | None:
    """Ask the database whether it can be written now; return why not. Writes nothing.

    Costs a round trip or, on SQLite, a connection and up to `LOCK_SECONDS` for its lock. The thread's own
    connection is closed where it fails.
    """
    try:
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT current_setting('transaction_read_only')::bool")
                [is_read_only] = cursor.fetchone()
            return Outage.READ_ONLY if is_read_only else None
        if database := find_database_file():
            ask_for_write_lock(database)
    except (Error, sqlite3.Error) as error:
        if not connection.in_atomic_block:
            connection.close()
        if outage := find_outage(error):
            return outage
        raise
    return None


def ask_for_write_lock(database: Path) -> None:
    """Take the lock for writing and give it back. Raises what SQLite raises."""
    address = f"{database.absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(address, timeout=LOCK_SECONDS, uri=True)) as another:
        another.execute("BEGIN IMMEDIATE")
        another.execute("ROLLBACK")


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield `error`, and what it was raised from: Django's errors are raised from the driver's."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__
