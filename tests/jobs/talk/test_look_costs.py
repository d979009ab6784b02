"""What a worker does each second for all servers of its host: no query for any single one."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from hostops.errors import HostError
from jobs.talk import AdminKeeper, BanKeeper, MapChecker, NameReader, PlayerReader
from servers.models import (
    AdminPreset,
    Ban,
    Blueprint,
    ConsoleCommand,
    GameAdmin,
    Host,
    MapChange,
    PlayerSession,
    Server,
)
from tests.fakes import FakeHost
from tests.states import make_run, record_state

LOOKS = (AdminKeeper, BanKeeper, MapChecker, NameReader, PlayerReader)

pytestmark = pytest.mark.django_db


def make_server(name: str, host: Host, blueprint: Blueprint, owner: User) -> Server:
    """Return a running server with an admin, which counts as having people on it until it says otherwise."""
    port = 27000 + Server.objects.count()
    server = Server.objects.create(
        name=name, host=host, blueprint=blueprint, owner=owner, port=port
    )
    record_state(server, "running")
    make_run(server)
    GameAdmin.objects.create(server=server, steam_id="STEAM_1:0:1", preset=AdminPreset.MODERATOR)
    now = timezone.now()
    PlayerSession.objects.create(server=server, steam_id="STEAM_1:0:1", joined_at=now, seen_at=now)
    return server


@pytest.mark.parametrize("kind", LOOKS)
def test_a_look_at_many_servers_costs_as_many_queries_as_one(
    kind: Any, host: Host, blueprint: Blueprint, alice: User, fake_host: FakeHost
) -> None:
    look = kind(host, {}).look
    counts = []
    for names in (["one"], ["two", "three", "four"]):
        for name in names:
            make_server(name, host, blueprint, alice)
        # What has to be done is done by then, one thing after the other.
        for _ in range(5):
            look()
        with CaptureQueriesContext(connection) as queries:
            look()
        counts.append(len(queries))
    assert counts[0] == counts[1], [query["sql"] for query in queries]


@pytest.mark.parametrize("kind", [AdminKeeper, BanKeeper, MapChecker, PlayerReader])
def test_a_look_that_has_settled_everything_says_that_it_need_not_come_again_soon(
    kind: Any, host: Host, server: Server, fake_host: FakeHost
) -> None:
    record_state(server, "running")
    look = kind(host, {}).look
    look()
    assert not look()


def test_a_look_with_somebody_on_says_so(host: Host, server: Server, fake_host: FakeHost) -> None:
    record_state(server, "running")
    now = timezone.now()
    PlayerSession.objects.create(server=server, steam_id="STEAM_1:0:1", joined_at=now, seen_at=now)
    assert PlayerReader(host, {}).look()


def test_a_look_with_a_map_to_wait_for_says_so(
    host: Host, server: Server, fake_host: FakeHost
) -> None:
    record_state(server, "running")
    command = ConsoleCommand.objects.create(server=server, text="changelevel c1m1_hotel")
    MapChange.objects.create(server=server, command=command, map="c1m1_hotel")
    assert MapChecker(host, {}).look()


@pytest.mark.parametrize("kind", [AdminKeeper, BanKeeper])
def test_a_look_that_could_not_tell_the_game_says_so(
    kind: Any, host: Host, server: Server, fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise HostError("the disk is full")

    record_state(server, "running")
    make_run(server)
    GameAdmin.objects.create(server=server, steam_id="STEAM_1:0:1", preset=AdminPreset.MODERATOR)
    Ban.objects.create(owner=server.owner, server=server, steam_id="STEAM_1:0:1")
    for verb in ("write_admins", "tell"):
        monkeypatch.setattr(fake_host, verb, refuse)
    assert kind(host, {}).look()
