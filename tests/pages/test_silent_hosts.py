"""It is unknown what a silent host runs: no page says that its servers run."""

from datetime import datetime, timedelta

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from jobs.context_processors import describe_workers
from jobs.live.topics import ChangesTopic
from jobs.models import Worker
from jobs.queue import register_worker
from servers.models import ActualState, DesiredState, Host, Server


@pytest.fixture
def running(server: Server) -> Server:
    """Return a server that was running, with players, when its host was last asked."""
    server.actual_state, server.desired_state = ActualState.RUNNING, DesiredState.RUNNING
    server.actual_state_at, server.players, server.max_players = timezone.now(), 3, 8
    server.save()
    return server


def read_text(browser: Client, address: str) -> str:
    return browser.get(address).content.decode()


def fall_silent() -> datetime:
    heard_at = timezone.now() - timedelta(hours=2)
    Worker.objects.update(heartbeat_at=heard_at)
    return heard_at


def stop() -> datetime:
    heard_at = timezone.now()
    Worker.objects.update(heartbeat_at=heard_at, stopped_at=heard_at)
    return heard_at


@pytest.mark.parametrize("go", [fall_silent, stop])
def test_its_servers_are_not_heard_of_since_its_last_heartbeat(
    as_alice: Client, as_dana: Client, running: Server, worker: Worker, go: object
) -> None:
    for address in ("/servers/", running.get_absolute_url()):
        assert 'data-state="running"' in read_text(as_alice, address)
    assert "1 of 1 running" in read_text(as_dana, "/hosts/")
    assert callable(go)
    since = f"{timezone.localtime(go()):%H:%M}"
    for address in ("/servers/", running.get_absolute_url()):
        text = read_text(as_alice, address)
        assert "not heard from since" in text
        assert since in text
        assert 'data-state="running"' not in text
        assert "3/8" not in text
    hosts = read_text(as_dana, "/hosts/")
    assert "1 server " in " ".join(hosts.split())
    assert "1 of 1 running" not in hosts


def test_its_figures_are_dated_once_and_not_shown_as_those_of_now(
    as_dana: Client, running: Server, worker: Worker
) -> None:
    Host.objects.update(load_average=0.42, memory_available_bytes=1, memory_total_bytes=4)
    for address in ("/hosts/", running.host.get_absolute_url()):
        assert "<meter" in read_text(as_dana, address)
    fall_silent()
    for address in ("/hosts/", running.host.get_absolute_url()):
        text = read_text(as_dana, address)
        assert text.count("figures are from") == 1
        assert "42 %" in text
        assert "<meter" not in text
        assert "0 running" not in text
        assert "Right now" not in text


def test_another_worker_of_the_host_is_enough(
    as_alice: Client, running: Server, worker: Worker
) -> None:
    fall_silent()
    Worker.objects.create(
        host=worker.host,
        pid=worker.pid + 1,
        boot_id=worker.boot_id,
        process_started=1,
        concurrency=1,
        started_at=timezone.now(),
        heartbeat_at=timezone.now(),
    )
    assert "not heard from" not in read_text(as_alice, running.get_absolute_url())


def test_open_pages_are_told_when_a_worker_falls_silent(running: Server, worker: Worker) -> None:
    topics = [ChangesTopic(running.owner_id)]
    before = ChangesTopic.read_snapshots(topics)
    fall_silent()
    assert ChangesTopic.read_snapshots(topics) != before


def test_the_list_asks_once_for_all_servers(
    running: Server, worker: Worker, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    fall_silent()
    for number in range(3):
        Server.objects.create(
            name=f"more-{number}",
            owner=running.owner,
            host=running.host,
            blueprint=running.blueprint,
        )
    with django_assert_num_queries(1):
        labels = [one.state_label for one in Server.objects.with_heartbeat()]
    assert len(labels) == 4
    assert all(label.startswith("not heard from since") for label in labels)


@pytest.mark.parametrize("claims", [(True, False), (False, True), (False, False)])
def test_a_note_says_if_no_worker_takes_jobs_and_not_if_only_one_takes_none(
    host: Host, claims: tuple[bool, bool]
) -> None:
    register_worker(host, concurrency=1, is_claiming=claims[0])
    Worker.objects.update(pid=1)  # Of another process.
    register_worker(host, concurrency=1, is_claiming=claims[1])
    notes = describe_workers(Host.objects.filter(pk=host.pk))
    assert ["takes no more jobs" in note for note in notes] == ([] if any(claims) else [True])
