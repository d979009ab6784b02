"""What the watcher makes of what the host says: states, crashes, and what a reboot ended."""

from datetime import timedelta

import pytest
from django.utils import timezone

from hostops.specs import InstanceState, InstanceStatus
from jobs.models import Job, JobState
from jobs.queue import claim_next_job, enqueue, finish_job
from jobs.watch import CRASH_LINES, HostWatch
from servers.models import CRASHES_KEPT, ActualState, Crash, DesiredState, Host, Server
from tests.fakes import FakeHost

RUNNING = InstanceStatus("alpha", InstanceState.RUNNING, release="100")
CRASHED = InstanceStatus("alpha", InstanceState.CRASHED, detail="It ended.", exit_signal="SIGSEGV")
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


class TestStates:
    def test_the_build_that_a_server_runs_from_is_stored(
        self, watch: HostWatch, fake_host: FakeHost
    ) -> None:
        assert Server.objects.get().running_build_id == "100"
        server = tell(fake_host, watch, InstanceStatus("alpha", InstanceState.STOPPED))
        assert (server.actual_state, server.running_build_id) == (ActualState.STOPPED, "")

    def test_nothing_is_written_while_nothing_changes(self, watch: HostWatch) -> None:
        before = Server.objects.values().get()
        watch.store_states()
        assert Server.objects.values().get() == before

    def test_the_console_of_an_absent_instance_begins_anew(
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
        assert (crash.server, crash.exit_signal, crash.detail) == (server, "SIGSEGV", "It ended.")
        lines = crash.last_lines.splitlines()
        assert lines == [f"line {n}" for n in range(80 - CRASH_LINES, 80)]
        assert server.last_error == "It ended."

    def test_lines_of_an_earlier_run_are_not_a_crashs_last_words(
        self, watch: HostWatch, fake_host: FakeHost
    ) -> None:
        fake_host.console = [(1, "an earlier run"), (2, "this one")]
        tell(fake_host, watch, CRASHED)
        assert Crash.objects.get().last_lines == "this one"

    def test_two_watchers_record_one_crash(
        self, watch: HostWatch, fake_host: FakeHost, host: Host
    ) -> None:
        stale = Server.objects.get()
        tell(fake_host, watch, CRASHED)
        HostWatch(host)._store_state(stale, CRASHED)
        assert Crash.objects.count() == 1

    def test_a_crash_that_systemd_restarts_from_is_recorded(
        self, watch: HostWatch, fake_host: FakeHost
    ) -> None:
        for restarts in (1, 2, 2):
            server = tell(
                fake_host,
                watch,
                InstanceStatus("alpha", InstanceState.RUNNING, release="100", restarts=restarts),
            )
            assert server.restarts == restarts
        assert Crash.objects.count() == 2
        tell(fake_host, watch, RUNNING)  # Somebody started it anew: it counts from 0 again.
        assert Crash.objects.count() == 2

    def test_the_newest_ones_stay(self, watch: HostWatch, fake_host: FakeHost) -> None:
        for number in range(CRASHES_KEPT + 3):
            tell(fake_host, watch, RUNNING)
            detail = f"crash {number}"
            tell(fake_host, watch, InstanceStatus("alpha", InstanceState.CRASHED, detail=detail))
        kept = list(Crash.objects.values_list("detail", flat=True))
        assert kept == [f"crash {number}" for number in range(CRASHES_KEPT + 2, 2, -1)]


class TestReboots:
    @pytest.fixture
    def wanted(self, server: Server) -> None:
        """Let the server be one that should be running."""
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

    def test_a_crash_without_a_reboot_is_not_started_again(
        self, watch: HostWatch, fake_host: FakeHost, wanted: None
    ) -> None:
        tell(fake_host, watch, CRASHED)
        assert not Job.objects.exists()
