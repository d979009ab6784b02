"""What the worker stores of servers' answers about their players."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from jobs.watch.player_watch import SWEEP_EVERY_SECONDS, PlayerWatch
from servers.models import ActualState, Host, Server
from servers.models.servers import ALL_ADDRESSES
from tests.hostops.query.test_a2s import INFO, server_that_answers
from tests.states import record_state
from tests.waiting import wait_until

ANSWER = b"\xff\xff\xff\xffI" + INFO


class Game:
    """A game server that answers queries, or does not."""

    def __init__(self) -> None:
        self.answer: bytes | None = ANSWER
        self.questions = 0

    def __call__(self, request: bytes, number: int) -> list[bytes]:
        """Answer a question."""
        self.questions += 1
        return [self.answer] if self.answer else []


@pytest.fixture
def game() -> Game:
    """Return the game behind the server alpha."""
    return Game()


@pytest.fixture
def running(game: Game, server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Return Alice's server, which runs."""
    # A sweep ends with the last answer; on a busy machine the thread that answers may need long.
    monkeypatch.setattr("jobs.watch.player_watch.ANSWER_SECONDS", 60.0)
    with server_that_answers(game) as port:
        server.port = port
        server.actual_state = ActualState.RUNNING
        server.save()
        yield server


def sweep(host: Host) -> Server:
    """Query all servers of the host once, and return the only one."""
    watch = PlayerWatch(host)
    watch.store_players()
    wait_for_answers(watch)
    return Server.objects.get()


def sweep_in_vain(host: Host) -> Server:
    """Do the same when none of them will answer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jobs.watch.player_watch.ANSWER_SECONDS", 0.1)
        return sweep(host)


def wait_for_answers(watch: PlayerWatch) -> None:
    """Return when all answers of one more sweep are stored."""
    sweeps = watch.sweeps

    def is_over() -> bool:
        watch.store_players()
        return watch.sweeps > sweeps

    wait_until(is_over, 10, "the sweep does not end")


def test_people_are_counted_without_bots_and_the_map_is_told(running: Server, host: Host) -> None:
    server = sweep(host)
    assert (server.players, server.max_players, server.map) == (2, 8, "c7m1_docks")
    assert server.has_known_players


@pytest.mark.parametrize(
    ("own", "of_host"),
    [("127.0.0.1", None), (None, "127.0.0.1"), ("127.0.0.1", "127.0.0.2")],
)
def test_a_server_that_binds_to_one_address_is_asked_there(
    running: Server, host: Host, settings: Any, own: str | None, of_host: str | None
) -> None:
    settings.HOST_ADDRESS = "127.0.0.2"  # Nobody answers here.
    assert sweep_in_vain(host).players is None
    Server.objects.update(bind_address=own)
    Host.objects.update(bind_address=of_host)
    assert sweep(host).players == 2
    # All addresses are queried at which the host's servers answer.
    Server.objects.update(bind_address=ALL_ADDRESSES)
    assert sweep_in_vain(host).players is None


def test_no_answer_means_unknown_and_not_none(running: Server, host: Host, game: Game) -> None:
    sweep(host)
    game.answer = None
    server = sweep_in_vain(host)
    assert (server.players, server.max_players, server.map) == (None, None, "")
    assert not server.has_known_players


def test_an_answer_of_an_earlier_run_is_not_stored(running: Server, host: Host) -> None:
    watch = PlayerWatch(host)
    watch.store_players()
    record_state(running, ActualState.RUNNING)  # It was restarted before the answer was read.
    wait_for_answers(watch)
    assert not Server.objects.get().has_known_players
    assert sweep(host).players == 2


def test_nothing_is_written_while_nothing_changes(running: Server, host: Host) -> None:
    before = sweep(host).updated_at
    assert sweep(host).updated_at == before


def test_the_rows_of_all_servers_are_read_together(running: Server, host: Host) -> None:
    def count_queries() -> int:
        watch = PlayerWatch(host)
        with CaptureQueriesContext(connection) as queries:
            watch.store_players()
            wait_for_answers(watch)
        return len(queries)

    sweep(host)
    of_one = count_queries()
    for number in range(3):
        Server.objects.create(
            name=f"idle-{number}",
            port=27100 + number,
            owner=running.owner,
            host=host,
            blueprint=running.blueprint,
        )
    assert count_queries() == of_one


def test_a_server_that_does_not_run_is_not_asked_and_its_players_are_forgotten(
    running: Server, host: Host, game: Game
) -> None:
    sweep(host)
    asked = game.questions
    record_state(running, ActualState.STOPPED)
    assert sweep(host).players is None
    assert game.questions == asked


def test_servers_are_asked_now_and_then_only(
    running: Server, host: Host, game: Game, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    monkeypatch.setattr("jobs.watch.player_watch.monotonic", lambda: now)
    watch = PlayerWatch(host)
    wait_for_answers(watch)
    now += SWEEP_EVERY_SECONDS / 2
    watch.store_players()
    assert watch._sweep is None, "it is too soon"
    now += SWEEP_EVERY_SECONDS / 2
    wait_for_answers(watch)


def test_a_name_of_a_map_that_no_map_has_does_no_harm(
    running: Server, host: Host, game: Game
) -> None:
    game.answer = ANSWER.replace(b"c7m1_docks", b"\xff\r\n" + b"x" * 300)
    assert len(sweep(host).map) == 64


@pytest.mark.django_db(transaction=True)
def test_it_is_asked_where_it_runs_and_not_where_it_will(running: Server) -> None:
    Server.objects.update(running_port=running.port, port=27499)
    server = sweep(running.host)
    assert server.players is not None
    assert server.address.endswith(f":{running.port}")
    Server.objects.update(actual_state=ActualState.STOPPED)
    assert Server.objects.get().address.endswith(":27499")


class Sweeps:
    """The sweeps of one worker. A test says how much time passes between two of them."""

    def __init__(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        self._host = host
        self.now = timezone.now()
        self._monotonic = 0.0
        self.start_worker()
        monkeypatch.setattr("jobs.watch.player_watch.monotonic", lambda: self._monotonic)
        monkeypatch.setattr("jobs.watch.player_watch.timezone.now", lambda: self.now)
        monkeypatch.setattr("jobs.watch.player_watch.ANSWER_SECONDS", 0.3)

    def start_worker(self) -> None:
        """Have another process go on."""
        self._watch = PlayerWatch(self._host)

    def after(self, seconds: float) -> Server:
        """Let time pass, query all servers, and return the only one as it is stored then."""
        self.now += timedelta(seconds=seconds)
        self._monotonic += SWEEP_EVERY_SECONDS
        self._watch.store_players()
        wait_for_answers(self._watch)
        return Server.objects.get()


def test_a_server_that_leaves_queries_unanswered_for_a_minute_may_hang(
    running: Server, host: Host, game: Game, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeps = Sweeps(host, monkeypatch)
    sweeps.after(0)
    game.answer = None
    began = sweeps.now + timedelta(seconds=10)
    for seconds in (10, 10, 49):
        server = sweeps.after(seconds)
        assert (server.hanging_since, server.state_label) == (None, "running")
    server = sweeps.after(1)
    assert server.hanging_since == began
    assert server.shown_state == "hanging"
    assert server.state_label == "running, does not answer queries"
    assert "so it may hang: then nobody can join until it is restarted." in server.state_remark
    sweeps.start_worker()
    assert sweeps.after(10).hanging_since == began, "another worker knows it from the row"
    game.answer = ANSWER
    server = sweeps.after(10)
    assert (server.hanging_since, server.players) == (None, 2)
    game.answer = None
    assert sweeps.after(10).hanging_since is None, "it starts over"


def test_another_run_is_given_a_minute_of_its_own(
    running: Server, host: Host, game: Game, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeps = Sweeps(host, monkeypatch)
    game.answer = None
    sweeps.after(10)
    assert sweeps.after(70).hanging_since
    Server.objects.update(actual_state=ActualState.STOPPED)
    server = sweeps.after(10)
    assert (server.hanging_since, server.unanswered_since) == (None, None)
    Server.objects.update(actual_state=ActualState.RUNNING, actual_state_at=sweeps.now)
    assert sweeps.after(10).hanging_since is None
    assert sweeps.after(70).hanging_since
    sweeps.now += timedelta(seconds=10)
    Server.objects.update(actual_state_at=sweeps.now)  # It was restarted.
    assert Server.objects.get().hanging_since is None, "what is stored is about the run before"
    assert sweeps.after(1).hanging_since is None
    assert sweeps.after(59).hanging_since is None
    assert sweeps.after(1).hanging_since
