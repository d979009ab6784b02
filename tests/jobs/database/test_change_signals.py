"""A waiting process learns of a change at once, and not of its own; on both engines."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest
from django.db import connection, transaction

from jobs.database import change_signals
from jobs.database.change_signals import (
    ChangeSignal,
    Channel,
    FileWatch,
    Interrupt,
    Pace,
    Rest,
    announce,
    open_change_signal,
)
from jobs.database.outage_lines import OutageLog
from servers.models import Host

pytestmark = pytest.mark.django_db(transaction=True)


def change() -> None:
    """Commit something, and announce it."""
    with transaction.atomic():
        Host.objects.update(load_average=monotonic() % 1)
        announce(Channel.QUEUE)


def elsewhere(do: Callable[[], None]) -> threading.Thread:
    """Run something on a separate connection, and return when that has begun."""

    def run() -> None:
        do()
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.fixture
def interrupt() -> Interrupt:
    """Return what interrupts a wait."""
    return Interrupt()


@pytest.fixture
def signal(host: Host, interrupt: Interrupt) -> Iterator[ChangeSignal]:
    """Return a signal that knows of everything so far."""
    signal = open_change_signal(Channel.QUEUE, 60)
    while signal.wait(0.1, interrupt):
        pass
    yield signal
    signal.close()


def test_a_change_elsewhere_ends_the_wait(signal: ChangeSignal, interrupt: Interrupt) -> None:
    for _ in range(20):
        thread = elsewhere(change)
        assert signal.wait(30, interrupt)
        thread.join()
        assert not signal.wait(0, interrupt)


def test_a_change_before_the_wait_is_not_missed(signal: ChangeSignal, interrupt: Interrupt) -> None:
    elsewhere(change).join()
    assert signal.wait(30, interrupt)


def test_ones_own_change_is_none(signal: ChangeSignal, interrupt: Interrupt) -> None:
    for _ in range(5):
        change()
        assert not signal.wait(0.02, interrupt)


def test_an_interrupt_ends_the_wait_and_is_no_change(
    signal: ChangeSignal, interrupt: Interrupt
) -> None:
    interrupt.set()
    assert not signal.wait(30, interrupt)
    thread = elsewhere(interrupt.set)
    assert not signal.wait(30, interrupt)
    thread.join()


def test_a_connection_that_was_lost_counts_as_a_change(
    signal: ChangeSignal,
    interrupt: Interrupt,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(change_signals, "outage_log", OutageLog())
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE query LIKE 'LISTEN%' AND datname = current_database()"
            )
        assert not signal.wait(5, interrupt)
        if not caplog.messages:
            # Only PostgreSQL's goodbye has arrived, not yet the end of the connection.
            assert not signal.wait(5, interrupt)
        assert "cannot listen" in caplog.text
    else:
        connection.close()
    assert signal.wait(5, interrupt)


def test_where_no_folder_can_be_watched_changes_are_seen_too(
    host: Host, interrupt: Interrupt, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path) -> FileWatch:
        raise OSError("too many open files")

    monkeypatch.setattr(change_signals, "FileWatch", refuse)
    signal = open_change_signal(Channel.QUEUE, 60)
    while signal.wait(0.1, interrupt):
        pass
    thread = elsewhere(change)
    assert signal.wait(30, interrupt)
    thread.join()
    signal.close()


class TestRest:
    def test_it_goes_on_until_anybody_commits(self, host: Host) -> None:
        rest = Rest(60)
        for commit in (change, lambda: elsewhere(change).join()):
            assert rest.begin_round()
            # PostgreSQL could only answer this at the cost of a query.
            assert rest.begin_round() == (connection.vendor != "sqlite")
            commit()
        assert rest.begin_round()

    def test_it_ends_after_its_time_or_when_told(self, host: Host) -> None:
        rest = Rest(0)
        assert rest.begin_round()
        assert rest.begin_round()
        rest = Rest(60)
        rest.begin_round()
        rest.end()
        assert rest.begin_round()

    def test_a_lost_connection_ends_it(self, host: Host) -> None:
        rest = Rest(60)
        rest.begin_round()
        connection.close()
        assert rest.begin_round()


class TestFileWatch:
    def test_it_tells_of_its_file_and_of_no_other(self, tmp_path: Path) -> None:
        watch = FileWatch(tmp_path / "mine")
        assert not watch.was_written()
        (tmp_path / "other").write_text("x")
        assert not watch.was_written()
        for _ in range(2):
            (tmp_path / "mine").write_text("x")
            assert watch.was_written()
            assert not watch.was_written()
        watch.close()

    def test_a_folder_that_is_not_there_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            FileWatch(tmp_path / "nowhere" / "mine")


class TestPace:
    def test_some_looks_come_at_once_and_a_flood_every_so_often(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = 100.0
        monkeypatch.setattr(change_signals, "monotonic", lambda: now)
        pace = Pace(0.05, 3)
        waits = []
        for _ in range(5):
            waits.append(pace.wait_seconds)
            now += pace.wait_seconds
            pace.count()
        assert waits == pytest.approx([0, 0, 0, 0.05, 0.05])
        # After a silence there is room again, but no more than that many at once.
        now += 1000
        for wait in (0, 0, 0, 0.05):
            assert pace.wait_seconds == pytest.approx(wait)
            pace.count()
