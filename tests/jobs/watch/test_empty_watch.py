"""An action that waits until nobody plays on a server: when it is carried out, and when it never will be."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from jobs import queue
from jobs.models import DeferredAction, Job
from jobs.watch import EmptyWatch, PlayerWatch
from servers.models import ActualState, DesiredState, Host, Server

pytestmark = pytest.mark.django_db


class Looks:
    """A watch whose clock and answers a test advances."""

    def __init__(self, host: Host) -> None:
        self.now = 1_000.0
        self.players = PlayerWatch(host)
        self.watch = EmptyWatch(host, self.players, clock=lambda: self.now)

    def look(self, seconds: float = 0) -> None:
        """Let this many seconds pass, and servers answer; then look."""
        self.now += seconds
        self.players.sweeps += 1
        self.watch.look()


@pytest.fixture
def looks(running: Server) -> Looks:
    return Looks(running.host)


@pytest.fixture
def running(server: Server) -> Server:
    """Return Alice's server, which runs with nobody on it."""
    server.actual_state, server.desired_state = ActualState.RUNNING, DesiredState.RUNNING
    server.players, server.max_players = 0, 8
    server.save()
    return server


def defer(server: Server, operation: str = "restart", hours: int = 1) -> DeferredAction:
    until = timezone.now() + timedelta(hours=hours)
    return queue.defer(operation, server=server, requested_by=server.owner, until=until)


def test_it_is_carried_out_once_nobody_was_on_for_half_a_minute(
    running: Server, looks: Looks
) -> None:
    defer(running)
    looks.look()
    looks.look(29)
    assert not Job.objects.exists()
    looks.look(1)
    job = Job.objects.get()
    assert (job.operation, job.server, job.requested_by) == ("restart", running, running.owner)
    assert not DeferredAction.objects.exists()
    looks.look(60)
    assert Job.objects.count() == 1


@pytest.mark.parametrize("players", [1, None], ids=["somebody", "unknown"])
def test_somebody_who_comes_or_an_answer_that_does_not_restarts_the_wait(
    running: Server, looks: Looks, players: int | None
) -> None:
    defer(running)
    looks.look()
    Server.objects.update(players=players)
    looks.look(29)
    Server.objects.update(players=0)
    looks.look(29)
    looks.look(29)
    assert not Job.objects.exists()
    looks.look(1)
    assert Job.objects.exists()


def test_what_was_stored_before_servers_were_asked_counts_for_nothing(
    running: Server, looks: Looks
) -> None:
    defer(running)
    looks.watch.look()
    looks.now += 60
    looks.watch.look()
    looks.look()
    assert not Job.objects.exists()


def test_it_ends_unanswered_wishes_with_the_reason(running: Server, looks: Looks) -> None:
    Server.objects.update(players=3)
    action = defer(running, hours=-1)
    looks.look()
    action.refresh_from_db()
    assert not action.is_waiting
    assert "never seen empty for 30 seconds" in action.outcome
    Server.objects.update(players=0)
    looks.look()
    looks.look(60)
    assert not Job.objects.exists()


def test_a_server_that_somebody_stopped_is_not_started_by_it(running: Server, looks: Looks) -> None:
    action = defer(running)
    Server.objects.update(actual_state="stopped", desired_state="stopped", players=None)
    looks.look()
    looks.look(60)
    action.refresh_from_db()
    assert action.outcome == "It was stopped in the meantime."
    assert not Job.objects.exists()


def test_who_may_not_do_it_any_more_has_it_not_done(
    running: Server, looks: Looks, bob: User
) -> None:
    action = defer(running)
    Server.objects.update(owner=bob)
    looks.look()
    looks.look(30)
    action.refresh_from_db()
    assert action.outcome == "The person who asked for it may no longer do it."
    assert not Job.objects.exists()


def test_servers_of_other_hosts_are_left_to_their_workers(running: Server) -> None:
    defer(running)
    elsewhere = Looks(Host.objects.create(name="elsewhere"))
    elsewhere.look()
    elsewhere.look(60)
    assert DeferredAction.objects.get().is_waiting


def test_a_job_that_does_it_now_takes_its_place(running: Server) -> None:
    defer(running)
    queue.request("stop", server=running, requested_by=running.owner)
    assert not DeferredAction.objects.exists()


def test_a_new_wish_replaces_the_one_before(running: Server) -> None:
    defer(running, "restart")
    defer(running, "stop")
    assert DeferredAction.objects.get().operation == "stop"


@pytest.mark.parametrize(
    ("operation", "state", "reason"),
    [("delete", "running", "cannot wait"), ("stop", "stopped", "is not running")],
)
def test_it_refuses_what_cannot_wait_or_need_not(
    running: Server, operation: str, state: str, reason: str
) -> None:
    running.actual_state = state
    with pytest.raises(queue.RequestRefused, match=reason):
        defer(running, operation)
