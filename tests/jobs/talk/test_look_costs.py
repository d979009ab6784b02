"""What a worker does each second for all servers of its host: no query for each of them."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from jobs.talk import AdminKeeper, BanKeeper, MapChecker, NameReader, PlayerReader
from servers.models import AdminPreset, Blueprint, GameAdmin, Host, PlayerSession, Server
from tests.fakes import FakeHost
from tests.states import make_run, record_state

LOOKS = (AdminKeeper, BanKeeper, MapChecker, NameReader, PlayerReader)

pytestmark = pytest.mark.django_db


def make_server(name: str, host: Host, blueprint: Blueprint, owner: User) -> Server:
    """Return a server that runs, with an admin, and somebody on it as long as it does not say otherwise."""
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
        # What is to be done is done by then, one thing after the other.
        for _ in range(5):
            look()
        with CaptureQueriesContext(connection) as queries:
            look()
        counts.append(len(queries))
    assert counts[0] == counts[1], [query["sql"] for query in queries]
