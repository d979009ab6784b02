"""`manage.py prunejobs`: old jobs and their logs go, and nothing else."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from jobs.logs import append_job_log_line
from jobs.models import Job, JobLog, JobState, LogStream
from jobs.queue import prune_jobs, transitions
from servers.models import Server

pytestmark = pytest.mark.django_db


def make_job(server: Server, state: JobState, ended_days_ago: int | None) -> Job:
    """Return a stored job with one line."""
    now = timezone.now()
    job = Job.objects.create(
        operation="stop",
        server=server,
        state=state,
        finished_at=None if ended_days_ago is None else now - timedelta(days=ended_days_ago),
    )
    Job.objects.filter(pk=job.pk).update(created_at=now - timedelta(days=400))
    append_job_log_line(job.pk, LogStream.STDOUT, f"a line of {state}")
    return job


def test_what_ended_before_goes_with_its_log_and_all_else_stays(server: Server) -> None:
    old = [
        make_job(server, state, ended_days_ago=31)
        for state in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)
    ]
    kept = [
        make_job(server, JobState.SUCCEEDED, ended_days_ago=29),
        make_job(server, JobState.QUEUED, ended_days_ago=None),
        make_job(server, JobState.RUNNING, ended_days_ago=None),
    ]
    retried = Job.objects.create(operation="stop", server=server, retry_of=old[1])
    said = StringIO()
    call_command("prunejobs", older_than_days=30, stdout=said)
    assert said.getvalue() == "Deleted 3 jobs that ended more than 30 days ago.\n"
    assert set(Job.objects.all()) == {*kept, retried}
    assert set(JobLog.objects.values_list("job", flat=True)) == {job.pk for job in kept}
    retried.refresh_from_db()
    assert retried.retry_of is None


def test_more_than_fit_into_one_statement_go(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transitions, "PRUNED_AT_ONCE", 2)
    for _ in range(5):
        make_job(server, JobState.SUCCEEDED, ended_days_ago=2)
    assert prune_jobs(timezone.now() - timedelta(days=1)) == 5
    assert not JobLog.objects.exists()


@pytest.mark.parametrize("days", [0, -1, 36_501, 999_999])
def test_a_day_at_least_and_a_century_at_most(server: Server, days: int) -> None:
    job = make_job(server, JobState.SUCCEEDED, ended_days_ago=1)
    with pytest.raises(CommandError, match="must be from 1 to 36500"):
        call_command("prunejobs", older_than_days=days)
    assert Job.objects.get() == job
