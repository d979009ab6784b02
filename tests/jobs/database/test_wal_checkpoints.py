"""SQLite's log is copied into the database, and nobody writes meanwhile."""

import os
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection

from jobs.database import wal_checkpoints
from jobs.database.wal_checkpoints import copy_log, when_log_was_written
from jobs.database.write_turns import turns
from servers.models import Host
from tests.freezing import can_write

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif("connection.vendor != 'sqlite'", reason="PostgreSQL makes its own"),
]


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the tests' own database, with nothing in its log that it does not have itself."""
    monkeypatch.setattr(wal_checkpoints, "EVERY_SECONDS", 0)
    Host.local()
    path = Path(connection.settings_dict["NAME"])
    os.utime(turns.open(path), (0, 0))  # As if it had never been done.
    copy_log()
    return path


@pytest.fixture
def read_without_log(database: Path, tmp_path: Path) -> Callable[[], list[str]]:
    """Return a function that reads the users' names from the database without its log."""

    def read() -> list[str]:
        copy = tmp_path / "copy.sqlite3"
        # By another process: one that closes a file loses its locks on it, those of SQLite too. One that closes
        # the database then takes itself for the last one, and removes the log that is in use here.
        subprocess.run(["cp", database, copy], check=True)
        with closing(sqlite3.connect(copy)) as reader:
            return [name for (name,) in reader.execute("SELECT username FROM auth_user")]

    return read


def make_user(name: str) -> None:
    User.objects.create(username=name)


def test_no_connection_makes_one_by_itself(
    database: Path, read_without_log: Callable[[], list[str]]
) -> None:
    # More than the thousand pages at which SQLite would do it.
    User.objects.bulk_create(
        User(username=f"user{number}", password="x" * 4000) for number in range(1500)
    )
    make_user("last")
    assert read_without_log() == []


def test_what_was_written_is_in_the_database_then(
    read_without_log: Callable[[], list[str]],
) -> None:
    for name in ("alice", "bob"):
        make_user(name)
        assert name not in read_without_log()
        copy_log()
        assert name in read_without_log()


def test_nobody_writes_meanwhile(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    could_write: list[bool] = []
    open_another = wal_checkpoints.open_another

    def look_and_open(path: Path) -> sqlite3.Connection:
        could_write.append(can_write(str(path)))
        return open_another(path)

    monkeypatch.setattr(wal_checkpoints, "open_another", look_and_open)
    make_user("alice")
    copy_log()
    assert could_write == [False]
    assert can_write(str(database))


def test_it_is_not_done_while_another_writes(
    database: Path, read_without_log: Callable[[], list[str]]
) -> None:
    make_user("alice")
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 0")
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(OperationalError, match="locked"):
            copy_log()
    assert read_without_log() == []
    copy_log()
    assert read_without_log() == ["alice"]
    connection.close()


def test_where_nothing_was_written_nothing_is_done(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_user("alice")
    copy_log()
    written_at = when_log_was_written(database)
    monkeypatch.setattr(wal_checkpoints, "open_another", lambda _path: pytest.fail("it was opened"))
    copy_log()
    assert when_log_was_written(database) == written_at


def test_it_is_done_once_for_all_workers_within_a_while(
    database: Path, read_without_log: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_user("alice")
    copy_log()
    make_user("bob")
    monkeypatch.setattr(wal_checkpoints, "EVERY_SECONDS", 1000)
    copy_log()
    assert read_without_log() == ["alice"]
    # As after the clock was set back.
    monkeypatch.setattr(wal_checkpoints, "time_ns", lambda: 0)
    copy_log()
    assert read_without_log() == ["alice", "bob"]


def test_a_reader_is_not_waited_for(
    database: Path, read_without_log: Callable[[], list[str]]
) -> None:
    make_user("alice")
    with closing(sqlite3.connect(database, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM auth_user").fetchall()
        make_user("bob")
        copy_log()
        assert "bob" not in read_without_log()
    make_user("carol")
    copy_log()
    assert read_without_log() == ["alice", "bob", "carol"]
