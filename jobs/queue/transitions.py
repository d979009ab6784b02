"""The queue: which job may run next, and every transition a job makes, except the end that its worker stores.

`request` → queued; `claim_jobs` → running; `cancel` → cancelled, or a request to the worker; `give_back` →
queued again, or cancelled; `recover_stale_jobs` → failed. Each is one short transaction, or part of the
caller's, and none touches a host. A worker stores how its jobs end together with their last lines
(`jobs.logs.store_endings`); `finish_job` is for jobs that no worker ends.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop, ngettext

from jobs.claimed_jobs import ClaimedJob
from jobs.database import Channel, announce, execute, write_turn
from jobs.logs import Ending, append_job_log_line, one_line, release_upload, store_endings
from jobs.models import (
    DESIRED_STATES,
    ENDING_OPERATIONS,
    HOST_OPERATIONS,
    STARTS,
    DeferredAction,
    Job,
    JobState,
    LogStream,
    Operation,
    Worker,
    label_as_stored,
)
from jobs.queue.claim_statements import set_running
from jobs.queue.liveness import ClaimPulse, has_lapsed_by_clock, is_gone
from jobs.queue.scheduler import lock_host, lock_scheduler_state
from servers.config import find_certain_conflicts
from servers.models import ActualState, DesiredState, Host, Run, Server, Upload, UploadState
from servers.quotas import lock_person, most_waiting_jobs
from servers.store import Fault, Lack, find_gap

logger = logging.getLogger(__name__)

WORKER_STOPPED = "worker stopped while the job ran"
WORKER_LOST_JOB = "worker lost the job to an unexpected error, which is in the log of the worker"
"""Why a job fails that its worker cannot end: the worker is gone, or still runs but has given the job up."""

NEVER_STARTED = gettext_noop("Cancelled before it started.")

CLAIM_TRIES = 2
"""Few, because a claim might also be refused for a reason that the next try does not remove."""

CANCEL_REQUESTS = (
    "SELECT id FROM jobs_job WHERE host_id = %s AND state = 'running' AND worker_id = %s"
    " AND cancel_requested_at IS NOT NULL"
)
"""Read 20 times a second while jobs run and end, from the index of those that run."""

PROBLEMS_TOLD = 3
PRUNED_AT_ONCE = 200


class RequestRefused(Exception):  # noqa: N818 - an answer to a person, not a fault
    """The request cannot be carried out; the text says why, and what to do instead."""


class TooManyWaiting(RequestRefused):
    """As many of the person's jobs wait as are allowed. Trying again is worth it once some of them have run."""


class ContentRefused(RequestRefused):
    """A server whose overlays certainly do not work as they are; `problems` says in what.

    Unless `is_final`, it can be wanted all the same.
    """

    def __init__(self, operation: str, server: Server, problems: Sequence[Fault | Lack]) -> None:
        told = [problem.sentence for problem in problems[:PROBLEMS_TOLD]]
        if more := len(problems) - len(told):
            told.append(
                ngettext("And %(count)d more.", "And %(count)d more.", more) % {"count": more}
            )
        text = (
            _("%(server)s was not restarted: its overlays do not work as they are. %(told)s")
            if operation == Operation.RESTART
            else _("%(server)s was not started: its overlays do not work as they are. %(told)s")
        )
        super().__init__(text % {"server": server.name, "told": " ".join(told)})
        self.operation = operation
        self.server = server
        self.problems = problems

    @property
    def is_final(self) -> bool:
        """Whether its host would not start it either."""
        return any(one.is_final for one in self.problems)


@dataclass(frozen=True)
class Requested:
    """The job that answers a request. `is_new` is false if it already waited or ran."""

    job: Job
    is_new: bool


# --- Into the queue ---------------------------------------------------------------------------


def enqueue(
    operation: str,
    *,
    server: Server | None = None,
    host: Host | None = None,
    requested_by: User | None,
    retry_of: Job | None = None,
    build_id: str = "",
    run: Run | None = None,
    upload: Upload | None = None,
) -> Job:
    """Store a queued job and return it; any worker of its host may claim it once this is committed.

    The host defaults to the server's, or to the one that the settings name. `build_id` is the build that a
    rollback goes to, by default the latest other one. `run` is the run that a start repeats instead of using
    the saved settings. `upload` is what is unpacked. Nothing is refused here: `request` does that.
    """
    with transaction.atomic():
        job = Job.objects.create(
            operation=operation,
            build_id=build_id,
            server=server,
            host=host,
            requested_by=requested_by,
            retry_of=retry_of,
            run=run,
            upload=upload,
        )
        announce(Channel.QUEUE, Channel.PAGES)
    return job


def request(
    operation: str,
    *,
    server: Server | None = None,
    host: Host | None = None,
    requested_by: User,
    retry_of: Job | None = None,
    build_id: str = "",
    run: Run | None = None,
    upload: Upload | None = None,
    accepts_conflicts: bool = False,
) -> Requested:
    """Enqueue what a person asked for, or return the job that is about to do exactly that.

    Two clicks on one action give one job. A different action in between makes it a new request: stop, start,
    stop are three jobs. If it raises `RequestRefused`, it has changed nothing: several requests in one
    transaction are accepted together or refused together.
    """
    host = host or (server.host if server else Host.local())
    if server and operation in STARTS and run is None:
        # Before any lock: it may read manifests. A run that is repeated has shown that it works.
        refuse_conflicts(operation, server, accepts_conflicts=accepts_conflicts)
    with transaction.atomic():
        if not requested_by.is_superuser:
            requested_by = lock_person(requested_by)
        if run:
            lock_run(run)  # Before the host, as a worker does: it stores endings, then claims.
        if upload:
            upload = lock_upload(upload)
        lock_host(host)
        if server and not Server.objects.filter(pk=server.pk).exists():
            raise RequestRefused(_("%(server)s has just been removed.") % {"server": server.name})
        if server and operation in (*STARTS, *ENDING_OPERATIONS):
            # This does what was to be done when the server is empty, or replaces it.
            DeferredAction.objects.filter(server=server).delete()
        active = Job.objects.active().filter(host=host, server=server, upload=upload)
        newest = active.order_by("-id").first()
        wanted = (operation, build_id, run.pk if run else None)
        is_same = newest and (newest.operation, newest.build_id, newest.run_id) == wanted
        if newest and is_same and newest.cancel_requested_at is None:
            return Requested(newest, is_new=False)
        refuse_the_impossible(operation, server, host, newest)
        refuse_upload(operation, upload)
        if refusal := find_flood(requested_by):
            if operation not in ENDING_OPERATIONS:
                raise TooManyWaiting(refusal)
            if newest and is_covered(operation, newest):
                return Requested(newest, is_new=False)
        job = enqueue(
            operation,
            server=server,
            host=host,
            requested_by=requested_by,
            retry_of=retry_of,
            build_id=build_id,
            run=run,
            upload=upload,
        )
        if upload:
            upload.touch(state=UploadState.WAITING, error="")
        return Requested(job, is_new=True)


def refuse_conflicts(operation: str, server: Server, *, accepts_conflicts: bool = False) -> None:
    """Raise `ContentRefused` if the overlays of a server certainly do not work, and nobody accepts that."""
    problems = find_certain_conflicts(server)
    if accepts_conflicts:
        problems = [one for one in problems if one.is_final]
    if problems:
        raise ContentRefused(operation, server, problems)


def lock_run(run: Run) -> None:
    """Keep a run from being removed until the transaction ends. Raises `RequestRefused` if it is gone."""
    this = Run.objects.filter(pk=run.pk).order_by()
    if not list(this.select_for_update(no_key=True).values_list("pk")):
        raise RequestRefused(
            _(
                "What %(server)s was started with then is no longer stored. Start it with what is"
                " saved."
            )
            % {"server": run.server.name}
        )


def lock_upload(upload: Upload) -> Upload:
    """Lock an upload until the transaction ends, and return it. Raises `RequestRefused` if it is gone."""
    rows = Upload.objects.select_for_update(of=("self",)).select_related("overlay")
    this = rows.filter(pk=upload.pk).first()
    if this is None:
        raise RequestRefused(_("The upload was discarded. Start another one."))
    return this


def refuse_upload(operation: str, upload: Upload | None) -> None:
    """Raise `RequestRefused` if there is no upload to unpack, or no version can be made from it."""
    if operation != Operation.UNPACK:
        return
    if upload is None:
        raise RequestRefused(_("Only an upload can be unpacked. Start one on an overlay’s page."))
    if not upload.can_be_tried:
        raise RequestRefused(_("A version was already made from this upload."))
    if gap := find_gap(upload):
        raise RequestRefused(gap)


def retry(job: Job, *, requested_by: User) -> Requested:
    """Request the operation of a failed or cancelled job again. Raises `RequestRefused`."""
    if not job.can_be_retried:
        raise RequestRefused(
            _(
                "Job %(job)s cannot be retried: only a failed or cancelled one can, as long as "
                "what it was about still exists."
            )
            % {"job": job.pk}
        )
    return request(
        job.operation,
        server=job.server,
        host=job.host,
        requested_by=requested_by,
        retry_of=job,
        # The build that it was going to: it may have got there, and must not go on to another one.
        build_id=job.build_id,
        run=job.run,
        upload=job.upload,
    )


def find_flood(person: User) -> str:
    """Return why no more jobs of this person may wait, and what to do; an empty text if one more may.

    A person's jobs are those that they have requested, on anybody's servers. Jobs that workers have queued
    count for nobody.
    """
    most = most_waiting_jobs(person)
    if most is None:
        return ""
    count = Job.objects.queued().filter(requested_by=person).order_by().count()
    if count < most:
        return ""
    text = ngettext(
        "%(count)d job that you asked for waits, and the limit is %(most)s. Wait until some have "
        "run, or cancel those you no longer need. You can still stop servers.",
        "%(count)d jobs that you asked for wait, and the limit is %(most)s. Wait until some have "
        "run, or cancel those you no longer need. You can still stop servers.",
        count,
    )
    return text % {"count": count, "most": most}


def is_covered(operation: str, newest: Job) -> bool:
    """Return whether the newest job of a server brings it down at least as thoroughly as `operation` would.

    Operations that bring a server down are never refused. Without this check, somebody could queue stops and
    deletions in turn without limit.
    """
    does_as_much = newest.operation in ENDING_OPERATIONS[ENDING_OPERATIONS.index(operation) :]
    return does_as_much and newest.cancel_requested_at is None


def refuse_the_impossible(
    operation: str, server: Server | None, host: Host, newest: Job | None
) -> None:
    """Raise `RequestRefused` if it is already certain that the operation cannot succeed.

    `newest` is the newest job of the server that waits or runs: it may remove what stands in the way.
    """
    if operation not in Operation:
        raise RequestRefused(
            _("Saferoom does not know the operation “%(operation)s”.") % {"operation": operation}
        )
    if (operation in HOST_OPERATIONS) != (server is None):
        raise RequestRefused(
            _("“%(label)s” is for a whole host. Ask an admin to do it.")
            % {"label": Operation(operation).label}
            if server
            else _("“%(operation)s” needs a server.") % {"operation": operation}
        )
    if server is None:
        return
    if newest is None:
        refuse_without_files(operation, server)
    # Two queries, because each has its own index; one query for both would search all jobs there ever were.
    is_waiting = Job.objects.queued().filter(host=host).exists()
    if is_waiting or Job.objects.running().filter(host=host).exists():
        return  # One of them may be an install.
    needs_game = operation in (Operation.INITIALIZE, Operation.START, Operation.RESTART)
    if needs_game and host.lacks_game:
        raise RequestRefused(
            _("The game is not installed on host %(host)s yet. An admin has to install it first.")
            % {"host": host.name}
        )


def refuse_without_files(operation: str, server: Server) -> None:
    """Raise `RequestRefused` if the operation needs files of a server that has none on its host."""
    is_absent = server.actual_state == ActualState.ABSENT
    if operation == Operation.RESET and not server.has_instance:
        # A server whose host never reported on it was never started either: it has no finished job.
        text = (
            _("There is nothing to reset: %(server)s has no files on host %(host)s.")
            if is_absent
            else _(
                "There is nothing to reset: %(server)s has no files that Saferoom knows of on host"
                " %(host)s."
            )
        )
        raise RequestRefused(text % {"server": server.name, "host": server.host.name})
    if operation in (Operation.STOP, Operation.DELETE) and is_absent:
        raise RequestRefused(
            _("%(server)s has no files on host %(host)s.")
            % {"server": server.name, "host": server.host.name}
        )


# --- Out of the queue -------------------------------------------------------------------------


def claim_next_job(worker: Worker | None = None, *, host: Host | None = None) -> Job | None:
    """Claim the oldest runnable job of the worker's host, or of `host`; None if there is none.

    Like `claim_jobs`, it uses the open transaction, or else its own. It has to be committed before the host is
    touched. The job's server has the `desired_state` from before the claim.
    """
    host = host or (worker.host if worker else Host.local())
    for claimed in claim_jobs(worker, host, 1):
        job = Job.objects.select_related("server__host", "server__blueprint").get(pk=claimed.id)
        job.host = claimed.host
        if job.server and claimed.server:
            job.server.desired_state = claimed.server.desired_state
        return job
    return None


def claim_jobs(
    worker: Worker | None,
    host: Host,
    limit: int,
    *,
    pulse: ClaimPulse | None = None,
    on_claimed: Callable[[list[ClaimedJob]], None] = lambda _jobs: None,
) -> list[ClaimedJob]:
    """Set the oldest runnable jobs of `host` to running, at most `limit`, and return them in that order.

    Uses the open transaction, or else its own. It has to be committed before the host is touched. Each returned
    job has its server as it was before the claim, with the `desired_state` that `give_back` restores.

    `on_claimed` gets the jobs before the commit, which may succeed although its answer is lost. A worker that
    claims often keeps one `pulse`. Jobs that a script claims without a worker count as stale at once.
    """
    # SQLite's transactions take turns, so no claim is lost there. A savepoint would make it copy each page that
    # the claim changes.
    can_be_lost = connection.features.has_select_for_update
    for _try in range(CLAIM_TRIES):
        try:
            with write_turn(), transaction.atomic(savepoint=can_be_lost):
                picked = lock_scheduler_state(host).pick(limit)
                if not picked:
                    return []
                if worker:
                    (pulse or ClaimPulse()).show(worker)
                # Read after taking the lock, so `started_at` lies after the end of what these waited for.
                now = timezone.now()
                jobs = set_running(picked, worker, host, now)
                store_desired_states(jobs, now)
                on_claimed(jobs)
                return jobs
        except IntegrityError:
            if not can_be_lost:
                raise
            # The database refused a second running job of one server: two hosts claimed at the same moment.
            # The other claim is committed, so the next try sees it. No signal would wake this worker for the
            # other jobs of the lost claim.
            logger.warning("host %s: a claim lost against another host's", host.name)
    return []


def store_desired_states(jobs: Iterable[ClaimedJob], now: datetime) -> None:
    """Store the state that claimed jobs want for their servers, in the open transaction."""
    to_change: dict[DesiredState, list[int]] = defaultdict(list)
    for job in jobs:
        wanted = DESIRED_STATES.get(job.operation)
        if wanted and job.server and job.server.desired_state != wanted:
            to_change[wanted].append(job.server.id)
    for state, server_ids in to_change.items():
        Server.objects.filter(pk__in=server_ids).update(desired_state=state, updated_at=now)


def give_back(worker: Worker, jobs: Iterable[ClaimedJob]) -> None:
    """Put claimed jobs that were not begun back into the queue, or cancel those that somebody asked to cancel.

    They keep their order in the queue. Their servers' `desired_state` becomes what it was before `claim_jobs`.
    Jobs that do not belong to the worker, or no longer, are left alone.
    """
    claimed = {job.id: job for job in jobs}
    now = timezone.now()
    unclaimed: dict[str, Any] = {"worker": None, "started_at": None, "updated_at": now}
    with transaction.atomic():
        # Locked before they are sorted: somebody may be cancelling one of them at this moment (`cancel`).
        # Locked in whatever state: if the answer to the claim's commit was lost, it may still be under way, and
        # a job that looks queued is about to be running. This waits for that commit.
        rows = Job.objects.select_for_update(no_key=True).filter(pk__in=claimed).order_by("pk")
        mine = {
            pk: asked_at
            for pk, state, worker_id, asked_at in rows.values_list(
                "pk", "state", "worker", "cancel_requested_at"
            )
            if state == JobState.RUNNING and worker_id == worker.pk
        }
        to_cancel = [pk for pk, asked_at in mine.items() if asked_at]
        to_queue = [pk for pk, asked_at in mine.items() if not asked_at]
        Job.objects.filter(pk__in=to_cancel).update(
            state=JobState.CANCELLED, error=NEVER_STARTED, finished_at=now, **unclaimed
        )
        for pk in to_cancel:
            if upload_id := claimed[pk].upload_id:
                release_upload(upload_id, JobState.CANCELLED, NEVER_STARTED)
        Job.objects.filter(pk__in=to_queue).update(state=JobState.QUEUED, **unclaimed)
        restore_desired_states([claimed[pk] for pk in mine], now)
        announce(Channel.QUEUE, Channel.PAGES)


def restore_desired_states(jobs: Iterable[ClaimedJob], now: datetime) -> None:
    """Undo `store_desired_states`, in the open transaction.

    Nobody has changed that column since the claim: only a running job of the server does, at its claim and when
    it is cancelled. A job that fails leaves it as its claim has set it.
    """
    of_state: dict[str, list[int]] = defaultdict(list)
    for job in jobs:
        if job.server:
            of_state[job.server.desired_state].append(job.server.id)
    for desired_state, server_ids in of_state.items():
        changed = Server.objects.filter(pk__in=server_ids).exclude(desired_state=desired_state)
        changed.update(desired_state=desired_state, updated_at=now)


def read_cancel_requests(worker: Worker) -> list[int]:
    """Return the ids of the jobs that `worker` runs and that somebody has asked to cancel."""
    return [job_id for (job_id,) in execute(CANCEL_REQUESTS, [worker.host_id, worker.pk]).rows]


# --- The end of a job -------------------------------------------------------------------------


def finish_job(
    job: Job,
    *,
    exit_code: int | None,
    error: str = "",
    state: JobState | None = None,
    server_changes: Mapping[str, Any] | None = None,
) -> bool:
    """Store the end of a running job, together with what it learned about its server.

    Without `state`, exit code 0 means success and any other code failure. Returns False and changes nothing
    if the job no longer belongs to `job.worker`: its lease was over, and another worker's verdict stands.
    """
    state = state or (JobState.SUCCEEDED if exit_code == 0 else JobState.FAILED)
    ending = Ending(state, exit_code, error, server_changes or {})
    with transaction.atomic():
        is_ours = store_endings([(job, ending)])
        if not is_ours:
            transaction.set_rollback(True)
    if is_ours:
        job.state, job.exit_code, job.error = state, exit_code, one_line(error)
    return is_ours


def cancel(job: Job) -> Job:
    """Cancel a queued job at once, or ask a running one's worker to cancel it; return the job as it is now."""
    now = timezone.now()
    with transaction.atomic():
        # Locked, so that its state cannot change between the two updates, by a claim or `give_back`.
        this = Job.objects.filter(pk=job.pk)
        list(this.select_for_update(no_key=True).order_by().values_list("pk"))
        was_queued = this.filter(state=JobState.QUEUED).update(
            state=JobState.CANCELLED,
            error=NEVER_STARTED,
            cancel_requested_at=now,
            finished_at=now,
            updated_at=now,
        )
        if was_queued and job.upload_id:
            release_upload(job.upload_id, JobState.CANCELLED, NEVER_STARTED)
        elif not was_queued:
            running = this.filter(state=JobState.RUNNING, cancel_requested_at=None)
            running.update(cancel_requested_at=now, updated_at=now)
        announce(Channel.QUEUE, Channel.PAGES)
    job.refresh_from_db()
    return job


def recover_stale_jobs(
    host: Host | None = None, *, has_lapsed: Callable[[Worker], bool] = has_lapsed_by_clock
) -> list[Job]:
    """Fail every running job, of `host` or of all hosts, whose worker is gone; return those jobs.

    For a worker whose process cannot be seen from here, `has_lapsed` decides whether its lease is over. Workers
    pass what their `LeaseWatch` says; the default, for scripts that look once, trusts the machines' clocks. The
    state of the jobs' servers is unknown until their host reports again. Safe to run in several workers at a
    time: each job gets one verdict.
    """
    # Without an order: for the default one SQLite would walk over every job there ever was.
    running = Job.objects.running().order_by().select_related("worker", "server", "host")
    if host:
        running = running.filter(host=host)
    return [
        job
        for job in running
        if is_gone(job.worker, has_lapsed) and fail_stale_job(job, WORKER_STOPPED)
    ]


def fail_stale_job(job: Job, reason: str) -> bool:
    """Fail a job whose worker is gone or has lost it; return False if it got another verdict first.

    It is not queued again, because nobody knows whether it has begun, and how far it got.
    """
    label = label_as_stored(job.operation, job.run_id, job.build_id)
    with transaction.atomic():
        is_ours = finish_job(
            job,
            exit_code=1,
            error=reason,
            server_changes={
                "last_error": f"{label}: {reason}",
                "actual_state": ActualState.UNKNOWN,
            },
        )
        if is_ours:
            append_job_log_line(job.pk, LogStream.STDERR, reason)
            if job.server and job.operation in STARTS:
                # Nobody knows whether it runs with this job's settings or still with the ones before.
                Run.record([Run(server=job.server, started_by_name=job.requested_by_name)])
    if is_ours:
        logger.warning("job %s: failed (%s): %s", job.pk, job.worker, reason)
    return is_ours


def prune_jobs(finished_before: datetime) -> int:
    """Delete the jobs that ended before `finished_before`, with their logs; return how many."""
    # The oldest first: otherwise each statement would first read all those that stay.
    old = Job.objects.finished().filter(finished_at__lt=finished_before).order_by("id")
    count = 0
    while ids := list(old.values_list("pk", flat=True)[:PRUNED_AT_ONCE]):
        count += Job.objects.filter(pk__in=ids).delete()[1].get("jobs.Job", 0)
    return count
