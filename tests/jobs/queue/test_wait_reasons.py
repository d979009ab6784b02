"""What pages say a waiting job waits for."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from jobs.models import Job, Worker
from jobs.queue import wait_reasons
from jobs.queue.liveness import register_worker
from jobs.queue.requests import enqueue
from jobs.queue.transitions import claim_jobs, claim_next_job
from jobs.queue.wait_reasons import explain_waiting
from servers.models import Blueprint, Host, Server

pytestmark = pytest.mark.django_db

MakeServer = Callable[[str], Server]


@pytest.fixture
def make_server(alice: User, host: Host, blueprint: Blueprint) -> MakeServer:
    """Return a function that makes a server of Alice's."""

    def make(name: str) -> Server:
        return Server.objects.create(name=name, owner=alice, host=host, blueprint=blueprint)

    return make


@pytest.fixture
def worker(host: Host) -> Worker:
    """Return a worker that runs two jobs at a time."""
    return register_worker(host, concurrency=2, is_claiming=True)


def start(server: Server, alice: User) -> Job:
    return enqueue("start", server=server, requested_by=alice)


def test_a_worker(server: Server, alice: User) -> None:
    assert explain_waiting(start(server, alice)) == (
        "Waits for a worker: none is running on host local."
    )


def test_a_worker_that_takes_jobs(server: Server, alice: User, worker: Worker) -> None:
    Worker.objects.update(is_claiming=False)
    assert "takes no jobs now" in explain_waiting(start(server, alice))


def test_a_job_of_the_same_server(server: Server, alice: User, worker: Worker) -> None:
    first = start(server, alice)
    claim_next_job(worker)
    Job.objects.update(started_at=timezone.now() - timedelta(minutes=3))
    stop = enqueue("stop", server=server, requested_by=alice)
    assert explain_waiting(stop) == (
        f"Waits for start of alpha by alice (job {first.pk}), running for 3 min."
    )


def test_a_running_install(server: Server, host: Host, alice: User, worker: Worker) -> None:
    enqueue("install", host=host, requested_by=alice)
    claim_next_job(worker)
    text = explain_waiting(start(server, alice))
    assert text.startswith("Waits for “Install the game” on local by alice")


def test_an_install_waits_for_what_runs(
    server: Server, host: Host, alice: User, worker: Worker
) -> None:
    start(server, alice)
    claim_next_job(worker)
    install = enqueue("install", host=host, requested_by=None)
    assert explain_waiting(install).startswith("Waits for start of alpha by alice")


def test_an_install_that_is_next_holds_up_later_jobs(
    make_server: MakeServer, host: Host, alice: User, worker: Worker
) -> None:
    start(make_server("s1"), alice)
    claim_next_job(worker)
    install = enqueue("install", host=host, requested_by=alice)
    later = start(make_server("s2"), alice)
    assert explain_waiting(later) == (
        f"Waits behind “Install the game” on local by alice (job {install.pk}), which waits too."
    )


def test_a_free_place(make_server: MakeServer, alice: User, worker: Worker) -> None:
    for name in ("s1", "s2"):
        start(make_server(name), alice)
        claim_next_job(worker)
    text = explain_waiting(start(make_server("s3"), alice))
    assert text == "Waits for a free slot: host local runs 2 jobs at a time."


def test_an_install_that_is_next_once_the_one_before_it_runs(
    make_server: MakeServer, host: Host, alice: User, worker: Worker
) -> None:
    """The reason follows from the same rules by which jobs are claimed."""
    start(make_server("s1"), alice)
    install = enqueue("install", host=host, requested_by=alice)
    later = start(make_server("s2"), alice)
    assert len(claim_jobs(worker, host, 4)) == 1
    assert explain_waiting(later).startswith("Waits behind “Install the game” on local by alice")
    assert explain_waiting(install).startswith("Waits for start of s1 by alice")


def test_more_jobs_than_are_looked_at(
    make_server: MakeServer, alice: User, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait_reasons, "MOST_EARLIER", 2)
    *_, third, fourth = [start(make_server(f"s{number}"), alice) for number in range(4)]
    assert explain_waiting(third) == "Starts in a moment."
    assert explain_waiting(fourth) == "Waits behind more than 2 other jobs of host local."


def test_nothing(server: Server, alice: User, worker: Worker) -> None:
    assert explain_waiting(start(server, alice)) == "Starts in a moment."


def test_a_host_that_is_drained(server: Server, alice: User, worker: Worker) -> None:
    Host.objects.update(is_draining=True)
    server.refresh_from_db()
    assert "being drained" in explain_waiting(start(server, alice))


def test_a_host_that_is_gone(server: Server, alice: User) -> None:
    job = start(server, alice)
    Job.objects.update(host=None)
    job.refresh_from_db()
    assert "Cancel it" in explain_waiting(job)
