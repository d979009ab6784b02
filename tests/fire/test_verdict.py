"""Tests the judge of the chaos run: each forbidden event is made up, and must be found."""

import os
from datetime import timedelta
from pathlib import Path
from time import monotonic

import pytest

from jobs.models import Job, JobLog, JobState, LogStream
from jobs.queue.requests import enqueue
from servers.models import Host, Server
from tests.fire.journal import Journal
from tests.fire.verdict import Verdict, judge

pytestmark = pytest.mark.django_db


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of an empty journal."""
    path = tmp_path / "journal"
    path.touch()
    return path


@pytest.fixture
def journal(path: Path) -> Journal:
    """Return a journal for what happened on the host."""
    return Journal(path)


def succeed(job: Job) -> Job:
    """Make the job's row look like a success."""
    Job.objects.filter(pk=job.pk).update(state=JobState.SUCCEEDED)
    return job


def faults(verdict: Verdict) -> set[str]:
    """Return the names of the faults."""
    return {name.partition(" (")[0] for name, cases in verdict.faults.items() if cases}


def carry_out(journal: Journal, job: Job, *, lines: int = 0) -> None:
    """Write the journal of a job that was carried out."""
    journal.write("begin", job.pk)
    journal.write("end", job.pk, lines=lines, is_whole=True)


def test_a_run_without_a_fault_is_clean(server: Server, path: Path, journal: Journal) -> None:
    job = succeed(enqueue("stop", server=server, requested_by=None))
    carry_out(journal, job)
    assert judge([job.pk], path, {}, []).is_clean


def test_it_finds_what_is_lost_stuck_or_never_ran(server: Server, path: Path) -> None:
    stuck = enqueue("stop", server=server, requested_by=None)
    never_ran = succeed(enqueue("stop", server=server, requested_by=None))
    found = faults(judge([stuck.pk, never_ran.pk, 999_999], path, {}, ["pid 1: exit code 1"]))
    assert found == {
        "lost",
        "stuck",
        "succeeded without having run",
        "workers that died by themselves",
    }


def test_it_finds_a_job_that_ran_twice(server: Server, path: Path, journal: Journal) -> None:
    job = succeed(enqueue("stop", server=server, requested_by=None))
    carry_out(journal, job)
    carry_out(journal, job)
    assert faults(judge([job.pk], path, {}, [])) == {"run twice"}


def test_it_finds_lines_that_are_missing(server: Server, path: Path, journal: Journal) -> None:
    job = succeed(enqueue("stop", server=server, requested_by=None))
    carry_out(journal, job, lines=2)
    JobLog.objects.create(job=job, seq=2, stream=LogStream.STDOUT, line="the second")
    found = faults(judge([job.pk], path, {}, []))
    assert found == {"logs with a gap", "lines lost or doubled"}


def test_it_finds_a_server_that_was_touched_while_an_install_ran(
    host: Host, server: Server, path: Path, journal: Journal
) -> None:
    install = succeed(enqueue("install", host=host, requested_by=None))
    stop = succeed(enqueue("stop", server=server, requested_by=None))
    journal.write("begin", install.pk)
    journal.write("enter", install.pk, host=host.name)
    journal.write("begin", stop.pk)
    journal.write("enter", stop.pk, host=host.name, subject=server.name)
    journal.write("leave", stop.pk, host=host.name, subject=server.name)
    journal.write("end", stop.pk, is_whole=True)
    journal.write("leave", install.pk, host=host.name)
    journal.write("end", install.pk, is_whole=True)
    found = faults(judge([install.pk, stop.pk], path, {}, []))
    assert found == {"overlaps on a host"}


def test_it_finds_what_the_rows_say_that_cannot_be(
    server: Server, path: Path, journal: Journal
) -> None:
    first, second, hasty = (
        succeed(enqueue("stop", server=server, requested_by=None)) for _ in range(3)
    )
    for job in (first, second, hasty):
        carry_out(journal, job)

    def set_times(job: Job, started_after: float, finished_after: float) -> None:
        Job.objects.filter(pk=job.pk).update(
            started_at=hasty.created_at + timedelta(seconds=started_after),
            finished_at=hasty.created_at + timedelta(seconds=finished_after),
        )

    def found() -> set[str]:
        return faults(judge([first.pk, second.pk, hasty.pk], path, {}, []))

    set_times(first, 1, 2)
    set_times(second, 2, 3)
    set_times(hasty, 3, 4)
    assert found() == set()
    set_times(second, 1.5, 3)
    assert found() == {"overlaps in the database"}
    set_times(second, 0.2, 0.8)
    assert found() == {"a server's jobs out of order"}
    Job.objects.filter(pk__in=[first.pk, second.pk]).update(started_at=None, finished_at=None)
    set_times(hasty, -0.001, 1)
    assert found() == {"started before it was enqueued"}


def test_what_a_killed_worker_did_ended_with_it(
    host: Host, server: Server, path: Path, journal: Journal
) -> None:
    killed = enqueue("stop", server=server, requested_by=None)
    Job.objects.filter(pk=killed.pk).update(state=JobState.CANCELLED)
    journal.write("begin", killed.pk)
    journal.write("enter", killed.pk, host=host.name, subject=server.name)
    died_at = monotonic()
    following = succeed(enqueue("stop", server=server, requested_by=None))
    journal.write("begin", following.pk)
    journal.write("enter", following.pk, host=host.name, subject=server.name)
    journal.write("leave", following.pk, host=host.name, subject=server.name)
    journal.write("end", following.pk, is_whole=True)
    enqueued = [killed.pk, following.pk]
    assert judge(enqueued, path, {os.getpid(): [died_at]}, []).is_clean
    too_late = judge(enqueued, path, {os.getpid(): [monotonic()]}, [])
    assert faults(too_late) == {"overlaps on a host"}
