"""How many jobs of one person may wait."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import override_settings

from jobs.models import Job, JobState
from jobs.queue import RequestRefused, TooManyWaiting, cancel, enqueue, request, retry
from l4d2site.accounts.models import OwnQuotas
from servers.models import ActualState, Blueprint, Host, Server
from tests.states import record_state
from tests.waiting import wait_until

MakeServer = Callable[..., Server]

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def few_may_wait() -> Any:
    """Let three jobs of a person wait, or two for each of their servers."""
    with override_settings(WAITING_JOBS_PER_OWNER=3):
        yield


@pytest.fixture
def make_server(alice: User, host: Host, blueprint: Blueprint) -> MakeServer:
    """Return a function that makes a server, by default Alice's, with an instance that does not run."""

    def make(name: str, owner: User = alice, on: Host = host) -> Server:
        server = Server.objects.create(name=name, owner=owner, host=on, blueprint=blueprint)
        record_state(server, ActualState.STOPPED)
        return server

    return make


def fill(person: User, server: Server, count: int) -> None:
    """Let jobs of a person wait."""
    for _ in range(count):
        enqueue("initialize", server=server, requested_by=person)


def waiting() -> list[str]:
    """Return the waiting operations, oldest first."""
    return list(Job.objects.queued().values_list("operation", flat=True))


def test_one_more_than_may_wait_is_refused_with_how_many_and_what_to_do(
    make_server: MakeServer, alice: User
) -> None:
    server = make_server("alpha")
    fill(alice, server, 2)
    assert request("start", server=server, requested_by=alice).is_new
    with pytest.raises(TooManyWaiting) as refusal:
        request("restart", server=server, requested_by=alice)
    text = str(refusal.value)
    assert text.startswith("3 jobs that you asked for wait, and the limit is 3. ")
    assert "cancel those you no longer need" in text
    assert waiting() == ["initialize", "initialize", "start"]


def test_a_second_click_is_answered_and_not_refused(make_server: MakeServer, alice: User) -> None:
    server = make_server("alpha")
    fill(alice, server, 3)
    assert not request("initialize", server=server, requested_by=alice).is_new


def test_two_may_wait_for_each_of_ones_servers(make_server: MakeServer, alice: User) -> None:
    servers = [make_server(f"s{number}") for number in range(3)]
    fill(alice, servers[0], 5)
    assert request("start", server=servers[0], requested_by=alice).is_new
    with pytest.raises(TooManyWaiting, match=r"6 jobs .* and the limit is 6"):
        request("start", server=servers[1], requested_by=alice)


def test_jobs_of_others_and_of_workers_and_jobs_that_run_or_are_over_do_not_count(
    make_server: MakeServer, alice: User, bob: User
) -> None:
    server = make_server("alpha")
    fill(bob, server, 5)
    for _ in range(5):
        enqueue("start", server=server, requested_by=None)
    fill(alice, server, 1)
    Job.objects.filter(requested_by=alice).update(state=JobState.RUNNING)
    fill(alice, server, 2)
    assert request("start", server=server, requested_by=alice).is_new


def test_a_job_counts_for_who_asked_for_it_and_not_for_the_owner(
    make_server: MakeServer, alice: User, bob: User
) -> None:
    server = make_server("alpha", bob)
    fill(alice, server, 3)
    assert request("start", server=server, requested_by=bob).is_new
    with pytest.raises(TooManyWaiting):
        request("restart", server=server, requested_by=alice)


def test_a_superuser_has_no_limit(make_server: MakeServer, dana: User) -> None:
    server = make_server("alpha")
    fill(dana, server, 50)
    OwnQuotas.objects.create(user=dana, waiting_jobs=0)
    assert request("start", server=server, requested_by=dana).is_new


@pytest.mark.parametrize("most", [0, 1, 7])
def test_a_persons_own_value_wins_over_the_setting_and_over_their_servers(
    make_server: MakeServer, alice: User, most: int
) -> None:
    servers = [make_server(f"s{number}") for number in range(5)]
    OwnQuotas.objects.create(user=alice, waiting_jobs=most)
    fill(alice, servers[0], most)
    with pytest.raises(TooManyWaiting, match=f"and the limit is {most}"):
        request("start", server=servers[1], requested_by=alice)


@pytest.mark.parametrize("operation", ["stop", "reset", "delete"])
def test_what_brings_a_server_down_is_never_refused(
    make_server: MakeServer, alice: User, operation: str
) -> None:
    server = make_server("alpha")
    fill(alice, server, 3)
    assert request(operation, server=server, requested_by=alice).is_new
    assert waiting()[-1] == operation


def test_stops_cannot_be_piled_up_by_deleting_in_between(
    make_server: MakeServer, alice: User
) -> None:
    server = make_server("alpha")
    fill(alice, server, 3)
    for _ in range(10):
        for operation in ("stop", "delete", "reset"):
            request(operation, server=server, requested_by=alice)
    assert waiting()[3:] == ["stop", "delete"]
    requested = request("stop", server=server, requested_by=alice)
    assert (requested.is_new, requested.job.operation) == (False, "delete")


def test_a_stop_is_no_answer_to_a_deletion_nor_one_that_is_being_cancelled_to_a_stop(
    make_server: MakeServer, alice: User
) -> None:
    server = make_server("alpha")
    fill(alice, server, 3)
    stop = request("stop", server=server, requested_by=alice).job
    assert request("delete", server=server, requested_by=alice).is_new
    Job.objects.filter(operation="delete").update(state=JobState.CANCELLED)
    Job.objects.filter(pk=stop.pk).update(state=JobState.RUNNING)
    cancel(stop)
    assert request("stop", server=server, requested_by=alice).is_new


def test_what_is_cancelled_gives_its_place_back(make_server: MakeServer, alice: User) -> None:
    server = make_server("alpha")
    fill(alice, server, 3)
    cancel(Job.objects.queued()[0])
    assert request("start", server=server, requested_by=alice).is_new


def test_a_retry_obeys(make_server: MakeServer, alice: User) -> None:
    server = make_server("alpha")
    fill(alice, server, 3)
    failed = Job.objects.create(operation="start", server=server, state=JobState.FAILED)
    with pytest.raises(TooManyWaiting):
        retry(failed, requested_by=alice)
    assert not failed.retries.exists()


def test_requests_in_one_transaction_are_taken_whole_or_refused_whole(
    make_server: MakeServer, alice: User
) -> None:
    servers = [make_server(f"s{number}") for number in range(4)]

    def start_all(some: list[Server]) -> None:
        with transaction.atomic():
            for server in some:
                request("start", server=server, requested_by=alice)

    OwnQuotas.objects.create(user=alice, waiting_jobs=3)
    with pytest.raises(TooManyWaiting):
        start_all(servers)
    assert waiting() == []
    start_all(servers[:3])
    assert waiting() == ["start"] * 3


@pytest.mark.django_db(transaction=True)
def test_two_requests_at_one_moment_do_not_both_get_the_last_place(
    make_server: MakeServer, alice: User
) -> None:
    here = make_server("here")
    there = make_server("there", on=Host.objects.create(name="attic"))
    OwnQuotas.objects.create(user=alice, waiting_jobs=1)
    refusals: list[RequestRefused] = []

    def ask() -> None:
        try:
            request("start", server=there, requested_by=alice)
        except RequestRefused as refusal:
            refusals.append(refusal)
        finally:
            connection.close()

    second = threading.Thread(target=ask)
    with transaction.atomic():
        request("start", server=here, requested_by=alice)
        second.start()
        if connection.vendor == "postgresql":
            # Neither host's row is locked: it waits for its turn to count.
            wait_until(lambda: is_somebody_waiting() or not second.is_alive(), 10, "it waits")
    second.join(30)
    assert [type(refusal) for refusal in refusals] == [TooManyWaiting]
    assert Job.objects.queued().count() == 1


def is_somebody_waiting() -> bool:
    """Return whether a session of PostgreSQL waits for a lock.

    Within a transaction its list of activities does not change; its list of locks does.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])
