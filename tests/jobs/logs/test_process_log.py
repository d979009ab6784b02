"""What a process logs about faults that keep coming back."""

import errno
import logging

import pytest

from hostops.errors import HostError
from jobs.logs.process_log import REPEAT_SECONDS, FaultLog

logger = logging.getLogger(__name__)


class Clock:
    """A time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return the time."""
    return Clock()


@pytest.fixture
def faults(clock: Clock) -> FaultLog:
    """Return a log in which nothing has been reported."""
    return FaultLog(clock)


def test_a_fault_that_comes_again_is_a_line_a_minute_with_how_often_it_came(
    faults: FaultLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(600):
        faults.tell(logger, "a look failed", HostError("The folder cannot be read."))
        clock.now += 0.25
    assert caplog.messages == [
        "a look failed: The folder cannot be read.",
        "a look failed: The folder cannot be read. (239 times more in a minute)",
        "a look failed: The folder cannot be read. (239 times more in a minute)",
    ]


def test_several_that_meet_one_fault_make_one_line(
    faults: FaultLog, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(20):
        faults.tell(logger, f"server {number} failed", HostError("The folder cannot be read."))
    assert caplog.messages == ["server 0 failed: The folder cannot be read."]


def test_two_faults_are_two_lines(faults: FaultLog, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        faults.tell(logger, "a look failed", HostError("One."))
        faults.tell(logger, "a look failed", HostError("Two."))
    assert caplog.messages == ["a look failed: One.", "a look failed: Two."]


def test_only_a_fault_of_ours_has_a_traceback_and_only_the_first_time(
    faults: FaultLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    faults.tell(logger, "a look failed", HostError("Said."))
    faults.tell(logger, "a look failed", OSError("Explained."), is_explained=True)
    faults.tell(logger, "a look failed", PermissionError(errno.EACCES, "Denied", "/content"))
    faults.tell(logger, "a look failed", PermissionError(errno.EACCES, "Denied"))
    faults.tell(logger, "a look failed", FileNotFoundError(errno.ENOENT, "Gone", "/content"))
    error = KeyError("name")
    faults.tell(logger, "a look failed", error)
    faults.tell(logger, "a look failed", error)
    clock.now += REPEAT_SECONDS
    faults.tell(logger, "a look failed", error)
    tracebacks = [record.exc_info is not None for record in caplog.records]
    assert tracebacks == [False, False, False, True, True, True, False]


def test_a_fault_that_comes_back_after_a_while_is_news(
    faults: FaultLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for pause in (1, 2 * REPEAT_SECONDS, 1):
        faults.tell(logger, "a look failed", ValueError("odd"))
        clock.now += pause
    assert [record.exc_info is not None for record in caplog.records] == [True, True]
