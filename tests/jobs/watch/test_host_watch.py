"""What the watcher makes of the host's reports: states, crashes, and what a reboot ended."""

import re
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from hostops.linux.untrusted import UntrustedFileError
from hostops.specs import (
    SILENT_NOTE,
    CrashedRun,
    DueRestart,
    HostFacts,
    InstanceState,
    InstanceStatus,
)
from jobs import operations
from jobs.database import Channel
from jobs.models import Job, JobState
from jobs.queue import lock_host
from jobs.queue.requests import enqueue
from jobs.queue.transitions import claim_next_job, finish_job
from jobs.watch import host_watch
from jobs.watch.console_copier import LAST_WORDS
from jobs.watch.host_watch import HostWatch
from jobs.worker.single_job import run_job
from servers.models import CRASHES_KEPT, ActualState, Crash, DesiredState, Host, Run, Server
from tests.fakes import FakeHost
from tests.states import make_run

RUNNING = InstanceStatus("alpha", InstanceState.RUNNING, release="100", run=2)
CRASHED = InstanceStatus(
    "alpha",
    InstanceState.CRASHED,
    detail="It ended.",
    run=2,
    crashed_runs=(CrashedRun(2, exit_signal="SIGSEGV"),),
)
ENDED_BY_REBOOT = InstanceStatus("alpha", InstanceState.STOPPED, ended_by_reboot=True)


@pytest.fixture
def watch(host: Host, server: Server, fake_host: FakeHost) -> HostWatch:
    """Return what watches the host of the server alpha, which runs."""
    fake_host.told["alpha"] = RUNNING
    watch = HostWatch(host)
    watch.store_states()
    return watch


def tell(fake_host: FakeHost, watch: HostWatch, status: InstanceStatus) -> Server:
    fake_host.told["alpha"] = status
    watch.store_states()
    return Server.objects.get()


def crashed(run: int) -> InstanceStatus:
    """Return the status of a server of which only the run with this number ended on its own."""
    return replace(CRASHED, run=run, crashed_runs=(CrashedRun(run),))


def running(run: int, *, crashes: tuple[int, ...]) -> InstanceStatus:
    """Return the status of a server that runs, after runs that ended by SIGSEGV."""
    ended = tuple(CrashedRun(number, exit_signal="SIGSEGV") for number in crashes)
    return replace(RUNNING, run=run, crashed_runs=ended)


class TestStates:
    def test_the_port_and_the_address_that_a_server_runs_with_are_stored(
        self, watch: HostWatch, fake_host: FakeHost
    ) -> None:
        status = replace(running(2, crashes=()), port=27499, address="127.0.0.9")
        server = tell(fake_host, watch, status)
        assert (server.current_port, server.own_address) == (27499, "127.0.0.9")
        server = tell(fake_host, watch, InstanceStatus("alpha", InstanceState.STOPPED))
        assert (server.running_port, server.running_address) == (None, "")
        assert (server.current_port, server.own_address) == (server.port, "")

    def test_no_new_server_gets_the_port_that_another_still_runs_with(
        self, watch: HostWatch, fake_host: FakeHost
    ) -> None:
        server = Server.objects.get()
        free = server.host.next_free_port()
        tell(fake_host, watch, replace(running(2, crashes=()), port=free))
        assert server.host.next_free_port() not in (None, free)

    def test_the_build_that_a_server_runs_from_is_stored(
        self, watch: HostWatch, fake_host: FakeHost
    ) -> None:
        assert Server.objects.get().running_build_id == "100"
        server = tell(fake_host, watch, InstanceStatus("alpha", InstanceState.STOPPED))
        assert (server.actual_state, server.running_build_id) == (ActualState.STOPPED, "")

    def test_that_a_server_does_not_answer_is_told_until_it_does(
        self, watch: HostWatch, fake_host: FakeHost
    ) -> None:
        Server.objects.update(desired_state=DesiredState.RUNNING)
        silent = replace(RUNNING, note=SILENT_NOTE, detail="It has bound its port.")
        server = tell(fake_host, watch, silent)
        assert (server.state_label, server.state_remark) == (
            "running, does not answer queries",
            "It has bound its port.",
        )
        assert server.should_be == ""
        error = "Start: alpha runs, but does not answer queries. It has bound its port."
        Server.objects.update(last_error=error)
        server = tell(fake_host, watch, replace(silent, restarts=1))
        assert (server.last_error, server.state_remark) == (error, ""), "it is said twice"
        server = tell(fake_host, watch, RUNNING)
        assert (server.state_label, server.last_error) == ("running", "")

    def test_a_console_that_cannot_be_read_keeps_no_other_server_from_its_state(
        self,
        watch: HostWatch,
        fake_host: FakeHost,
        server: Server,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def refuse(*_arguments: object, **_options: object) -> None:
            raise UntrustedFileError("console is a link where a folder belongs.")

        Server.objects.create(
            name="beta", owner=server.owner, host=server.host, blueprint=server.blueprint
        )
        fake_host.told |= {"alpha": CRASHED, "beta": replace(RUNNING, name="beta")}
        monkeypatch.setattr(fake_host, "read_console", refuse)
        watch.store_states()
        states = dict(Server.objects.values_list("name", "actual_state"))
        assert states == {"alpha": ActualState.CRASHED, "beta": ActualState.RUNNING}
        assert Crash.objects.get().detail == "Crashed (SIGSEGV). It printed nothing."
        assert "server alpha: its console cannot be read" in caplog.text

    def test_nothing_is_written_while_nothing_changes(self, watch: HostWatch) -> None:
        before = Server.objects.values().get()
        watch.store_states()
        assert Server.objects.values().get() == before

    def test_what_a_job_stored_while_the_host_was_asked_is_newer(
        self, watch: HostWatch, fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Even if it left the server in the same state."""
        server = tell(fake_host, watch, replace(RUNNING, state=InstanceState.STOPPED))

        def be_overtaken(**_options: bool) -> dict[str, InstanceStatus]:
            enqueue("initialize", server=server, requested_by=None)
            job = claim_next_job()
            assert job
            assert finish_job(job, exit_code=0, server_changes={"actual_state": "stopped"})
            return {}  # As it was before: there is no instance.

        monkeypatch.setattr(fake_host, "statuses", be_overtaken)
        watch.store_states()
        assert Server.objects.get().actual_state == ActualState.STOPPED
        monkeypatch.setattr(fake_host, "statuses", lambda **_options: {})
        watch.store_states()
        assert Server.objects.get().actual_state == ActualState.ABSENT

    def test_the_server_of_a_job_that_began_while_the_host_was_asked_is_left_to_it(
        self, watch: HostWatch, fake_host: FakeHost, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def be_overtaken(**_options: bool) -> dict[str, InstanceStatus]:
            Job.objects.create(operation="restart", server=server, state=JobState.RUNNING)
            return {"alpha": CRASHED}

        monkeypatch.setattr(fake_host, "statuses", be_overtaken)
        watch.store_states()
        assert Server.objects.get().actual_state == ActualState.RUNNING
        assert not Crash.objects.exists()

    def test_a_clock_that_was_set_back_hides_nothing(
        self, watch: HostWatch, fake_host: FakeHost
    ) -> None:
        Server.objects.update(actual_state_at=timezone.now() + timedelta(hours=1))
        assert tell(fake_host, watch, CRASHED).actual_state == ActualState.CRASHED

    def test_news_that_are_alike_are_stored_together(
        self, watch: HostWatch, fake_host: FakeHost, server: Server
    ) -> None:
        server.refresh_from_db()
        for port, name in enumerate(("bravo", "charlie", "delta", "echo"), start=27016):
            server.pk, server.name, server.port = None, name, port
            server.save(force_insert=True)
        enqueue("stop", server=Server.objects.get(name="echo"), requested_by=None)
        assert claim_next_job()
        stopped = replace(RUNNING, state=InstanceState.STOPPED)
        fake_host.told |= {name: replace(stopped, name=name) for name in ("alpha", "bravo")}
        fake_host.told |= {name: replace(CRASHED, name=name) for name in ("charlie", "delta")}
        with CaptureQueriesContext(connection) as queries:
            watch.store_states()
        told = dict(Server.objects.values_list("name", "actual_state"))
        assert told == {
            "alpha": "stopped",
            "bravo": "stopped",
            "echo": "running",
            "charlie": "crashed",
            "delta": "crashed",
        }
        assert Crash.objects.count() == 2
        stored = [one for one in queries if one["sql"].startswith('UPDATE "servers_server"')]
        assert len(stored) == 3

    def test_the_console_of_an_absent_instance_starts_over(
        self, watch: HostWatch, fake_host: FakeHost
    ) -> None:
        Server.objects.update(console_run=7, console_offset=4711, console_seq=90)
        server = tell(fake_host, watch, InstanceStatus("alpha", InstanceState.ABSENT))
        assert (server.console_run, server.console_offset, server.console_seq) == (0, 0, 90)

    def test_the_server_of_a_running_job_is_left_to_the_job(
        self, watch: HostWatch, fake_host: FakeHost, server: Server
    ) -> None:
        Job.objects.create(operation="restart", server=server, state=JobState.RUNNING)
        assert tell(fake_host, watch, CRASHED).actual_state == ActualState.RUNNING
        assert not Crash.objects.exists()


class TestCrashes:
    def test_a_crash_is_recorded_once_with_its_last_lines(
        self, watch: HostWatch, fake_host: FakeHost
    ) -> None:
        fake_host.console = [(1, "an earlier run"), *((2, f"line {n}") for n in range(80))]
        server = tell(fake_host, watch, CRASHED)
        watch.store_states()
        crash = Crash.objects.get()
        assert (crash.server, crash.exit_signal) == (server, "SIGSEGV")
        assert crash.detail == "Crashed (SIGSEGV). Its last line was: line 79"
        lines = crash.last_lines.splitlines()
        assert lines == [f"line {n}" for n in range(80 - LAST_WORDS, 80)]
        assert server.last_error == crash.detail

    def test_lines_of_an_earlier_run_are_not_a_crashs_last_words(
        self, watch: HostWatch, fake_host: FakeHost
    ) -> None:
        fake_host.console = [(1, "an earlier run"), (2, "this one")]
        tell(fake_host, watch, CRASHED)
        assert Crash.objects.get().last_lines == "this one"

    def test_what_nobody_knows_of_a_crash_is_not_invented(
        self, watch: HostWatch, fake_host: FakeHost
    ) -> None:
        tell(fake_host, watch, crashed(2))
        crash = Crash.objects.get()
        assert crash.exit_signal == ""
        assert crash.detail == "Crashed; how it ended is not known. It printed nothing."

    def test_two_watchers_record_one_crash(
        self, watch: HostWatch, fake_host: FakeHost, host: Host
    ) -> None:
        stale = Server.objects.get()
        tell(fake_host, watch, CRASHED)
        news = HostWatch(host)._look_at(stale, CRASHED, timezone.now())
        assert news
        assert news.crashes
        assert not news.store()
        assert Crash.objects.count() == 1

    def test_a_crash_that_systemd_restarts_from_is_recorded(
        self, watch: HostWatch, fake_host: FakeHost
    ) -> None:
        for run in (3, 4, 4):
            server = tell(fake_host, watch, running(run, crashes=(run - 1,)))
            assert server.actual_state == ActualState.RUNNING
        assert Crash.objects.count() == 2

    def test_each_crash_between_two_looks_is_recorded_with_its_own_lines(
        self, watch: HostWatch, fake_host: FakeHost
    ) -> None:
        fake_host.console = [(2, "second"), (3, "third"), (4, "and on")]
        tell(fake_host, watch, running(4, crashes=(2, 3)))
        assert list(Crash.objects.values_list("last_lines", flat=True)) == ["third", "second"]

    def test_a_crash_is_not_missed_because_a_job_began_before_anybody_looked(
        self, watch: HostWatch, fake_host: FakeHost, server: Server
    ) -> None:
        job = Job.objects.create(operation="start", server=server, state=JobState.RUNNING)
        tell(fake_host, watch, CRASHED)
        assert not Crash.objects.exists()
        # The job starts the server again, and reads back that it runs.
        finish_job(job, exit_code=0, server_changes={"actual_state": "running", "restarts": 0})
        server = tell(fake_host, watch, running(3, crashes=(2,)))
        assert Crash.objects.count() == 1
        assert server.last_error == "Crashed (SIGSEGV). It printed nothing."

    def test_what_a_start_that_failed_said_stays(
        self, watch: HostWatch, fake_host: FakeHost, server: Server
    ) -> None:
        job = Job.objects.create(operation="start", server=server, state=JobState.RUNNING)
        read_back = {"actual_state": "crashed", "last_error": "Start: alpha could not be started."}
        finish_job(job, exit_code=1, error="…", server_changes=read_back)
        server = tell(fake_host, watch, CRASHED)
        assert Crash.objects.count() == 1
        assert server.last_error == "Start: alpha could not be started."

    def test_the_first_crash_of_an_instance_that_was_made_anew_is_recorded(
        self, watch: HostWatch, fake_host: FakeHost
    ) -> None:
        tell(fake_host, watch, crashed(5))
        tell(fake_host, watch, crashed(1))
        assert Crash.objects.count() == 2
        tell(fake_host, watch, InstanceStatus("alpha", InstanceState.ABSENT))
        tell(fake_host, watch, crashed(1))
        assert Crash.objects.count() == 3

    def test_the_newest_ones_stay(self, watch: HostWatch, fake_host: FakeHost) -> None:
        for number in range(1, CRASHES_KEPT + 4):
            fake_host.console = [(run, f"run {run}") for run in range(1, number + 1)]
            tell(fake_host, watch, crashed(number))
        kept = list(Crash.objects.values_list("last_lines", flat=True))
        assert kept == [f"run {number}" for number in range(CRASHES_KEPT + 3, 3, -1)]

    def test_the_newest_one_stays_also_after_the_clock_was_set_back(
        self, watch: HostWatch, fake_host: FakeHost
    ) -> None:
        for number in range(1, CRASHES_KEPT + 1):
            tell(fake_host, watch, crashed(number))
        Crash.objects.update(at=timezone.now() + timedelta(hours=2))
        fake_host.console = [(CRASHES_KEPT + 1, "the newest")]
        tell(fake_host, watch, crashed(CRASHES_KEPT + 1))
        assert Crash.objects.filter(last_lines="the newest").exists()
        assert Crash.objects.count() == CRASHES_KEPT


class TestOutlook:
    @pytest.mark.parametrize(
        ("status", "label"),
        [
            (CRASHED, "crashed"),
            (replace(CRASHED, note="restarting (2 of 5)"), "crashed, restarting (2 of 5)"),
            (replace(CRASHED, note="gave up", detail="Gave up."), "crashed, gave up"),
            (replace(RUNNING, state=InstanceState.STARTING), "starting"),
            (
                replace(RUNNING, state=InstanceState.STARTING, note="restarting (2 of 5)"),
                "restarting (2 of 5)",
            ),
            (RUNNING, "running"),
        ],
    )
    def test_crashed_restarting_and_gave_up_are_told_apart(
        self, watch: HostWatch, fake_host: FakeHost, status: InstanceStatus, label: str
    ) -> None:
        assert tell(fake_host, watch, status).state_label == label

    def test_what_comes_next_is_stored_also_where_the_state_stays(
        self, watch: HostWatch, fake_host: FakeHost
    ) -> None:
        tell(fake_host, watch, replace(CRASHED, note="restarting (5 of 5)", detail="Once more."))
        server = tell(fake_host, watch, replace(CRASHED, note="gave up", detail="It gave up."))
        assert (server.state_label, server.state_remark) == ("crashed, gave up", "It gave up.")

    def test_a_crash_without_an_outlook_is_told_once(
        self, watch: HostWatch, fake_host: FakeHost
    ) -> None:
        assert tell(fake_host, watch, CRASHED).state_remark == ""


def refuse_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let looks fail that take the write lock of SQLite, or the lock of the host's row."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it takes a lock")

    monkeypatch.setattr(transaction, "atomic", refuse)


def fail_a_start_before_the_lock(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a start be requested, and fail, while the watcher waits for the lock."""

    def start_and_lock(host: Host) -> None:
        enqueue("start", server=server, requested_by=None)
        Job.objects.update(state=JobState.FAILED)
        lock_host(host)

    monkeypatch.setattr(host_watch, "lock_host", start_and_lock)


class TestReboots:
    @pytest.fixture
    def wanted(self, server: Server) -> None:
        """Make the server one that should be running."""
        Server.objects.update(desired_state=DesiredState.RUNNING)

    def test_a_server_that_should_run_is_started_and_its_job_says_why(
        self, watch: HostWatch, fake_host: FakeHost, wanted: None
    ) -> None:
        tell(fake_host, watch, ENDED_BY_REBOOT)
        watch.store_states()
        job = Job.objects.get()
        assert (job.operation, job.requested_by, job.state) == ("start", None, JobState.QUEUED)
        assert job.logs.get().line == (
            "Host local has restarted, and alpha should be running: Saferoom starts it again."
        )

    def test_a_start_that_failed_is_not_tried_again(
        self, watch: HostWatch, fake_host: FakeHost, wanted: None, host: Host
    ) -> None:
        tell(fake_host, watch, ENDED_BY_REBOOT)
        job = claim_next_job(host=host)
        assert job is not None
        finish_job(job, exit_code=1, error="The port is taken.")
        watch.store_states()
        watch.store_states()
        assert Job.objects.get() == job

    def test_a_start_that_failed_costs_no_lock_at_each_look(
        self,
        watch: HostWatch,
        fake_host: FakeHost,
        wanted: None,
        server: Server,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        enqueue("start", server=server, requested_by=None)
        Job.objects.update(state=JobState.FAILED)
        tell(fake_host, watch, ENDED_BY_REBOOT)
        refuse_locks(monkeypatch)
        watch.store_states()

    def test_a_start_that_somebody_requests_meanwhile_counts_as_the_attempt(
        self,
        watch: HostWatch,
        fake_host: FakeHost,
        wanted: None,
        server: Server,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        fail_a_start_before_the_lock(server, monkeypatch)
        tell(fake_host, watch, ENDED_BY_REBOOT)
        assert Job.objects.get().state == JobState.FAILED

    def test_it_is_started_after_each_boot(
        self, watch: HostWatch, fake_host: FakeHost, wanted: None, server: Server
    ) -> None:
        long_ago = timezone.now() - timedelta(days=10_000)
        Job.objects.create(
            operation="start", server=server, state=JobState.SUCCEEDED, created_at=long_ago
        )
        tell(fake_host, watch, ENDED_BY_REBOOT)
        assert Job.objects.active().count() == 1

    def test_a_person_who_was_faster_is_not_doubled(
        self, watch: HostWatch, fake_host: FakeHost, wanted: None, server: Server
    ) -> None:
        job = enqueue("restart", server=server, requested_by=None)
        tell(fake_host, watch, ENDED_BY_REBOOT)
        assert Job.objects.get() == job

    def test_a_server_that_should_be_stopped_is_not_started(
        self, watch: HostWatch, fake_host: FakeHost
    ) -> None:
        assert tell(fake_host, watch, ENDED_BY_REBOOT).desired_state == DesiredState.STOPPED
        assert not Job.objects.exists()

    def test_a_stop_that_came_between_the_look_and_the_start_wins(
        self, watch: HostWatch, fake_host: FakeHost, wanted: None
    ) -> None:
        stale = Server.objects.get()
        Server.objects.update(desired_state=DesiredState.STOPPED)
        watch._bring_back(stale)
        assert not Job.objects.exists()

    def test_a_crash_without_a_reboot_is_not_started_again(
        self, watch: HostWatch, fake_host: FakeHost, wanted: None
    ) -> None:
        tell(fake_host, watch, CRASHED)
        assert not Job.objects.exists()


class TestRestarts:
    """After crashes, on a host whose driver does not restart servers by itself."""

    @pytest.fixture
    def due(self, server: Server) -> InstanceStatus:
        """Return the status of a crashed server that should run, and must be started now."""
        Server.objects.update(desired_state=DesiredState.RUNNING)
        return crashed_and_due(0)

    def test_a_server_is_started_by_a_job_that_nobody_asked_for_and_that_says_why(
        self, watch: HostWatch, fake_host: FakeHost, due: InstanceStatus, host: Host
    ) -> None:
        server = tell(fake_host, watch, due)
        assert server.state_label == "crashed, restarting (2 of 5)"
        assert re.fullmatch(
            r"It is started again at \d\d:\d\d:\d\d UTC, unless it is kept stopped\. It ended\.",
            server.state_remark,
        )
        job = Job.objects.get()
        assert (job.operation, job.requested_by, job.state) == ("start", None, JobState.QUEUED)
        assert job.logs.get().line == (
            "alpha has crashed and should be running: Saferoom starts it again (2 of 5)."
        )
        claimed = claim_next_job(host=host)
        assert claimed
        run_job(claimed.pk)
        assert fake_host.automatic == ["alpha"]

    def test_a_server_that_was_started_as_it_was_goes_on_like_that(
        self, watch: HostWatch, fake_host: FakeHost, due: InstanceStatus, server: Server, host: Host
    ) -> None:
        earlier = make_run(server, arguments=("+map", "c5m1_waterfront"))
        Run.objects.update(as_it_was_at=earlier.started_at)
        tell(fake_host, watch, due)
        claimed = claim_next_job(host=host)
        assert claimed
        run_job(claimed.pk)
        assert fake_host.automatic == ["alpha"]
        assert fake_host.specs[-1].arguments == ("+map", "c5m1_waterfront")
        # Once it is started as it is saved, that counts again.
        make_run(server)
        tell(fake_host, watch, crashed_and_due(0, ago=0))
        assert Job.objects.latest("pk").run is None

    def test_it_goes_on_like_that_also_where_the_worker_of_a_restart_was_killed(
        self, watch: HostWatch, fake_host: FakeHost, due: InstanceStatus, server: Server
    ) -> None:
        earlier = make_run(server, arguments=("+map", "c5m1_waterfront"))
        for repeated in (earlier, None):
            job = enqueue("start", server=server, requested_by=None, run=repeated)
            Job.objects.filter(pk=job.pk).update(
                state=JobState.FAILED, created_at=timezone.now() - timedelta(minutes=1)
            )
            Run.record([Run(server=server)])
            tell(fake_host, watch, crashed_and_due(0, ago=0))
            restart = Job.objects.active().get()
            assert restart.run == repeated
            restart.delete()

    def test_a_start_that_a_person_asked_for_begins_a_new_count(
        self, fake_host: FakeHost, server: Server, host: Host
    ) -> None:
        enqueue("start", server=server, requested_by=server.owner)
        claimed = claim_next_job(host=host)
        assert claimed
        run_job(claimed.pk)
        assert (fake_host.verbs, fake_host.automatic) == (["initialize", "start"], [])

    def test_it_waits_for_the_pause(
        self, watch: HostWatch, fake_host: FakeHost, due: InstanceStatus
    ) -> None:
        server = tell(fake_host, watch, crashed_and_due(60))
        assert server.state_label == "crashed, restarting (2 of 5)"
        assert not Job.objects.exists()

    @pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED, JobState.SUCCEEDED])
    def test_it_is_started_once_for_each_crash(
        self,
        watch: HostWatch,
        fake_host: FakeHost,
        due: InstanceStatus,
        host: Host,
        state: JobState,
    ) -> None:
        tell(fake_host, watch, due)
        watch.store_states()
        Job.objects.update(state=state)
        watch.store_states()
        # Another worker of the host, or this one after a restart.
        HostWatch(host).store_states()
        assert Job.objects.count() == 1
        tell(fake_host, watch, crashed_and_due(0, ago=0))
        assert Job.objects.count() == 2

    def test_a_start_that_failed_costs_no_lock_at_each_look(
        self,
        fake_host: FakeHost,
        due: InstanceStatus,
        server: Server,
        host: Host,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        enqueue("start", server=server, requested_by=None)
        Job.objects.update(state=JobState.FAILED)
        later = HostWatch(host)
        tell(fake_host, later, due)
        refuse_locks(monkeypatch)
        later.store_states()

    def test_a_start_that_somebody_requests_meanwhile_counts_as_the_attempt(
        self,
        watch: HostWatch,
        fake_host: FakeHost,
        due: InstanceStatus,
        server: Server,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        fail_a_start_before_the_lock(server, monkeypatch)
        tell(fake_host, watch, due)
        assert Job.objects.get().state == JobState.FAILED

    def test_a_clock_that_is_set_back_does_not_double_it(
        self, watch: HostWatch, fake_host: FakeHost, due: InstanceStatus
    ) -> None:
        tell(fake_host, watch, due)
        Job.objects.update(state=JobState.FAILED, created_at=timezone.now() - timedelta(hours=1))
        watch.store_states()
        assert Job.objects.count() == 1

    def test_a_crash_after_the_clock_was_set_back_is_restarted_from(
        self, watch: HostWatch, fake_host: FakeHost, due: InstanceStatus, server: Server
    ) -> None:
        job = enqueue("start", server=server, requested_by=None)
        ahead = timezone.now() + timedelta(hours=1)
        Job.objects.filter(pk=job.pk).update(
            state=JobState.SUCCEEDED, created_at=ahead, started_at=ahead, finished_at=ahead
        )
        tell(fake_host, watch, due)
        assert Job.objects.filter(state=JobState.QUEUED).count() == 1
        watch.store_states()
        assert Job.objects.filter(state=JobState.QUEUED).count() == 1

    def test_two_workers_that_looked_at_the_same_moment_queue_one_job(
        self, watch: HostWatch, fake_host: FakeHost, due: InstanceStatus, host: Host
    ) -> None:
        assert due.due_restart
        stale = Server.objects.get()
        watch._restart(stale, due.due_restart)
        # Its job has to find in the row that the server has crashed: it counts against the budget.
        assert not Job.objects.exists()
        Server.objects.update(actual_state=ActualState.CRASHED)
        for one in (watch, HostWatch(host)):
            one._restart(stale, due.due_restart)
        assert Job.objects.count() == 1

    def test_a_person_who_was_faster_is_not_doubled(
        self, watch: HostWatch, fake_host: FakeHost, due: InstanceStatus, server: Server
    ) -> None:
        job = enqueue("start", server=server, requested_by=server.owner)
        tell(fake_host, watch, due)
        assert Job.objects.get() == job

    def test_a_server_that_should_be_stopped_stays_down_and_nothing_is_announced(
        self, watch: HostWatch, fake_host: FakeHost, due: InstanceStatus
    ) -> None:
        Server.objects.update(desired_state=DesiredState.STOPPED)
        assert tell(fake_host, watch, due).state_label == "crashed"
        assert not Job.objects.exists()

    def test_a_stop_that_came_between_the_look_and_the_restart_wins(
        self, watch: HostWatch, fake_host: FakeHost, due: InstanceStatus
    ) -> None:
        assert due.due_restart
        stale = Server.objects.get()
        Server.objects.update(desired_state=DesiredState.STOPPED)
        watch._restart(stale, due.due_restart)
        assert not Job.objects.exists()

    def test_a_host_that_drains_starts_it_once_it_takes_jobs_again(
        self, watch: HostWatch, fake_host: FakeHost, due: InstanceStatus
    ) -> None:
        Host.objects.update(is_draining=True)
        server = tell(fake_host, watch, due)
        assert server.state_label == "crashed, to be restarted"
        assert server.state_remark == (
            "It is started again (2 of 5) once host local takes jobs. It ended."
        )
        assert not Job.objects.exists()
        Host.objects.update(is_draining=False)
        watch.store_states()
        assert Job.objects.count() == 1

    def test_a_worker_that_takes_no_jobs_leaves_it_to_one_that_does(
        self, fake_host: FakeHost, due: InstanceStatus, host: Host
    ) -> None:
        fake_host.told["alpha"] = due
        HostWatch(host, lambda: False).store_states()
        assert not Job.objects.exists()
        HostWatch(host).store_states()
        assert Job.objects.count() == 1

    def test_one_that_gave_up_is_left_to_people(
        self, watch: HostWatch, fake_host: FakeHost, due: InstanceStatus
    ) -> None:
        given_up = replace(due, due_restart=None, note="gave up", detail="Look at why.")
        server = tell(fake_host, watch, given_up)
        assert (server.state_label, server.state_remark) == ("crashed, gave up", "Look at why.")
        assert not Job.objects.exists()


def crashed_and_due(in_seconds: float, *, ago: float = 10) -> InstanceStatus:
    """Return the status of a server that crashed a moment ago, and must be started in this many seconds."""
    now = time.time()
    return replace(CRASHED, due_restart=DueRestart(2, 5, now - ago, now + in_seconds))


def test_the_host_reports_which_ports_other_programs_hold_and_tells_pages_of_a_change(
    watch: HostWatch, fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced: list[Channel] = []
    monkeypatch.setattr(operations, "announce", announced.append)
    for ports in ((27020, 27021), (27020, 27021), ()):
        fake_host.taken_ports = ports
        watch.report_host()
        assert Host.objects.get().taken_ports == list(ports)
    assert announced == [Channel.PAGES] * 2


def test_a_report_that_was_overtaken_takes_nothing_back(
    watch: HostWatch, host: Host, fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job has changed the host, and reported it, while the worker's chores still read the earlier state."""
    facts = fake_host.facts

    def be_overtaken() -> HostFacts:
        before = facts()
        monkeypatch.setattr(fake_host, "facts", facts)
        fake_host.build_id, fake_host.taken_ports = "200", (27020,)
        operations.report_host(host)
        return before

    monkeypatch.setattr(fake_host, "facts", be_overtaken)
    watch.report_host()
    host.refresh_from_db()
    assert (host.build_id, host.taken_ports) == ("200", [27020])


def test_a_report_is_stored_though_the_clock_was_set_back(
    watch: HostWatch, host: Host, fake_host: FakeHost
) -> None:
    Host.objects.update(reported_at=timezone.now() + timedelta(hours=2))
    fake_host.build_id = "200"
    watch.report_host()
    host.refresh_from_db()
    assert host.build_id == "200"
    assert host.reported_at is not None
    assert host.reported_at <= timezone.now()


@pytest.mark.parametrize(
    ("before", "found", "source", "after"),
    [
        ("", "192.0.2.2", "steam", "192.0.2.2"),
        ("127.0.0.1", "192.0.2.2", "steam", "192.0.2.2"),
        ("games.example.org", "192.0.2.2", "steam", "games.example.org"),
        ("", "127.0.0.1", "steam", ""),
        ("", "127.0.0.1", "simulator", "127.0.0.1"),
    ],
)
def test_players_are_sent_to_the_address_that_was_found_until_an_admin_says_another(
    host: Host, before: str, found: str, source: str, after: str
) -> None:
    Host.objects.update(address=before)
    operations.store_address(host, found, is_simulated=source == "simulator")
    assert Host.objects.get().address == after


def test_the_host_reports_which_limits_nothing_holds_servers_to(watch: HostWatch) -> None:
    watch.report_host()
    assert Host.objects.get().limits_without_effect == "memory, tasks, CPU weight"
