"""Bans reach running servers: the missing ones, after each start and change of map, until they end."""

import re
from datetime import timedelta
from time import process_time
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from hostops.errors import HostError, RconUnusableError
from hostops.specs import CommandAnswer, CommandWay
from jobs.talk import BanKeeper, ban_keeper, keeping
from jobs.talk.ban_keeper import parse_list, to_lines
from servers.models import Ban, Blueprint, Host, Server
from tests.fakes import FakeHost
from tests.states import record_state

pytestmark = pytest.mark.django_db

ID = "STEAM_1:0:1"
OTHER = "STEAM_1:1:2"


class Game:
    """A server's own list, as the engine keeps it."""

    def __init__(self) -> None:
        self.banned: dict[str, str] = {}
        self.told: list[str] = []

    def answer(self, _: str, line: str) -> str:
        """Carry out a line."""
        if line == "listid":
            rows = (
                f"{n} {one} : {'permanent' if minutes == '0' else f'{minutes}.000 min'}"
                for n, (one, minutes) in enumerate(self.banned.items(), start=1)
            )
            return "\n".join(["ID filter list: entries", *rows, ""])
        for command in line.split(";"):
            self.told.append(command)
            if match := re.fullmatch(r"banid (\d+) (STEAM_\S+) kick", command):
                self.banned[match[2]] = match[1]
            elif match := re.fullmatch(r"removeid (STEAM_\S+)", command):
                del self.banned[match[1]]
            else:
                pytest.fail(command)
        return ""


@pytest.fixture
def game(fake_host: FakeHost) -> Game:
    """Return the bans of every server on the host."""
    game = Game()
    fake_host.answers = game.answer
    return game


@pytest.fixture
def running(server: Server) -> Server:
    """Return Alice's server, which runs."""
    record_state(server, "running")
    return server


@pytest.fixture
def keeper(host: Host, game: Game) -> BanKeeper:
    """Return the keeper of the bans on the host's servers."""
    return BanKeeper(host, {})


def ban(server: Server, steam_id: str = ID, *, is_everywhere: bool = False, **fields: Any) -> Ban:
    where = None if is_everywhere else server
    return Ban.objects.create(owner=server.owner, server=where, steam_id=steam_id, **fields)


def test_a_server_without_bans_is_never_asked(
    keeper: BanKeeper, running: Server, fake_host: FakeHost
) -> None:
    keeper.look()
    assert fake_host.commands == []


def test_a_ban_is_told_once_and_lifted_when_it_is_lifted_or_ends(
    keeper: BanKeeper, running: Server, game: Game, fake_host: FakeHost
) -> None:
    game.banned["STEAM_0:0:99"] = "0"  # Somebody else's: not Saferoom's to lift.
    now = timezone.now()
    lifted, timed = (
        ban(running),
        ban(running, OTHER, ends_at=now + timedelta(minutes=59, seconds=30)),
    )
    for _ in range(3):
        keeper.look()
    assert game.told == [f"banid 0 {ID} kick", f"banid 60 {OTHER} kick"]
    assert len(fake_host.commands) == 2
    Ban.objects.filter(pk=lifted.pk).update(lifted_at=now)
    Ban.objects.filter(pk=timed.pk).update(ends_at=now)
    keeper.look()
    assert list(game.banned) == ["STEAM_0:0:99"]


@pytest.mark.parametrize(
    "change",
    [
        {"map": "c2m1_highway"},
        {"console_run": 2},
        {"console_run_started_at": 5.0},  # The instance was made again, and counts from 1.
    ],
)
def test_a_ban_that_the_game_has_lost_is_told_again_after_a_start_or_a_map(
    keeper: BanKeeper, running: Server, game: Game, change: dict[str, Any]
) -> None:
    ban(running)
    keeper.look()
    game.banned.clear()
    Server.objects.update(**change)
    keeper.look()
    assert game.banned == {ID: "0"}


def test_a_lifted_ban_that_comes_back_with_a_config_is_lifted_again(
    keeper: BanKeeper, running: Server, game: Game
) -> None:
    ban(running, lifted_at=timezone.now())
    game.banned[ID] = "0"
    keeper.look()
    assert game.banned == {}


def test_a_ban_of_the_game_itself_is_not_lifted_with_one_that_had_an_end(
    keeper: BanKeeper, running: Server, game: Game
) -> None:
    ban(running, ends_at=timezone.now() - timedelta(minutes=1))
    game.banned[ID] = "0"
    keeper.look()
    assert game.banned == {ID: "0"}


def test_whom_a_config_has_banned_for_good_the_server_is_not_told_of_again(
    keeper: BanKeeper, running: Server, game: Game
) -> None:
    ban(running)
    ban(running, OTHER, ends_at=timezone.now() + timedelta(hours=1))
    game.banned |= {ID: "0", OTHER: "90"}
    keeper.look()
    assert game.told == [f"banid 60 {OTHER} kick"]


def test_bans_that_a_map_begun_anew_brings_back_are_put_right_after_a_while(
    keeper: BanKeeper, running: Server, game: Game, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    for module in (ban_keeper, keeping):
        monkeypatch.setattr(module, "monotonic", lambda: now[0])
    ban(running)
    ban(running, OTHER, lifted_at=timezone.now())
    keeper.look()
    game.banned |= {ID: "5", OTHER: "0"}  # As they were when the config was written.
    keeper.look()
    assert game.banned == {ID: "5", OTHER: "0"}
    now[0] += ban_keeper.LOOK_AGAIN_SECONDS
    keeper.look()
    assert game.banned == {ID: "0"}


def test_a_restart_after_a_crash_brings_back_no_ban_that_ended_since_the_start_before_it(
    keeper: BanKeeper, running: Server, game: Game
) -> None:
    now = timezone.now()
    Server.objects.update(console_run=2, console_run_started_at=now.timestamp())
    ban(running, ends_at=now - timedelta(days=3))
    game.banned[ID] = "60"
    keeper.look()
    assert game.banned == {ID: "60"}
    running.runs.create(started_at=now - timedelta(days=4))
    keeper.look()
    assert game.banned == {}


def test_of_several_bans_the_one_that_ends_last_counts(
    keeper: BanKeeper, running: Server, game: Game
) -> None:
    soon = timezone.now() + timedelta(minutes=10)
    first = ban(running, ends_at=soon)
    keeper.look()
    assert game.banned == {ID: "10"}
    ban(running, is_everywhere=True)
    keeper.look()
    assert game.banned == {ID: "0"}
    Ban.objects.filter(pk=first.pk).update(lifted_at=timezone.now())
    keeper.look()
    assert game.banned == {ID: "0"}


def test_a_ban_holds_on_its_server_or_on_all_of_its_owner_and_no_other(
    keeper: BanKeeper, running: Server, fake_host: FakeHost, bob: User, blueprint: Blueprint
) -> None:
    for name, owner in (("beta", running.owner), ("bobs", bob)):
        server = Server(name=name, owner=owner, host=running.host, blueprint=blueprint)
        server.save()
        record_state(server, "running")
    games = {name: Game() for name in ("alpha", "beta", "bobs")}
    fake_host.answers = lambda name, line: games[name].answer(name, line)
    ban(running)
    ban(running, OTHER, is_everywhere=True)
    keeper.look()
    told = {(name, text) for name, text in fake_host.commands if text != "listid"}
    assert told == {
        ("alpha", f"banid 0 {ID} kick;banid 0 {OTHER} kick"),
        ("beta", f"banid 0 {OTHER} kick"),
    }


def test_a_server_that_does_not_take_rcon_is_told_by_its_console(
    host: Host, running: Server, fake_host: FakeHost
) -> None:
    def answer(_: str, line: str) -> CommandAnswer:
        if line == "listid":
            raise RconUnusableError("alpha takes no commands by RCON.", 7)
        return CommandAnswer(CommandWay.TYPED, "", 7)

    fake_host.answers = answer
    refusing: dict[str, int] = {}
    ban(running)
    ban(running, OTHER, lifted_at=timezone.now())
    BanKeeper(host, refusing).look()
    assert fake_host.commands[-1] == ("alpha", f"banid 0 {ID} kick;removeid {OTHER}")
    assert (refusing, fake_host.refusing_runs) == ({"alpha": 7}, [0, 7])


def test_a_server_that_hangs_is_told_later(
    keeper: BanKeeper,
    running: Server,
    game: Game,
    fake_host: FakeHost,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def hang(*_: str) -> str:
        raise HostError("It hangs.")

    now = [1000.0]
    for module in (ban_keeper, keeping):
        monkeypatch.setattr(module, "monotonic", lambda: now[0])
    fake_host.answers = hang
    ban(running)
    for _ in range(5):
        keeper.look()
    assert len(fake_host.commands) == 1
    fake_host.answers = game.answer
    now[0] += 11
    keeper.look()
    assert game.banned == {ID: "0"}


def test_lines_are_no_longer_than_the_engine_takes_and_have_every_command() -> None:
    commands = [f"banid 0 STEAM_1:0:{number} kick" for number in range(300)]
    lines = list(to_lines(commands))
    assert max(map(len, lines)) <= 480
    assert ";".join(lines).split(";") == commands
    assert list(to_lines([])) == []


def test_the_games_list_is_read_in_one_universe() -> None:
    text = "ID filter list: 2 entries\n1 STEAM_0:0:1 : permanent\n2 STEAM_1:1:2 : 60.000 min\nx STEAM_1:0:3\n"
    assert parse_list(text) == {ID: True, OTHER: False}


def test_an_answer_of_empty_lines_takes_no_time() -> None:
    began_at = process_time()
    assert parse_list("\n" * 20_000) == {}
    assert process_time() - began_at < 2


def test_a_server_that_answers_slowly_does_not_hold_up_the_others_and_is_told_all_in_the_end(
    keeper: BanKeeper,
    running: Server,
    fake_host: FakeHost,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Server(name="beta", owner=running.owner, host=running.host, blueprint=running.blueprint).save()
    record_state(Server.objects.get(name="beta"), "running")
    games = {name: Game() for name in ("alpha", "beta")}
    now = [1000.0]
    for module in (ban_keeper, keeping):
        monkeypatch.setattr(module, "monotonic", lambda: now[0])

    def answer(name: str, line: str) -> str:
        now[0] += 1.9 if name == "alpha" else 0.0
        return games[name].answer(name, line)

    fake_host.answers = answer
    in_an_hour = timezone.now() + timedelta(hours=1)
    ids = [f"STEAM_1:0:{number}" for number in range(1, 201)]
    for one in ids:
        ban(running, one, is_everywhere=True, ends_at=in_an_hour)
    ban(running, OTHER, is_everywhere=True, lifted_at=timezone.now())
    games["alpha"].banned[OTHER] = "60"
    keeper.look()
    assert now[0] - 1000 < 8
    for _ in range(20):
        now[0] += 10
        keeper.look()
    assert list(games["beta"].banned) == list(games["alpha"].banned) == ids
    assert len(games["alpha"].told) == len(ids) + 1
