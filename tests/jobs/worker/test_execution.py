"""What the worker makes of a job: states, exit codes, logs, and what it learns about the server."""

import subprocess
import threading
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from time import sleep
from unittest.mock import Mock

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.utils import timezone

from hostops.errors import CommandError, HostError, OperationCancelled
from hostops.specs import (
    CancelToken,
    ConfigPart,
    InstalledRelease,
    InstanceSpec,
    InstanceState,
    InstanceStatus,
    OnLine,
    OnStage,
)
from jobs import operations
from jobs.claimed_jobs import ClaimedJob, ClaimedServer
from jobs.logs import job_output, log_writer
from jobs.models import Job, JobState, Operation
from jobs.queue.requests import enqueue
from jobs.queue.transitions import cancel, claim_next_job
from jobs.worker import run_job, run_worker_once
from jobs.worker.execution import desire_after_cancel, plan
from servers.models import ActualState, Blueprint, DesiredState, Host, Overlay, Server, launches
from servers.secrets import ServerSecret, decrypt
from tests.fakes import FakeHost

pytestmark = pytest.mark.django_db


def run(operation: str, server: Server | None = None) -> Job:
    """Enqueue a job, let the worker run it, and return it as it is then."""
    job = enqueue(operation, server=server, requested_by=None)
    assert run_worker_once()
    job.refresh_from_db()
    return job


def log_of(job: Job) -> list[tuple[str, str]]:
    return list(job.logs.values_list("stream", "line"))


class PlainHost:
    """A host layer with only the verbs of the contract, which take only its arguments."""

    def __init__(self) -> None:
        """Begin with no calls."""
        self.verbs: list[str] = []

    def _do(self, verb: str, on_line: OnLine, on_stage: OnStage, cancel: CancelToken) -> None:
        self.verbs.append(verb)
        on_stage("Working", 50)
        on_line("stdout", verb)
        cancel.raise_if_cancelled()

    def install_runtime(self, *, on_line: OnLine, on_stage: OnStage, cancel: CancelToken) -> None:
        self._do("install_runtime", on_line, on_stage, cancel)

    def initialize(
        self, _spec: InstanceSpec, *, on_line: OnLine, on_stage: OnStage, cancel: CancelToken
    ) -> None:
        self._do("initialize", on_line, on_stage, cancel)

    def check(
        self, _spec: InstanceSpec, *, on_line: OnLine, on_stage: OnStage, cancel: CancelToken
    ) -> None:
        self._do("check", on_line, on_stage, cancel)

    def start(self, _name: str, *, on_line: OnLine, on_stage: OnStage, cancel: CancelToken) -> None:
        self._do("start", on_line, on_stage, cancel)

    def stop(self, _name: str, *, on_line: OnLine, on_stage: OnStage, cancel: CancelToken) -> None:
        self._do("stop", on_line, on_stage, cancel)

    def status(self, name: str) -> InstanceStatus:
        """Return that it runs."""
        return InstanceStatus(name, InstanceState.RUNNING)


class TestDispatch:
    @pytest.mark.parametrize(
        ("operation", "verbs"),
        [
            ("install", ["install_runtime"]),
            ("initialize", ["initialize"]),
            ("start", ["initialize", "start"]),
            ("stop", ["stop"]),
            ("restart", ["check", "stop", "initialize", "start"]),
        ],
    )
    def test_the_arguments_of_the_contract_are_all_that_a_verb_has_to_take(
        self,
        server: Server,
        blueprint: Blueprint,
        monkeypatch: pytest.MonkeyPatch,
        operation: str,
        verbs: list[str],
    ) -> None:
        overlay = Overlay.objects.create(name="maps", is_host_folder=True)
        blueprint.overlays.add(overlay, through_defaults={"position": 0})
        host = PlainHost()
        monkeypatch.setattr(operations, "get_host", lambda _name: host)
        job = run(operation, None if operation == "install" else server)
        assert (job.state, job.error) == (JobState.SUCCEEDED, "")
        assert host.verbs == verbs
        assert [line for _, line in log_of(job)] == verbs

    @pytest.mark.parametrize(
        ("operation", "verbs"),
        [
            ("initialize", ["initialize"]),
            ("start", ["initialize", "start"]),
            ("stop", ["stop"]),
            ("restart", ["check", "stop", "initialize", "start"]),
            ("reset", ["reset"]),
            ("delete", ["delete"]),
        ],
    )
    def test_each_operation_calls_its_verbs_in_order(
        self, server: Server, fake_host: FakeHost, operation: str, verbs: list[str]
    ) -> None:
        assert run(operation, server).state == JobState.SUCCEEDED
        assert fake_host.verbs == verbs
        assert {call.subject for call in fake_host.calls} == {"alpha"}

    @pytest.mark.parametrize("operation", ["initialize", "start", "restart"])
    def test_what_writes_the_config_leaves_it_in_the_servers_row(
        self, server: Server, fake_host: FakeHost, operation: str
    ) -> None:
        parts = (
            ConfigPart("cfg/server.cfg", "Saferoom", "exec x\n", ()),
            ConfigPart("cfg/saferoom/10-é.cfg", "Overlay maps", "hostname é\n", ("A", "B")),
        )
        fake_host.chains["alpha"] = parts
        assert run(operation, server).state == JobState.SUCCEEDED
        server.refresh_from_db()
        assert server.config_chain == [
            {"path": "cfg/server.cfg", "source": "Saferoom", "text": "exec x\n", "warnings": []},
            {
                "path": "cfg/saferoom/10-é.cfg",
                "source": "Overlay maps",
                "text": "hostname é\n",
                "warnings": ["A", "B"],
            },
        ]
        written_at = server.config_chain_at
        assert written_at is not None
        # The same again is no news.
        run(operation, server)
        server.refresh_from_db()
        assert server.config_chain_at == written_at
        fake_host.chains["alpha"] = parts[:1]
        run(operation, server)
        server.refresh_from_db()
        assert len(server.config_chain) == 1
        assert server.config_chain_at > written_at

    @pytest.mark.parametrize("operation", ["stop", "reset", "delete"])
    def test_what_writes_no_config_leaves_the_one_in_the_row(
        self, server: Server, fake_host: FakeHost, operation: str
    ) -> None:
        fake_host.chains["alpha"] = (ConfigPart("cfg/server.cfg", "Saferoom", "", ()),)
        run(operation, server)
        server.refresh_from_db()
        assert server.config_chain == []

    def test_a_config_that_cannot_be_read_fails_no_job_and_keeps_what_is_stored(
        self, server: Server, fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Server.objects.update(config_chain=[{"path": "cfg/server.cfg"}])
        monkeypatch.delattr(FakeHost, "config_chain")
        assert run("start", server).state == JobState.SUCCEEDED
        server.refresh_from_db()
        assert server.config_chain == [{"path": "cfg/server.cfg"}]
        assert server.config_chain_at is None

    def test_a_config_is_stored_even_if_the_database_is_away_when_the_job_ends(
        self, server: Server, fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(_server: ClaimedServer) -> Server:
            raise OperationalError("the connection is lost")

        fake_host.chains["alpha"] = (ConfigPart("cfg/server.cfg", "Saferoom", "exec x\n", ()),)
        monkeypatch.setattr(ClaimedServer, "read_row", fail)
        assert run("start", server).state == JobState.SUCCEEDED
        server.refresh_from_db()
        assert [part["text"] for part in server.config_chain] == ["exec x\n"]

    def test_a_stored_config_has_no_password_and_nothing_that_a_database_refuses(
        self, server: Server, fake_host: FakeHost
    ) -> None:
        Server.objects.update(config='rcon_password "hunter2"\n')
        text = "say hunter2\nsv_password sesame\nnul \0 half \ud800\n"
        fake_host.chains["alpha"] = (
            ConfigPart("cfg/\0", "\ud800", text, ("hunter2",)),
            *[ConfigPart("cfg/long", "Saferoom", "x" * 100_000, ("\n",) * 1_000)] * 200,
        )
        assert run("start", server).state == JobState.SUCCEEDED
        server.refresh_from_db()
        first = server.config_chain[0]
        assert first["text"].startswith("say ********\nsv_password ********\nnul  half ")
        assert first["warnings"] == ["********"]
        assert len(str(server.config_chain)) < 128 * 21_000

    def test_an_error_that_quotes_a_game_is_stored_as_a_database_takes_it(
        self, server: Server, fake_host: FakeHost
    ) -> None:
        def fail(*_: object) -> None:
            raise HostError("Its last line was: \0half \ud800\nrcon_password hunter2.")

        fake_host.act = fail
        job = run("start", server)
        server.refresh_from_db()
        assert job.state == JobState.FAILED
        assert job.error == "Its last line was: half ? rcon_password ********"
        assert server.last_error.endswith(job.error)

    def test_install_has_no_server(self, host: Host, fake_host: FakeHost) -> None:
        job = run("install")
        assert (job.state, job.server, job.host) == (JobState.SUCCEEDED, None, host)
        assert fake_host.verbs == ["install_runtime"]
        host.refresh_from_db()
        assert host.build_id == "100"
        assert host.address == "127.0.0.1"

    def test_a_look_for_updates_stores_what_steam_said_and_when(
        self, host: Host, fake_host: FakeHost
    ) -> None:
        assert run("check").state == JobState.SUCCEEDED
        assert fake_host.verbs == ["check_update"]
        host.refresh_from_db()
        assert host.latest_build_id == "100"
        assert host.latest_build_at is not None
        assert host.latest_build_at.timestamp() == 1_800_000_000

    def test_rollback_has_no_server_and_reports_what_is_current(
        self, host: Host, fake_host: FakeHost
    ) -> None:
        fake_host.build_id = "99"
        fake_host.installed = [
            InstalledRelease("100", is_current=False, installed_at=2e9),
            InstalledRelease("99", is_current=True, installed_at=1e9),
        ]
        assert run("rollback").state == JobState.SUCCEEDED
        assert fake_host.verbs == ["rollback"]
        host.refresh_from_db()
        assert host.build_id == "99"
        assert [(one.build_id, one.is_current) for one in host.releases.all()] == [
            ("100", False),
            ("99", True),
        ]
        fake_host.installed.pop(0)
        run("install")
        assert [one.build_id for one in host.releases.all()] == ["99"]

    @pytest.mark.parametrize("operation", ["start", "restart"])
    def test_a_start_that_fails_reports_at_once_which_ports_are_held(
        self, server: Server, fake_host: FakeHost, host: Host, operation: str
    ) -> None:
        def fail(verb: str, *_: object) -> None:
            if verb == "start":
                fake_host.taken_ports = (server.port,)
                raise HostError(f"Port {server.port} (UDP) of alpha is in use.")

        fake_host.act = fail
        assert run(operation, server).state == JobState.FAILED
        server = Server.objects.get()
        assert server.host.taken_ports == [server.port]
        assert server.is_port_taken

    def test_the_ports_are_those_of_the_jobs_host_also_if_its_server_has_moved(
        self, server: Server, fake_host: FakeHost, host: Host
    ) -> None:
        enqueue("start", server=server, requested_by=None)
        elsewhere = Host.objects.create(name="elsewhere")
        Server.objects.update(host=elsewhere)
        fake_host.taken_ports = (27020,)
        fake_host.act = Mock(side_effect=HostError("no"))
        assert run_worker_once(host)
        host.refresh_from_db()
        elsewhere.refresh_from_db()
        assert (host.taken_ports, elsewhere.taken_ports) == ([27020], [])

    def test_a_report_that_fails_leaves_the_jobs_own_failure(
        self, server: Server, fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise HostError("Port 27015 (UDP) of alpha is in use.")

        fake_host.act = fail
        monkeypatch.setattr(FakeHost, "facts", lambda _self: 1 / 0)
        job = run("start", server)
        assert job.error == "Port 27015 (UDP) of alpha is in use."

    def test_there_may_be_nothing_to_do(self, fake_host: FakeHost, host: Host) -> None:
        assert run_worker_once() is False

    def test_a_worker_that_is_not_enabled_claims_nothing(
        self, server: Server, fake_host: FakeHost, settings: object
    ) -> None:
        settings.JOB_WORKER_ENABLED = False  # type: ignore[attr-defined]
        enqueue("start", server=server, requested_by=None)
        assert run_worker_once() is False
        assert fake_host.calls == []

    def test_the_host_gets_the_blueprint_as_it_is_at_the_start(
        self, server: Server, blueprint: Blueprint, fake_host: FakeHost
    ) -> None:
        overlays = [
            Overlay.objects.create(name=name, is_host_folder=True) for name in ("maps", "sourcemod")
        ]
        job = enqueue("start", server=server, requested_by=None)
        blueprint.set_overlays(overlays)
        blueprint.arguments = "+map c2m1_highway"
        blueprint.config = "sv_lan 0"
        blueprint.save()
        server.arguments = "-maxplayers 8"
        server.config = "hostname mine"
        server.save()
        run_worker_once()
        job.refresh_from_db()
        assert job.state == JobState.SUCCEEDED
        (spec,) = fake_host.specs
        assert spec.overlays == ("maps", "sourcemod")
        assert spec.arguments == ("+map", "c2m1_highway", "-maxplayers", "8")
        assert spec.config == "sv_lan 0\nhostname mine\n"
        assert spec.port == server.port

    def test_a_broken_blueprint_fails_a_start_and_not_a_stop(
        self, server: Server, fake_host: FakeHost
    ) -> None:
        Blueprint.objects.update(arguments='+map "c1m1_hotel')
        job = run("start", server)
        assert job.state == JobState.FAILED
        assert "is opened and not closed" in job.error
        assert run("stop", server).state == JobState.SUCCEEDED
        assert run("delete", server).state == JobState.SUCCEEDED

    def test_a_job_that_was_not_claimed_is_not_run(
        self, server: Server, fake_host: FakeHost
    ) -> None:
        job = enqueue("start", server=server, requested_by=None)
        with pytest.raises(ValueError, match="claim it"):
            run_job(job.pk)
        assert fake_host.calls == []


class TestOutcomes:
    def test_success(self, server: Server, fake_host: FakeHost) -> None:
        job = run("start", server)
        assert (job.state, job.exit_code, job.error) == (JobState.SUCCEEDED, 0, "")
        assert None not in (job.created_at, job.started_at, job.finished_at, job.updated_at)

    def test_the_job_is_running_while_the_host_acts(
        self, server: Server, fake_host: FakeHost
    ) -> None:
        seen = []
        fake_host.act = lambda *_: seen.append(Job.objects.get().state)
        run("stop", server)
        assert seen == [JobState.RUNNING]

    def test_lines_and_stages_are_kept(self, server: Server, fake_host: FakeHost) -> None:
        def act(
            verb: str, name: str, on_line: OnLine, on_stage: OnStage, cancel: CancelToken
        ) -> None:
            on_stage("Stopping", 40)
            on_line("stdout", "out")
            on_line("stderr", "err")

        fake_host.act = act
        job = run("stop", server)
        assert log_of(job) == [("stdout", "out"), ("stderr", "err")]
        assert (job.stage, job.progress) == ("Stopping", 100)

    @pytest.mark.parametrize(
        "error",
        [
            CommandError("SteamCMD failed: disk full.", ["steamcmd"], 8, stderr="one\ntwo\n"),
            subprocess.CalledProcessError(8, ["steamcmd"], stderr="one\ntwo\n"),
            subprocess.CalledProcessError(8, ["steamcmd"], stderr=b"one\ntwo\n"),
        ],
        ids=["ours", "text", "bytes"],
    )
    def test_a_command_that_fails_gives_the_job_its_exit_code_and_its_stderr(
        self, server: Server, fake_host: FakeHost, error: Exception
    ) -> None:
        def act(*_: object) -> None:
            raise error

        fake_host.act = act
        job = run("stop", server)
        assert (job.state, job.exit_code) == (JobState.FAILED, 8)
        assert job.error == str(error)
        assert log_of(job)[:2] == [("stderr", "one"), ("stderr", "two")]
        assert ("stderr", "") not in log_of(job)

    @pytest.mark.parametrize(
        "error",
        [HostError("The port 27015 is taken."), RuntimeError("boom"), KeyError("x"), SystemExit(3)],
    )
    def test_any_other_exception_gives_exit_code_one_and_its_text(
        self,
        server: Server,
        fake_host: FakeHost,
        error: Exception | SystemExit,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def act(*_: object) -> None:
            raise error

        fake_host.act = act
        job = run("stop", server)
        assert (job.state, job.exit_code, job.error) == (JobState.FAILED, 1, str(error))
        assert ("stderr", str(error)) in log_of(job)
        assert f"job {job.pk}" in caplog.text
        assert "Traceback" in caplog.text
        # What the host layer explains is no bug of ours.
        assert ("ERROR" in caplog.text) == (not isinstance(error, HostError))

    def test_an_unknown_operation_fails_and_says_so(
        self, server: Server, fake_host: FakeHost
    ) -> None:
        job = run("explode", server)
        assert (job.state, job.exit_code) == (JobState.FAILED, 1)
        assert "explode" in job.error
        assert run("stop", server).state == JobState.SUCCEEDED

    def test_a_server_operation_without_a_server_fails_and_says_so(
        self, host: Host, fake_host: FakeHost
    ) -> None:
        job = run("start")
        assert (job.state, job.exit_code) == (JobState.FAILED, 1)
        assert "needs a server" in job.error
        assert fake_host.calls == []

    def test_a_cancelled_operation_ends_cancelled(
        self, server: Server, fake_host: FakeHost
    ) -> None:
        def act(
            verb: str, name: str, on_line: OnLine, on_stage: OnStage, token: CancelToken
        ) -> None:
            cancel(Job.objects.get())
            on_line("stdout", "still at it")
            assert token.is_cancelled
            raise OperationCancelled("ended")

        fake_host.act = act
        job = run("start", server)
        assert (job.state, job.exit_code) == (JobState.CANCELLED, None)
        assert job.error == "Cancelled on request."
        server.refresh_from_db()
        assert server.desired_state == DesiredState.STOPPED

    @pytest.mark.parametrize(
        ("is_stopping", "desired"), [(False, DesiredState.RUNNING), (True, DesiredState.STOPPED)]
    )
    def test_after_a_cancelled_stop_what_will_be_is_wanted(
        self, server: Server, fake_host: FakeHost, is_stopping: bool, desired: DesiredState
    ) -> None:
        def act(*_: object) -> None:
            raise OperationCancelled("ended")

        fake_host.act = act
        fake_host.told["alpha"] = InstanceStatus(
            "alpha", InstanceState.RUNNING, is_stopping=is_stopping
        )
        assert run("stop", server).state == JobState.CANCELLED
        server.refresh_from_db()
        assert (server.actual_state, server.desired_state) == (ActualState.RUNNING, desired)

    @pytest.mark.parametrize("before", DesiredState)
    def test_a_cancelled_restart_that_has_stopped_it_changes_nothing_that_was_wanted(
        self, server: Server, fake_host: FakeHost, before: DesiredState
    ) -> None:
        def act(verb: str, *_: object) -> None:
            if verb == "start":
                raise OperationCancelled("ended")

        Server.objects.update(desired_state=before)
        fake_host.states["alpha"] = InstanceState.RUNNING
        fake_host.act = act
        assert run("restart", server).state == JobState.CANCELLED
        server.refresh_from_db()
        assert server.actual_state == ActualState.STOPPED
        assert server.desired_state == before
        assert server.should_be == ("running" if before == DesiredState.RUNNING else "")

    def test_an_operation_that_succeeds_all_the_same_has_succeeded(
        self, server: Server, fake_host: FakeHost
    ) -> None:
        fake_host.act = lambda *_: cancel(Job.objects.get())
        assert run("stop", server).state == JobState.SUCCEEDED


UP = (ActualState.STARTING, ActualState.RUNNING)
DOWN = tuple(state for state in ActualState if state not in UP)
TO_RUN, TO_STOP = DesiredState.RUNNING, DesiredState.STOPPED


@pytest.mark.parametrize(
    ("operations", "actual", "is_stopping", "before", "after"),
    [
        (Operation, UP, False, DesiredState, TO_RUN),
        (Operation, UP, True, DesiredState, TO_STOP),
        (["restart"], DOWN, None, [TO_RUN], TO_RUN),
        (["restart"], DOWN, None, [TO_STOP], TO_STOP),
        (set(Operation) - {"restart"}, DOWN, None, DesiredState, TO_STOP),
    ],
    ids=["stays up", "will quit", "was restarted", "was to be stopped", "is down"],
)
def test_what_is_wanted_of_a_server_after_a_cancel(
    operations: Iterable[str],
    actual: Iterable[ActualState],
    is_stopping: bool | None,
    before: Iterable[DesiredState],
    after: DesiredState,
) -> None:
    whether = (True, False) if is_stopping is None else (is_stopping,)
    for operation, state, stopping, desired in product(operations, actual, whether, before):
        told = desire_after_cancel(operation, state, is_stopping=stopping, desired_before=desired)
        assert told == after, (operation, state, stopping, desired)


class TestWhatIsLearned:
    @pytest.mark.parametrize(
        ("operation", "desired", "actual"),
        [
            ("start", DesiredState.RUNNING, ActualState.RUNNING),
            ("restart", DesiredState.RUNNING, ActualState.RUNNING),
            ("stop", DesiredState.STOPPED, ActualState.STOPPED),
            ("reset", DesiredState.STOPPED, ActualState.STOPPED),
            ("delete", DesiredState.STOPPED, ActualState.ABSENT),
            ("initialize", DesiredState.STOPPED, ActualState.STOPPED),
        ],
    )
    def test_both_states_follow_the_operation(
        self,
        server: Server,
        fake_host: FakeHost,
        operation: str,
        desired: DesiredState,
        actual: ActualState,
    ) -> None:
        run(operation, server)
        server.refresh_from_db()
        assert (server.desired_state, server.actual_state) == (desired, actual)
        assert server.actual_state_at is not None

    @pytest.mark.parametrize(("operation", "players"), [("restart", None), ("initialize", 2)])
    def test_who_is_on_and_the_map_are_unknown_when_a_run_begins(
        self, server: Server, fake_host: FakeHost, operation: str, players: int | None
    ) -> None:
        run("start", server)
        Server.objects.update(players=2, max_players=4, map="c1m1_hotel", mode="coop")
        run(operation, server)
        server.refresh_from_db()
        assert (server.actual_state, server.players) == (ActualState.RUNNING, players)
        assert bool(server.map) == (players is not None)

    def test_last_error_is_set_by_a_failure_and_cleared_by_a_success(
        self, server: Server, fake_host: FakeHost
    ) -> None:
        def fail(*_: object) -> None:
            raise HostError("The port 27015 is taken.")

        fake_host.act = fail
        run("start", server)
        server.refresh_from_db()
        assert server.last_error == "Start: The port 27015 is taken."
        assert server.desired_state == DesiredState.RUNNING
        fake_host.act = lambda *_: None
        run("start", server)
        server.refresh_from_db()
        assert server.last_error == ""

    def test_the_actual_state_is_the_hosts_word_also_after_a_failure(
        self, server: Server, fake_host: FakeHost
    ) -> None:
        def fail(*_: object) -> None:
            fake_host.states["alpha"] = InstanceState.CRASHED
            raise HostError("It ended.")

        fake_host.act = fail
        run("start", server)
        server.refresh_from_db()
        assert server.actual_state == ActualState.CRASHED

    def test_the_console_is_read_from_its_start_after_a_delete(
        self, server: Server, fake_host: FakeHost
    ) -> None:
        Server.objects.update(console_run=7, console_offset=4711, console_seq=100)
        run("delete", server)
        server.refresh_from_db()
        assert (server.console_run, server.console_offset) == (0, 0)
        assert server.console_seq == 100

    def test_a_host_that_cannot_tell_leaves_the_state_unknown(
        self, server: Server, fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(_name: str) -> None:
            raise OSError("unreadable")

        monkeypatch.setattr(fake_host, "status", fail)
        assert run("stop", server).state == JobState.SUCCEEDED
        server.refresh_from_db()
        assert server.actual_state == ActualState.UNKNOWN

    @pytest.mark.parametrize("said", ["running", {"state": "running"}, Mock(), Mock(state="up")])
    def test_a_host_that_tells_nonsense_leaves_the_state_unknown_and_no_job_running(
        self, server: Server, fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch, said: object
    ) -> None:
        monkeypatch.setattr(fake_host, "status", lambda _name: said)
        assert run("start", server).state == JobState.SUCCEEDED
        server.refresh_from_db()
        assert server.actual_state == ActualState.UNKNOWN
        assert server.last_error == ""

    def test_what_the_database_refuses_about_a_server_does_not_keep_its_job_running(
        self, server: Server, fake_host: FakeHost
    ) -> None:
        fake_host.own_sizes["alpha"] = 2**70
        assert run("stop", server).state == JobState.SUCCEEDED

    def test_a_job_that_a_script_has_set_to_running_says_what_is_wanted(
        self, server: Server, fake_host: FakeHost
    ) -> None:
        job = Job.objects.create(operation="start", server=server, state=JobState.RUNNING)
        run_job(job.pk)
        server.refresh_from_db()
        assert server.desired_state == DesiredState.RUNNING

    def test_a_server_that_is_removed_meanwhile_does_not_hurt(
        self, server: Server, fake_host: FakeHost, alice: User
    ) -> None:
        fake_host.act = lambda *_: Server.objects.all().delete()
        job = run("stop", server)
        assert job.state == JobState.SUCCEEDED
        assert job.server_name == "alpha"


def test_a_plan_decrypts_each_password_once_and_masks_all_that_it_gives_to_the_host(
    server: Server, fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.set_secret(ServerSecret.RCON_PASSWORD, "of-the-field")
    server.set_secret(ServerSecret.JOIN_PASSWORD, "of-those-who-join")
    server.config = 'rcon_password "of-the-config"'
    server.save()
    tokens: list[str] = []

    def note(token: str) -> str:
        tokens.append(token)
        return decrypt(token)

    monkeypatch.setattr(launches, "decrypt", note)
    enqueue("start", server=server, requested_by=None)
    job = claim_next_job(host=server.host)
    assert job
    planned = plan(ClaimedJob.of(job))
    assert planned.planned_run
    spec = planned.planned_run.spec
    assert (spec.rcon_password, spec.join_password) == ("of-the-field", "of-those-who-join")
    assert planned.secrets == {"of-the-field", "of-those-who-join", "of-the-config"}
    assert sorted(tokens) == sorted({server.rcon_password_token, server.join_password_token})


@pytest.mark.django_db(transaction=True)
class TestOutsideOfATransaction:
    def test_a_verb_that_prints_nothing_is_cancelled(
        self, server: Server, fake_host: FakeHost
    ) -> None:
        def act(_verb: str, _name: str, _line: OnLine, _stage: OnStage, token: CancelToken) -> None:
            asking = threading.Thread(target=ask_to_cancel)
            asking.start()
            asking.join()
            while True:
                token.raise_if_cancelled()
                token.wait(10)

        def ask_to_cancel() -> None:
            cancel(Job.objects.get())
            connection.close()

        fake_host.act = act
        assert run("stop", server).state == JobState.CANCELLED

    def test_a_request_to_cancel_that_came_before_the_host_is_touched_is_heeded(
        self, server: Server, fake_host: FakeHost
    ) -> None:
        enqueue("stop", server=server, requested_by=None)
        job = claim_next_job()
        assert job
        cancel(job)
        run_job(job.pk)
        job.refresh_from_db()
        assert job.state == JobState.CANCELLED
        assert fake_host.calls == []

    def test_thousands_of_lines_are_stored_in_batches_in_order(
        self, server: Server, fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def act(_verb: str, _name: str, on_line: OnLine, *_: object) -> None:
            for number in range(5_000):
                on_line("stdout", f"line {number}")

        store = Mock(wraps=job_output.store_entries)
        monkeypatch.setattr(log_writer, "store_entries", store)
        fake_host.act = act
        job = run("stop", server)
        assert [line for _, line in log_of(job)] == [f"line {number}" for number in range(5_000)]
        assert store.call_count < 1_000

    def test_what_breaks_the_log_ends_the_call_and_not_in_silence(
        self, server: Server, fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def break_down(*_: object) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr("jobs.worker.single_job.pass_on_cancel_request", break_down)
        fake_host.act = lambda *_: sleep(0.2)
        with pytest.raises(RuntimeError, match="a bug"):
            run("stop", server)


def test_the_clock_of_a_job_only_goes_forward(server: Server, fake_host: FakeHost) -> None:
    before = timezone.now()
    job = run("stop", server)
    assert job.started_at is not None
    assert job.finished_at is not None
    assert before <= job.created_at <= job.started_at <= job.finished_at <= timezone.now()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("last", ["line", "stage"])
def test_a_thread_that_reads_a_commands_output_leaves_no_connection_open(
    server: Server, fake_host: FakeHost, last: str
) -> None:
    left_open: list[bool] = []

    def act(_verb: str, _subject: str, on_line: OnLine, on_stage: OnStage, _: CancelToken) -> None:
        def read() -> None:
            if last == "line":
                on_line("stdout", "Loading")
            else:
                on_stage("Loading", 10)
            left_open.append(connection.connection is not None)

        thread = threading.Thread(target=read)
        thread.start()
        thread.join()

    fake_host.act = act
    assert run("stop", server).state == JobState.SUCCEEDED
    assert left_open == [False]


def test_a_store_that_the_worker_may_not_look_at_is_none(settings: LazySettings) -> None:
    # Root may look into every folder, so this name is too long.
    settings.CONTENT_ROOT = Path("/var", "x" * 300)
    settings.PANEL_URL = ""
    assert operations.find_blob_source() is None
