"""How a job gets into the queue, or why it does not.

`request` is for people: it checks what they ask for, and two clicks on one action give one job. `enqueue`, for
workers, checks nothing. Each is one short transaction, or part of the caller's, and touches no host.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from jobs.database import Channel, announce
from jobs.models import (
    ENDING_OPERATIONS,
    HOST_OPERATIONS,
    STARTS,
    DeferredAction,
    Job,
    Operation,
)
from jobs.queue.scheduler import lock_host
from servers.config import find_certain_conflicts
from servers.models import ActualState, Host, Run, Server, Upload, UploadState
from servers.quotas import lock_person, most_waiting_jobs
from servers.store import Fault, Lack, find_gap

PROBLEMS_TOLD = 3


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
    after: Job | None = None,
) -> Job:
    """Store a queued job and return it; any worker of its host may claim it once this is committed.

    The host defaults to the server's, or to the one that the settings name. `build_id` is the build that a
    rollback goes to, by default the latest other one. `run` is the run that a start repeats instead of using
    the saved settings. `upload` is what is unpacked. `after` is a job that comes before this one in the queue,
    even if the clock was set back since, or was ahead on the machine that stored it. Nothing is refused here:
    `request` does that.
    """
    now = timezone.now()
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
            created_at=max(now, after.created_at) if after else now,
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
    """Enqueue what a person asked for, or return the newest job, if it waits or runs and does exactly that.

    Two clicks on one action give one job. A different action in between makes it a new request: stop, start,
    stop are three jobs. If it raises `RequestRefused`, it has changed nothing: several requests in one
    transaction are accepted together or refused together.
    """
    host = host or (server.host if server else Host.local())
    if server and operation in STARTS and run is None:
        # Before the locks: it may read manifests. A run that is repeated has shown that it works.
        refuse_conflicts(operation, server, accepts_conflicts=accepts_conflicts)
    with transaction.atomic():
        if not requested_by.is_superuser:
            requested_by = lock_person(requested_by)
        if run:
            # Before the host, because a worker locks in that order: it stores ends, then claims.
            lock_run(run)
        if upload:
            upload = lock_upload(upload)
        lock_host(host)
        if server:
            require_place(server, host)
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
            after=newest,
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


def require_place(server: Server, host: Host) -> None:
    """Raise `RequestRefused` if a server was removed, or moved away from `host`, before that was locked."""
    host_id = Server.objects.filter(pk=server.pk).values_list("host_id", flat=True).first()
    if host_id is None:
        raise RequestRefused(_("%(server)s has just been removed.") % {"server": server.name})
    if host_id != host.pk:
        text = _("%(server)s has just been moved to another host: try again.")
        raise RequestRefused(text % {"server": server.name})


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
        host=None if job.server else job.host,  # The server may have moved to another host since.
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
