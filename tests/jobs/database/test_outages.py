"""What counts as a database that is away: judged by the drivers' codes, as Django passes them on."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from django.db import (
    DataError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
    connection,
    transaction,
)
from django.db.utils import DatabaseErrorWrapper

from jobs.database import Outage, driver, find_outage, find_write_outage, is_away, outages
from servers.models import Host


def wrapped(error: Exception) -> Exception:
    """Return what Django makes of a driver's error."""
    with pytest.raises(Exception) as caught, DatabaseErrorWrapper(connection):  # noqa: PT011
        raise error
    return caught.value


def of_postgresql(state: str) -> Exception:
    """Return psycopg's error for an SQLSTATE."""
    return psycopg.errors.lookup(state)("it said no")


def of_sqlite(code: int, kind: type[sqlite3.Error] = sqlite3.OperationalError) -> Exception:
    """Return sqlite3's error with an extended result code."""
    error = kind("it said no")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("state", "outage"),
    [
        ("25006", Outage.READ_ONLY),
        ("25P02", Outage.AWAY),
        ("25P03", Outage.AWAY),
        ("40001", Outage.AWAY),
        ("40P01", Outage.AWAY),
        ("08006", Outage.AWAY),
        ("53100", Outage.FULL),
        ("53200", Outage.AWAY),
        ("53300", Outage.AWAY),
        ("57014", Outage.AWAY),
        ("57P01", Outage.AWAY),
        ("57P02", Outage.AWAY),
        ("57P03", Outage.AWAY),
        ("57P05", Outage.AWAY),
        ("58030", Outage.AWAY),
        ("XX000", Outage.AWAY),
    ],
)
def test_postgresql_is_away_by_its_code(state: str, outage: Outage) -> None:
    assert find_outage(of_postgresql(state)) is outage
    if connection.vendor == "postgresql":
        assert find_outage(wrapped(of_postgresql(state))) is outage


@pytest.mark.parametrize(
    "state",
    [
        *("23505", "23503", "42P01", "42703", "22001", "22003", "0A000", "54000"),
        *("XX001", "XX002"),
    ],
)
def test_what_is_wrong_with_a_statement_or_a_row_of_postgresql_is_no_outage(state: str) -> None:
    assert not is_away(of_postgresql(state))


@pytest.mark.parametrize(
    ("code", "outage"),
    [
        (sqlite3.SQLITE_BUSY, Outage.AWAY),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, Outage.AWAY),
        (sqlite3.SQLITE_FULL, Outage.FULL),
        (sqlite3.SQLITE_IOERR_WRITE, Outage.AWAY),
        (sqlite3.SQLITE_CANTOPEN, Outage.AWAY),
        (sqlite3.SQLITE_READONLY, Outage.READ_ONLY),
        (sqlite3.SQLITE_READONLY_DBMOVED, Outage.READ_ONLY),
    ],
)
def test_sqlite_is_away_by_its_code(code: int, outage: Outage) -> None:
    assert find_outage(of_sqlite(code)) is outage
    if connection.vendor == "sqlite":
        assert find_outage(wrapped(of_sqlite(code))) is outage


@pytest.mark.parametrize(
    "error",
    [
        of_sqlite(sqlite3.SQLITE_ERROR),
        of_sqlite(sqlite3.SQLITE_CORRUPT, sqlite3.DatabaseError),
        of_sqlite(sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.IntegrityError),
        of_sqlite(sqlite3.SQLITE_MISUSE, sqlite3.InterfaceError),
    ],
)
def test_what_is_wrong_with_a_statement_of_sqlite_is_no_outage(error: Exception) -> None:
    assert not is_away(error)


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("server closed the connection unexpectedly"),
        InterfaceError("connection already closed"),
        InternalError("it has no code"),
        driver().OperationalError("the connection is closed"),
    ],
)
def test_a_lost_connection_has_no_code(error: Exception) -> None:
    assert find_outage(error) is Outage.AWAY


@pytest.mark.parametrize(
    "error",
    [
        *(IntegrityError("twice"), ProgrammingError("syntax"), DataError("too long")),
        *(ValueError("a bug"), OSError("a disk")),
    ],
)
def test_other_errors_are_no_outage(error: Exception) -> None:
    assert not is_away(error)


@pytest.mark.django_db(transaction=True)
class TestTheEngineItself:
    """Errors of this run's engine itself are told apart, not only what its documentation says."""

    def test_a_table_that_is_missing_is_no_outage(self) -> None:
        with (
            pytest.raises((OperationalError, ProgrammingError)) as caught,
            connection.cursor() as c,
        ):
            c.execute("SELECT 1 FROM nothing_of_that_name")
        assert not is_away(caught.value)

    @pytest.mark.skipif("connection.vendor != 'postgresql'", reason="PostgreSQL's")
    def test_a_transaction_that_may_only_read_is_one(self) -> None:
        def write() -> None:
            with transaction.atomic():
                connection.cursor().execute("SET TRANSACTION READ ONLY")
                Host.objects.create(name="unwritten")

        with pytest.raises(InternalError) as caught:
            write()
        assert find_outage(caught.value) is Outage.READ_ONLY

    @pytest.mark.skipif("connection.vendor != 'postgresql'", reason="PostgreSQL's")
    def test_a_session_that_was_ended_for_being_idle_is_one(self) -> None:
        def dawdle() -> None:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SET LOCAL idle_in_transaction_session_timeout = '1ms'")
                for _ in range(1000):
                    time.sleep(
                        0.005
                    )  # So it is idle for longer than that, unless the server is late.
                    cursor.execute("SELECT 1")

        with pytest.raises((InternalError, OperationalError)) as caught:
            dawdle()
        connection.close()
        assert find_outage(caught.value) is Outage.AWAY


@pytest.fixture
def unwritable() -> Iterator[sqlite3.Connection]:
    """Return a connection that must not write."""
    with closing(sqlite3.connect("file:unwritable?mode=memory", uri=True)) as database:
        database.execute("CREATE TABLE rows (id INTEGER)")
        database.execute("PRAGMA query_only = ON")
        yield database


def test_a_database_of_sqlite_that_may_only_be_read_is_one(unwritable: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.OperationalError) as caught:
        unwritable.execute("INSERT INTO rows VALUES (1)")
    assert find_outage(caught.value) is Outage.READ_ONLY


def test_a_database_of_sqlite_that_another_locks_is_one(tmp_path: Path) -> None:
    path = tmp_path / "locked.sqlite3"
    with closing(sqlite3.connect(path)) as first, closing(sqlite3.connect(path, timeout=0)) as late:
        first.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError) as caught:
            late.execute("BEGIN IMMEDIATE")
    assert find_outage(caught.value) is Outage.AWAY


@pytest.mark.django_db(transaction=True)
class TestAskingBeforehand:
    """Whether the database can be written, without writing."""

    def test_one_that_is_well_is_no_outage(self) -> None:
        assert find_write_outage() is None

    @pytest.mark.skipif("connection.vendor != 'sqlite'", reason="PostgreSQL locks rows")
    def test_one_that_another_locks_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(outages, "LOCK_SECONDS", 0.0)
        name = str(connection.settings_dict["NAME"])
        with closing(sqlite3.connect(name)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert find_write_outage() is Outage.AWAY
        assert find_write_outage() is None

    @pytest.mark.skipif("connection.vendor != 'postgresql'", reason="PostgreSQL's")
    def test_one_that_may_only_be_read_is(self) -> None:
        connection.cursor().execute("SET default_transaction_read_only = on")
        assert find_write_outage() is Outage.READ_ONLY
        connection.close()
