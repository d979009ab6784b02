"""The queue: scheduling, requests, and every transition."""

import threading
from collections.abc import Callable, Iterable
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from jobs.claimed_jobs import ClaimedJob, ClaimedServer
from jobs.database import Channel
from jobs.models import DeferredAction, Job, JobState, Operation, Worker
from jobs.queue import transitions
from jobs.queue.deferrals import carry_out_deferral, defer, end_deferral, forget_deferral
from jobs.queue.liveness import record_gone_workers, register_worker
from jobs.queue.requests import RequestRefused, enqueue, request, retry
from jobs.queue.scheduler import (
    PAGE,
    SchedulerState,
    build_scheduler_state,
    lock_host,
    lock_scheduler_state,
)
from jobs.queue.transitions import (
    WORKER_STOPPED,
    cancel,
    claim_jobs,
    claim_next_job,
    finish_job,
    give_back,
    read_cancel_requests,
    recover_stale_jobs,
)
from servers.models import ActualState, Blueprint, DesiredState, Host, Server
from servers.quotas import lock_person
from tests.fakes import FakeHost
from tests.states import record_state
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db

MakeServer = Callable[..., Server]


@pytest.fixture
def make_server(alice: User, host: Host, blueprint: Blueprint) -> MakeServer:
    """Return a function that makes a server of Alice's."""

    def make(name: str, on: Host = host) -> Server:
        return Server.objects.create(name=name, owner=alice, host=on, blueprint=blueprint)

    return make


@pytest.fixture
def worker(host: Host) -> Worker:
    """Return a worker of the host: this process."""
    return register_worker(host, concurrency=4, is_claiming=True)


def ids(jobs: Iterable[Job | ClaimedJob]) -> list[int]:
    return [job.id for job in jobs]


def start(server: Server) -> Job:
    return enqueue("start", server=server, requested_by=None)


def install(host: Host) -> Job:
    return enqueue("install", host=host, requested_by=None)


class TestScheduling:
    def test_the_oldest_job_goes_first(self, make_server: MakeServer, worker: Worker) -> None:
        newer = start(make_server("newer"))
        older = start(make_server("older"))
        Job.objects.filter(pk=older.pk).update(created_at=timezone.now() - timedelta(hours=1))
        assert claim_next_job(worker) == older
        assert claim_next_job(worker) == newer
        assert claim_next_job(worker) is None

    def test_of_two_jobs_of_one_moment_the_lower_id_goes_first(
        self, make_server: MakeServer, worker: Worker
    ) -> None:
        jobs = [start(make_server(f"s{number}")) for number in range(3)]
        Job.objects.update(created_at=timezone.now())
        assert [claim_next_job(worker) for _ in jobs] == jobs

    def test_two_jobs_of_one_server_never_run_together(
        self, server: Server, worker: Worker
    ) -> None:
        first, second = start(server), enqueue("stop", server=server, requested_by=None)
        assert claim_next_job(worker) == first
        assert claim_next_job(worker) is None
        assert finish_job(Job.objects.get(pk=first.pk), exit_code=0)
        assert claim_next_job(worker) == second

    def test_a_blocked_job_does_not_hold_up_another_servers(
        self, make_server: MakeServer, worker: Worker
    ) -> None:
        busy, free = make_server("busy"), make_server("free")
        start(busy)
        enqueue("stop", server=busy, requested_by=None)
        behind = start(free)
        claim_next_job(worker)
        assert claim_next_job(worker) == behind

    def test_an_install_waits_for_what_runs(
        self, server: Server, host: Host, worker: Worker
    ) -> None:
        running = start(server)
        claim_next_job(worker)
        waiting = install(host)
        assert claim_next_job(worker) is None
        finish_job(Job.objects.get(pk=running.pk), exit_code=0)
        assert claim_next_job(worker) == waiting

    def test_nothing_runs_beside_an_install(
        self, server: Server, host: Host, worker: Worker
    ) -> None:
        installing = install(host)
        assert claim_next_job(worker) == installing
        start(server)
        install(host)
        assert claim_next_job(worker) is None

    def test_a_rollback_is_exclusive_as_an_install_is(
        self, server: Server, worker: Worker, host: Host
    ) -> None:
        first = start(server)
        rollback = enqueue("rollback", host=host, requested_by=None)
        behind = install(host)
        assert claim_next_job(worker) == first
        assert claim_next_job(worker) is None
        finish_job(Job.objects.get(pk=first.pk), exit_code=0)
        assert claim_next_job(worker) == rollback
        assert claim_next_job(worker) is None
        finish_job(Job.objects.get(pk=rollback.pk), exit_code=0)
        assert claim_next_job(worker) == behind

    def test_a_look_for_updates_runs_beside_servers_jobs_and_never_beside_an_install(
        self, server: Server, worker: Worker, host: Host
    ) -> None:
        look = enqueue("check", host=host, requested_by=None)
        beside = start(server)
        installing = install(host)
        assert claim_next_job(worker) == look
        assert claim_next_job(worker) == beside
        finish_job(Job.objects.get(pk=beside.pk), exit_code=0)
        assert claim_next_job(worker) is None
        finish_job(Job.objects.get(pk=look.pk), exit_code=0)
        assert claim_next_job(worker) == installing
        enqueue("check", host=host, requested_by=None)
        assert claim_next_job(worker) is None

    def test_a_waiting_install_is_not_starved(
        self, make_server: MakeServer, host: Host, worker: Worker
    ) -> None:
        running = start(make_server("running"))
        claim_next_job(worker)
        waiting = install(host)
        later = start(make_server("later"))
        assert claim_next_job(worker) is None
        finish_job(Job.objects.get(pk=running.pk), exit_code=0)
        assert claim_next_job(worker) == waiting
        finish_job(Job.objects.get(pk=waiting.pk), exit_code=0)
        assert claim_next_job(worker) == later

    def test_an_install_behind_a_blocked_job_does_not_hold_up_others_yet(
        self, make_server: MakeServer, host: Host, worker: Worker
    ) -> None:
        busy = make_server("busy")
        start(busy)
        claim_next_job(worker)
        enqueue("stop", server=busy, requested_by=None)
        install(host)
        free = start(make_server("free"))
        assert claim_next_job(worker) == free

    def test_an_install_is_exclusive_on_its_own_host_only(
        self, make_server: MakeServer, host: Host, worker: Worker
    ) -> None:
        other = Host.objects.create(name="other")
        other_worker = register_worker(other, concurrency=1, is_claiming=True)
        install(host)
        elsewhere = start(make_server("elsewhere", on=other))
        claim_next_job(worker)
        assert claim_next_job(other_worker) == elsewhere

    def test_a_worker_leaves_other_hosts_jobs_alone(
        self, make_server: MakeServer, worker: Worker
    ) -> None:
        start(make_server("elsewhere", on=Host.objects.create(name="other")))
        assert claim_next_job(worker) is None

    def test_a_claim_is_a_sign_of_life(self, server: Server, worker: Worker) -> None:
        Worker.objects.update(heartbeat_at=timezone.now() - timedelta(hours=1))
        start(server)
        claim_next_job(worker)
        assert recover_stale_jobs() == []

    def test_a_host_that_is_drained_gets_nothing_more(
        self, server: Server, host: Host, worker: Worker
    ) -> None:
        job = start(server)
        Host.objects.update(is_draining=True)
        assert claim_next_job(worker) is None
        Host.objects.update(is_draining=False)
        assert claim_next_job(worker) == job

    def test_the_state_names_what_runs(self, server: Server, host: Host, worker: Worker) -> None:
        start(server)
        claim_next_job(worker)
        waiting = install(host)
        state = build_scheduler_state(host)
        assert [job.server_id for job in state.running] == [server.pk]
        assert [job_id for job_id, *_ in state.queued] == [waiting.pk]
        assert not state.is_draining
        assert state.pick(1) == []

    def test_several_are_claimed_at_once_by_the_same_rules(
        self, make_server: MakeServer, host: Host, worker: Worker
    ) -> None:
        first, second, third = (make_server(f"s{number}") for number in range(3))
        starts = [start(first), start(second)]
        stop = enqueue("stop", server=first, requested_by=None)
        beyond = start(third)
        assert ids(claim_jobs(worker, host, 2)) == ids(starts)
        assert ids(claim_jobs(worker, host, 2)) == ids([beyond])
        finish_job(Job.objects.get(pk=starts[0].pk), exit_code=0)
        assert ids(claim_jobs(worker, host, 2)) == ids([stop])

    def test_an_install_is_never_claimed_together_with_another_job(
        self, server: Server, host: Host, worker: Worker
    ) -> None:
        first = start(server)
        waiting = install(host)
        assert ids(claim_jobs(worker, host, 4)) == ids([first])
        finish_job(Job.objects.get(pk=first.pk), exit_code=0)
        start(server)
        assert ids(claim_jobs(worker, host, 4)) == ids([waiting])

    def test_a_long_queue_of_one_server_does_not_hide_the_next_one(
        self, make_server: MakeServer, worker: Worker
    ) -> None:
        busy, free = make_server("busy"), make_server("free")
        for _ in range(PAGE + 10):
            start(busy)
        install(worker.host)
        behind = start(free)
        claim_next_job(worker)
        assert claim_next_job(worker) == behind

    def test_what_is_behind_blocked_jobs_is_claimed_together_with_what_is_before_them(
        self, make_server: MakeServer, worker: Worker, host: Host
    ) -> None:
        busy, before, behind = make_server("busy"), make_server("before"), make_server("behind")
        start(busy)
        assert claim_next_job(worker)
        first = start(before)
        for _ in range(PAGE):
            start(busy)
        second, third = start(behind), start(make_server("last"))
        assert ids(claim_jobs(worker, host, 3)) == ids([first, second, third])

    def test_nothing_behind_an_install_is_claimed_together_with_what_is_before_it(
        self, make_server: MakeServer, worker: Worker, host: Host
    ) -> None:
        first = start(make_server("before"))
        enqueue("install", host=host, requested_by=None)
        for number in range(PAGE):
            start(make_server(f"behind-{number}"))
        assert ids(claim_jobs(worker, host, PAGE)) == ids([first])

    @pytest.mark.parametrize("operation", ["start", "install"])
    def test_a_claimed_job_has_its_host_and_its_server(
        self, server: Server, host: Host, worker: Worker, operation: str
    ) -> None:
        of_server = server if operation == "start" else None
        oldest = enqueue(operation, server=of_server, host=host, requested_by=None)
        [job] = claim_jobs(worker, host, 1)
        kept = ClaimedServer.of(server) if of_server else None
        assert (job.id, job.host, job.server) == (oldest.pk, host, kept)

    def test_nothing_is_claimed_of_a_host_that_is_being_drained(
        self, server: Server, host: Host, worker: Worker
    ) -> None:
        job = start(server)
        Host.objects.update(is_draining=True)
        assert claim_jobs(worker, host, 4) == []
        Host.objects.update(is_draining=False)
        assert ids(claim_jobs(worker, host, 4)) == ids([job])

    @pytest.mark.parametrize(
        ("operation", "before", "after"),
        [
            ("start", DesiredState.STOPPED, DesiredState.RUNNING),
            ("restart", DesiredState.STOPPED, DesiredState.RUNNING),
            ("stop", DesiredState.RUNNING, DesiredState.STOPPED),
            ("delete", DesiredState.RUNNING, DesiredState.STOPPED),
            ("initialize", DesiredState.RUNNING, DesiredState.RUNNING),
        ],
    )
    def test_a_job_says_what_is_wanted_of_its_server_when_it_is_claimed_and_not_before(
        self,
        server: Server,
        worker: Worker,
        operation: str,
        before: DesiredState,
        after: DesiredState,
    ) -> None:
        Server.objects.update(desired_state=before)
        enqueue(operation, server=server, requested_by=None)
        assert desired_state_of(server) == before
        assert claim_next_job(worker)
        assert desired_state_of(server) == after

    def test_claiming_stores_who_and_when(self, server: Server, worker: Worker) -> None:
        start(server)
        claim_next_job(worker)
        job = Job.objects.get()
        assert job.state == JobState.RUNNING
        assert job.worker == worker
        assert job.started_at is not None
        assert job.created_at <= job.started_at <= job.updated_at


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite's transactions take turns")
def test_a_claim_that_loses_against_another_hosts_is_tried_again_at_once(
    make_server: MakeServer, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the other jobs of the claim would wait too, and nothing would wake the worker for them."""
    host, old_host = worker.host, Host.objects.create(name="elsewhere")
    moved = make_server("moved", old_host)
    theirs = start(moved)
    moved.host = host
    moved.save()
    of_moved, beside = start(moved), start(make_server("stays"))
    states = [build_scheduler_state(host)]
    Job.objects.filter(pk=theirs.pk).update(state=JobState.RUNNING)

    def read(host: Host) -> SchedulerState:
        state = lock_scheduler_state(host)
        return states.pop() if states else state

    monkeypatch.setattr(transitions, "lock_scheduler_state", read)
    assert ids(claim_jobs(worker, host, 2)) == ids([beside])
    of_moved.refresh_from_db()
    assert of_moved.state == JobState.QUEUED


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite's transactions take turns")
def test_a_claim_that_is_always_refused_is_not_tried_forever(
    server: Server, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    def refuse(*_: object) -> None:
        tries.append(1)
        raise IntegrityError("no")

    start(server)
    monkeypatch.setattr(transitions, "set_running", refuse)
    assert claim_jobs(worker, worker.host, 1) == []
    assert len(tries) == 2


@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="PostgreSQL's claims may be lost")
def test_what_sqlite_refuses_is_no_lost_claim_and_ends_the_transaction_around_it(
    server: Server, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise IntegrityError("no")

    def store_and_claim() -> None:
        with transaction.atomic():
            Job.objects.filter(pk=job.pk).update(stage="stored beside it")
            claim_jobs(worker, worker.host, 1)

    job = start(server)
    monkeypatch.setattr(transitions, "set_running", refuse)
    with pytest.raises(IntegrityError, match="no"):
        store_and_claim()
    job.refresh_from_db()
    assert (job.state, job.stage) == (JobState.QUEUED, "")


def test_a_job_that_is_cancelled_while_it_is_being_picked_does_not_run(
    server: Server, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = start(server)

    def read(host: Host) -> SchedulerState:
        state = lock_scheduler_state(host)
        cancel(job)
        return state

    monkeypatch.setattr(transitions, "lock_scheduler_state", read)
    assert claim_next_job(worker) is None
    assert Job.objects.get().state == JobState.CANCELLED


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has no locks of rows")
@pytest.mark.django_db(transaction=True)
def test_a_job_that_waited_for_another_is_not_said_to_have_started_before_its_end(
    server: Server, host: Host, worker: Worker
) -> None:
    """The claim was on its way, waiting for the host's lock, when the job before it ended."""
    before = start(server)
    assert claim_next_job(worker) == before
    after = start(server)

    def claim() -> None:
        claim_jobs(worker, host, 4)
        connection.close()

    claiming = threading.Thread(target=claim)
    with transaction.atomic():
        lock_host(host)
        claiming.start()
        wait_until(waits_for_a_lock, 30, "the claim does not wait for the host's lock")
        assert finish_job(Job.objects.get(pk=before.pk), exit_code=0)
    claiming.join()
    before.refresh_from_db()
    after.refresh_from_db()
    assert before.finished_at
    assert after.started_at, "the claim did not see what was committed while it waited"
    assert before.finished_at <= after.started_at


def waits_for_a_lock() -> bool:
    """Return whether a connection to this database waits for another's lock."""
    with connection.cursor() as cursor:
        # What is known of the others stays the same for the whole transaction.
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT 1 FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(cursor.fetchall())


class TestDatabaseRefusals:
    def test_a_second_running_job_of_a_server(self, server: Server) -> None:
        Job.objects.create(operation="start", server=server, state=JobState.RUNNING)
        with pytest.raises(IntegrityError), transaction.atomic():
            Job.objects.create(operation="stop", server=server, state=JobState.RUNNING)

    def test_a_second_running_install_of_a_host(self, host: Host) -> None:
        Job.objects.create(operation="install", host=host, state=JobState.RUNNING)
        with pytest.raises(IntegrityError), transaction.atomic():
            Job.objects.create(operation="install", host=host, state=JobState.RUNNING)

    def test_an_install_beside_a_rollback(self, host: Host) -> None:
        Job.objects.create(operation="install", host=host, state=JobState.RUNNING)
        with pytest.raises(IntegrityError), transaction.atomic():
            Job.objects.create(operation="rollback", host=host, state=JobState.RUNNING)

    def test_a_state_that_is_none(self, host: Host) -> None:
        with pytest.raises(IntegrityError), transaction.atomic():
            Job.objects.create(operation="install", host=host, state="paused")


class TestEnding:
    def test_success_has_exit_code_zero_and_all_times(self, server: Server, worker: Worker) -> None:
        start(server)
        job = claim_next_job(worker)
        assert job is not None
        assert finish_job(job, exit_code=0)
        job = Job.objects.get()
        assert (job.state, job.exit_code, job.error) == (JobState.SUCCEEDED, 0, "")
        assert job.started_at is not None
        assert job.finished_at is not None
        assert job.created_at <= job.started_at <= job.finished_at <= job.updated_at

    def test_a_final_state_does_not_change(self, server: Server, worker: Worker) -> None:
        start(server)
        job = claim_next_job(worker)
        assert job is not None
        finish_job(job, exit_code=3, error="no")
        assert not finish_job(job, exit_code=0)
        assert Job.objects.get().state == JobState.FAILED
        assert cancel(job).state == JobState.FAILED

    def test_only_the_owner_ends_a_job(self, server: Server, host: Host, worker: Worker) -> None:
        start(server)
        job = claim_next_job(worker)
        assert job is not None
        other = Worker.objects.create(
            host=host,
            pid=1,
            boot_id="b",
            pid_namespace="n",
            process_started=1,
            concurrency=1,
            started_at=timezone.now(),
            heartbeat_at=timezone.now(),
        )
        Job.objects.update(worker=other)
        learnt = {"last_error": "not for this worker to say"}
        assert not finish_job(job, exit_code=0, server_changes=learnt)
        assert Job.objects.get().state == JobState.RUNNING
        assert Server.objects.get().last_error == ""

    def test_the_error_is_one_line(self, server: Server, worker: Worker) -> None:
        start(server)
        job = claim_next_job(worker)
        assert job is not None
        finish_job(job, exit_code=1, error="it\0 broke\n  badly")
        assert Job.objects.get().error == "it broke badly"

    def test_cancelling_a_queued_job_ends_it(self, server: Server, worker: Worker) -> None:
        job = cancel(start(server))
        assert job.state == JobState.CANCELLED
        assert job.finished_at is not None
        assert claim_next_job(worker) is None

    def test_a_worker_reads_which_of_its_own_jobs_are_to_end(
        self, make_server: MakeServer, host: Host, worker: Worker
    ) -> None:
        asked, other, finished = (start(make_server(f"s{number}")) for number in range(3))
        assert ids(claim_jobs(worker, host, 3)) == ids([asked, other, finished])
        cancel(asked)
        cancel(finished)
        finished.refresh_from_db()
        assert finish_job(finished, exit_code=0)
        assert read_cancel_requests(worker) == [asked.pk]
        worker.pk = None
        worker.boot_id = "another"
        worker.save()
        assert read_cancel_requests(worker) == []

    def test_cancelling_a_running_job_asks_its_worker(self, server: Server, worker: Worker) -> None:
        start(server)
        job = claim_next_job(worker)
        assert job is not None
        job = cancel(job)
        assert job.state == JobState.RUNNING
        asked_at = job.cancel_requested_at
        assert asked_at is not None
        assert cancel(job).cancel_requested_at == asked_at

    @pytest.mark.parametrize("is_running", [False, True])
    def test_a_cancel_is_announced_to_workers_and_pages(
        self, server: Server, worker: Worker, monkeypatch: pytest.MonkeyPatch, is_running: bool
    ) -> None:
        """Otherwise nobody on PostgreSQL learns of it before a worker happens to look."""
        job = start(server)
        if is_running:
            assert claim_next_job(worker)
        announced: list[tuple[Channel, ...]] = []

        def note(*channels: Channel) -> None:
            assert Job.objects.get().cancel_requested_at is not None
            assert connection.in_atomic_block
            announced.append(channels)

        monkeypatch.setattr(transitions, "announce", note)
        cancel(job)
        assert announced == [(Channel.QUEUE, Channel.PAGES)]


class TestGivingBack:
    def test_a_job_that_was_not_begun_waits_in_its_old_place(
        self, make_server: MakeServer, worker: Worker, host: Host
    ) -> None:
        older, newer = start(make_server("a")), start(make_server("b"))
        assert ids(claim_jobs(worker, host, 1)) == ids([older])
        give_back(worker, [ClaimedJob.of(older)])
        older.refresh_from_db()
        assert (older.state, older.worker, older.started_at) == (JobState.QUEUED, None, None)
        assert ids(claim_jobs(worker, host, 2)) == ids([older, newer])

    def test_one_that_is_to_end_is_cancelled(self, server: Server, worker: Worker) -> None:
        start(server)
        job = claim_next_job(worker)
        assert job
        cancel(job)
        give_back(worker, [ClaimedJob.of(job)])
        job.refresh_from_db()
        assert job.state == JobState.CANCELLED
        assert "before it started" in job.error
        assert (job.worker, job.started_at) == (None, None)

    @pytest.mark.parametrize("is_asked_first", [True, False])
    def test_one_that_is_cancelled_leaves_what_is_wanted_of_its_server(
        self, server: Server, worker: Worker, fake_host: FakeHost, is_asked_first: bool
    ) -> None:
        """A host that comes back from a reboot would start it."""
        start(server)
        job = claim_next_job(worker)
        assert job
        assert desired_state_of(server) == DesiredState.RUNNING
        if is_asked_first:
            cancel(Job.objects.get())
        give_back(worker, [ClaimedJob.of(job)])
        assert desired_state_of(server) == DesiredState.STOPPED
        assert cancel(Job.objects.get()).state == JobState.CANCELLED

    def test_what_is_wanted_since_of_a_server_whose_job_is_anothers_stays(
        self, server: Server, worker: Worker, fake_host: FakeHost
    ) -> None:
        start(server)
        job = claim_next_job(worker)
        assert job
        assert finish_job(Job.objects.get(), exit_code=0)
        give_back(worker, [ClaimedJob.of(job)])
        assert desired_state_of(server) == DesiredState.RUNNING

    def test_what_is_not_the_workers_any_more_is_left_alone(
        self, make_server: MakeServer, worker: Worker, host: Host
    ) -> None:
        start(make_server("a"))
        start(make_server("b"))
        claimed = claim_jobs(worker, host, 2)
        over, taken = (Job.objects.get(pk=job.id) for job in claimed)
        assert finish_job(over, exit_code=0)
        other = Worker.objects.get(pk=worker.pk)
        other.pk, other.pid = None, worker.pid + 1
        other.save()
        Job.objects.filter(pk=taken.pk).update(worker=other)
        give_back(worker, claimed)
        over.refresh_from_db()
        taken.refresh_from_db()
        assert over.state == JobState.SUCCEEDED
        assert (taken.state, taken.worker) == (JobState.RUNNING, other)


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has no locks of rows")
@pytest.mark.django_db(transaction=True)
class TestAtTheMomentOfGivingBack:
    """A job is cancelled, or still being claimed, while its worker puts it back: two transactions at once."""

    def test_a_cancel_that_comes_a_moment_later_is_not_lost(
        self, server: Server, worker: Worker
    ) -> None:
        start(server)
        job = claim_next_job(worker)
        assert job
        with transaction.atomic():
            give_back(worker, [ClaimedJob.of(job)])
            cancelling = run_in_thread(lambda: cancel(job))
            wait_until(waits_for_a_lock, 30, "the cancel does not wait for the job's lock")
        cancelling.join()
        assert Job.objects.get().state == JobState.CANCELLED

    def test_a_cancel_that_came_a_moment_before_is_not_lost(
        self, server: Server, worker: Worker
    ) -> None:
        start(server)
        job = claim_next_job(worker)
        assert job
        with transaction.atomic():
            cancel(Job.objects.get())
            giving_back = run_in_thread(lambda: give_back(worker, [ClaimedJob.of(job)]))
            wait_until(waits_for_a_lock, 30, "giving back does not wait for the job's lock")
        giving_back.join()
        assert Job.objects.get().state == JobState.CANCELLED

    def test_a_claim_whose_commit_is_still_under_way_is_waited_for(
        self, server: Server, worker: Worker, host: Host
    ) -> None:
        """Its answer was lost with the connection, and the database has not finished it yet."""
        start(server)
        with transaction.atomic():
            claimed = claim_jobs(worker, host, 1)
            giving_back = run_in_thread(lambda: give_back(worker, claimed))
            wait_until(waits_for_a_lock, 30, "giving back does not wait for the claim")
        giving_back.join()
        assert Job.objects.get().state == JobState.QUEUED


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has no locks of rows")
@pytest.mark.django_db(transaction=True)
def test_a_click_and_a_wait_that_is_over_do_not_wait_for_each_other(server: Server) -> None:
    record_state(server, ActualState.RUNNING)
    until = timezone.now() + timedelta(hours=1)
    action = defer("restart", server=server, requested_by=server.owner, until=until)
    with transaction.atomic():
        lock_person(server.owner)
        lock_host(server.host)
        carrying_out = run_in_thread(lambda: carry_out_deferral(action))
        wait_until(waits_for_a_lock, 30, "it does not wait for the locks of a click")
        clicked = request("stop", server=server, requested_by=server.owner).job
    carrying_out.join()
    assert list(Job.objects.all()) == [clicked]
    assert not DeferredAction.objects.exists()


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has no locks of rows")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("how", ["replaced", "forgotten", "ended"])
def test_a_wait_is_changed_after_its_servers_row_is_locked(server: Server, how: str) -> None:
    record_state(server, ActualState.RUNNING)

    def wait() -> DeferredAction:
        until = timezone.now() + timedelta(hours=1)
        return defer("restart", server=server, requested_by=server.owner, until=until)

    action = wait()
    change: dict[str, Callable[[], object]] = {
        "replaced": wait,
        "forgotten": lambda: forget_deferral(server),
        "ended": lambda: end_deferral(action, "Because."),
    }
    with transaction.atomic():
        Server.objects.select_for_update(no_key=True).get(pk=server.pk)
        changing = run_in_thread(change[how])
        wait_until(waits_for_a_lock, 30, "it does not wait for the server's row")
        # As a click would, which then goes on to wait for nothing.
        assert DeferredAction.objects.select_for_update(nowait=True).get() == action
    changing.join()


def run_in_thread(act: Callable[[], object]) -> threading.Thread:
    """Run something in another thread, on its own connection; return the thread."""

    def run() -> None:
        act()
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def desired_state_of(server: Server) -> str:
    return Server.objects.values_list("desired_state", flat=True).get(pk=server.pk)


class TestRecovery:
    def worker_row(self, host: Host, **changes: object) -> Worker:
        row = register_worker(host, concurrency=1, is_claiming=True)
        Worker.objects.filter(pk=row.pk).update(**changes)
        row.refresh_from_db()
        return row

    def running_job(self, server: Server, worker: Worker) -> Job:
        return Job.objects.create(
            operation="start",
            server=server,
            worker=worker,
            state=JobState.RUNNING,
            started_at=timezone.now(),
        )

    def test_a_living_workers_job_is_left_alone(self, server: Server, host: Host) -> None:
        self.running_job(server, self.worker_row(host))
        assert recover_stale_jobs() == []
        assert Job.objects.get().state == JobState.RUNNING

    @pytest.mark.parametrize(
        "changes",
        [
            {"heartbeat_at": timezone.now() - timedelta(hours=1)},
            {"stopped_at": timezone.now()},
            {"process_started": 1},
            {"pid": 4_194_304},
            {"pid": 4_194_304, "pid_namespace": ""},
        ],
        ids=["lease over", "said goodbye", "pid given out again", "no such process", "by hand"],
    )
    def test_the_job_of_a_worker_that_is_gone_fails(
        self, server: Server, host: Host, changes: dict[str, object]
    ) -> None:
        Server.objects.update(actual_state=ActualState.RUNNING)
        job = self.running_job(server, self.worker_row(host, **changes))
        assert recover_stale_jobs() == [job]
        job = Job.objects.get()
        assert (job.state, job.error, job.exit_code) == (JobState.FAILED, WORKER_STOPPED, 1)
        assert job.finished_at is not None
        assert [(log.stream, log.line) for log in job.logs.all()] == [("stderr", WORKER_STOPPED)]
        server.refresh_from_db()
        assert server.actual_state == ActualState.UNKNOWN
        assert WORKER_STOPPED in server.last_error
        assert recover_stale_jobs() == []

    def test_a_process_that_cannot_be_seen_is_judged_by_its_heartbeat(
        self, server: Server, host: Host
    ) -> None:
        self.running_job(server, self.worker_row(host, boot_id="another machine", pid=4_194_304))
        assert recover_stale_jobs() == []

    def test_only_workers_that_are_known_to_be_gone_are_recorded_as_stopped(
        self, host: Host
    ) -> None:
        long_ago = timezone.now() - timedelta(hours=1)
        killed = self.worker_row(host, pid=4_194_304)
        silent = self.worker_row(host, boot_id="another machine", heartbeat_at=long_ago)
        here = register_worker(host, concurrency=4, is_claiming=True)
        record_gone_workers()
        assert set(Worker.objects.filter(stopped_at=None)) == {silent, here}
        killed.refresh_from_db()
        assert not killed.is_claiming

    def test_a_worker_that_comes_back_just_then_keeps_what_it_claims_again(
        self, server: Server, host: Host
    ) -> None:
        long_ago = timezone.now() - timedelta(hours=1)
        silent = self.worker_row(host, boot_id="another machine", heartbeat_at=long_ago)
        job = self.running_job(server, silent)
        judged: list[bool] = []

        def has_lapsed(worker: Worker) -> bool:
            judged.append(worker.heartbeat_at == long_ago)
            if len(judged) == 1:
                give_back(silent, [ClaimedJob.of(job)])
                claim_jobs(silent, host, 1)
            return judged[-1]

        assert recover_stale_jobs(has_lapsed=has_lapsed) == []
        assert judged == [True, False]
        assert Job.objects.get().state == JobState.RUNNING

    def test_a_running_job_without_a_worker_is_stale(self, server: Server) -> None:
        job = Job.objects.create(operation="start", server=server, state=JobState.RUNNING)
        assert recover_stale_jobs() == [job]


class TestRequests:
    def test_a_second_click_leads_to_the_same_job(self, server: Server, alice: User) -> None:
        first = request("start", server=server, requested_by=alice)
        second = request("start", server=server, requested_by=alice)
        assert first.is_new
        assert not second.is_new
        assert first.job == second.job
        assert first.job.requested_by_name == "alice"

    def test_a_running_one_counts_too(self, server: Server, alice: User, worker: Worker) -> None:
        first = request("start", server=server, requested_by=alice)
        claim_next_job(worker)
        assert request("start", server=server, requested_by=alice).job == first.job

    def test_another_action_in_between_makes_it_a_new_wish(
        self, server: Server, alice: User
    ) -> None:
        for operation in ("start", "stop", "start"):
            assert request(operation, server=server, requested_by=alice).is_new

    def test_a_later_click_comes_later_though_the_clock_was_set_back(
        self, server: Server, alice: User
    ) -> None:
        record_state(server, ActualState.RUNNING)
        first = request("stop", server=server, requested_by=alice).job
        Job.objects.update(created_at=timezone.now() + timedelta(hours=1))
        second = request("start", server=server, requested_by=alice).job
        assert ids(Job.objects.queued()) == ids([first, second])

    def test_a_job_that_is_being_cancelled_does_not_count(
        self, server: Server, alice: User, worker: Worker
    ) -> None:
        first = request("start", server=server, requested_by=alice)
        claim_next_job(worker)
        cancel(first.job)
        assert request("start", server=server, requested_by=alice).is_new

    @pytest.mark.parametrize("operation", ["explode", "", "install", "START"])
    def test_what_a_server_cannot_do_is_refused(
        self, server: Server, alice: User, operation: str
    ) -> None:
        with pytest.raises(RequestRefused):
            request(operation, server=server, requested_by=alice)
        assert not Job.objects.exists()

    def test_a_server_operation_needs_a_server(self, host: Host, alice: User) -> None:
        with pytest.raises(RequestRefused, match="needs a server"):
            request("start", host=host, requested_by=alice)

    def test_a_start_without_the_game_is_refused(
        self, server: Server, host: Host, alice: User
    ) -> None:
        Host.objects.update(reported_at=timezone.now(), build_id="")
        server = Server.objects.get()
        with pytest.raises(RequestRefused, match="not installed"):
            request("start", server=server, requested_by=alice)
        install(host)
        assert request("start", server=server, requested_by=alice).is_new

    def test_stopping_what_is_not_there_is_refused(self, server: Server, alice: User) -> None:
        record_state(server, ActualState.ABSENT)
        with pytest.raises(RequestRefused, match="no files"):
            request("stop", server=server, requested_by=alice)

    def test_a_server_that_was_removed_meanwhile_is_refused(
        self, server: Server, alice: User
    ) -> None:
        Server.objects.all().delete()
        with pytest.raises(RequestRefused, match="removed"):
            request("start", server=server, requested_by=alice)

    def test_a_server_that_was_moved_meanwhile_is_refused(
        self, server: Server, alice: User
    ) -> None:
        Server.objects.update(host=Host.objects.create(name="other"))
        with pytest.raises(RequestRefused, match="moved to another host"):
            request("start", server=server, requested_by=alice)

    def test_a_retry_runs_where_the_server_is_by_then(
        self, server: Server, alice: User, worker: Worker
    ) -> None:
        start(server)
        job = claim_next_job(worker)
        assert job is not None
        finish_job(job, exit_code=1, error="no")
        other = Host.objects.create(name="other")
        Server.objects.update(host=other)
        failed = Job.objects.get(pk=job.pk)
        assert retry(failed, requested_by=alice).job.host == other

    def test_a_retry_is_a_new_job_linked_to_the_old(
        self, server: Server, alice: User, worker: Worker
    ) -> None:
        start(server)
        job = claim_next_job(worker)
        assert job is not None
        with pytest.raises(RequestRefused):
            retry(job, requested_by=alice)
        finish_job(job, exit_code=1, error="no")
        again = retry(job, requested_by=alice)
        assert again.is_new
        assert again.job.retry_of == job
        assert (again.job.operation, again.job.server) == (Operation.START, server)

    def test_history_outlives_what_it_was_about(self, server: Server, alice: User) -> None:
        job = request("start", server=server, requested_by=alice).job
        server.delete()
        job.refresh_from_db()
        assert (job.server, job.server_name, job.host_name) == (None, "alpha", "local")
        assert not job.can_be_retried
