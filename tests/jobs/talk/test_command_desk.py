"""Console commands: claimed before they are sent, sent once, answered without passwords."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from hostops.errors import AnswerLostError, HostError
from hostops.specs import CommandAnswer, CommandWay
from jobs.command_requests import (
    MOST_UNFINISHED,
    CommandRefused,
    TooManyCommands,
    has_waiting_commands,
    send_command,
)
from jobs.queue.requests import enqueue
from jobs.talk.command_desk import CommandDesk, finish
from jobs.worker.worker_process import WorkerLoop
from servers.models import Blueprint, CommandState, ConsoleCommand, Host, PlayerSession, Server
from servers.models import commands as command_rows
from servers.secrets.encryption import ServerSecret
from tests.fakes import FakeHost
from tests.states import record_state
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def running(server: Server) -> Server:
    """Return Alice's server, which runs."""
    record_state(server, "running")
    return server


@pytest.fixture
def desk(host: Host, fake_host: FakeHost) -> Iterator[CommandDesk]:
    """Return the desk that sends the host's commands."""
    desk = CommandDesk(host)
    yield desk
    desk.close()


def end_of(command: ConsoleCommand, desk: CommandDesk) -> ConsoleCommand:
    """Return the command as it is once it has ended."""

    def read() -> ConsoleCommand | None:
        desk.look()
        command.refresh_from_db()
        return command if command.is_finished else None

    return wait_until(read, 20, "the command has not ended") or command


def test_a_worker_wakes_its_desk_for_commands_of_its_own_host_until_they_are_sent(
    desk: CommandDesk, host: Host, running: Server, alice: User
) -> None:
    other = Host.objects.create(name="other")
    assert not has_waiting_commands(host)
    command = send_command(running, "status", requested_by=alice)
    assert has_waiting_commands(host)
    assert not has_waiting_commands(other)
    end_of(command, desk)
    assert not has_waiting_commands(host)


def test_an_answer_is_stored_whole_and_without_passwords(
    desk: CommandDesk, running: Server, fake_host: FakeHost, alice: User
) -> None:
    running.set_secret(ServerSecret.RCON_PASSWORD, "sesame-now")
    running.save()
    fake_host.settings["alpha"] = ('rcon_password "sesame-before"',)
    long = "x" * 100_000
    fake_host.answers = lambda *_: f'"sv_password" = "abc"\nsesame-before sesame-now\n{long}\n\n'
    command = send_command(running, "say sesame-before sesame-now", requested_by=alice)
    assert command.text == "say sesame-before ********"  # Only its host knows what it runs with.
    version = Server.objects.get().commands_version
    command = end_of(command, desk)
    assert command.state == CommandState.ANSWERED
    assert command.text == "say ******** ********"
    assert command.answer == f'"sv_password" = ********\n******** ********\n{long}'
    assert (command.typed, command.requested_by_name) == ("", "alice")
    assert fake_host.commands == [("alpha", "say sesame-before sesame-now")]
    assert Server.objects.get().commands_version == version + 1


@pytest.mark.parametrize(("answer", "is_off"), [("", True), ("userid/uniqueid not found", False)])
def test_a_player_is_off_once_a_kick_is_confirmed(
    desk: CommandDesk, running: Server, fake_host: FakeHost, answer: str, is_off: bool
) -> None:
    now = timezone.now()
    for steam_id in ("STEAM_1:0:1", "STEAM_1:0:11"):
        running.player_sessions.create(steam_id=steam_id, joined_at=now, seen_at=now)
    fake_host.answers = lambda *_: answer
    end_of(send_command(running, "kickid STEAM_1:0:1 enough", requested_by=None), desk)
    on = set(PlayerSession.objects.open().values_list("steam_id", flat=True))
    assert on == {"STEAM_1:0:11", *(() if is_off else ("STEAM_1:0:1",))}


def test_a_line_is_out_of_the_database_before_it_is_sent(
    desk: CommandDesk, running: Server, fake_host: FakeHost
) -> None:
    seen: list[tuple[str, str]] = []

    def look(*_: str) -> str:
        seen.append(ConsoleCommand.objects.values_list("state", "typed").get())
        return ""

    fake_host.answers = look
    end_of(send_command(running, "status", requested_by=None), desk)
    assert seen == [("sent", "")]


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (AnswerLostError("It did not answer."), CommandState.UNANSWERED),
        (HostError("alpha is not running. Start it first."), CommandState.FAILED),
        (OSError("The disk is gone."), CommandState.FAILED),
    ],
)
def test_what_became_of_a_command_without_an_answer_is_told(
    desk: CommandDesk, running: Server, fake_host: FakeHost, error: Exception, state: str
) -> None:
    def fail(*_: str) -> str:
        raise error

    fake_host.answers = fail
    command = end_of(send_command(running, "status", requested_by=None), desk)
    assert (command.state, command.remark) == (state, str(error))
    desk.look()
    assert len(fake_host.commands) == 1


def test_a_run_that_refused_the_password_is_not_asked_by_rcon_again(
    desk: CommandDesk, running: Server, fake_host: FakeHost
) -> None:
    typed = CommandAnswer(
        CommandWay.TYPED, "", 7, "It refused the password.", is_password_refused=True
    )
    fake_host.answers = lambda *_: typed
    for _ in range(2):
        command = end_of(send_command(running, "status", requested_by=None), desk)
    assert (command.state, command.remark) == (CommandState.TYPED, "It refused the password.")
    fake_host.answers = lambda *_: CommandAnswer(CommandWay.RCON, "", 8)
    for _ in range(2):
        end_of(send_command(running, "status", requested_by=None), desk)
    assert fake_host.refusing_runs == [0, 7, 7, 0]


def test_a_server_that_hangs_holds_up_no_other_and_gets_its_commands_in_order(
    desk: CommandDesk, running: Server, fake_host: FakeHost, alice: User, blueprint: Blueprint
) -> None:
    other = Server.objects.create(name="beta", owner=alice, host=running.host, blueprint=blueprint)
    record_state(other, "running")
    may_answer = threading.Event()

    def answer(name: str, command: str) -> str:
        assert name == "beta" or may_answer.wait(20)
        return command

    fake_host.answers = answer
    slow = [send_command(running, f"say {number}", requested_by=None) for number in range(3)]
    assert end_of(send_command(other, "status", requested_by=None), desk).answer == "status"
    assert {one.state for one in running.console_commands.all()} == {"queued", "sent"}
    wait_until(lambda: ("alpha", "say 0") in fake_host.commands, 20, "the host is not told")
    assert [one for one in fake_host.commands if one[0] == "alpha"] == [("alpha", "say 0")]
    # Its worker lives, however long it takes to store the answer.
    long_ago = timezone.now() - timedelta(seconds=16)
    running.console_commands.filter(state="sent").update(sent_at=long_ago)
    desk.look()
    may_answer.set()
    assert [end_of(one, desk).answer for one in slow] == ["say 0", "say 1", "say 2"]
    assert [text for name, text in fake_host.commands if name == "alpha"] == [
        "say 0",
        "say 1",
        "say 2",
    ]


def test_two_workers_of_a_host_send_a_command_once(
    desk: CommandDesk, running: Server, host: Host, fake_host: FakeHost
) -> None:
    other = CommandDesk(host)
    sent = [send_command(running, f"say {number}", requested_by=None) for number in range(10)]
    for command in sent:
        other.look()
        end_of(command, desk)
    other.close()
    assert [text for _, text in fake_host.commands] == [f"say {number}" for number in range(10)]


def test_what_a_dead_worker_had_sent_is_lost_and_not_sent_again(
    desk: CommandDesk, running: Server, fake_host: FakeHost
) -> None:
    command = send_command(running, "kickid 4", requested_by=None)
    command.change(CommandState.QUEUED, CommandState.SENT, sent_at=timezone.now())
    desk.look()
    command.refresh_from_db()
    assert command.state == CommandState.SENT
    ConsoleCommand.objects.update(sent_at=timezone.now() - timedelta(seconds=16))
    command = end_of(command, desk)
    assert (command.state, fake_host.commands) == (CommandState.LOST, [])
    assert "is not sent again" in command.remark
    finish(command, CommandState.SENT, CommandState.ANSWERED, answer="late")
    command.refresh_from_db()
    assert (command.state, command.answer) == (CommandState.LOST, "")


def test_a_command_that_nobody_took_in_time_is_not_sent(
    desk: CommandDesk, running: Server, fake_host: FakeHost
) -> None:
    command = send_command(running, "kickid 4", requested_by=None)
    ConsoleCommand.objects.update(created_at=timezone.now() - timedelta(seconds=31))
    command = end_of(command, desk)
    assert (command.state, command.typed, fake_host.commands) == (CommandState.FAILED, "", [])
    assert "within 30 seconds, so it was not sent" in command.remark


def test_only_a_running_server_is_told_and_not_by_too_many_at_once(running: Server) -> None:
    for _ in range(MOST_UNFINISHED):
        send_command(running, "status", requested_by=None)
    with pytest.raises(TooManyCommands, match="20 commands for alpha are already waiting"):
        send_command(running, "status", requested_by=None)
    record_state(running, "stopped")
    with pytest.raises(CommandRefused, match="alpha is not running"):
        send_command(running, "status", requested_by=None)
    assert ConsoleCommand.objects.count() == MOST_UNFINISHED


def test_the_newest_answers_are_kept_up_to_a_size(
    running: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_rows, "COMMANDS_KEPT", 3)
    monkeypatch.setattr(command_rows, "ANSWER_BYTES_KEPT", 25)

    def fill(*sizes: int) -> list[int]:
        ConsoleCommand.objects.all().delete()
        for size in sizes:
            running.console_commands.create(text="x", state="answered", answer_bytes=size)
        ConsoleCommand.prune(running.pk)
        return list(running.console_commands.values_list("answer_bytes", flat=True))

    assert fill(1, 2, 3, 4, 5) == [5, 4, 3]
    assert fill(10, 10, 10) == [10, 10]
    assert fill(1, 100) == [100]


def test_a_worker_answers_while_a_job_of_the_server_runs(
    running: Server, fake_host: FakeHost, host: Host, settings: Any
) -> None:
    settings.JOB_WORKER_POLL_SECONDS = 3600  # Only the signal is left.
    answered = threading.Event()

    def wait_for_answer(*_: object) -> None:
        assert answered.wait(20)

    fake_host.act = wait_for_answer
    fake_host.answers = lambda *_: "carried out"
    enqueue("stop", server=running, requested_by=None)
    loop = WorkerLoop(host=host, concurrency=2)

    def type_and_stop() -> None:
        try:
            wait_until(lambda: running.jobs.filter(state="running").exists(), 20, "no job runs")
            command = send_command(running, "status", requested_by=None)
            wait_until(
                lambda: ConsoleCommand.objects.get(pk=command.pk).answer == "carried out",
                *(20, "there is no answer"),
            )
        finally:
            answered.set()
            loop.stop()

    typist = Typist(type_and_stop)
    typist.start()
    loop.run()
    typist.join()
    assert typist.error is None
    assert running.jobs.get().state == "succeeded"


class Typist(threading.Thread):
    """Does something beside a worker, and remembers errors."""

    def __init__(self, act: Any) -> None:
        super().__init__()
        self._act = act
        self.error: BaseException | None = None

    def run(self) -> None:
        """Do it, and release the database connection."""
        try:
            self._act()
        except BaseException as error:  # noqa: BLE001 - the test raises it
            self.error = error
        finally:
            connection.close()


def test_a_look_costs_one_query_while_nothing_waits_but_answers(
    desk: CommandDesk,
    running: Server,
    fake_host: FakeHost,
    alice: User,
    django_assert_num_queries: Any,
) -> None:
    with django_assert_num_queries(1):
        desk.look()
    may_answer = threading.Event()
    fake_host.answers = lambda _, command: "late" if may_answer.wait(20) else ""
    command = send_command(running, "status", requested_by=alice)
    desk.look()
    with django_assert_num_queries(1):
        desk.look()
    may_answer.set()
    assert end_of(command, desk).answer == "late"
