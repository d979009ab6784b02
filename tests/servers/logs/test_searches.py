"""When a search must end, whatever it searches."""

import threading

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.test import AsyncRequestFactory, RequestFactory

from servers.logs import searches
from servers.logs.searches import CLIENT_HAS_LEFT, ClientHasLeftError, SearchTurn, SearchTurns
from tests.waiting import wait_until


def request_of(person: int, has_left: threading.Event | None = None) -> HttpRequest:
    """Return a request of a person; with `has_left` it is like those of the web server."""
    request: HttpRequest
    if has_left is None:
        request = RequestFactory().get("/")
    else:
        request = of_web_server = AsyncRequestFactory().get("/")
        of_web_server.scope = {**of_web_server.scope, CLIENT_HAS_LEFT: has_left}
    request.user = User(pk=person)
    return request


class Searcher(threading.Thread):
    """Searches until it must stop."""

    def __init__(self, turns: SearchTurns, request: HttpRequest) -> None:
        super().__init__(daemon=True)
        self._turns, self._request = turns, request
        self.turn: SearchTurn | None = None
        self.start()
        wait_until(lambda: self.turn, 10, "it searches")

    def run(self) -> None:
        """Search for something that is not there, in an endless log."""
        with self._turns.taken(self._request) as turn:
            self.turn = turn
            wait_until(lambda: not turn.may_go_on(), 60, "it has to end")


@pytest.fixture(autouse=True)
def long_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give searches more time than these tests take."""
    monkeypatch.setattr(searches, "SEARCH_SECONDS", 300.0)


def test_a_new_search_of_a_person_ends_the_one_before_and_begins_after_it() -> None:
    turns = SearchTurns()
    first = Searcher(turns, request_of(1))
    with turns.taken(request_of(1)) as second:
        assert first.turn
        assert first.turn.is_replaced
        # It has given up its turn: only the end of the thread is left.
        first.join(10)
        assert not first.is_alive()
        assert second.may_go_on()


def test_another_persons_search_goes_on() -> None:
    turns = SearchTurns()
    other = Searcher(turns, request_of(2))
    with turns.taken(request_of(1)) as turn:
        assert other.turn
        assert other.turn.may_go_on()
        assert turn.may_go_on()
    with turns.taken(request_of(2)):
        pass
    other.join(10)


def test_of_many_at_once_the_newest_searches_and_none_waits_for_ever() -> None:
    turns = SearchTurns()
    gate = threading.Barrier(10)
    ended: list[SearchTurn] = []

    def search() -> None:
        gate.wait()
        with turns.taken(request_of(1)) as turn:
            if not turn.is_replaced:
                searching.append(turn)
                wait_until(lambda: not turn.may_go_on(), 60, "it has to end")
                searching.remove(turn)
        ended.append(turn)

    searching: list[SearchTurn] = []
    threads = [threading.Thread(target=search, daemon=True) for _ in range(10)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(ended) == 9, 10, "all but the newest end")
    wait_until(lambda: len(searching) == 1, 10, "the newest searches")
    assert searching[0].may_go_on()
    with turns.taken(request_of(1)):
        for thread in threads:
            thread.join(10)
    assert len(ended) == 10


def test_a_search_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with SearchTurns().taken(request_of(1)) as turn:
        assert turn.may_go_on()
        monkeypatch.setattr(searches, "SEARCH_SECONDS", 0.0)
        turn.begin()
        assert not turn.may_go_on()


def test_a_search_ends_with_its_client() -> None:
    has_left = threading.Event()
    turns = SearchTurns()
    taking = turns.taken(request_of(1, has_left))
    turn = taking.__enter__()
    assert turn.may_go_on()
    has_left.set()
    assert not turn.may_go_on()
    assert not turn.is_replaced
    with pytest.raises(ClientHasLeftError):
        taking.__exit__(None, None, None)
    assert not turns._searching
