"""What a process logs of an outage of the database, which many threads meet many times a second."""

import logging

import psycopg
import pytest
from django.db import OperationalError, connection

from jobs.database.outage_lines import REPEAT_SECONDS, OutageLog
from jobs.logs import process_log
from jobs.logs.process_log import FaultLog
from jobs.worker.chores import Chore
from tests.clocks import Clock

REFUSED = OperationalError("connection failed: Connection refused\n\tIs the server running?")


@pytest.fixture
def clock() -> Clock:
    """Return the time."""
    return Clock()


@pytest.fixture
def outages(clock: Clock) -> OutageLog:
    """Return a log in which nothing has been reported."""
    return OutageLog(clock)


def test_it_is_logged_at_the_start_each_minute_and_at_the_end(
    outages: OutageLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(100):
        for what in ("copy", "look", "jobs wait"):
            outages.tell(what, REFUSED)
        clock.advance(1)
    for _ in range(3):
        for what in ("look", "copy", "jobs wait"):
            outages.end(what)
    words = "connection failed: Connection refused Is the server running?"
    assert caplog.messages == [
        f"copy: the database does not answer: {words}",
        f"copy: the database does not answer: {words} (179 times more in a minute)",
        "the database answers again, after 100.0 s",
    ]


def test_one_that_comes_and_goes_is_two_lines_a_minute(
    outages: OutageLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(90):
        outages.tell("copy", REFUSED)
        outages.end("copy")
        clock.advance(1)
    assert len(caplog.messages) == 4


def test_who_has_met_none_does_not_say_that_it_is_over(
    outages: OutageLog, caplog: pytest.LogCaptureFixture
) -> None:
    """While a disk is full, what only reads goes on."""
    outages.tell("copy", REFUSED)
    outages.end("look")
    assert len(caplog.messages) == 1


def test_reading_does_not_show_that_it_is_over_for_what_writes(
    outages: OutageLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    outages.tell("look", REFUSED)
    outages.tell("beat", REFUSED)
    outages.end("look")
    assert len(caplog.messages) == 1
    clock.advance(50)
    outages.end()
    assert caplog.messages[1:] == ["the database answers again, after 50.0 s"]


def test_what_was_given_up_does_not_keep_it_from_being_over(
    outages: OutageLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    outages.tell("the answer to a command waits", REFUSED)
    outages.tell("look", REFUSED)
    outages.end("look")
    clock.advance(2 * REPEAT_SECONDS)
    outages.end("look")
    assert len(caplog.messages) == 2


def test_another_error_has_its_own_line(
    outages: OutageLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever was logged just before, as after a crash of which the database comes back read-only."""
    outages.tell("look", REFUSED)
    outages.end("look")
    outages.tell("beat", of_driver(psycopg.errors.ReadOnlySqlTransaction))
    assert "beat: the database can only be read at the moment" in caplog.messages[-1]
    clock.advance(5)
    outages.end()
    assert caplog.messages[-1] == "the database answers again, after 5.0 s"


def test_one_error_takes_no_lines_from_another(
    outages: OutageLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for half_second in range(2 * 600):
        clock.advance(0.5)
        outages.tell("copy", of_driver(psycopg.errors.LockNotAvailable))
        if half_second % 20 == 5:
            outages.tell("look", of_driver(psycopg.errors.IoError))
    assert len([line for line in caplog.messages if line.startswith("copy: ")]) == 10
    assert len([line for line in caplog.messages if line.startswith("look: ")]) == 10
    assert caplog.messages[-1].endswith("(5 times more in a minute)")


def of_driver(cause: type[psycopg.Error]) -> OperationalError:
    """Return what Django raises for an error of the driver."""
    error = OperationalError(cause.__name__)
    error.__cause__ = cause(cause.__name__)
    return error


def test_what_was_given_up_belongs_to_no_later_outage(
    outages: OutageLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    outages.tell("the answer to a command waits", REFUSED)
    clock.advance(2 * REPEAT_SECONDS)
    outages.tell("copy", REFUSED)
    clock.advance(1)
    outages.end("copy")
    assert caplog.messages[-1] == "the database answers again, after 1.0 s"


def test_a_fault_that_is_an_outage_is_logged_as_one(
    outages: OutageLog, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_log, "outage_log", outages)
    faults = FaultLog()
    for number in range(5):
        faults.tell(logging.getLogger(__name__), f"server {number}", OperationalError(str(number)))
    assert caplog.messages == ["server 0: the database does not answer: 0"]
    assert caplog.records[0].exc_info is None


def test_what_has_written_knows_that_it_is_over(
    outages: OutageLog, caplog: pytest.LogCaptureFixture
) -> None:
    outages.tell("copy", REFUSED)
    for _ in range(3):
        outages.end()
    assert caplog.messages[1:] == ["the database answers again, after 0.0 s"]


def test_chores_share_its_line_and_one_that_asks_nothing_does_not_end_it(
    outages: OutageLog, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_away = True

    def copy() -> None:
        if is_away:
            raise REFUSED

    def look() -> None:
        copy()

    monkeypatch.setattr(process_log, "outage_log", outages)
    monkeypatch.setattr(connection, "close", lambda: None)
    both = [Chore(copy, 0), Chore(look, 0)]
    for _ in range(20):
        for chore in both:
            chore.do_if_due()
    is_away = False
    for chore in both:
        chore.do_if_due()
    assert len(caplog.messages) == 1
    assert "copy failed: the database does not answer" in caplog.messages[0]
