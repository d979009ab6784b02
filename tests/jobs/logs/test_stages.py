"""Where the stages of a job begin in its log."""

from collections.abc import Callable

import pytest
from django.db import OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from hostops.specs import CancelToken
from jobs.claimed_jobs import ClaimedJob
from jobs.logs import job_output
from jobs.logs.job_output import Entries
from jobs.logs.log_writer import LogWriter
from jobs.models import Job, JobLog, JobStage, JobState
from jobs.queue.liveness import register_worker
from jobs.worker.single_job import DirectLogWriter
from servers.models import Host, Server


@pytest.fixture
def job(host: Host, server: Server) -> ClaimedJob:
    """Return a running job of a worker."""
    worker = register_worker(host, concurrency=1, is_claiming=True)
    row = Job.objects.create(
        operation="start", server=server, state=JobState.RUNNING, worker=worker
    )
    return ClaimedJob.of(row)


def stages(job: ClaimedJob) -> list[tuple[str, int]]:
    """Return the stages of a job, each with its first line."""
    return list(JobStage.objects.filter(job_id=job.id).values_list("name", "first_seq"))


def test_a_stage_begins_with_the_line_behind_it(job: ClaimedJob) -> None:
    log = DirectLogWriter(job, CancelToken())
    log.line(job, "stdout", "before")
    log.stage(job, "Checking", None)
    log.line(job, "stdout", "one")
    log.stage(job, "Copying", 0)
    log.stage(job, "Copying", 50)
    log.line(job, "stdout", "two")
    log.stage(job, "Copying", 100)
    log.stage(job, "Checking", None)
    assert stages(job) == [("Checking", 2), ("Copying", 3), ("Checking", 4)]
    row = Job.objects.get()
    assert (row.stage, row.progress) == ("Checking", None)


@pytest.mark.django_db(transaction=True)
def test_lines_and_stages_that_are_stored_together_keep_their_order(job: ClaimedJob) -> None:
    writer = LogWriter(on_settled=lambda *_: None, on_given_up=lambda _: None)
    for number in range(3):
        writer.stage(job, f"Stage {number}", None)
        for line in range(number):
            writer.line(job, "stdout", f"{number}.{line}")
    writer.stage(job, "Last", 7)
    writer.store()
    assert writer.is_idle
    assert stages(job) == [("Stage 0", 1), ("Stage 1", 1), ("Stage 2", 2), ("Last", 4)]
    assert [line.line for line in JobLog.objects.filter(job_id=job.id)] == ["1.0", "2.0", "2.1"]


def test_a_stage_whose_transaction_failed_is_stored_by_the_next_try(
    job: ClaimedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = Entries(job, [("stdout", "one", timezone.now())])
    entries.add_stage("Copying", 5)

    def fail(*_: object) -> None:
        raise OperationalError("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(job_output, "announce", fail)
        with pytest.raises(OperationalError):
            entries.store()
    assert stages(job) == []
    entries.store()
    assert stages(job) == [("Copying", 2)]


@pytest.mark.django_db(transaction=True)
def test_stages_whose_commit_was_not_confirmed_are_stored_once(
    job: ClaimedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = Entries(job, [])
    entries.add_stage("Checking", None)
    entries.add_stage("Copying", 5)
    commit: Callable[[BaseDatabaseWrapper], None] = vars(BaseDatabaseWrapper)["_commit"]

    def commit_and_lose_the_answer(own: BaseDatabaseWrapper) -> None:
        commit(own)
        raise OperationalError("the connection is lost")

    with monkeypatch.context() as patch:
        patch.setattr(BaseDatabaseWrapper, "_commit", commit_and_lose_the_answer)
        with pytest.raises(OperationalError):
            entries.store()
    connection.close()
    entries.store()
    assert stages(job) == [("Checking", 1), ("Copying", 1)]
    assert (Job.objects.get().stage, Job.objects.get().progress) == ("Copying", 5)
