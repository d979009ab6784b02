"""Tells outages of the database, which are worth waiting for, from wrong statements, which waiting never cures.

The only place that decides this, for both engines. The driver's error code decides, because Django's exception
classes cannot: PostgreSQL reports a read-only standby, and a session that it ended, as InternalError; SQLite
reports a missing table as OperationalError. An error without a code means that the connection was lost or never
made.
"""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from enum import StrEnum
from pathlib import Path

from django.db import Error, InterfaceError, InternalError, OperationalError, connection

from jobs.database.sql import driver, find_database_file

__all__ = ["Outage", "find_outage", "find_write_outage", "is_away", "is_write_locked", "name_kind"]


class Outage(StrEnum):
    """Why a database cannot do now what it can do again later. The texts go into sentences for people."""

    AWAY = "does not answer"
    READ_ONLY = "can only be read at the moment"
    FULL = "has no space left on its disk"
    OLDER = "is older than the panel: an upgrade was not finished, which manage.py migrate does"
    """Set by callers that ask `is_schema_behind` after a statement failed; `find_outage` never returns it."""


# https://www.postgresql.org/docs/current/errcodes-appendix.html
POSTGRESQL_CLASSES = {
    "08": Outage.AWAY,  # The connection failed.
    "28": Outage.AWAY,  # Access denied, for example while an admin reloads pg_hba.conf.
    "40": Outage.AWAY,  # Rolled back because of others: a deadlock, or a standby's conflict with recovery.
    "53": Outage.AWAY,  # Out of resources: memory, or connections (53300).
    "57": Outage.AWAY,  # An operator: shutdown, crash of another session, start-up, a cancelled statement.
    "58": Outage.AWAY,  # The system around it: 58030 is an I/O error.
}
"""By the first two characters of the SQLSTATE; the table of whole states below takes precedence."""

POSTGRESQL_STATES = {
    "25006": Outage.READ_ONLY,  # A standby, or default_transaction_read_only.
    "25P02": Outage.AWAY,  # In a transaction that has already failed: the connection has to be closed.
    "25P03": Outage.AWAY,  # idle_in_transaction_session_timeout.
    "25P04": Outage.AWAY,  # transaction_timeout.
    "53100": Outage.FULL,
    "55P03": Outage.AWAY,  # lock_timeout.
    "XX000": Outage.AWAY,  # An error inside the server. XX001 and XX002, corrupted data, are not outages.
}

# https://www.sqlite.org/rescode.html: the last eight bits of an extended result code.
SQLITE_CODES = {
    sqlite3.SQLITE_BUSY: Outage.AWAY,  # Another connection writes for longer than this one waits.
    sqlite3.SQLITE_LOCKED: Outage.AWAY,
    sqlite3.SQLITE_NOMEM: Outage.AWAY,
    sqlite3.SQLITE_READONLY: Outage.READ_ONLY,
    sqlite3.SQLITE_INTERRUPT: Outage.AWAY,
    sqlite3.SQLITE_IOERR: Outage.AWAY,
    sqlite3.SQLITE_FULL: Outage.FULL,
    sqlite3.SQLITE_CANTOPEN: Outage.AWAY,
    sqlite3.SQLITE_PROTOCOL: Outage.AWAY,  # The locks of the write-ahead log could not be acquired.
    sqlite3.SQLITE_SCHEMA: Outage.AWAY,  # The schema changed while the statement ran.
}

LOCK_SECONDS = 0.1
"""How long another connection may write before `find_write_outage` counts SQLite as away."""


def is_away(error: BaseException) -> bool:
    """Return whether `error` comes from an outage of the database, so that a later try may succeed.

    Never true of errors in a statement or its values (IntegrityError, ProgrammingError, DataError). The
    connection on which it happened has to be closed before the next try.
    """
    return find_outage(error) is not None


def find_outage(error: BaseException) -> Outage | None:
    """Return the outage that caused `error`, Django's or a driver's; None if no outage did."""
    for cause in causes(error):
        if state := read_state(cause):
            return POSTGRESQL_STATES.get(state, POSTGRESQL_CLASSES.get(state[:2]))
        if isinstance(cause, sqlite3.Error) and (code := getattr(cause, "sqlite_errorcode", None)):
            return SQLITE_CODES.get(code & 0xFF)
    return Outage.AWAY if is_of_connection(error) else None


def read_state(error: BaseException) -> str | None:
    """Return the SQLSTATE of an error of PostgreSQL's; None if it has none, or is another error.

    Its class cannot be asked for: only a panel on PostgreSQL loads psycopg, which takes a tenth of a start.
    """
    return getattr(error, "sqlstate", None)


def is_of_connection(error: BaseException) -> bool:
    """Return whether an error, which has no code, means a lost connection."""
    own = driver()
    of_driver = (own.OperationalError, own.InterfaceError, own.InternalError)
    return isinstance(error, (OperationalError, InterfaceError, InternalError, *of_driver))


def name_kind(error: BaseException) -> str:
    """Return what errors of one kind share: the driver's code or, without one, the text except its numbers."""
    for cause in causes(error):
        if state := read_state(cause):
            return state
        if isinstance(cause, sqlite3.Error) and (code := getattr(cause, "sqlite_errorcode", None)):
            return str(code)
    return re.sub(r"\d+", "0", str(error))


def find_write_outage() -> Outage | None:
    """Ask the database whether it can be written now; return why not. Writes nothing.

    Costs a round trip or, on SQLite, a connection and up to `LOCK_SECONDS` for its lock. If it fails, the
    thread's own connection is closed.
    """
    try:
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT current_setting('transaction_read_only')::bool")
                [is_read_only] = cursor.fetchone()
            return Outage.READ_ONLY if is_read_only else None
        if database := find_database_file():
            try_to_write(database)
    except (Error, sqlite3.Error) as error:
        if not connection.in_atomic_block:
            connection.close()
        if outage := find_outage(error):
            return outage
        raise
    return None


def is_write_locked(database: Path, seconds: float) -> bool:
    """Return whether others keep the lock of an SQLite database for longer than this."""
    try:
        try_to_write(database, seconds)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return True
    return False


def try_to_write(database: Path, seconds: float = LOCK_SECONDS) -> None:
    """Take the write lock, begin a change, and take both back. Raises what SQLite raises."""
    address = f"{database.absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(address, timeout=seconds, uri=True)) as another:
        another.execute("BEGIN IMMEDIATE")
        # A read-only database gives its lock, but takes no change.
        another.execute("PRAGMA user_version = 0")
        another.execute("ROLLBACK")


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield `error`, and what it was raised from: Django raises its errors from the driver's."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__
