"""Sessions of people: derived from what servers say, and servers are asked no more often than necessary."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from hostops.errors import HostError, RconUnusableError
from jobs.talk import PlayerReader, forget_old_sessions, player_reader
from servers.models import Host, PlayerSession, Server
from tests.fakes import FakeHost
from tests.states import make_run, record_state

pytestmark = pytest.mark.django_db

HEAD = "hostname: Alpha\n# userid name uniqueid connected ping loss state rate adr\n"
ZOEY = ("Zoey", "STEAM_1:0:1", "05:00", 40)
BILL = ('B"ill', "STEAM_1:1:2", "1:00:00", 90)


def status(*people: tuple[str, str, str, int]) -> str:
    rows = (
        f'# {number} {number} "{name}" {steam_id} {connected} {ping} 1 active 30000 192.0.2.1:27005\n'
        for number, (name, steam_id, connected, ping) in enumerate(people, start=2)
    )
    return f"{HEAD}{''.join(rows)}#end\n"


class Clock:
    """The clock that decides when servers are asked."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return a clock that a test moves."""
    clock = Clock()
    monkeypatch.setattr(player_reader, "monotonic", clock)
    return clock


@pytest.fixture
def running(server: Server) -> Server:
    """Return Alice's server, which runs."""
    record_state(server, "running")
    return server


@pytest.fixture
def reader(host: Host, fake_host: FakeHost, clock: Clock) -> PlayerReader:
    """Return the reader that keeps the sessions on the host's servers."""
    return PlayerReader(host, {})


def tell_count(players: int | None) -> None:
    Server.objects.update(players=players)


def who_is_on() -> dict[str, int]:
    return dict(PlayerSession.objects.open().values_list("name", "ping"))


def test_a_server_is_asked_when_its_count_changes_and_else_once_a_minute(
    reader: PlayerReader, running: Server, fake_host: FakeHost, clock: Clock
) -> None:
    fake_host.answers = lambda *_: status(ZOEY)
    reader.look()
    assert fake_host.commands == []
    tell_count(1)
    for seconds in (0, 1, 58):
        clock.now += seconds
        reader.look()
    assert len(fake_host.commands) == 1
    clock.now += 2
    fake_host.answers = lambda *_: status((*ZOEY[:3], 70))
    reader.look()
    assert (len(fake_host.commands), who_is_on()) == (2, {"Zoey": 70})
    fake_host.answers = lambda *_: status(ZOEY, BILL)
    tell_count(2)
    reader.look()
    assert (len(fake_host.commands), who_is_on()) == (3, {"Zoey": 40, 'B"ill': 90})


def test_an_answer_that_does_not_fit_the_count_is_asked_for_again_soon(
    reader: PlayerReader, running: Server, fake_host: FakeHost, clock: Clock
) -> None:
    fake_host.answers = lambda *_: status(ZOEY)
    tell_count(2)
    for _ in range(3):
        reader.look()
        clock.now += 10
    assert len(fake_host.commands) == 3


def test_sessions_begin_and_end_as_people_come_and_go(
    reader: PlayerReader, running: Server, fake_host: FakeHost
) -> None:
    before = timezone.now()
    fake_host.answers = lambda *_: status(ZOEY, BILL)
    tell_count(2)
    reader.look()
    bill = PlayerSession.objects.get(steam_id="STEAM_1:1:2")
    assert abs(before - timedelta(hours=1) - bill.joined_at) < timedelta(seconds=30)
    fake_host.answers = lambda *_: status(ZOEY)
    tell_count(1)
    reader.look()
    bill.refresh_from_db()
    assert bill.left_at is not None
    assert bill.left_at > before
    tell_count(0)
    reader.look()
    assert who_is_on() == {}
    assert len(fake_host.commands) == 2  # An empty server is not asked.


def test_nobody_is_on_a_server_that_was_started_again_until_it_says_so(
    reader: PlayerReader, running: Server, fake_host: FakeHost
) -> None:
    make_run(running)
    fake_host.answers = lambda *_: status(ZOEY)
    tell_count(1)
    reader.look()
    tell_count(None)
    reader.look()
    assert who_is_on() == {"Zoey": 40}
    make_run(running)
    reader.look()
    assert who_is_on() == {}


def test_open_pages_hear_of_who_comes_and_goes_and_not_of_pings(
    reader: PlayerReader, running: Server, fake_host: FakeHost, clock: Clock
) -> None:
    def is_told(*people: tuple[str, str, str, int]) -> bool:
        """Look a minute later, while these people are on."""
        clock.now += 60
        before = Server.objects.get().updated_at
        fake_host.answers = lambda *_: status(*people)
        reader.look()
        return Server.objects.get().updated_at > before

    tell_count(2)
    assert is_told(ZOEY, BILL)
    assert not is_told((*ZOEY[:3], 70), BILL)
    assert who_is_on()["Zoey"] == 70
    assert is_told(("Zo", *ZOEY[1:]), BILL)
    tell_count(1)
    assert is_told(BILL)


def test_who_came_back_in_between_has_two_sessions(
    reader: PlayerReader, running: Server, fake_host: FakeHost, clock: Clock
) -> None:
    fake_host.answers = lambda *_: status(BILL)
    tell_count(1)
    reader.look()
    fake_host.answers = lambda *_: status((*BILL[:2], "00:30", 90))
    clock.now += 60
    reader.look()
    assert PlayerSession.objects.count() == 2
    assert who_is_on() == {'B"ill': 90}


def test_a_server_that_is_silent_keeps_its_people_and_one_that_ended_does_not(
    reader: PlayerReader, running: Server, fake_host: FakeHost
) -> None:
    fake_host.answers = lambda *_: status(ZOEY)
    tell_count(1)
    reader.look()
    tell_count(None)
    reader.look()
    assert who_is_on() == {"Zoey": 40}
    seen_at = PlayerSession.objects.get().seen_at
    record_state(running, "crashed")
    reader.look()
    assert PlayerSession.objects.get().left_at == seen_at
    assert len(fake_host.commands) == 1


def test_a_run_that_refuses_the_password_is_remembered(
    host: Host, running: Server, fake_host: FakeHost, clock: Clock
) -> None:
    def refuse(*_: str) -> str:
        raise RconUnusableError("alpha takes no commands by RCON.", 7)

    fake_host.answers = refuse
    refusing: dict[str, int] = {}
    reader = PlayerReader(host, refusing)
    tell_count(1)
    for _ in range(2):
        reader.look()
        clock.now += 60
    assert (refusing, fake_host.refusing_runs) == ({"alpha": 7}, [0, 7])


@pytest.mark.parametrize("answer", [HostError("It hangs."), 'Unknown command "status"\n'])
def test_what_says_nothing_of_people_changes_nothing(
    reader: PlayerReader, running: Server, fake_host: FakeHost, clock: Clock, answer: Any
) -> None:
    fake_host.answers = lambda *_: status(ZOEY)
    tell_count(1)
    reader.look()
    clock.now += 60

    def say(*_: str) -> str:
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    fake_host.answers = say
    reader.look()
    assert (len(fake_host.commands), who_is_on()) == (2, {"Zoey": 40})


def test_sessions_are_forgotten_after_ninety_days(running: Server) -> None:
    now = timezone.now()
    for days, is_on in ((91, False), (89, False), (91, True)):
        at = now - timedelta(days=days)
        running.player_sessions.create(
            steam_id=f"STEAM_1:0:{days}",
            name=f"{days} {is_on}",
            joined_at=at,
            seen_at=at,
            left_at=None if is_on else at,
        )
    forget_old_sessions()
    assert set(PlayerSession.objects.values_list("name", flat=True)) == {"89 False", "91 True"}


def test_of_a_server_that_claims_people_without_end_the_newest_sessions_are_kept(
    running: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(player_reader, "SESSIONS_KEPT_OF_SERVER", 3)
    now = timezone.now()
    for number in range(6):
        # The time at which a game says somebody joined gives no order.
        joined_at = now - timedelta(days=number)
        left_at = None if number == 0 else now
        person = {"steam_id": f"STEAM_1:0:{number}", "name": str(number)}
        running.player_sessions.create(joined_at=joined_at, seen_at=now, left_at=left_at, **person)
    forget_old_sessions()
    names = running.player_sessions.order_by("pk").values_list("name", flat=True)
    assert list(names) == ["0", "3", "4", "5"]
