"""Browsers in which Alice, Bob and Dana are signed in, and things for them to look at."""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from jobs.models import Job, JobLog, JobState, Worker
from servers.models import ActualState, Host, Server


@pytest.fixture
def as_alice(alice: User) -> Client:
    """Return the browser of the owner."""
    return sign_in(alice)


@pytest.fixture
def as_bob(bob: User) -> Client:
    """Return the browser of the stranger."""
    return sign_in(bob)


@pytest.fixture
def as_dana(dana: User) -> Client:
    """Return the browser of the admin."""
    return sign_in(dana)


def sign_in(user: User) -> Client:
    """Return a browser in which `user` is signed in."""
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def installed_host(host: Host) -> Host:
    """Return the host with the game on it."""
    host.build_id = "17840213"
    host.game_source = "steam"
    host.reported_at = timezone.now()
    host.save()
    return host


@pytest.fixture
def worker(host: Host) -> Worker:
    """Return a worker that beats."""
    now = timezone.now()
    return Worker.objects.create(
        host=host,
        pid=4312,
        boot_id="boot",
        pid_namespace="namespace",
        process_started=1,
        concurrency=4,
        started_at=now,
        heartbeat_at=now,
    )


@pytest.fixture
def stopped_server(server: Server, installed_host: Host) -> Server:
    """Return Alice's server with an instance that does not run."""
    server.host = installed_host
    server.record_actual_state(ActualState.STOPPED)
    return server


@pytest.fixture
def failed_job(server: Server, alice: User) -> Job:
    """Return a start of Alice's server that failed with some last words."""
    now = timezone.now()
    job = Job.objects.create(
        operation="start",
        server=server,
        requested_by=alice,
        state=JobState.FAILED,
        stage="Waiting for the game",
        exit_code=7,
        error="Port 27015 is taken.",
        started_at=now,
        finished_at=now,
    )
    lines = [("stdout", "Starting the game"), ("stderr", "bind: <b>Address</b> already in use")]
    JobLog.objects.bulk_create(
        JobLog(job=job, seq=seq, stream=stream, line=line)
        for seq, (stream, line) in enumerate(lines, start=1)
    )
    return job
