"""The outcome of a change of map is what the server says, and never what the command was."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from hostops.errors import HostError
from jobs.command_requests import change_map
from jobs.talk import CommandDesk, MapChecker, NameReader, map_checker
from jobs.talk.map_checker import Playing
from servers.console.completion import read_names
from servers.content.map_choices import MapChoices
from servers.content.map_words import tell_outcome
from servers.models import CommandState, ConsoleCommand, Host, MapChange, Server
from tests.fakes import FakeHost
from tests.ports import find_free_port
from tests.states import record_state
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db

HOTEL = Playing("c1m1_hotel", "coop")
HIGHWAY = Playing("c2m1_highway", "coop")
PARK = Playing("c5m2_park", "coop")


@pytest.fixture
def running(server: Server) -> Server:
    """Return Alice's server, which plays c5m2_park."""
    record_state(server, "running")
    Server.objects.update(map=PARK.map, mode=PARK.mode)
    server.refresh_from_db()
    return server


class Game:
    """What a server answers when it is asked what it plays; `now` is a clock in seconds."""

    def __init__(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        self.playing: Playing | None = PARK
        self.now = 1000.0
        self.asked = 0
        monkeypatch.setattr(map_checker, "monotonic", lambda: self.now)
        monkeypatch.setattr(MapChecker, "_ask", lambda _checker, server: self._answer(server))
        self._checker = MapChecker(host, {})

    def _answer(self, _: Server) -> Playing | None:
        self.asked += 1
        return self.playing

    def look(self, playing: Playing | None, seconds: float = 1.0) -> str:
        """Return the state of the newest change once the server says that it plays this."""
        self.playing = playing
        self.now += seconds
        self._checker.look()
        return MapChange.objects.latest("pk").state


@pytest.fixture
def game(host: Host, monkeypatch: pytest.MonkeyPatch) -> Game:
    """Return what the server says."""
    return Game(host, monkeypatch)


def change(server: Server, to: Playing = HIGHWAY, **outcome: Any) -> MapChange:
    """Request a map; with `outcome`, the command is answered."""
    asked = change_map(server, f"changelevel {to.map}", to.map, to.mode, requested_by=server.owner)
    if outcome:
        fields = {"state": CommandState.ANSWERED, "finished_at": timezone.now()} | outcome
        ConsoleCommand.objects.filter(pk=asked.command_id).update(**fields)
    return asked


def words(asked: MapChange) -> str:
    asked = MapChange.objects.select_related("command").get(pk=asked.pk)
    return tell_outcome(asked, MapChoices(()))


def test_a_change_is_done_when_the_server_plays_it_and_not_before(
    running: Server, game: Game
) -> None:
    asked = change(running)
    assert (game.look(HIGHWAY), game.asked) == ("asked", 0), "it is not sent yet"
    ConsoleCommand.objects.update(state=CommandState.ANSWERED, finished_at=timezone.now())
    for _ in range(20):
        assert game.look(PARK) == "asked", "it may still be loading"
    assert game.look(None) == "asked"
    assert words(asked).startswith("Told to play c2m1_highway")
    assert game.look(HIGHWAY) == "playing"
    assert words(asked) == "It changed to c2m1_highway, Campaign."
    running.refresh_from_db()
    assert (running.map, running.mode) == ("c2m1_highway", "coop")
    before = game.asked
    game.look(PARK)
    assert game.asked == before, "what is settled is not looked at again"


def test_dead_center_by_surprise_is_told_and_a_map_on_the_way_is_not(
    running: Server, game: Game
) -> None:
    asked = change(running, answer="")
    assert game.look(HOTEL) == "asked"
    assert game.look(Playing("c5m3_cemetery", "coop"), 4) == "asked"
    assert game.look(HOTEL, 4) == "asked"
    assert game.look(HOTEL, 5) == "other"
    assert "It is not playing c2m1_highway" in words(asked)
    assert "falls back to" in words(asked)


def test_another_mode_than_was_asked_for_is_not_what_was_asked_for(
    running: Server, game: Game
) -> None:
    asked = change(running, Playing("c5m2_park", "versus"), answer="")
    assert game.look(PARK) == "asked"
    assert game.look(PARK, 59) == "asked"
    assert game.look(PARK, 2) == "other"
    assert "It says it is playing c5m2_park, Campaign." in words(asked)


def test_a_mode_that_is_not_told_is_not_claimed(running: Server, game: Game) -> None:
    asked = change(running, Playing("c2m1_highway", "versus"), answer="")
    assert game.look(Playing("c2m1_highway")) == "playing"
    assert words(asked) == "It changed to c2m1_highway. It does not say in which mode."


@pytest.mark.parametrize(
    "answer",
    [
        "CModelLoader::Map_IsValid:  No such map 'maps/c2m1_highway.bsp'\nchangelevel failed: x not found",
        "Can't changelevel, not running server",
    ],
)
def test_what_the_engine_refuses_is_told_at_once(running: Server, game: Game, answer: str) -> None:
    asked = change(running, answer=answer)
    assert game.look(PARK) == "other"
    assert words(asked).endswith(f"It answered: {' '.join(answer.split())}")


@pytest.mark.parametrize("set_by", [timedelta(hours=1), timedelta(hours=-1)])
def test_a_clock_that_is_set_neither_cuts_a_wait_short_nor_makes_it_endless(
    running: Server, game: Game, set_by: timedelta
) -> None:
    change(running, answer="")
    assert game.look(PARK) == "asked"
    ConsoleCommand.objects.update(finished_at=timezone.now() - set_by)
    assert game.look(PARK, 50) == "asked"
    assert game.look(PARK, 12) == "other"


def test_a_clock_that_was_set_back_before_the_first_look_makes_no_wait_endless(
    running: Server, game: Game
) -> None:
    change(running, finished_at=timezone.now() + timedelta(hours=1), answer="")
    assert game.look(PARK) == "asked"
    assert game.look(PARK, 61) == "other"


def fail(server: Server) -> MapChange:
    return change(server, state=CommandState.FAILED, remark="alpha is not running. Start it first.")


def crash(server: Server) -> MapChange:
    asked = change(server, answer="")
    record_state(server, "crashed")
    return asked


def stay_silent(server: Server) -> MapChange:
    ago = timezone.now() - timedelta(seconds=61)
    return change(server, state=CommandState.LOST, finished_at=ago)


@pytest.mark.parametrize(
    ("what", "state", "sentence"),
    [
        (
            fail,
            "not_sent",
            "The command to play c2m1_highway, Campaign was not sent: alpha is not running",
        ),
        (crash, "unknown", "the panel cannot tell whether it does"),
        (stay_silent, "unknown", "the panel cannot tell whether it does"),
    ],
)
def test_what_nobody_can_know_is_not_claimed(
    running: Server,
    game: Game,
    what: Callable[[Server], MapChange],
    state: str,
    sentence: str,
) -> None:
    asked = what(running)
    assert game.look(None) == state
    assert sentence in words(asked)


def test_of_two_changes_the_later_one_counts(running: Server, game: Game) -> None:
    first = change(running, HOTEL, answer="")
    change(running, HIGHWAY, answer="")
    assert game.look(HIGHWAY) == "playing"
    first.refresh_from_db()
    assert (first.state, game.asked) == ("overtaken", 1)


def test_a_long_name_is_known_again_though_queries_cut_it(running: Server, game: Game) -> None:
    name = "the_long_way_home_chapter_three_final"
    change(running, Playing(name, "coop"), answer="")
    assert game.look(Playing(name[:30], "coop")) == "asked"
    assert game.look(Playing(name[:31].upper(), "coop")) == "playing"


@pytest.mark.parametrize(
    ("answer", "state"),
    [("map     : c2m1_highway\n# userid name uniqueid\n#end\n", "playing"), (None, "asked")],
)
def test_where_no_query_is_answered_status_tells(
    running: Server,
    host: Host,
    fake_host: FakeHost,
    monkeypatch: pytest.MonkeyPatch,
    answer: str | None,
    state: str,
) -> None:
    def tell(*_: str) -> str:
        if answer is None:
            raise HostError("It hangs.")
        return answer

    monkeypatch.setattr(map_checker, "ANSWER_SECONDS", 0.01)
    fake_host.answers = tell
    Server.objects.update(port=find_free_port())
    asked = change(running, answer="")
    MapChecker(host, {}).look()
    asked.refresh_from_db()
    assert (asked.state, fake_host.commands) == (state, [("alpha", "status")])


@pytest.mark.django_db(transaction=True)
def test_a_real_server_changes_its_map_and_its_mode_and_lists_its_names(
    root: Path, server: Server, host: Host
) -> None:
    server.refresh_from_db()
    desk, checker = CommandDesk(host), MapChecker(host, {})

    def outcome(line: str, to: Playing) -> str:
        asked = change_map(server, line, to.map, to.mode, requested_by=server.owner)

        def settle() -> bool:
            desk.look()
            checker.look()
            asked.refresh_from_db()
            return asked.is_finished

        wait_until(settle, 15, "no outcome")
        return f"{asked.state} {asked.said_map} {asked.said_mode}"

    assert outcome("changelevel c2m1_highway", HIGHWAY) == "playing c2m1_highway coop"
    versus = Playing("c5m2_park", "versus")
    assert outcome("map c5m2_park versus", versus) == "playing c5m2_park versus"
    assert outcome("changelevel c99m1_x", Playing("c99m1_x")) == "other c5m2_park versus"
    desk.close()
    NameReader(host, {}).look()
    names = {one["name"]: one for one in read_names(server)}
    assert len(names) > 150
    assert names["changelevel"]["is_command"]
    assert names["sv_gravity"]["help"] == "How heavy everything is."
