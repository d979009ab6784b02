"""The queue against a model of a few lines: the scheduler's rules hold whatever is done, in any order."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from jobs.claimed_jobs import ClaimedJob
from jobs.models import Job, JobState, Operation, Worker
from jobs.queue.requests import enqueue
from jobs.queue.transitions import (
    WORKER_STOPPED,
    cancel,
    claim_jobs,
    finish_job,
    give_back,
    recover_stale_jobs,
)
from servers.models import Blueprint, DesiredState, Host, Server
from tests.fakes import FakeHost

HOSTS = 2
SERVERS = 5
WORKERS = 3
DESIRED: dict[str, DesiredState] = {
    Operation.START: DesiredState.RUNNING,
    Operation.STOP: DesiredState.STOPPED,
}
FINAL = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)

anything = st.integers(min_value=0, max_value=1_000_000)
"""Any of the existing ones, modulo their number."""


@dataclass
class ModelJob:
    """What the model knows about a job. Without a server it is an install."""

    pk: int
    created_at: datetime
    host: int
    server: int | None
    state: str = JobState.QUEUED
    worker: int | None = None
    is_to_end: bool = False
    operation: str = Operation.START
    desired_before: str = ""


class Model:
    """The rules of the scheduler, written without any regard for speed."""

    def __init__(self) -> None:
        self.jobs: dict[int, ModelJob] = {}
        self.desired: dict[int, str] = {}

    def in_state(self, *states: str) -> list[ModelJob]:
        """Return the jobs in these states, oldest first."""
        jobs = [job for job in self.jobs.values() if job.state in states]
        return sorted(jobs, key=lambda job: (job.created_at, job.pk))

    def begin(self, job: ModelJob) -> None:
        """Note the desired state of the server of a claimed job."""
        if job.server is not None:
            job.desired_before = self.desired[job.server]
            self.desired[job.server] = DESIRED[job.operation]

    def give_back(self, job: ModelJob) -> None:
        """Put a job that was not begun back into the queue, or end it if somebody has asked for that."""
        if job.server is not None:
            self.desired[job.server] = job.desired_before
        job.state = JobState.CANCELLED if job.is_to_end else JobState.QUEUED
        job.worker = None

    def choose(self, host: int) -> ModelJob | None:
        """Return the job of a host that runs next."""
        running = self.in_state(JobState.RUNNING)
        running_here = [job for job in running if job.host == host]
        if any(job.server is None for job in running_here):
            return None
        queued = [job for job in self.in_state(JobState.QUEUED) if job.host == host]
        for place, job in enumerate(queued):
            if job.server is None:
                if place == 0:
                    return None if running_here else job
            elif job.server not in {other.server for other in running}:
                return job
        return None


class QueueMachine(RuleBasedStateMachine):
    """Does the same to the queue and to the model, and compares."""

    @initialize()
    def begin(self) -> None:
        self.model = Model()
        self.all_or_nothing = transaction.atomic()
        self.all_or_nothing.__enter__()
        owner = User.objects.create_user("owner")
        blueprint = Blueprint.objects.create(name="blueprint", owner=owner)
        self.hosts = [Host.objects.create(name=f"host{number}") for number in range(HOSTS)]
        self.servers = [
            Server.objects.create(
                name=f"s{number}",
                owner=owner,
                blueprint=blueprint,
                host=self.hosts[number % HOSTS],
                port=27015 + number,
            )
            for number in range(SERVERS)
        ]
        now = timezone.now()
        self.workers = [
            Worker.objects.create(
                host=self.hosts[number % HOSTS],
                pid=number + 1,
                boot_id="another boot",  # So it is judged by its heartbeat alone.
                pid_namespace="",
                process_started=0,
                concurrency=4,
                started_at=now,
                heartbeat_at=now,
            )
            for number in range(WORKERS)
        ]
        self.dead: set[int] = set()
        self.claimed: dict[int, ClaimedJob] = {}
        self.model.desired = {server.pk: server.desired_state for server in self.servers}

    def teardown(self) -> None:
        if hasattr(self, "all_or_nothing"):
            transaction.set_rollback(True)
            self.all_or_nothing.__exit__(None, None, None)

    def any_of(self, jobs: Sequence[ModelJob], which: int) -> ModelJob:
        return jobs[which % len(jobs)]

    # What people do

    def note(self, job: Job, server: Server | None, seconds_late: int) -> None:
        """Add a new job to the model; a transaction that commits late adds one that is older than others."""
        job.created_at -= timedelta(seconds=seconds_late)
        job.save(update_fields=["created_at"])
        assert job.host_id
        server_id = server.pk if server else None
        self.model.jobs[job.pk] = ModelJob(
            job.pk, job.created_at, job.host_id, server_id, operation=job.operation
        )

    @rule(
        which=anything,
        operation=st.sampled_from(sorted(DESIRED)),
        seconds_late=st.sampled_from([0, 0, 0, 1, 60]),
    )
    def enqueue_for_a_server(self, which: int, operation: str, seconds_late: int) -> None:
        server = self.servers[which % SERVERS]
        self.note(enqueue(operation, server=server, requested_by=None), server, seconds_late)

    @rule(which=anything)
    def enqueue_an_install(self, which: int) -> None:
        host = self.hosts[which % HOSTS]
        self.note(enqueue(Operation.INSTALL, host=host, requested_by=None), None, 0)

    @rule(which=anything, to=anything)
    def move_a_server(self, which: int, to: int) -> None:
        server = self.servers[which % SERVERS]
        server.host = self.hosts[to % HOSTS]
        server.save(update_fields=["host"])

    @precondition(lambda self: self.model.jobs)
    @rule(which=anything)
    def cancel_any_job(self, which: int) -> None:
        mine = self.any_of(list(self.model.jobs.values()), which)
        cancel(Job.objects.get(pk=mine.pk))
        if mine.state == JobState.QUEUED:
            mine.state = JobState.CANCELLED
            mine.is_to_end = True
        elif mine.state == JobState.RUNNING:
            mine.is_to_end = True

    # What workers do

    @rule(which=anything, limit=st.integers(min_value=1, max_value=4))
    def claim(self, which: int, limit: int) -> None:
        worker = self.workers[which % WORKERS]
        expected: list[ModelJob] = []
        while len(expected) < limit and (job := self.model.choose(worker.host_id)):
            job.state, job.worker = JobState.RUNNING, worker.pk
            expected.append(job)
        claimed = claim_jobs(worker, worker.host, limit)
        assert [job.pk for job in claimed] == [job.pk for job in expected]
        for begun, mine in zip(claimed, expected, strict=True):
            self.model.begin(mine)
            self.claimed[begun.id] = begun
        if Worker.objects.alive().filter(pk=worker.pk).exists():
            self.dead.discard(worker.pk)  # It was silent, and a claim is a sign of life.

    @precondition(lambda self: self.model.in_state(JobState.RUNNING))
    @rule(which=anything, whom=anything)
    def give_a_job_back(self, which: int, whom: int) -> None:
        mine = self.any_of(self.model.in_state(JobState.RUNNING), which)
        worker = self.workers[whom % WORKERS]
        give_back(worker, [self.claimed[mine.pk]])
        if worker.pk == mine.worker:
            self.model.give_back(mine)

    @precondition(lambda self: self.model.in_state(JobState.RUNNING))
    @rule(which=anything, is_asked_first=st.booleans())
    def cancel_a_job_while_it_is_given_back(self, which: int, is_asked_first: bool) -> None:
        mine = self.any_of(self.model.in_state(JobState.RUNNING), which)
        worker = next(worker for worker in self.workers if worker.pk == mine.worker)
        if is_asked_first:
            cancel(Job.objects.get(pk=mine.pk))
        give_back(worker, [self.claimed[mine.pk]])
        if not is_asked_first:
            cancel(Job.objects.get(pk=mine.pk))
        mine.is_to_end = True
        self.model.give_back(mine)

    @precondition(lambda self: self.model.in_state(JobState.RUNNING))
    @rule(which=anything, end=st.sampled_from(FINAL))
    def finish(self, which: int, end: JobState) -> None:
        mine = self.any_of(self.model.in_state(JobState.RUNNING), which)
        assert finish_job(Job.objects.get(pk=mine.pk), exit_code=0, state=end)
        mine.state = end

    @precondition(lambda self: self.model.in_state(JobState.QUEUED, *FINAL))
    @rule(which=anything, end=st.sampled_from(FINAL))
    def finish_what_does_not_run(self, which: int, end: JobState) -> None:
        mine = self.any_of(self.model.in_state(JobState.QUEUED, *FINAL), which)
        assert not finish_job(Job.objects.get(pk=mine.pk), exit_code=0, state=end)

    @precondition(lambda self: self.model.in_state(JobState.RUNNING))
    @rule(which=anything, whom=anything)
    def finish_what_another_worker_runs(self, which: int, whom: int) -> None:
        mine = self.any_of(self.model.in_state(JobState.RUNNING), which)
        job = Job.objects.get(pk=mine.pk)
        job.worker = self.workers[whom % WORKERS]
        if job.worker.pk != mine.worker:
            assert not finish_job(job, exit_code=0)

    @rule(which=anything, is_orderly=st.booleans())
    def lose_a_worker(self, which: int, is_orderly: bool) -> None:
        worker = self.workers[which % WORKERS]
        long_ago = timezone.now() - timedelta(hours=1)
        change: dict[str, Any] = (
            {"stopped_at": long_ago} if is_orderly else {"heartbeat_at": long_ago}
        )
        Worker.objects.filter(pk=worker.pk).update(**change)
        self.dead.add(worker.pk)

    @rule(which=anything)
    def bring_a_worker_back(self, which: int) -> None:
        worker = self.workers[which % WORKERS]
        Worker.objects.filter(pk=worker.pk).update(heartbeat_at=timezone.now(), stopped_at=None)
        self.dead.discard(worker.pk)

    @rule(of_host=st.sampled_from([None, 0, 1]))
    def recover(self, of_host: int | None) -> None:
        host = None if of_host is None else self.hosts[of_host]
        expected = {
            job.pk
            for job in self.model.in_state(JobState.RUNNING)
            if job.worker in self.dead and (host is None or job.host == host.pk)
        }
        recovered = recover_stale_jobs(host)
        assert {job.pk for job in recovered} == expected
        assert {job.error for job in recovered} <= {WORKER_STOPPED}
        for pk in expected:
            self.model.jobs[pk].state = JobState.FAILED

    # What always holds

    @invariant()
    def the_database_says_what_the_model_says(self) -> None:
        rows = Job.objects.values_list("pk", "state", "worker", "cancel_requested_at")
        said = {pk: (state, worker, bool(asked)) for pk, state, worker, asked in rows}
        assert said == {
            job.pk: (job.state, job.worker, job.is_to_end) for job in self.model.jobs.values()
        }

    @invariant()
    def what_is_wanted_is_what_the_last_job_that_began_was_for(self) -> None:
        assert dict(Server.objects.values_list("pk", "desired_state")) == self.model.desired

    @invariant()
    def nothing_overlaps(self) -> None:
        running = list(Job.objects.running())
        servers = [job.server_id for job in running if job.server_id]
        assert len(servers) == len(set(servers))
        for install in running:
            if install.operation == Operation.INSTALL:
                assert [job for job in running if job.host_id == install.host_id] == [install]

    @invariant()
    def times_fit_the_state(self) -> None:
        for job in Job.objects.all():
            assert (job.finished_at is not None) == (job.state in FINAL)
            assert (job.started_at is not None) == (job.worker_id is not None)


@pytest.mark.django_db
def test_no_order_of_events_breaks_the_rules(fake_host: FakeHost) -> None:
    run_state_machine_as_test(
        QueueMachine,
        settings=settings(
            max_examples=20,
            stateful_step_count=40,
            phases=[Phase.generate],
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
