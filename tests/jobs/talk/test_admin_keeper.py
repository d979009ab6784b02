"""Admins reach running servers: they are written, and SourceMod is told to read them and answers."""

import pytest

from hostops.errors import HostError
from hostops.specs import AdminsOutcome, CommandAnswer, CommandWay, SpecAdmin
from jobs.talk import AdminKeeper, keeping
from servers.models import AdminsNote, AdminsState, GameAdmin, Host, Server
from servers.secrets.encryption import ServerSecret
from tests.fakes import FakeHost
from tests.states import record_state

pytestmark = pytest.mark.django_db

REFRESHED = "[SM] Admin cache has been refreshed.\n"
ZOEY = SpecAdmin("STEAM_1:0:1", "z", "Zoey")


@pytest.fixture
def running(server: Server) -> Server:
    """Return Alice's server, which runs and has an admin."""
    record_state(server, "running")
    server.game_admins.create(steam_id=ZOEY.steam_id, name=ZOEY.name, preset="full")
    return server


@pytest.fixture
def keeper(host: Host, fake_host: FakeHost) -> AdminKeeper:
    """Return the keeper of the admins on the host's servers, which have SourceMod."""
    fake_host.answers = lambda *_: REFRESHED
    return AdminKeeper(host, {})


def note() -> tuple[str, str]:
    one = AdminsNote.objects.get()
    return one.state, one.remark


def test_a_server_that_never_had_an_admin_is_left_alone(
    keeper: AdminKeeper, server: Server, fake_host: FakeHost
) -> None:
    record_state(server, "running")
    keeper.look()
    assert (fake_host.admins, fake_host.commands) == ([], [])


def test_admins_are_written_and_told_once_for_each_change_and_each_run(
    keeper: AdminKeeper, running: Server, fake_host: FakeHost
) -> None:
    for _ in range(3):
        keeper.look()
    assert fake_host.admins == [("alpha", (ZOEY,))]
    assert fake_host.commands == [("alpha", "sm_reloadadmins")]
    assert note() == (AdminsState.IN_FORCE, "")
    Server.objects.update(console_run=2)
    keeper.look()
    GameAdmin.objects.all().delete()
    keeper.look()
    keeper.look()
    assert fake_host.admins[1:] == [("alpha", (ZOEY,)), ("alpha", ())]
    assert len(fake_host.commands) == 3


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (AdminsOutcome.NO_SOURCEMOD, AdminsState.NO_SOURCEMOD),
        (AdminsOutcome.WAITING, AdminsState.WAITING),
        (AdminsOutcome.REFUSED, AdminsState.REFUSED),
    ],
)
def test_what_is_not_written_is_said_and_nothing_is_told(
    keeper: AdminKeeper,
    running: Server,
    fake_host: FakeHost,
    outcome: AdminsOutcome,
    state: AdminsState,
) -> None:
    fake_host.admins_outcome = outcome
    keeper.look()
    assert note() == (state, "")
    assert fake_host.commands == []


@pytest.mark.parametrize("answer", ['Unknown command "sm_reloadadmins"\n', ""])
def test_an_answer_that_is_not_sourcemods_is_said(
    keeper: AdminKeeper, running: Server, fake_host: FakeHost, answer: str
) -> None:
    fake_host.answers = lambda *_: answer
    keeper.look()
    state, remark = note()
    assert state == AdminsState.NOT_LOADED
    assert (answer.strip() or "nothing") in remark


def test_where_rcon_is_refused_it_is_typed_and_said_to_have_no_answer(
    host: Host, running: Server, fake_host: FakeHost
) -> None:
    fake_host.answers = lambda *_: CommandAnswer(
        CommandWay.TYPED, "", 7, why_typed="It refuses the password.", is_password_refused=True
    )
    refusing: dict[str, int] = {}
    AdminKeeper(host, refusing).look()
    assert note() == (AdminsState.TYPED, "It refuses the password.")
    assert refusing == {"alpha": 7}


def test_a_server_that_hangs_is_told_later(
    keeper: AdminKeeper, running: Server, fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(*_: str) -> str:
        raise HostError("It hangs.")

    now = [1000.0]
    monkeypatch.setattr(keeping, "monotonic", lambda: now[0])
    fake_host.answers = hang
    for _ in range(3):
        keeper.look()
    assert len(fake_host.commands) == 1
    assert not AdminsNote.objects.exists()
    fake_host.answers = lambda *_: REFRESHED
    now[0] += 11
    keeper.look()
    assert note() == (AdminsState.IN_FORCE, "")


def test_a_change_there_and_back_does_not_stay_pending(
    keeper: AdminKeeper, running: Server
) -> None:
    keeper.look()
    AdminsNote.record(running, AdminsState.PENDING)
    keeper.look()
    assert note() == (AdminsState.IN_FORCE, "")


def test_a_password_in_the_answer_is_not_shown(
    keeper: AdminKeeper, running: Server, fake_host: FakeHost
) -> None:
    running.set_secret(ServerSecret.RCON_PASSWORD, "hunter2")
    running.save()
    fake_host.answers = lambda *_: 'Unknown command "hunter2"'
    keeper.look()
    state, remark = note()
    assert state == AdminsState.NOT_LOADED
    assert "Unknown command" in remark
    assert "hunter2" not in remark
