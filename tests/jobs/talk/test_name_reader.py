"""Each game is asked only once what can be typed into its console, and the answer is kept."""

from typing import Any

import pytest

from hostops.errors import HostError, RconUnusableError
from hostops.specs import CommandAnswer, CommandWay
from jobs.talk import NameReader, name_reader
from jobs.talk.name_reader import store_names
from servers.console.completion import may_say_to_one, read_names
from servers.models import Blueprint, ConsoleName, ConsoleNames, Host, Server
from servers.secrets.encryption import ServerSecret
from tests.fakes import FakeHost
from tests.states import make_run, record_state

pytestmark = pytest.mark.django_db

BUILD = "19684021"


def list_names(*rows: str) -> str:
    """Return an answer to `cvarlist` with these names and their descriptions."""
    lines = (f"{name:40} : cmd      : {'':16} : {text}" for name, _, text in map(partition, rows))
    return "\n".join(["cvar list", "---", *lines, "---", "  2 total convars/concommands", ""])


def partition(row: str) -> tuple[str, str, str]:
    return row.partition("=")


@pytest.fixture
def running(server: Server) -> Server:
    """Return Alice's server, which runs, and whose start is recorded."""
    return start(server)


def start(server: Server, overlays: tuple[tuple[str, str], ...] = (), build: str = BUILD) -> Server:
    record_state(server, "running")
    Server.objects.filter(pk=server.pk).update(running_build_id=build)
    run = make_run(server)
    run.build_id, run.overlays = build, [list(one) for one in overlays]
    run.save()
    server.refresh_from_db()
    return server


@pytest.fixture
def other(running: Server, blueprint: Blueprint) -> Server:
    """Return another server of the same host."""
    return Server.objects.create(
        name="beta", owner=running.owner, host=running.host, blueprint=blueprint
    )


def test_one_server_is_asked_for_all_of_a_game(
    host: Host, running: Server, other: Server, fake_host: FakeHost
) -> None:
    assert (read_names(running), may_say_to_one(running)) == ([], None)
    fake_host.answers = lambda *_: list_names("kick=Away <b>with</b> hunter2.\x1b[31m", "a;quit=x")
    running.set_secret(ServerSecret.RCON_PASSWORD, "hunter2")
    running.save()
    start(other)
    reader = NameReader(host, {})
    for _ in range(3):
        reader.look()
    NameReader(host, {}).look()  # Another worker, or this one after a restart.
    assert fake_host.commands == [("alpha", "cvarlist")]
    for server in (running, other):
        (name,) = read_names(server)
        assert (name["name"], name["is_command"]) == ("kick", True)
        assert name["help"].startswith("Away <b>with</b> ********.")
        assert "hunter2" not in name["help"]
        assert may_say_to_one(server) is False
    record_state(other, "stopped")
    other.refresh_from_db()
    assert read_names(other) == []


@pytest.mark.parametrize(
    "differs",
    [
        {"build": "20000000"},
        {"overlays": (("sourcemod", "f" * 32),)},
        {"overlays": (("sourcemod", ""),)},  # Nobody could check its files.
    ],
)
def test_another_build_or_other_files_are_another_game(
    host: Host, running: Server, other: Server, fake_host: FakeHost, differs: dict[str, Any]
) -> None:
    fake_host.answers = lambda name, _: list_names("kick", *(["sm_psay"] if name == "beta" else []))
    start(other, **differs)
    reader = NameReader(host, {})
    for _ in range(3):
        reader.look()
    assert [name for name, _ in fake_host.commands] == ["alpha", "beta"]
    assert (may_say_to_one(running), may_say_to_one(other)) == (False, True)
    start(other, **differs)
    is_known = differs.get("overlays") != (("sourcemod", ""),)
    assert bool(read_names(other)) == is_known


def test_one_that_runs_from_another_build_than_is_recorded_is_not_asked(
    host: Host, running: Server, fake_host: FakeHost
) -> None:
    Server.objects.update(running_build_id="20000000")  # Started by hand.
    NameReader(host, {}).look()
    assert fake_host.commands == []


def hang(*_: str) -> str:
    raise HostError("It hangs.")


def refuse(*_: str) -> CommandAnswer:
    raise RconUnusableError("alpha takes no commands by RCON.", 7)


@pytest.mark.parametrize("answers", [hang, refuse, lambda *_: list_names("kick")[:-20]])
def test_one_that_does_not_tell_is_asked_again_much_later_and_keeps_no_other_waiting(
    host: Host,
    running: Server,
    other: Server,
    fake_host: FakeHost,
    monkeypatch: pytest.MonkeyPatch,
    answers: Any,
) -> None:
    now = [1000.0]
    monkeypatch.setattr(name_reader, "monotonic", lambda: now[0])
    fake_host.answers = answers
    start(other, (("sourcemod", "f" * 32),))
    refusing: dict[str, int] = {}
    reader = NameReader(host, refusing)
    for _ in range(4):
        reader.look()
    assert [name for name, _ in fake_host.commands] == ["alpha", "beta"]
    assert not ConsoleNames.objects.exists()
    assert refusing == ({"alpha": 7, "beta": 7} if answers is refuse else {})
    fake_host.answers = lambda *_: CommandAnswer(CommandWay.RCON, list_names("kick"), 7)
    now[0] += 301
    reader.look()
    assert [one["name"] for one in read_names(running)] == ["kick"]


def test_no_more_games_are_kept_than_anybody_has_and_those_of_running_servers_stay(
    host: Host,
    running: Server,
    other: Server,
    fake_host: FakeHost,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(name_reader, "GAMES_KEPT", 2)
    fake_host.answers = lambda *_: list_names("kick")
    start(other)
    reader = NameReader(host, {})
    reader.look()
    for build in ("1", "2", "3", "4"):
        start(running, build=build)
        reader.look()
    assert ConsoleNames.objects.count() == 3
    for server in (running, other):
        server.refresh_from_db()
        assert [one["name"] for one in read_names(server)] == ["kick"]
    # A forgotten one is asked for again, by the same worker.
    start(running, build="1")
    reader.look()
    assert [one["name"] for one in read_names(running)] == ["kick"]


def test_what_one_server_lists_takes_nothing_away_from_what_another_did(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For instance two that were asked at once by two hosts: one of them may be a stranger's."""

    def name(text: str, tells: str = "what it is for") -> ConsoleName:
        return {"name": text, "help": tells, "is_command": True}

    store_names("game", [name("kick"), name("sm_psay")])
    store_names("game", [name("kick", "Gives you everything."), *[name(f"a{i}") for i in range(9)]])
    row = ConsoleNames.objects.get(key="game")
    assert row.has_private_say
    assert [one["name"] for one in row.names] == [*[f"a{i}" for i in range(9)], "kick", "sm_psay"]
    assert {one["help"] for one in row.names} == {"what it is for"}
    monkeypatch.setattr(name_reader, "NAMES_KEPT", 12)
    monkeypatch.setattr(name_reader, "HELP_CHARS_KEPT", 11 * len("what it is for"))
    store_names("game", [name(f"b{i}") for i in range(9)])
    row = ConsoleNames.objects.get(key="game")
    assert (len(row.names), row.names[-1]["name"]) == (12, "sm_psay")
    assert [one["name"] for one in row.names if not one["help"]] == ["b0"]
