"""The queue: which job may run next, and every transition a job makes.

`enqueue` → queued; `claim_next_job` → running; `finish_job` → succeeded, failed or cancelled;
`cancel` → cancelled, or a request to the worker; `recover_stale_jobs` → failed. Each is one short
transaction, and none touches a host.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from jobs.liveness import is_gone
from jobs.logs import append_job_log_line
from jobs.models import EXCLUSIVE_OPERATIONS, Job, JobState, LogStream, Operation, Worker
from jobs.wakeup import Channel, announce
from servers.models import ActualState, Host, Server

logger = logging.getLogger(__name__)

WORKER_STOPPED = "worker stopped while the job ran"

Person = User


class RequestRefused(Exception):  # noqa: N818 - an answer to a person, not a fault
    """What was asked for cannot be done; the text says why, and what to do instead."""


@dataclass(frozen=True)
class Requested:
    """A job that answers a request; not new if it waited or ran already."""

    job: Job
    is_new: bool


# --- Into the queue ---------------------------------------------------------------------------


def enqueue(
    operation: str,
    *,
    server: Server | None = None,
    host: Host | None = None,
    requested_by: Person | None,
    retry_of: Job | None = None,
) -> Job:
    """Store a queued job and return it; any worker of its host may claim it once this is committed.

    Without a host it is the server's, or the one the settings name. Nothing is refused here: that is
    `request`'s part.
    """
    with transaction.atomic():
        job = Job.objects.create(
            operation=operation,
            server=server,
            host=host or (server.host if server else Host.local()),
            requested_by=requested_by,
            retry_of=retry_of,
        )
        announce(Channel.QUEUE, Channel.PAGES)
    return job


def request(
    operation: str,
    *,
    server: Server | None = None,
    host: Host | None = None,
    requested_by: Person,
    retry_of: Job | None = None,
) -> Requested:
    """Enqueue what a person asked for, or return the job that is about to do just that.

    Two clicks on one action give one job. A different action in between makes it a new wish: stop after
    start after stop is three jobs. Raises `RequestRefused`.
    """
    host = host or (server.host if server else Host.local())
    with transaction.atomic():
        lock_host(host)
        if server and not Server.objects.filter(pk=server.pk).exists():
            raise RequestRefused(f"{server.name} has just been removed.")
        newest = Job.objects.active().filter(host=host, server=server).order_by("-id").first()
        if newest and newest.operation == operation and newest.cancel_requested_at is None:
            return Requested(newest, is_new=False)
        refuse_the_impossible(operation, server, host)
        job = enqueue(
            operation, server=server, host=host, requested_by=requested_by, retry_of=retry_of
        )
        return Requested(job, is_new=True)


def retry(job: Job, *, requested_by: Person) -> Requested:
    """Request the operation of a failed or cancelled job anew. Raises `RequestRefused`."""
    if not job.can_be_retried:
        raise RequestRefused(
            f"Job {job.pk} cannot be retried: only a failed or cancelled one can, "
            "as long as what it was about still exists."
        )
    return request(
        job.operation, server=job.server, host=job.host, requested_by=requested_by, retry_of=job
    )


def refuse_the_impossible(operation: str, server: Server | None, host: Host) -> None:
    """Raise `RequestRefused` if it is certain already that the operation could not succeed."""
    if operation not in Operation:
        raise RequestRefused(f"“{operation}” is not something Saferoom can do.")
    if (operation in EXCLUSIVE_OPERATIONS) != (server is None):
        raise RequestRefused(
            f"“{Operation(operation).label}” is for a whole host: ask an admin to do it in the admin pages."
            if server
            else f"“{operation}” needs a server."
        )
    if server is None or Job.objects.active().filter(host=host).exists():
        return  # What runs or waits may change the very thing that is in the way.
    needs_game = operation in (Operation.INITIALIZE, Operation.START, Operation.RESTART)
    if needs_game and host.lacks_game:
        raise RequestRefused(
            f"The game is not installed on host {host.name} yet: an admin has to install it first."
        )
    needs_instance = operation in (Operation.STOP, Operation.RESET, Operation.DELETE)
    if needs_instance and server.actual_state == ActualState.ABSENT:
        raise RequestRefused(
            f"{server.name} has no instance on host {host.name}: nothing is there."
        )


# --- Out of the queue -------------------------------------------------------------------------


class QueuedJob(NamedTuple):
    """What the scheduler knows of a job that waits."""

    id: int
    server_id: int | None
    operation: str


@dataclass(frozen=True)
class SchedulerState:
    """What decides which queued jobs of one host may run, as read from the database at one moment.

    `oldest_queued` holds the oldest ones, in order: more of them are read only if none of these may run.
    """

    host_id: int
    is_draining: bool
    busy_server_ids: frozenset[int]
    is_busy: bool
    is_exclusive: bool
    oldest_queued: tuple[QueuedJob, ...]

    @property
    def is_exclusive_next(self) -> bool:
        """Whether an exclusive job is the host's oldest queued one: then no later job may overtake it."""
        return bool(self.oldest_queued) and self.oldest_queued[0].operation in EXCLUSIVE_OPERATIONS

    def pick(self, limit: int) -> list[int]:
        """Return the ids of the jobs to run now, the oldest first, at most `limit`."""
        if self.is_draining or self.is_exclusive or not self.oldest_queued:
            return []
        if self.is_exclusive_next:
            # Exclusive: it waits for what runs, and what is behind it waits for it.
            return [] if self.is_busy else [self.oldest_queued[0].id]
        picked = self._pick_from(self.oldest_queued, limit)
        if not picked and len(self.oldest_queued) == LOOK_AHEAD:
            picked = self._pick_from(self._read_unblocked(), limit)
        return picked

    def _pick_from(self, queued: Iterable[QueuedJob], limit: int) -> list[int]:
        busy = set(self.busy_server_ids)
        picked: list[int] = []
        has_skipped = False
        for job in queued:
            if job.operation in EXCLUSIVE_OPERATIONS and not has_skipped:
                break  # With the picked ones gone it is the oldest: what is behind it waits for it.
            # An exclusive job behind an older one waits for it: that one runs, or can run now.
            if job.operation in EXCLUSIVE_OPERATIONS or job.server_id in busy:
                has_skipped = True
                continue
            if job.server_id is not None:
                busy.add(job.server_id)
            picked.append(job.id)
            if len(picked) == limit:
                break
        return picked

    def _read_unblocked(self) -> list[QueuedJob]:
        """Look behind the oldest jobs, which are all blocked, for those of other servers."""
        marks = ", ".join(["%s"] * len(EXCLUSIVE_OPERATIONS))
        return read_queued(
            f"AND operation NOT IN ({marks}) AND (server_id IS NULL OR server_id NOT IN"  # noqa: S608
            " (SELECT server_id FROM jobs_job WHERE state = 'running' AND server_id IS NOT NULL))",
            self.host_id,
            *(operation.value for operation in EXCLUSIVE_OPERATIONS),
        )


LOOK_AHEAD = 64
"""How many of a host's oldest queued jobs are read at a time."""


def read_queued(condition: str, host_id: int, *parameters: str) -> list[QueuedJob]:
    """Return the oldest queued jobs of a host that meet an SQL condition, at most LOOK_AHEAD."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, server_id, operation FROM jobs_job"  # noqa: S608 - the condition is our own
            f" WHERE host_id = %s AND state = 'queued' {condition}"
            " ORDER BY created_at, id LIMIT %s",
            [host_id, *parameters, LOOK_AHEAD],
        )
        return [QueuedJob(*row) for row in cursor.fetchall()]


def build_scheduler_state(host: Host | None = None) -> SchedulerState:
    """Read what decides about the queued jobs of `host`, by default the one the settings name.

    The answer holds only as long as the host's row is locked. It is read at every claim and most wake-ups:
    as SQL, it takes a tenth of the time that building the same queries anew would.
    """
    host_id = (host or Host.local()).pk
    with connection.cursor() as cursor:
        cursor.execute("SELECT is_draining FROM servers_host WHERE id = %s", [host_id])
        (is_draining,) = cursor.fetchone() or (True,)
        cursor.execute("SELECT host_id, server_id, operation FROM jobs_job WHERE state = 'running'")
        running = cursor.fetchall()
    operations_here = [operation for job_host, _, operation in running if job_host == host_id]
    return SchedulerState(
        host_id=host_id,
        is_draining=bool(is_draining),
        # Of every host: a server that has moved must not run here while its old host still acts.
        busy_server_ids=frozenset(server for _, server, _ in running if server is not None),
        is_busy=bool(operations_here),
        is_exclusive=any(operation in EXCLUSIVE_OPERATIONS for operation in operations_here),
        oldest_queued=tuple(read_queued("", host_id)),
    )


def claim_next_job(worker: Worker | None = None, *, host: Host | None = None) -> Job | None:
    """Set the oldest runnable job of the worker's host to running and return it, or None.

    It is committed before this returns: call it outside a transaction, and touch the host afterwards.
    """
    return next(
        iter(claim_jobs(worker, host or (worker.host if worker else Host.local()), 1)), None
    )


def claim_jobs(worker: Worker | None, host: Host, limit: int) -> list[Job]:
    """Claim the oldest runnable jobs of `host`, at most `limit`, in one transaction; as `claim_next_job`."""
    # A look without the lock first: most wake-ups find nothing to claim.
    if not build_scheduler_state(host).pick(limit):
        return []
    try:
        with transaction.atomic():
            lock_host(host)
            # Read after the lock is taken: on PostgreSQL this sees what was committed meanwhile.
            ids = set_running(build_scheduler_state(host).pick(limit), worker)
            if not ids:
                return []
            if worker:
                # A claim is a sign of life: another worker must not take this one, back from a pause, for
                # dead before its next heartbeat, and fail what it has just claimed.
                Worker.objects.filter(pk=worker.pk).update(heartbeat_at=timezone.now())
            announce(Channel.PAGES)
    except IntegrityError:
        # The database refused a second running job of one server: two hosts claimed at one moment.
        logger.warning("host %s: a claim lost against another host's; trying again", host.name)
        return []
    jobs = Job.objects.select_related("server__host", "server__blueprint", "host")
    return list(jobs.filter(pk__in=ids).order_by("created_at", "id"))


def has_queued_jobs(host: Host) -> bool:
    """Return whether a job of `host` waits."""
    return bool(read_queued("", host.pk))


def read_cancel_requests(worker: Worker) -> list[int]:
    """Return the ids of the jobs that `worker` runs and a person has asked to end."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM jobs_job WHERE state = 'running' AND host_id = %s"
            " AND worker_id = %s AND cancel_requested_at IS NOT NULL",
            [worker.host_id, worker.pk],
        )
        return [job_id for (job_id,) in cursor.fetchall()]


def set_running(job_ids: Sequence[int], worker: Worker | None) -> list[int]:
    """Set queued jobs to running; return the ids of those that were not cancelled in this moment."""
    if not job_ids:
        return []
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    places = ", ".join(["%s"] * len(job_ids))
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE jobs_job"  # noqa: S608 - nothing but places for parameters
            " SET state = 'running', worker_id = %s, started_at = %s, updated_at = %s"
            f" WHERE state = 'queued' AND id IN ({places}) RETURNING id",
            [worker.pk if worker else None, now, now, *job_ids],
        )
        return [job_id for (job_id,) in cursor.fetchall()]


def lock_host(host: Host) -> None:
    """Make the claims and requests of `host` take turns until the transaction ends.

    On SQLite there is nothing to lock: its transactions are IMMEDIATE and take turns anyway.
    """
    if connection.features.has_select_for_update:
        Host.objects.select_for_update(no_key=True).only("pk").get(pk=host.pk)


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

    Without `state`, exit code 0 is success and any other failure. Returns False, and changes nothing,
    if the job is not `job.worker`'s any more: its lease was lost, and the verdict on it stands.
    """
    state = state or (JobState.SUCCEEDED if exit_code == 0 else JobState.FAILED)
    now = timezone.now()
    changes: dict[str, Any] = {
        "state": state,
        "exit_code": exit_code,
        "error": one_line(error),
        "finished_at": now,
        "updated_at": now,
    }
    if state == JobState.SUCCEEDED and job.progress is not None:
        changes["progress"] = 100
    with transaction.atomic():
        owned = Job.objects.running().filter(pk=job.pk, worker=job.worker_id)
        if owned.update(**changes) == 0:
            return False
        if job.server_id and server_changes:
            Server.objects.filter(pk=job.server_id).update(**server_changes, updated_at=now)
        announce(Channel.QUEUE, Channel.PAGES)
    for name, value in changes.items():
        setattr(job, name, value)
    return True


def cancel(job: Job) -> Job:
    """End a queued job at once, or ask the worker of a running one to end it; return it as it is now."""
    now = timezone.now()
    with transaction.atomic():
        queued = Job.objects.filter(pk=job.pk, state=JobState.QUEUED)
        was_queued = queued.update(
            state=JobState.CANCELLED,
            error="Cancelled before it started.",
            cancel_requested_at=now,
            finished_at=now,
            updated_at=now,
        )
        if not was_queued:
            running = Job.objects.running().filter(pk=job.pk, cancel_requested_at=None)
            running.update(cancel_requested_at=now, updated_at=now)
        announce(Channel.QUEUE, Channel.PAGES)
    job.refresh_from_db()
    return job


def recover_stale_jobs(host: Host | None = None, *, by_lease: bool = True) -> list[Job]:
    """Fail every running job, of `host` or of all, whose worker is gone; return those jobs.

    Without `by_lease` only what is certain counts: a worker that said goodbye, or whose process is gone.
    What their servers are doing is unknown from then on, until their host is asked again. Safe to run in
    several workers at a time: each job is given its verdict once.
    """
    # Without an order: for the usual one SQLite would walk over every job there ever was.
    running = Job.objects.running().order_by().select_related("worker", "server")
    if host:
        running = running.filter(host=host)
    return [
        job for job in running if is_gone(job.worker, by_lease=by_lease) and fail_stale_job(job)
    ]


def fail_stale_job(job: Job) -> bool:
    """Give a job whose worker is gone its verdict; False if it got one meanwhile."""
    with transaction.atomic():
        is_ours = finish_job(
            job,
            exit_code=1,
            error=WORKER_STOPPED,
            server_changes={
                "last_error": f"{job.operation_label}: {WORKER_STOPPED}",
                "actual_state": ActualState.UNKNOWN,
                "actual_state_at": timezone.now(),
            },
        )
        if is_ours:
            append_job_log_line(job.pk, LogStream.STDERR, WORKER_STOPPED)
    if is_ours:
        logger.warning("job %s: failed, its worker (%s) is gone", job.pk, job.worker)
    return is_ours


def prune_jobs(finished_before: datetime) -> int:
    """Delete the jobs, with their logs, that ended before a moment; return how many."""
    old = Job.objects.finished().filter(finished_at__lt=finished_before)
    count = 0
    while ids := list(old.values_list("pk", flat=True)[:200]):
        count += Job.objects.filter(pk__in=ids).delete()[1].get("jobs.Job", 0)
    return count


def one_line(text: str) -> str:
    """Return `text` on one line."""
    return " ".join(text.split())
