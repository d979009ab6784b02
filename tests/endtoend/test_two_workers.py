"""Two worker processes on one database and one host: the queue's rules, proved by recorded times."""

import os
import subprocess
import sys
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import connection

from jobs.models import Job, JobLog, JobState
from jobs.queue.requests import enqueue
from servers.models import Blueprint, Host, Server
from tests.endtoend.panel import PROJECT_DIR
from tests.ports import find_free_ports

pytestmark = [pytest.mark.endtoend, pytest.mark.django_db(transaction=True)]

OPERATIONS = (
    *("initialize", "start", "restart", "stop"),
    *("initialize", "restart", "delete", "initialize"),
)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return what makes a process use the test's database and a host root of its own."""
    name = connection.settings_dict["NAME"]
    (tmp_path / "host").mkdir()
    (tmp_path / "host/simulator.json").write_text(
        '{"steamcmd": {"seconds": 0}, "srcds": {"start_seconds": 0}}'
    )
    return os.environ | {
        "DJANGO_SETTINGS_MODULE": "l4d2site.settings",
        "DATABASE_URL": f"sqlite:///{name}",
        "HOST_ROOT": str(tmp_path / "host"),
    }


def run_workers(environment: dict[str, str], count: int) -> None:
    """Run `count` workers side by side until the queue is empty."""
    command = [sys.executable, str(PROJECT_DIR / "manage.py"), "runjobs", "--until-empty"]
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                subprocess.Popen(
                    command,
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
            for _ in range(count)
        ]
        for worker in workers:
            output, _ = worker.communicate(timeout=150)
            assert worker.returncode == 0, output


def test_two_workers_share_the_jobs_of_eight_servers(
    alice: User, host: Host, blueprint: Blueprint, environment: dict[str, str]
) -> None:
    # As many servers as the two have threads, and more jobs than one page of a claim.
    servers = [
        Server.objects.create(
            name=f"s{number:02}", owner=alice, host=host, blueprint=blueprint, port=port
        )
        for number, port in enumerate(find_free_ports(8))
    ]
    enqueue("install", host=host, requested_by=alice)
    for operation in OPERATIONS:
        for server in servers:
            enqueue(operation, server=server, requested_by=alice)
    enqueue("install", host=host, requested_by=alice)
    run_workers(environment, 2)

    jobs = list(Job.objects.order_by("started_at"))
    failures = [(job, job.error) for job in jobs if job.state != JobState.SUCCEEDED]
    assert failures == []
    assert len(jobs) == 66
    assert len({job.worker_id for job in jobs}) == 2

    for server in servers:
        ran = [job for job in jobs if job.server_id == server.pk]
        assert [job.operation for job in ran] == list(OPERATIONS)
        for job, following in pairwise(ran):
            assert job.finished_at
            assert following.started_at
            assert job.finished_at <= following.started_at
    assert overlapping_servers(jobs) > 0

    first, *others, last = jobs
    assert (first.operation, last.operation) == ("install", "install")
    assert all(first.finished_at <= job.started_at for job in others)  # type: ignore[operator]
    assert all(job.finished_at <= last.started_at for job in others)  # type: ignore[operator]

    for job in jobs:
        seqs = list(JobLog.objects.filter(job=job).order_by("seq").values_list("seq", flat=True))
        assert seqs == list(range(1, len(seqs) + 1))
        assert seqs, f"{job} printed nothing"
    assert {server.actual_state for server in Server.objects.all()} == {"stopped"}


def overlapping_servers(jobs: list[Job]) -> int:
    """Return how many pairs of jobs of different servers ran at the same time."""
    return sum(
        one.server_id != other.server_id
        and one.started_at < other.finished_at  # type: ignore[operator]
        and other.started_at < one.finished_at  # type: ignore[operator]
        for index, one in enumerate(jobs)
        for other in jobs[index + 1 :]
    )
