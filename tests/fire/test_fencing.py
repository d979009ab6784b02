"""A worker that is frozen for longer than its lease, as a real process: what it may still do afterwards."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection

from jobs.models import Job, JobState, Worker
from jobs.queue.requests import enqueue
from jobs.queue.transitions import WORKER_STOPPED
from servers.models import Blueprint, Host, Server
from tests.endtoend.panel import PROJECT_DIR
from tests.fire.journal import JOURNAL_VARIABLE, Entry, read_journal
from tests.freezing import freeze
from tests.waiting import wait_until

pytestmark = [pytest.mark.endtoend, pytest.mark.django_db(transaction=True)]

LEASE_SECONDS = 5


def database_url() -> str:
    """Return the URL of the tests' own database."""
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    url: str = urlsplit(settings.DATABASE_URL)._replace(path=f"/{name}").geturl()
    return url


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return what makes a worker use the test's database and a host with a slow SteamCMD."""
    (tmp_path / "host").mkdir()
    (tmp_path / "host/simulator.json").write_text('{"steamcmd": {"seconds": 60}}')
    return os.environ | {
        "DJANGO_SETTINGS_MODULE": "l4d2site.settings",
        "DATABASE_URL": database_url(),
        "VAR_DIR": str(tmp_path),
        "HOST_ROOT": str(tmp_path / "host"),
        "JOB_WORKER_LEASE_SECONDS": str(LEASE_SECONDS),
        JOURNAL_VARIABLE: str(tmp_path / "journal"),
        "PYTHONUNBUFFERED": "",  # It reports that it is ready all the same.
    }


@contextmanager
def running_worker(environment: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """Run a worker, and wait until it is ready."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.fire.chaos_worker"],
        cwd=PROJECT_DIR,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout
            assert "ready" in process.stdout.readline()
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


def is_in(job: Job, *states: str) -> Callable[[], bool]:
    """Return a function that says whether the job is in one of the states."""
    return lambda: Job.objects.filter(pk=job.pk, state__in=states).exists()


def ends_of(environment: dict[str, str], job: Job) -> list[Entry]:
    """Return the ends of the job in the journal."""
    entries = read_journal(Path(environment[JOURNAL_VARIABLE]))
    return [entry for entry in entries if entry.job == job.pk and entry.event == "end"]


def test_a_worker_that_wakes_after_its_lease_loses_the_job_and_works_on(
    alice: User, host: Host, blueprint: Blueprint, environment: dict[str, str]
) -> None:
    with running_worker(environment) as sleeper:
        install = enqueue("install", host=host, requested_by=alice)
        wait_until(lambda: install.logs.count() > 0, 60, "the install says nothing")
        assert Worker.objects.get(jobs=install).pid == sleeper.pid

        freeze(sleeper.pid)
        with running_worker(environment):
            wait_until(is_in(install, JobState.FAILED), 60, "nobody recovered the job")
        verdict = Job.objects.values().get(pk=install.pk)
        lines = list(install.logs.values_list("seq", "line"))
        assert verdict["error"] == WORKER_STOPPED
        assert lines[-1][1] == WORKER_STOPPED

        sleeper.send_signal(signal.SIGCONT)
        # SteamCMD would continue for most of a minute.
        wait_until(lambda: ends_of(environment, install), 30, "its operation is not cancelled")
        (end,) = ends_of(environment, install)
        assert not end.is_whole
        assert end.pid == sleeper.pid

        server = Server.objects.create(name="alpha", owner=alice, host=host, blueprint=blueprint)
        next_job = enqueue("delete", server=server, requested_by=alice)
        wait_until(is_in(next_job, JobState.SUCCEEDED), 30, "it takes no more jobs")
        assert Worker.objects.get(jobs=next_job).pid == sleeper.pid
        assert Job.objects.values().get(pk=install.pk) == verdict
        assert list(install.logs.values_list("seq", "line")) == lines
