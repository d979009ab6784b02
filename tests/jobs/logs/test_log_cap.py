"""A job's log has a limit: its beginning, its stages, its last lines and its end are kept."""

from datetime import UTC, datetime

import pytest
from pytest_django import Settings

from hostops.specs import CancelToken
from jobs.claimed_jobs import ClaimedJob
from jobs.logs import Ending
from jobs.logs.log_cap import LAST_LINES, LogCap, LogLine
from jobs.models import Job, JobState, LogStream, Operation
from jobs.worker.single_job import DirectLogWriter
from servers.models import Host
from tests.jobs.logs.storing import storing

LIMIT = 100_000
NOW = datetime(2026, 11, 26, tzinfo=UTC)


@pytest.fixture
def job(host: Host, settings: Settings) -> Job:
    """Return a job that has printed ten times its limit, and failed."""
    settings.JOB_LOG_MAX_BYTES = LIMIT
    job = Job.objects.create(operation=Operation.INSTALL, host=host, state=JobState.RUNNING)
    claimed = ClaimedJob.of(job)
    with storing(lambda _job: None) as thread:
        for number in range(1000):
            thread.writer.line(claimed, LogStream.STDOUT, f"{number:04} {'x' * 994}")
        thread.writer.stage(claimed, "Cleaning up", 50)
        thread.writer.line(claimed, LogStream.STDERR, "why it failed")
        assert thread.finish(claimed, Ending(JobState.FAILED, 8, "It failed."))
    return job


@pytest.mark.django_db(transaction=True)
def test_a_job_keeps_the_beginning_and_the_end_of_its_log(job: Job) -> None:
    lines = list(job.logs.order_by("seq").values_list("line", flat=True))
    assert [line[:4] for line in lines[:100]] == [f"{number:04}" for number in range(100)]
    assert lines[100] == (
        "[The log of a job is kept to 100,000 bytes: only its last lines follow, at its end]"
    )
    assert lines[101] == (
        "[801 lines and 801,000 bytes more are left out: the log of a job is kept to 100,000 bytes]"
    )
    assert len(lines) == 102 + LAST_LINES
    assert lines[-1] == "why it failed"
    job.refresh_from_db()
    assert (job.state, job.exit_code, job.stage) == (JobState.FAILED, 8, "Cleaning up")


@pytest.mark.django_db(transaction=True)
def test_the_numbers_of_the_lines_have_no_gap(job: Job) -> None:
    seqs = list(job.logs.order_by("seq").values_list("seq", flat=True))
    assert seqs == list(range(1, len(seqs) + 1))


@pytest.mark.django_db(transaction=True)
def test_a_cancel_is_heard_while_nothing_more_is_stored(host: Host, settings: Settings) -> None:
    settings.JOB_LOG_MAX_BYTES = 10
    cancel = CancelToken()
    row = Job.objects.create(operation=Operation.INSTALL, host=host, state=JobState.RUNNING)
    job = ClaimedJob.of(row)
    writer = DirectLogWriter(job, cancel)
    writer.line(job, LogStream.STDOUT, "longer than the log may be")
    assert not cancel.is_cancelled
    Job.objects.update(cancel_requested_at=NOW)
    writer.line(job, LogStream.STDOUT, "not stored either")
    assert cancel.is_cancelled


def test_what_fits_is_stored_as_it_comes_and_nothing_is_said() -> None:
    cap = LogCap(11)
    for text in ("hello", "äö"):
        assert cap.take(LogLine("stdout", text, NOW)) == [LogLine("stdout", text, NOW)]
    assert cap.finish() == []


def test_its_memory_is_bounded() -> None:
    cap = LogCap(0)
    for _ in range(10 * LAST_LINES):
        cap.take(LogLine("stdout", "x", NOW))
    lines = cap.finish()
    assert len(lines) == LAST_LINES + 1
    assert lines[0].text.startswith("[900 lines and 1,800 bytes more are left out")
