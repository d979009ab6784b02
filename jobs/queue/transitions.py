"""The transitions of jobs, except the first, into the queue (`requests`), and the end that a worker stores.

`claim_jobs` → running; `cancel` → cancelled, or a request to the worker; `give_back` → queued again, or
cancelled; `recover_stale_jobs` → failed; `cancel_restored` → cancelled. Each is one short transaction, or part
of the caller's, and none touches a host. A worker stores how its jobs end together with their last lines
(`jobs.logs.store_endings`); `finish_job` is for jobs whose worker does not: it is gone, it has lost the job, or
a backup was restored.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from django.utils.translation import gettext_noop

from jobs.claimed_jobs import ClaimedJob
from jobs.database import Channel, announce, execute, write_turn
from jobs.logs import Ending, append_job_log_line, one_line, release_upload, store_endings
from jobs.models import (
    DESIRED_STATES,
    STARTS,
    Job,
    JobState,
    LogStream,
    Worker,
    label_as_stored,
)
from jobs.queue.claim_statements import set_running
from jobs.queue.liveness import ClaimPulse, has_lapsed_by_clock, is_gone
from jobs.queue.scheduler import lock_scheduler_state
from servers.models import ActualState, DesiredState, Host, Run, Server

logger = logging.getLogger(__name__)

WORKER_STOPPED = gettext_noop(
    "The worker stopped while the job ran, so nobody knows how far it got. Another try goes on from "
    "what is there."
)
WORKER_LOST_JOB = "worker lost the job to an unexpected error, which is in the log of the worker"
"""Why a job fails that its worker cannot end: the worker is gone, or still runs but has given the job up."""

NEVER_STARTED = gettext_noop("Cancelled before it started.")
RESTORED = gettext_noop(
    "Cancelled: the panel was restored from a backup that was made before this job ended."
)

CLAIM_TRIES = 2
"""Few, because a claim might also be refused for a reason that the next try does not remove."""

CANCEL_REQUESTS = (
    "SELECT id FROM jobs_job WHERE host_id = %s AND state = 'running' AND worker_id = %s"
    " AND cancel_requested_at IS NOT NULL"
)
"""Read 20 times a second while jobs run and end, from the index of those that run."""

PRUNED_AT_ONCE = 200


# --- Claims -----------------------------------------------------------------------------------


def claim_next_job(worker: Worker | None = None, *, host: Host | None = None) -> Job | None:
    """Claim the oldest runnable job of the worker's host, or of `host`; None if there is none.

    Like `claim_jobs`, it uses the open transaction, or else its own. Commit it before the host is touched. The
    job's server has the `desired_state` from before the claim.
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

    Uses the open transaction, or else its own. Commit it before the host is touched. Each returned job has its
    server as it was before the claim, with the `desired_state` that `give_back` restores.

    `on_claimed` gets the jobs before the commit, which may succeed although its answer is lost. A worker that
    claims often keeps one `pulse`. A job that is claimed without a worker counts as stale at once.
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
    Jobs that do not belong to the worker, or no longer, are left alone. So if the answer to a commit is lost,
    call this again.
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


def cancel(job: Job, reason: str = NEVER_STARTED) -> Job:
    """Cancel a queued job at once, or ask a running one's worker to cancel it; return the job as it is now.

    A queued one gets the reason, a sentence, as its error.
    """
    now = timezone.now()
    with transaction.atomic():
        # Locked, so that its state cannot change between the two updates, by a claim or `give_back`.
        this = Job.objects.filter(pk=job.pk)
        list(this.select_for_update(no_key=True).order_by().values_list("pk"))
        was_queued = this.filter(state=JobState.QUEUED).update(
            state=JobState.CANCELLED,
            error=reason,
            cancel_requested_at=now,
            finished_at=now,
            updated_at=now,
        )
        if was_queued and job.upload_id:
            release_upload(job.upload_id, JobState.CANCELLED, reason)
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
        job for job in running if is_gone(job.worker, has_lapsed) and fail_if_stale(job, has_lapsed)
    ]


def fail_if_stale(job: Job, has_lapsed: Callable[[Worker], bool]) -> bool:
    """Fail a running job if its worker is gone; return whether it was.

    Locked and read again: meanwhile the worker may have come back, given the job back and claimed it once more.
    """
    with transaction.atomic():
        this = Job.objects.running().order_by().filter(pk=job.pk).select_for_update(no_key=True)
        # Its worker is read only now, with the lock: a join would have read it before.
        return any(is_gone(one.worker, has_lapsed) for one in this) and fail_stale_job(
            job, WORKER_STOPPED
        )


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


def cancel_restored() -> int:
    """Cancel all jobs that wait or run, in the rows of a restored backup; return how many. No worker may run.

    Nobody has asked for them now, and they may have ended, or been cancelled, after the backup was made. Nobody
    knows how far those got that ran.
    """
    with transaction.atomic():
        Worker.objects.filter(stopped_at=None).update(stopped_at=timezone.now(), is_claiming=False)
        waiting = list(Job.objects.queued())
        for job in waiting:
            cancel(job, RESTORED)
        running = list(Job.objects.running().order_by("pk"))
        for job in running:
            finish_job(
                job,
                exit_code=None,
                error=RESTORED,
                state=JobState.CANCELLED,
                server_changes={"actual_state": ActualState.UNKNOWN},
            )
    return len(waiting) + len(running)


def prune_jobs(finished_before: datetime) -> int:
    """Delete the jobs that ended before `finished_before`, with their logs; return how many."""
    # The oldest first: otherwise each statement would first read all those that stay.
    old = Job.objects.finished().filter(finished_at__lt=finished_before).order_by("id")
    count = 0
    while ids := list(old.values_list("pk", flat=True)[:PRUNED_AT_ONCE]):
        count += Job.objects.filter(pk__in=ids).delete()[1].get("jobs.Job", 0)
    return count
