"""Who could not write the database for a while writes again, or makes room for a process that can."""

import errno
import os
import sqlite3
import subprocess
import threading
from contextlib import closing
from pathlib import Path

import pytest
from django.db import OperationalError

from jobs.database import refused_writes
from jobs.database.refused_writes import (
    WriteWatch,
    are_writable,
    can_others_write,
    is_refusal,
    is_refused,
)
from tests.jobs.database.own_panels import make_folder, run_in_panel

REFUSED = """
import django; django.setup()
import subprocess, sys, threading
from pathlib import Path
from time import monotonic, sleep
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import DatabaseError, connection
from jobs.database import find_write_outage, write_watch

call_command("migrate", "contenttypes", verbosity=0)
database = Path(connection.settings_dict["NAME"])
# Another process that has it open keeps the files of the log.
another = subprocess.Popen([sys.executable, "-c", f'''
import sqlite3, sys
database = sqlite3.connect("{database}")
database.execute("SELECT * FROM django_content_type").fetchall()
print("open", flush=True)
sys.stdin.read()
'''], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
another.stdout.readline()
connection.close()
files = list(database.parent.glob("panel.sqlite3*"))

def make_mode(mode):
    for file in files:
        file.chmod(mode)

def read():
    ContentType.objects.count()
    is_reading.set()
    is_over.wait()
    connection.close()

def try_to_write():
    try:
        ContentType.objects.create(app_label="written", model="afterwards")
        return True
    except DatabaseError as error:
        write_watch.note(error)
        return False
    finally:
        connection.close()

def threads():
    return [thread.name for thread in threading.enumerate()]

is_reading, is_over, has_ended = threading.Event(), threading.Event(), threading.Event()
write_watch.end_by(has_ended.set)
make_mode(0o400)
reader = threading.Thread(target=read)
reader.start()
is_reading.wait()
print("read-only:", find_write_outage().name)
assert not try_to_write() and not try_to_write()
assert threads().count("write watch") == 1
assert not has_ended.wait(3)
if not IS_READER_TO_STAY:
    is_over.set()
    reader.join()
make_mode(0o600)
until = monotonic() + 20
while "write watch" in threads() and monotonic() < until:
    sleep(0.1)
print("ended" if has_ended.is_set() else "goes on", "and", "writes" if try_to_write() else "cannot write")
is_over.set()
another.communicate()
"""
"""A thread reads, and began to while nothing could be written."""


@pytest.mark.parametrize(
    ("stays", "outcome"), [(True, "ended and cannot write"), (False, "goes on and writes")]
)
def test_a_process_ends_only_if_others_can_write_and_it_cannot(
    tmp_path: Path, stays: bool, outcome: str
) -> None:
    # Root writes what nobody may, by a right that a program can go without.
    without_right = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-all"]
    before = without_right if os.geteuid() == 0 else []
    script = REFUSED.replace("IS_READER_TO_STAY", str(stays))
    output = run_in_panel(make_folder(tmp_path / "var", 0o700), script, *before)
    assert output.splitlines() == ["read-only: READ_ONLY", outcome]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Return a database that can be written."""
    path = tmp_path / "panel.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("PRAGMA user_version = 7")
    return path


def test_a_try_to_write_changes_nothing(database: Path) -> None:
    assert can_others_write(database)
    assert not is_refused(database)
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (7,)


def test_that_another_keeps_it_locked_is_no_refusal_and_no_success(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.database.refused_writes.LOCK_SECONDS", 0.1)
    with closing(sqlite3.connect(database)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert not can_others_write(database)
        assert not is_refused(database)


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    assert not can_others_write(tmp_path / "panel.sqlite3")
    assert is_refused(tmp_path / "panel.sqlite3")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "can"), [(errno.EMFILE, True), (errno.ENOMEM, False)])
def test_a_process_without_descriptors_need_not_ask(
    database: Path, monkeypatch: pytest.MonkeyPatch, number: int, can: bool
) -> None:
    def run(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(subprocess, "run", run)
    assert can_others_write(database) is can


@pytest.mark.parametrize("ending", ["", "-wal", "-shm"])
def test_each_file_has_to_be_writable(
    database: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    for name in ("-wal", "-shm", "-turns"):
        database.with_name(database.name + name).touch()
    access = os.access
    assert are_writable(database)
    closed = database.with_name(database.name + ending)
    monkeypatch.setattr(os, "access", lambda path, mode: path != closed and access(path, mode))
    assert not are_writable(database)


def test_without_the_file_of_turns_it_is_written_all_the_same(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = database.with_name(f"{database.name}-turns")
    turns.touch()
    monkeypatch.setattr(os, "access", lambda path, _mode: path != turns)
    assert are_writable(database)


def test_it_ends_nothing_while_nobody_can_write(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    can_write = iter([False, True, True, True, False, True, True, True, True])
    ended: list[int] = []
    asked: list[Path] = []

    def ask(path: Path) -> bool:
        asked.append(path)
        assert not ended
        return next(can_write)

    monkeypatch.setattr(refused_writes, "is_refused", lambda _path: True)
    monkeypatch.setattr(refused_writes, "can_others_write", ask)
    monkeypatch.setattr(refused_writes, "LOOK_SECONDS", 0)
    WriteWatch()._watch(database, lambda: ended.append(1))
    assert (ended, asked) == ([1], [database] * 9)


def test_it_watches_later_if_there_was_no_thread_for_it(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    def are_writable_now(_path: Path) -> bool:
        began.set()
        return True

    began = threading.Event()
    watch = WriteWatch()
    watch.end_by(began.set)
    monkeypatch.setattr(refused_writes, "find_database_file", lambda: database)
    monkeypatch.setattr(refused_writes, "are_writable", are_writable_now)
    error = sqlite3.OperationalError("readonly")
    error.sqlite_errorcode = sqlite3.SQLITE_READONLY
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        watch.note(error)
    assert not began.is_set()
    watch.note(error)
    assert began.wait(10)


def test_it_ends_nothing_that_can_write_by_then(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = iter([True, False])
    ended: list[int] = []
    monkeypatch.setattr(refused_writes, "is_refused", lambda _path: next(refused, False))
    monkeypatch.setattr(refused_writes, "LOOK_SECONDS", 0)
    WriteWatch()._watch(database, lambda: ended.append(1))
    assert not ended


def test_only_a_refusal_of_files_is_one() -> None:
    def error(code: int) -> OperationalError:
        cause = sqlite3.OperationalError("refused")
        cause.sqlite_errorcode = code
        raised = OperationalError("refused")
        raised.__cause__ = cause
        return raised

    refused = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_READONLY_DBMOVED, sqlite3.SQLITE_CANTOPEN)
    assert all(is_refusal(error(code)) for code in refused)
    others = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_ERROR)
    assert not any(is_refusal(error(code)) for code in others)
    assert not is_refusal(OperationalError("the connection is closed"))
