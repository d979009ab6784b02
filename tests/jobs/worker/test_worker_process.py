"""The worker process: several jobs at a time, stopping, cancelling, recovering, beating."""

import math
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import combinations, count
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import psycopg
import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.db import InternalError, OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from hostops.specs import CancelToken, InstanceState, OnLine, OnStage
from jobs.claimed_jobs import ClaimedJob
from jobs.database import sql
from jobs.database.outage_lines import OutageLog
from jobs.logs import Ending, job_output, log_writer
from jobs.logs.job_output import Entries
from jobs.models import Job, JobLog, JobState, Worker
from jobs.queue import liveness, transitions
from jobs.queue.claim_statements import set_running
from jobs.queue.liveness import Heartbeat, register_worker
from jobs.queue.requests import enqueue
from jobs.queue.transitions import cancel
from jobs.worker import chores, deaths, expectations, job_threads, worker_process
from jobs.worker.chores import Chores
from jobs.worker.execution import Plan, plan
from jobs.worker.job_threads import JobThreads
from jobs.worker.running_jobs import RunningJobs
from jobs.worker.worker_process import WorkerLoop, worker_loop
from servers.models import ActualState, Blueprint, DesiredState, Host, Run, Server
from tests.clocks import Clock
from tests.fakes import Call, FakeHost
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def servers(alice: User, host: Host, blueprint: Blueprint) -> list[Server]:
    """Return four servers of one host."""
    return [
        Server.objects.create(name=f"s{number}", owner=alice, host=host, blueprint=blueprint)
        for number in range(4)
    ]


@pytest.fixture
def run_loop(host: Host) -> Iterator[Callable[..., WorkerLoop]]:
    """Return what starts a worker in a thread; it is stopped, and waited for, at the end."""
    loops: list[tuple[WorkerLoop, threading.Thread]] = []

    def start(concurrency: int = 4) -> WorkerLoop:
        is_ready = threading.Event()
        loop = WorkerLoop(host=host, concurrency=concurrency, on_ready=is_ready.set)

        def run() -> None:
            loop.run()
            connection.close()

        thread = threading.Thread(target=run)
        thread.start()
        loops.append((loop, thread))
        assert is_ready.wait(10)
        return loop

    yield start
    for loop, thread in loops:
        loop.stop()
        loop.stop()
        thread.join(20)
        assert not thread.is_alive()


def state_of(job: Job | ClaimedJob) -> str:
    return Job.objects.values_list("state", flat=True).get(pk=job.pk)


def meet(parties: int) -> Callable[..., None]:
    """Return an action that ends once `parties` of it run at one time."""
    barrier = threading.Barrier(parties)

    def act(*_: object) -> None:
        barrier.wait(10)

    return act


def test_jobs_of_different_servers_run_together(
    servers: list[Server], fake_host: FakeHost, host: Host
) -> None:
    fake_host.act = meet(4)
    jobs = [enqueue("stop", server=server, requested_by=None) for server in servers]
    worker_loop(host=host, concurrency=4, until_empty=True)
    assert {state_of(job) for job in jobs} == {JobState.SUCCEEDED}


def test_concurrency_is_a_limit(servers: list[Server], fake_host: FakeHost, host: Host) -> None:
    fake_host.act = meet(2)
    for server in servers:
        enqueue("stop", server=server, requested_by=None)
    worker_loop(host=host, concurrency=2, until_empty=True)
    assert len(fake_host.calls) == 4
    for moment in (call.began_at for call in fake_host.calls):
        assert sum(call.began_at <= moment < call.ended_at for call in fake_host.calls) <= 2


def test_jobs_of_one_server_take_turns_in_order(
    servers: list[Server], fake_host: FakeHost, host: Host
) -> None:
    for operation in ("start", "stop", "restart", "delete"):
        enqueue(operation, server=servers[0], requested_by=None)
    worker_loop(host=host, until_empty=True)
    assert fake_host.verbs == [
        *("initialize", "start"),
        "stop",
        *("check", "stop", "initialize", "start"),
        "delete",
    ]
    assert_no_overlap(fake_host.calls)


def test_what_was_claimed_ahead_of_a_job_that_takes_long_goes_back_into_the_queue(
    servers: list[Server],
    fake_host: FakeHost,
    run_loop: Callable[..., WorkerLoop],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There it can be seen waiting, cancelled, or taken by another worker; it is not begun twice."""
    may_end = threading.Event()
    monkeypatch.setattr(JobThreads, "places", 4)  # As if all jobs had been short.
    fake_host.act = lambda _verb, name, *_: may_end.wait(20) if name == "s0" else None
    jobs = [enqueue("initialize", server=server, requested_by=None) for server in servers]
    given_back: list[ClaimedJob] = []

    def note(of: Worker, late: list[ClaimedJob]) -> None:
        monkeypatch.setattr(JobThreads, "places", 1)  # They are not claimed again at once.
        given_back.extend(late)
        transitions.give_back(of, late)

    monkeypatch.setattr(worker_process, "give_back", note)
    try:
        loop = run_loop(1)
        wait_until(lambda: len(given_back) == 3, 10, "nothing is given back")
        loop.stop()  # So that it claims nothing more; the long one may still end.
        wait_until(lambda: queued() == 3, 10, "they do not wait in the queue")
        assert cancel(jobs[3]).state == JobState.CANCELLED
    finally:
        may_end.set()
    wait_until(lambda: state_of(jobs[0]) == JobState.SUCCEEDED, 10, "the long one does not end")
    # The next worker is this process too, and has the same row.
    wait_until(lambda: Worker.objects.get().stopped_at, 10, "the worker does not say goodbye")
    worker_loop(until_empty=True, concurrency=1)
    assert [state_of(job) for job in jobs] == [*[JobState.SUCCEEDED] * 3, JobState.CANCELLED]
    assert [call.subject for call in fake_host.calls] == ["s0", "s1", "s2"]


def queued() -> int:
    return Job.objects.queued().count()


def test_an_install_overlaps_nothing(
    servers: list[Server], fake_host: FakeHost, host: Host
) -> None:
    for server in servers:
        enqueue("initialize", server=server, requested_by=None)
    enqueue("install", host=host, requested_by=None)
    for server in servers:
        enqueue("stop", server=server, requested_by=None)
    worker_loop(host=host, concurrency=4, until_empty=True)
    (install,) = [call for call in fake_host.calls if call.verb == "install_runtime"]
    others = [call for call in fake_host.calls if call is not install]
    assert len(others) == 8
    assert not any(install.overlaps(call) for call in others)
    assert all(call.ended_at <= install.began_at for call in others if call.verb == "initialize")
    assert all(call.began_at >= install.ended_at for call in others if call.verb == "stop")


def assert_no_overlap(calls: list[Call]) -> None:
    for one, other in combinations(calls, 2):
        assert not one.overlaps(other)


def test_a_queued_job_wakes_an_idle_worker(
    servers: list[Server], fake_host: FakeHost, run_loop: Callable[[], WorkerLoop], settings: object
) -> None:
    settings.JOB_WORKER_POLL_SECONDS = 3600  # type: ignore[attr-defined]
    run_loop()
    job = enqueue("stop", server=servers[0], requested_by=None)
    wait_until(lambda: state_of(job) == JobState.SUCCEEDED, 10, "the worker did not wake up")


def test_a_cancel_request_reaches_a_running_job(
    servers: list[Server], fake_host: FakeHost, run_loop: Callable[[], WorkerLoop], settings: object
) -> None:
    settings.JOB_WORKER_POLL_SECONDS = 3600  # type: ignore[attr-defined]

    def act(verb: str, name: str, on_line: OnLine, on_stage: OnStage, token: CancelToken) -> None:
        token.wait(30)
        token.raise_if_cancelled()

    fake_host.act = act
    run_loop()
    job = enqueue("stop", server=servers[0], requested_by=None)
    wait_until(lambda: state_of(job) == JobState.RUNNING, 10, "the job did not start")
    cancel(job)
    wait_until(lambda: state_of(job) == JobState.CANCELLED, 10, "the job was not cancelled")


def test_the_first_stop_drains_and_the_second_cancels(
    servers: list[Server], fake_host: FakeHost, run_loop: Callable[[], WorkerLoop]
) -> None:
    def act(verb: str, name: str, on_line: OnLine, on_stage: OnStage, token: CancelToken) -> None:
        token.wait(30)
        token.raise_if_cancelled()

    fake_host.act = act
    loop = run_loop()
    job = enqueue("stop", server=servers[0], requested_by=None)
    wait_until(lambda: state_of(job) == JobState.RUNNING, 10, "the job did not start")
    # It may run as soon as the first one is over, if anybody still claims then.
    later = enqueue("start", server=servers[0], requested_by=None)
    loop.stop()
    assert not loop.is_claiming
    assert state_of(job) == JobState.RUNNING
    loop.stop()
    wait_until(lambda: state_of(job) == JobState.CANCELLED, 10, "the job was not cancelled")
    job.refresh_from_db()
    assert job.error == "Cancelled because the worker was stopped."
    wait_until(lambda: Worker.objects.get().stopped_at, 10, "the worker did not say goodbye")
    assert state_of(later) == JobState.QUEUED


def test_a_drained_worker_lets_a_job_finish(
    servers: list[Server], fake_host: FakeHost, run_loop: Callable[[], WorkerLoop]
) -> None:
    may_end = threading.Event()
    fake_host.act = lambda *_: may_end.wait(30)
    loop = run_loop()
    job = enqueue("stop", server=servers[0], requested_by=None)
    wait_until(lambda: state_of(job) == JobState.RUNNING, 10, "the job did not start")
    loop.stop()
    may_end.set()
    wait_until(lambda: state_of(job) == JobState.SUCCEEDED, 10, "the job did not finish")


def test_a_worker_that_is_not_enabled_beats_and_claims_nothing(
    servers: list[Server],
    fake_host: FakeHost,
    run_loop: Callable[[], WorkerLoop],
    settings: object,
) -> None:
    settings.JOB_WORKER_ENABLED = False  # type: ignore[attr-defined]
    settings.JOB_WORKER_LEASE_SECONDS = 0.6  # type: ignore[attr-defined]
    job = enqueue("stop", server=servers[0], requested_by=None)
    run_loop()
    first = Worker.objects.get()
    wait_until(lambda: Worker.objects.get().heartbeat_at > first.heartbeat_at, 10, "it is silent")
    assert not Worker.objects.get().is_claiming
    assert state_of(job) == JobState.QUEUED


def test_stale_jobs_are_recovered_at_the_start_and_their_servers_probed(
    servers: list[Server], fake_host: FakeHost, host: Host, run_loop: Callable[[], WorkerLoop]
) -> None:
    dead = register_worker(host, concurrency=1, is_claiming=True)
    Worker.objects.filter(pk=dead.pk).update(
        pid=4_194_304, heartbeat_at=timezone.now() - timedelta(seconds=1)
    )
    job = Job.objects.create(
        operation="start", server=servers[0], worker=dead, state=JobState.RUNNING
    )
    fake_host.states["s0"] = InstanceState.RUNNING
    run_loop()
    assert state_of(job) == JobState.FAILED
    assert Server.objects.get(name="s0").actual_state == ActualState.RUNNING


def test_a_worker_that_could_not_beat_itself_judges_nobody_silent(
    servers: list[Server],
    fake_host: FakeHost,
    host: Host,
    settings: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.JOB_WORKER_LEASE_SECONDS = 30.0  # type: ignore[attr-defined]
    clock = Clock()
    monkeypatch.setattr(liveness, "monotonic", clock)
    elsewhere = register_worker(host, concurrency=1, is_claiming=True)
    Worker.objects.filter(pk=elsewhere.pk).update(boot_id="of another machine")
    job = Job.objects.create(
        operation="start", server=servers[0], worker=elsewhere, state=JobState.RUNNING
    )
    worker = register_worker(host, concurrency=1, is_claiming=True)
    heartbeat = Heartbeat(worker, is_claiming=lambda: True)
    own_chores = Chores(
        *(worker, RunningJobs(), heartbeat),
        is_claiming=lambda: True,
        has_free_thread=lambda: False,
    )

    def recover_for(seconds: int, *, beats: bool) -> None:
        """Look every five seconds, as a worker whose own heartbeats are stored or are not."""
        heartbeat._steady_since = heartbeat._last_beat_at = clock()
        for _ in range(seconds // 5):
            clock.seconds += 5
            if beats:
                heartbeat._last_beat_at = clock()
            own_chores.recover()

    recover_for(90, beats=False)
    assert state_of(job) == JobState.RUNNING
    recover_for(90, beats=True)
    assert state_of(job) == JobState.FAILED


def test_a_job_that_the_worker_itself_lost_is_failed(
    servers: list[Server],
    fake_host: FakeHost,
    run_loop: Callable[[], WorkerLoop],
    settings: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.JOB_WORKER_LEASE_SECONDS = 1.0  # type: ignore[attr-defined]

    def break_down(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(worker_process, "execute", break_down)
    run_loop()
    job = enqueue("stop", server=servers[0], requested_by=None)
    wait_until(lambda: state_of(job) == JobState.FAILED, 15, "the job hangs")
    job.refresh_from_db()
    assert job.error == transitions.WORKER_LOST_JOB, "the worker has not stopped"
    assert job.logs.get().line == transitions.WORKER_LOST_JOB
    assert transitions.WORKER_LOST_JOB in Server.objects.get(name="s0").last_error


def test_a_job_whose_output_the_database_refuses_is_failed_for_that(
    servers: list[Server],
    fake_host: FakeHost,
    run_loop: Callable[[], WorkerLoop],
    settings: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.JOB_WORKER_LEASE_SECONDS = 1.0  # type: ignore[attr-defined]

    def refuse(_entries: job_output.Entries) -> None:
        raise ValueError("refused")

    monkeypatch.setattr(job_output.Entries, "store_output", refuse)
    fake_host.act = lambda _verb, _name, on_line, *_: on_line("stdout", "refused")
    run_loop()
    job = enqueue("stop", server=servers[0], requested_by=None)
    wait_until(lambda: state_of(job) == JobState.FAILED, 15, "the job hangs")
    assert Job.objects.get().error == transitions.WORKER_LOST_JOB


def read_only_standby() -> Exception:
    """Return what Django raises for a statement that a standby refuses."""
    error = InternalError("cannot execute UPDATE in a read-only transaction")
    error.__cause__ = psycopg.errors.ReadOnlySqlTransaction(str(error))
    return error


OUTAGES = [OperationalError("the database is away"), read_only_standby()]


@pytest.mark.parametrize("outage", OUTAGES, ids=["away", "read-only"])
def test_the_loop_outlives_a_database_that_is_away(
    servers: list[Server],
    fake_host: FakeHost,
    run_loop: Callable[[], WorkerLoop],
    monkeypatch: pytest.MonkeyPatch,
    outage: Exception,
) -> None:
    claim = transitions.claim_jobs
    failures: list[int] = []

    def claim_or_fail(*args: Any, **options: Any) -> list[ClaimedJob]:
        if len(failures) < 3:
            failures.append(1)
            raise outage
        return claim(*args, **options)

    monkeypatch.setattr(worker_process, "claim_jobs", claim_or_fail)
    run_loop()
    job = enqueue("stop", server=servers[0], requested_by=None)
    wait_until(lambda: state_of(job) == JobState.SUCCEEDED, 15, "the worker did not recover")


def test_jobs_that_report_progress_do_not_hurry_it_while_the_database_is_away(
    host: Host, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.JOB_WORKER_POLL_SECONDS = 1
    loop = WorkerLoop(host=host, concurrency=1)
    clock = Clock()
    monkeypatch.setattr(worker_process, "monotonic", clock)

    def wake(seconds: float) -> bool:
        clock.seconds += min(seconds, 0.03)
        return True

    monkeypatch.setattr(loop, "_wake", Mock(wait=wake))
    loop._note_outage(OperationalError("the database is away"))
    clock.seconds += 10
    began_at = clock.seconds
    loop._pause_for_outage()
    assert clock.seconds - began_at == pytest.approx(1)
    loop._stops += 1
    monkeypatch.setattr(loop, "_wake", Mock(wait=lambda _seconds: loop.stop()))
    loop._pause_for_outage()
    assert clock.seconds - began_at == pytest.approx(1), "it does not heed a stop"


def test_an_end_is_seen_although_the_last_job_that_it_waited_for_has_begun_just_then(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = WorkerLoop(host=host, concurrency=2)
    waiting = [plan]

    def see_nothing() -> float:
        # Just afterwards, a job ends and wakes nobody because another waits, and that one is begun.
        waiting.clear()
        return math.inf

    monkeypatch.setattr(loop._writer, "due_in_seconds", see_nothing)
    monkeypatch.setattr(loop._threads, "_waiting", waiting)
    assert loop._due_in_seconds() == job_threads.AHEAD_SECONDS


def test_no_end_waits_for_those_of_jobs_whose_threads_are_just_waking_up(host: Host) -> None:
    loop = WorkerLoop(host=host, concurrency=2)
    ended, claimed = (ClaimedJob.of(Job(pk=number)) for number in (1, 2))
    loop._threads.submit([Plan(claimed, lambda **_callbacks: None)], job_threads.boot_seconds())
    loop._writer.finish(ended, Ending(JobState.SUCCEEDED, 0))
    assert loop._writer.due_in_seconds() == 0


def test_a_job_that_was_just_claimed_when_the_database_went_away_waits_in_the_queue(
    servers: list[Server],
    fake_host: FakeHost,
    run_loop: Callable[[], WorkerLoop],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However long that lasts, the job does not fail: nobody has touched the host for it."""
    states: list[str] = []

    def plan_or_fail(job: ClaimedJob) -> Plan:
        states.append(state_of(job))
        if len(states) == 1:
            raise OperationalError("the database is away")
        return plan(job)

    given_back: list[tuple[str, str]] = []

    def note(worker: Worker, late: list[ClaimedJob]) -> None:
        transitions.give_back(worker, late)
        given_back.extend((state_of(job), desired_state_of(job)) for job in late)

    monkeypatch.setattr(worker_process, "plan", plan_or_fail)
    monkeypatch.setattr(worker_process, "give_back", note)
    run_loop()
    job = enqueue("start", server=servers[0], requested_by=None)
    wait_until(lambda: state_of(job) == JobState.SUCCEEDED, 30, "the job is not claimed again")
    assert given_back == [(JobState.QUEUED, DesiredState.STOPPED)]
    assert states == [JobState.RUNNING, JobState.RUNNING]
    assert desired_state_of(job) == DesiredState.RUNNING


@pytest.mark.parametrize("lost", [1, 2], ids=["claim alone", "claim with an end"])
def test_a_job_whose_claim_was_committed_without_an_answer_waits_in_the_queue(
    servers: list[Server],
    fake_host: FakeHost,
    run_loop: Callable[..., WorkerLoop],
    monkeypatch: pytest.MonkeyPatch,
    lost: int,
) -> None:
    """The worker cannot know that it has the job, and has not touched the host for it: it does not fail."""
    given_back: list[str] = []

    def note(worker: Worker, jobs: list[ClaimedJob]) -> None:
        given_back.extend(state_of(job) for job in jobs)
        transitions.give_back(worker, jobs)

    monkeypatch.setattr(worker_process, "give_back", note)
    claims = lose_the_answer_to_a_claim(monkeypatch, lost)
    jobs = [enqueue("stop", server=server, requested_by=None) for server in servers[:2]]
    run_loop(concurrency=1)
    wait_until(lambda: not Job.objects.active().exists(), 30, "a job hangs")
    assert {state_of(job) for job in jobs} == {JobState.SUCCEEDED}
    assert given_back == [JobState.RUNNING]
    assert claims == [1, 1, 1]
    assert len(fake_host.calls) == 2


def test_a_job_whose_claim_is_answered_late_is_not_taken_for_lost(
    servers: list[Server],
    fake_host: FakeHost,
    run_loop: Callable[..., WorkerLoop],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However often the chores look meanwhile: otherwise it would fail, and begin after that."""
    is_committed, may_answer = threading.Event(), threading.Event()

    def hold_the_answer() -> None:
        is_committed.set()
        assert may_answer.wait(30)

    loop = run_loop(concurrency=1)
    delay_the_answer_to_a_claim(monkeypatch, 1, hold_the_answer)
    job = enqueue("stop", server=servers[0], requested_by=None)
    try:
        assert is_committed.wait(20)
        for _ in range(3):
            loop._chores.recover()
        assert state_of(job) == JobState.RUNNING
        assert loop._has_free_thread(), "if no answer comes, the worker is stuck"
    finally:
        may_answer.set()
    wait_until(lambda: state_of(job) != JobState.RUNNING, 20, "the job hangs")
    assert state_of(job) == JobState.SUCCEEDED


def test_a_claim_whose_commit_the_database_refused_is_forgotten(
    servers: list[Server], host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [
        ClaimedJob.of(enqueue("stop", server=server, requested_by=None)) for server in servers[:2]
    ]
    tries = iter([jobs[:1], jobs[1:]])
    outcomes = iter([jobs[1:], []])

    def claim(
        *_: Any, on_claimed: Callable[[list[ClaimedJob]], None], **__: Any
    ) -> list[ClaimedJob]:
        for noted in tries:
            on_claimed(noted)
        return next(outcomes)

    loop = WorkerLoop(host=host, concurrency=2)
    loop._worker = register_worker(host, concurrency=2, is_claiming=True)
    monkeypatch.setattr(worker_process, "claim_jobs", claim)
    loop._claim(2)
    assert loop._running.ids() == {jobs[1].pk}
    assert loop._claimed == jobs[1:]
    loop._claim(2)
    assert loop._running.ids() == set()
    assert loop._claimed == []


def test_a_refused_end_holds_up_no_waiting_job(servers: list[Server], host: Host) -> None:
    """The claim in the transaction of a refused batch is undone with it, so it is made again at once."""
    loop = WorkerLoop(host=host, concurrency=1)
    loop._worker = register_worker(host, concurrency=1, is_claiming=True)
    lost = enqueue("stop", server=servers[0], requested_by=None)
    loop._store_and_claim()
    (job,) = loop._claimed
    behind = enqueue("stop", server=servers[1], requested_by=None)
    Job.objects.filter(pk=lost.pk).update(state=JobState.FAILED, error="another's verdict")
    loop._writer.finish(job, Ending(JobState.SUCCEEDED, 0))
    loop._store_and_claim()
    assert [claimed.pk for claimed in loop._claimed] == [behind.pk]
    assert loop._running.ids() == {behind.pk}
    assert Job.objects.get(pk=lost.pk).error == "another's verdict"


def test_a_server_that_is_removed_while_its_job_runs_does_not_end_the_worker(
    servers: list[Server],
    fake_host: FakeHost,
    run_loop: Callable[..., WorkerLoop],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its run refers to a row that is gone, which the database says only at the commit."""

    def remove(verb: str, name: str, on_line: OnLine, *_: object) -> None:
        if verb == "start" and name == "s0":
            on_line("stdout", "started")
            Server.objects.filter(name="s0").delete()

    fake_host.act = remove
    loop = run_loop()
    died: list[int] = []

    def die(exit_code: int) -> None:
        died.append(exit_code)
        loop._writer.abandon()  # So that its jobs' threads can end.

    monkeypatch.setattr(deaths, "end_process", die)
    jobs = [enqueue("start", server=server, requested_by=None) for server in servers]
    wait_until(lambda: died or not Job.objects.active().exists(), 20, "the jobs do not end")
    assert not died
    assert [state_of(job) for job in jobs] == [JobState.SUCCEEDED] * 4
    assert jobs[0].logs.get().line == "started"
    assert Run.objects.count() == 3


def test_a_claim_beside_an_end_that_is_refused_at_the_commit_is_forgotten(
    servers: list[Server], host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = WorkerLoop(host=host, concurrency=1)
    loop._worker = register_worker(host, concurrency=1, is_claiming=True)
    enqueue("start", server=servers[0], requested_by=None)
    loop._store_and_claim()
    (job,) = loop._claimed
    loop._claimed = []
    behind = enqueue("stop", server=servers[1], requested_by=None)
    loop._writer.finish(
        job, Ending(JobState.SUCCEEDED, 0, run=Run(server_id=servers[0].pk, arguments="+map x"))
    )
    servers[0].delete()
    with monkeypatch.context() as patch:
        patch.setattr(Entries, "store", Mock(side_effect=OperationalError("away")))
        with pytest.raises(OperationalError):
            loop._store_and_claim()
    assert loop._claimed == []
    assert loop._running.ids() == {job.pk}
    assert state_of(behind) == JobState.QUEUED
    loop._store_and_claim()
    assert [claimed.pk for claimed in loop._claimed] == [behind.pk]
    assert loop._running.ids() == {behind.pk}
    assert state_of(job) == JobState.SUCCEEDED
    assert not Run.objects.exists()


def test_only_a_turn_that_writes_says_that_the_database_answers_again(
    servers: list[Server],
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = OutageLog()
    monkeypatch.setattr(worker_process, "outage_log", log)
    loop = WorkerLoop(host=host, concurrency=1)
    loop._worker = register_worker(host, concurrency=1, is_claiming=True)
    loop._signal = Mock(wait=Mock(return_value=False))
    job = enqueue("stop", server=servers[0], requested_by=None)
    loop._store_and_claim()
    (claimed,) = loop._claimed
    loop._claimed = []
    log.tell(worker_process.OUTAGE, read_only_standby())
    loop._take_turn()
    assert "answers again" not in caplog.text
    loop._writer.finish(claimed, Ending(JobState.SUCCEEDED, 0))
    loop._take_turn()
    assert state_of(job) == JobState.SUCCEEDED
    assert "answers again" in caplog.text


def test_a_job_that_is_given_back_and_claimed_again_meanwhile_is_not_taken_for_lost(
    servers: list[Server],
    fake_host: FakeHost,
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = register_worker(host, concurrency=1, is_claiming=True)
    job = enqueue("stop", server=servers[0], requested_by=None)
    running = RunningJobs()
    running.add(transitions.claim_jobs(worker, host, 1))
    read_ids = running.ids

    def give_back_and_claim_again() -> set[int]:
        """Let it happen between the reading of the rows and of the ids, once."""
        monkeypatch.setattr(running, "ids", read_ids)
        mine = [ClaimedJob.of(Job.objects.get())]
        transitions.give_back(worker, mine)
        running.discard(mine)
        known = read_ids()
        running.add(transitions.claim_jobs(worker, host, 1))
        return known

    monkeypatch.setattr(running, "ids", give_back_and_claim_again)
    chores_of(worker, running).recover()
    assert state_of(job) == JobState.RUNNING


def test_a_job_that_is_claimed_just_after_the_known_ones_were_read_is_not_taken_for_lost(
    servers: list[Server],
    fake_host: FakeHost,
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = register_worker(host, concurrency=1, is_claiming=True)
    job = enqueue("stop", server=servers[0], requested_by=None)
    running = RunningJobs()
    read_ids = running.ids

    def claim_just_after() -> set[int]:
        """Let it happen each time that the ids are read; before, the job goes back if it was claimed."""
        mine = [ClaimedJob.of(one) for one in Job.objects.running()]
        transitions.give_back(worker, mine)
        running.discard(mine)
        known = read_ids()
        running.add(transitions.claim_jobs(worker, host, 1))
        return known

    monkeypatch.setattr(running, "ids", claim_just_after)
    chores_of(worker, running).recover()
    assert state_of(job) == JobState.RUNNING


def chores_of(worker: Worker, running: RunningJobs) -> Chores:
    """Return the chores of a worker whose threads are not started."""
    return Chores(
        *(worker, running, Heartbeat(worker, is_claiming=lambda: True)),
        is_claiming=lambda: True,
        has_free_thread=lambda: False,
    )


def test_a_worker_that_is_stopped_then_does_not_end_before_the_job_waits_again(
    servers: list[Server],
    fake_host: FakeHost,
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = WorkerLoop(host=host, concurrency=1)
    lose_the_answer_to_a_claim(monkeypatch, 1, loop.stop)
    job = enqueue("stop", server=servers[0], requested_by=None)
    loop.run()
    assert state_of(job) == JobState.QUEUED
    assert fake_host.calls == []


def lose_the_answer_to_a_claim(
    monkeypatch: pytest.MonkeyPatch, number: int, then: Callable[[], None] = lambda: None
) -> list[int]:
    """Lose the answer to the commit of the claim with this number; return how many jobs each claim is of."""

    def lose_it() -> None:
        then()
        raise OperationalError("the connection is lost")

    return delay_the_answer_to_a_claim(monkeypatch, number, lose_it)


def delay_the_answer_to_a_claim(
    monkeypatch: pytest.MonkeyPatch, number: int, until: Callable[[], None]
) -> list[int]:
    """Call `until` once the claim with this number is committed, before its worker learns of that.

    Returns how many jobs each claim is of.
    """
    claims: list[int] = []
    thread = threading.local()
    commit: Callable[[BaseDatabaseWrapper], None] = vars(BaseDatabaseWrapper)["_commit"]

    def set_running_and_note(*args: Any) -> list[ClaimedJob]:
        claims.append(len(args[0]))
        thread.is_delayed = len(claims) == number
        return set_running(*args)

    def commit_and_delay_the_answer(own: BaseDatabaseWrapper) -> None:
        commit(own)
        if getattr(thread, "is_delayed", False):
            thread.is_delayed = False
            until()

    monkeypatch.setattr(transitions, "set_running", set_running_and_note)
    monkeypatch.setattr(BaseDatabaseWrapper, "_commit", commit_and_delay_the_answer)
    return claims


def test_a_job_that_was_claimed_before_a_long_freeze_waits_in_the_queue(
    servers: list[Server],
    fake_host: FakeHost,
    run_loop: Callable[..., WorkerLoop],
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
) -> None:
    """By now others may have failed it, even though it comes to the threads only now."""
    clock = Clock()
    begun: list[str] = []

    def plan_after_a_freeze(job: ClaimedJob) -> Plan:
        if not begun:
            clock.advance(settings.JOB_WORKER_LEASE_SECONDS)
        begun.append(state_of(job))
        return plan(job)

    monkeypatch.setattr(job_threads, "boot_seconds", clock)
    monkeypatch.setattr(worker_process, "boot_seconds", clock)
    monkeypatch.setattr(worker_process, "plan", plan_after_a_freeze)
    run_loop()
    job = enqueue("stop", server=servers[0], requested_by=None)
    wait_until(lambda: state_of(job) == JobState.SUCCEEDED, 30, "it is not claimed again")
    assert begun == [JobState.RUNNING, JobState.RUNNING]
    assert len(fake_host.calls) == 1


def desired_state_of(job: Job | ClaimedJob) -> str:
    return Server.objects.values_list("desired_state", flat=True).get(jobs=job.pk)


@pytest.mark.parametrize("outage", OUTAGES, ids=["away", "read-only"])
def test_the_heartbeat_outlives_it(
    fake_host: FakeHost,
    run_loop: Callable[[], WorkerLoop],
    settings: object,
    monkeypatch: pytest.MonkeyPatch,
    outage: Exception,
) -> None:
    settings.JOB_WORKER_LEASE_SECONDS = 0.6  # type: ignore[attr-defined]
    beat = liveness.beat
    failures: list[int] = []

    def beat_or_fail(*args: Any, **options: Any) -> None:
        if len(failures) < 3:
            failures.append(1)
            raise outage
        beat(*args, **options)

    monkeypatch.setattr(liveness, "beat", beat_or_fail)
    run_loop()
    first = Worker.objects.get()
    wait_until(lambda: Worker.objects.get().heartbeat_at > first.heartbeat_at, 10, "it is silent")
    assert len(failures) == 3


class TestAThreadThatDies:
    """What nobody has thought of ends a thread of the worker: without it the others are no worker."""

    @pytest.fixture
    def exits(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Return the codes with which this process would have ended."""
        exits: list[int] = []
        monkeypatch.setattr("os._exit", exits.append)
        return exits

    @pytest.mark.parametrize("thread", ["main", "heartbeat", "chores"])
    def test_it_ends_the_worker_with_the_reason(
        self,
        servers: list[Server],
        run_loop: Callable[[], WorkerLoop],
        settings: object,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        exits: list[int],
        thread: str,
    ) -> None:
        def break_down(*_: object, **__: object) -> None:
            raise RuntimeError("a bug")

        settings.JOB_WORKER_LEASE_SECONDS = 0.6  # type: ignore[attr-defined]
        breakable = {
            "main": (worker_process, "build_scheduler_state"),
            "heartbeat": (liveness, "beat"),
            "chores": (chores, "PlayerWatch"),
        }
        monkeypatch.setattr(*breakable[thread], break_down)
        run_loop()
        wait_until(lambda: exits, 10, "the worker goes on without it")
        assert exits[0] == deaths.EXIT_THREAD_DIED == 79
        assert (
            f"The thread “{thread}” of this worker has died of RuntimeError: a bug." in caplog.text
        )

    def test_the_main_thread_does_not_first_wait_for_jobs_which_wait_for_it(
        self,
        servers: list[Server],
        fake_host: FakeHost,
        run_loop: Callable[[], WorkerLoop],
        monkeypatch: pytest.MonkeyPatch,
        exits: list[int],
    ) -> None:
        is_running, may_end = threading.Event(), threading.Event()

        def act(*_: object) -> None:
            is_running.set()
            may_end.wait(30)

        def break_down_later(*_: object) -> None:
            if is_running.is_set():
                raise RuntimeError("a bug")

        fake_host.act = act
        monkeypatch.setattr(worker_process.WorkerLoop, "_pass_on_requests", break_down_later)
        run_loop()
        enqueue("stop", server=servers[0], requested_by=None)
        try:
            wait_until(lambda: exits, 15, "the worker waits for its job")
        finally:
            may_end.set()
        assert exits == [deaths.EXIT_THREAD_DIED]


def test_told_twice_to_stop_it_does_not_wait_for_a_database_for_ever(
    servers: list[Server],
    fake_host: FakeHost,
    run_loop: Callable[[], WorkerLoop],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(worker_process, "LONGEST_AWAY_SECONDS", 0.2)
    is_away = threading.Event()
    store_entries = job_output.store_entries

    def store_or_fail(batch: list[job_output.Entries]) -> None:
        if is_away.is_set():
            raise OperationalError("the database is away")
        store_entries(batch)

    monkeypatch.setattr(log_writer, "store_entries", store_or_fail)
    fake_host.act = lambda *_: is_away.set()
    loop = run_loop()
    job = enqueue("stop", server=servers[0], requested_by=None)
    wait_until(is_away.is_set, 10, "the job does not run")
    loop.stop()
    wait_until(lambda: not loop.is_claiming, 5, "it goes on")
    assert state_of(job) == JobState.RUNNING
    loop.stop()
    wait_until(lambda: "stays away: 1 jobs" in caplog.text, 10, "it waits for the database")
    wait_until(lambda: Worker.objects.get().stopped_at, 10, "it does not end")


def test_states_are_stored_as_the_host_reports_them(
    servers: list[Server], fake_host: FakeHost, run_loop: Callable[[], WorkerLoop]
) -> None:
    fake_host.states["s0"] = InstanceState.RUNNING
    run_loop()

    def stored() -> dict[str, str]:
        return dict(Server.objects.values_list("name", "actual_state"))

    wait_until(lambda: stored()["s0"] == "running", 10, "the state is not stored")
    fake_host.states["s0"] = InstanceState.CRASHED
    wait_until(lambda: stored()["s0"] == "crashed", 10, "the crash is not stored")
    assert stored()["s1"] == "absent"


def test_consoles_become_rows_once_each(
    servers: list[Server], fake_host: FakeHost, run_loop: Callable[[], WorkerLoop]
) -> None:
    fake_host.states["s0"] = InstanceState.RUNNING
    Server.objects.exclude(name="s0").delete()
    fake_host.console = [(1, "first"), (1, "rcon_password hunter2")]
    run_loop()
    lines = Server.objects.get().console_lines
    wait_until(lambda: lines.count() == 2, 10, "the console is not copied")
    fake_host.console.append((2, "after a restart"))
    wait_until(lambda: lines.count() == 3, 10, "the console is not followed")
    assert list(lines.values_list("seq", "line")) == [
        (1, "first"),
        (2, "rcon_password ********"),
        (3, "after a restart"),
    ]
    runs = Server.objects.get().console_runs
    assert list(runs.values_list("number", "first_seq")) == [(1, 1), (2, 3)]


def test_two_workers_of_one_host_share_the_work(
    servers: list[Server],
    fake_host: FakeHost,
    run_loop: Callable[[], WorkerLoop],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Two workers have two rows; those of one process would share theirs. So each is in another container.
    namespaces = map("pid:[{}]".format, count(1))
    monkeypatch.setattr(liveness, "read_pid_namespace", lambda: next(namespaces))
    run_loop()
    run_loop()
    assert Worker.objects.count() == 2
    jobs = [
        enqueue(operation, server=server, requested_by=None)
        for _ in range(5)
        for server in servers
        for operation in ("start", "stop")
    ]
    wait_until(lambda: not Job.objects.active().exists(), 60, "jobs are left over")
    assert {state_of(job) for job in jobs} == {JobState.SUCCEEDED}
    for server in servers:
        assert_no_overlap([call for call in fake_host.calls if call.subject == server.name])
    assert len(fake_host.calls) == 5 * 4 * 3
    assert not JobLog.objects.exists()


class StuckError(Exception):
    """Raised where the process would end."""


def test_a_worker_that_claims_nothing_of_what_can_run_ends_with_the_reason(
    host: Host,
    servers: list[Server],
    run_loop: Callable[..., WorkerLoop],
    fake_host: FakeHost,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    exits: list[int] = []

    def exit_here(code: int) -> None:
        exits.append(code)
        raise StuckError

    monkeypatch.setattr("os._exit", exit_here)
    monkeypatch.setattr(worker_process, "claim_jobs", lambda *_, **__: [])
    monkeypatch.setattr(chores, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(expectations, "CLAIM_SECONDS", 0.5)
    run_loop()
    job = enqueue("stop", server=servers[0], requested_by=None)
    wait_until(lambda: exits, 20, "the worker does not end")
    assert exits[0] == 70
    assert f"Job {job.pk} of host {host.name} could have run for" in caplog.text
    assert state_of(job) == JobState.QUEUED


def test_a_worker_whose_database_was_replaced_ends_with_the_reason(
    host: Host,
    fake_host: FakeHost,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    database, copy = tmp_path / "saferoom.sqlite3", tmp_path / "copy"
    database.write_bytes(b"")
    copy.write_bytes(b"")
    for module in (expectations, sql):
        monkeypatch.setattr(module, "find_database_file", lambda: database)
    exits: list[int] = []
    monkeypatch.setattr(chores, "end_process", exits.append)
    its_chores = chores.Chores(
        *(register_worker(host, concurrency=1, is_claiming=True), RunningJobs(), Mock()),
        is_claiming=lambda: True,
        has_free_thread=lambda: False,
    )
    with database.open():  # As its connections have it.
        its_chores._expect_claims()
        database.unlink()
        its_chores._expect_claims()
        assert exits == []
        copy.rename(database)
        its_chores._expect_claims()
    assert exits == [70]
    assert f"{database} is another file than this worker has open" in caplog.text


def test_a_database_that_can_only_be_read_does_not_end_the_worker(
    servers: list[Server],
    run_loop: Callable[..., WorkerLoop],
    fake_host: FakeHost,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It can claim nothing of what it sees waiting, keeps what it has, and tries again now and then."""
    exits: list[int] = []
    tries: list[None] = []
    is_read_only = threading.Event()
    is_read_only.set()
    claim = transitions.claim_jobs

    def claim_if_writable(*args: Any, **options: Any) -> list[ClaimedJob]:
        if is_read_only.is_set():
            tries.append(None)
            refuse_writes()
        return claim(*args, **options)

    monkeypatch.setattr("os._exit", exits.append)
    monkeypatch.setattr(worker_process, "claim_jobs", claim_if_writable)
    monkeypatch.setattr(chores, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(expectations, "CLAIM_SECONDS", 0.5)
    loop = run_loop()
    job = enqueue("stop", server=servers[0], requested_by=None)
    wait_until(lambda: exits or loop._away_seconds > 2, 30, "the claim is not refused")
    assert exits == []
    assert len(tries) < 20, "it does nothing but try"
    is_read_only.clear()
    wait_until(lambda: state_of(job) == JobState.SUCCEEDED, 15, "the worker did not recover")


def refuse_writes() -> None:
    """Make this thread's connection read-only, until it is closed."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET default_transaction_read_only = on")
        else:
            cursor.execute("PRAGMA query_only = ON")


class TestTheExpectation:
    """A job that may run is claimed within a minute, unless there is a reason."""

    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> Clock:
        """Return the clock that it goes by."""
        clock = Clock()
        monkeypatch.setattr(expectations, "monotonic", clock)
        return clock

    @pytest.fixture
    def look(self, host: Host, clock: Clock) -> Callable[..., str]:
        """Return what lets time pass, looking every few seconds."""
        expectation = expectations.ClaimExpectation(host)

        def look(seconds: float, *, step: float = 5.0, has_free_thread: bool = True) -> str:
            until = clock.seconds + seconds
            while clock.seconds < until:
                clock.seconds += step
                if reason := expectation.find_breach(has_free_thread=has_free_thread):
                    return reason
            return ""

        return look

    def test_a_minute_beside_a_free_thread_is_too_long(
        self, servers: list[Server], look: Callable[..., str]
    ) -> None:
        assert not look(600)
        enqueue("stop", server=servers[0], requested_by=None)
        assert not look(60)
        assert "the worker is stuck" in look(10)

    def test_busy_threads_and_long_pauses_are_reasons(
        self, servers: list[Server], look: Callable[..., str]
    ) -> None:
        enqueue("stop", server=servers[0], requested_by=None)
        assert not look(600, has_free_thread=False)
        assert not look(50)
        assert not look(6000, step=100)
        assert not look(50)

    def test_a_job_that_waits_by_the_rules_is_not_expected(
        self, servers: list[Server], look: Callable[..., str]
    ) -> None:
        running = enqueue("start", server=servers[0], requested_by=None)
        Job.objects.filter(pk=running.pk).update(state=JobState.RUNNING, started_at=timezone.now())
        enqueue("stop", server=servers[0], requested_by=None)
        assert not look(600)
        # Others take their turns: each time it is another one.
        for server in servers[1:]:
            job = enqueue("stop", server=server, requested_by=None)
            assert not look(50)
            Job.objects.filter(pk=job.pk).update(state=JobState.CANCELLED)
