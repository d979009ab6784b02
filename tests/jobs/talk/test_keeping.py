"""Which server is due, when one is tried again, and what is known of servers that are gone."""

import pytest

from jobs.talk import keeping
from jobs.talk.keeping import RETRY_SECONDS, TURN_SECONDS, Keeping
from servers.models import Server

ALPHA, BETA = Server(pk=1, name="alpha"), Server(pk=2, name="beta")


class Keeper:
    """Wants the same for all servers, which take it after `seconds`, unless they are in `refusing`."""

    def __init__(self) -> None:
        self.keeping = Keeping[str]()
        self.wanted = "one"
        self.refusing: set[int] = set()
        self.tried: list[str] = []
        self.now = 1000.0
        self.seconds = 0.0

    def look(self, *servers: Server) -> bool:
        """Take a turn."""
        return self.keeping.take_turn(servers, self.find_wanted, self.give)

    def find_wanted(self, server: Server) -> str | None:
        """Return what is wanted, if the server has not got it."""
        return None if self.keeping.given.get(server.pk) == self.wanted else self.wanted

    def give(self, server: Server, wanted: str, until: float) -> bool:
        """Note the try."""
        assert until > self.now
        self.tried.append(server.name)
        self.now += self.seconds
        return server.pk not in self.refusing


@pytest.fixture
def keeper(monkeypatch: pytest.MonkeyPatch) -> Keeper:
    """Return a keeper with a clock of its own."""
    keeper = Keeper()
    monkeypatch.setattr(keeping, "monotonic", lambda: keeper.now)
    return keeper


def test_a_server_is_given_once_what_is_wanted(keeper: Keeper) -> None:
    assert not keeper.look(ALPHA)
    assert not keeper.look(ALPHA)
    keeper.wanted = "two"
    assert not keeper.look(ALPHA)
    assert keeper.tried == ["alpha", "alpha"]
    assert keeper.keeping.given == {ALPHA.pk: "two"}


def test_one_that_refuses_is_tried_again_later(keeper: Keeper) -> None:
    keeper.refusing = {ALPHA.pk}
    assert keeper.look(ALPHA)
    assert keeper.look(ALPHA)
    assert keeper.tried == ["alpha"]
    keeper.refusing.clear()
    keeper.now += RETRY_SECONDS
    assert not keeper.look(ALPHA)
    assert keeper.tried == ["alpha", "alpha"]


def test_those_left_out_of_a_turn_come_first_in_the_next(keeper: Keeper) -> None:
    keeper.refusing, keeper.seconds = {ALPHA.pk}, TURN_SECONDS + 1
    assert keeper.look(ALPHA, BETA)
    assert keeper.tried == ["alpha"]
    keeper.now += RETRY_SECONDS
    keeper.look(ALPHA, BETA)
    assert keeper.tried == ["alpha", "beta"]


def test_servers_that_are_gone_are_forgotten(keeper: Keeper) -> None:
    keeper.refusing = {BETA.pk}
    assert keeper.look(ALPHA, BETA)
    assert not keeper.look()
    assert (keeper.keeping.given, keeper.keeping._due_at) == ({}, {})
