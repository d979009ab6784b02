"""A table as after years of use: filled by the database itself, as Python would take too long."""

from datetime import timedelta

from django.db import connection
from django.utils import timezone

from jobs.models import Job, JobState, Operation
from servers.models import Server

NUMBERS = {
    "sqlite": "(WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < %s)"
    " SELECT n FROM counted)",
    "postgresql": "(SELECT n FROM generate_series(1, %s) AS counted(n))",
}


def fill_jobs(servers: list[Server], *, queued: int, finished: int) -> None:
    """Insert finished jobs of last year, and queued ones of yesterday, for each of `servers` in turn.

    The servers are on one host, and their ids are consecutive.
    """
    now = timezone.now()
    last_year, yesterday = now - timedelta(days=365), now - timedelta(days=1)
    over = Job(
        operation=Operation.INITIALIZE,
        server=servers[0],
        state=JobState.SUCCEEDED,
        exit_code=0,
        created_at=last_year,
        started_at=last_year,
        finished_at=last_year,
    )
    waiting = Job(operation=Operation.INITIALIZE, server=servers[0], created_at=yesterday)
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA cache_size = -400000")  # KiB: all of it, for this connection.
    for job, count in ((over, finished), (waiting, queued)):
        job.save()
        copy_job(job, servers, count - 1)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE jobs_job")


def copy_job(job: Job, servers: list[Server], count: int) -> None:
    """Insert `count` copies of a job, each for the next server."""
    first = servers[0].pk
    assert [server.pk for server in servers] == list(range(first, first + len(servers)))
    columns = [str(field.column) for field in Job._meta.concrete_fields if not field.primary_key]
    values = ["%s + n %% %s" if column == "server_id" else column for column in columns]
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO jobs_job ({', '.join(columns)}) SELECT {', '.join(values)}"
            f" FROM jobs_job, {NUMBERS[connection.vendor]} AS numbers WHERE id = %s",
            [first, len(servers), count, job.pk],
        )
