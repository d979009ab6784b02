"""What a worker reads from its host beside its jobs: servers' actual states. `console_copier` reads consoles.

A server that has to be started gets a job, like any other request.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone
from django.utils.formats import date_format

from hostops.specs import (
    SILENT_NOTE,
    CrashedRun,
    DueRestart,
    InstanceState,
    InstanceStatus,
    find_last_said,
)
from jobs import operations
from jobs.database import Channel, announce, write_turn
from jobs.logs import append_job_log_line
from jobs.models import STARTS, Job, LogStream, Operation
from jobs.queue import enqueue, lock_host
from jobs.watch.console_copier import ConsoleCopier, last_words
from jobs.watch.console_guard import ConsoleGuard
from servers.models import ActualState, Crash, DesiredState, Host, Run, Server

logger = logging.getLogger(__name__)

STORED_AT_ONCE = 20
"""How many changes share a transaction: with one for each, jobs would wait for the disk that many times."""


class HostWatch:
    """Watches one host. For use by one thread.

    `is_claiming` says whether its worker takes jobs: if not, crashed servers are not restarted.
    """

    def __init__(self, host: Host, is_claiming: Callable[[], bool] = lambda: True) -> None:
        self._host = host
        self._is_claiming = is_claiming
        self._restarted: dict[int, DueRestart] = {}
        self._layer = operations.get_host(host.name)
        self.consoles = ConsoleCopier(host, self._layer)
        self.guard = ConsoleGuard(self._layer)

    def report_host(self) -> None:
        """Store the host layer's report about the host."""
        operations.report_host(self._host)

    def store_sizes(self) -> None:
        """Store how much the servers have written themselves, where that has changed."""
        servers = self._host.servers.exclude(actual_state=ActualState.ABSENT)
        measured = (
            (server, operations.measure_own_bytes(self._host.name, server.name))
            for server in servers.filter(~Exists(running_jobs()))
        )
        news = ((server, size) for server, size in measured if size != server.own_bytes)
        while some := list(islice(news, STORED_AT_ONCE)):
            alike: dict[int | None, list[int]] = defaultdict(list)
            for server, size in some:
                alike[size].append(server.pk)
            with write_turn(), transaction.atomic():
                for size, server_ids in alike.items():
                    changed = Server.objects.filter(pk__in=server_ids)
                    changed.update(own_bytes=size, updated_at=timezone.now())
                announce(Channel.PAGES)

    # --- States -------------------------------------------------------------------------------

    def store_states(self) -> None:
        """Store changed states, record crashes, and restart servers that crashed or that a reboot ended.

        The server of a running job is left to that job. The rows are read before the host is asked: if a job
        changes one in between, the job knows better.
        """
        servers = list(self._host.servers.filter(~Exists(running_jobs())))
        looked_at = timezone.now()
        statuses = self._layer.statuses(with_usage=False)
        takes_jobs = self._takes_jobs(statuses)
        seen = [
            (
                server,
                self._tell_restart(server, statuses[server.name], takes_jobs=takes_jobs)
                if server.name in statuses
                else InstanceStatus(server.name, InstanceState.ABSENT),
            )
            for server in servers
        ]
        found = [self._look_at(server, status, looked_at) for server, status in seen]
        news = iter(gather_alike([one for one in found if one]))
        while some := list(islice(news, STORED_AT_ONCE)):
            self._store(some)
        for server, status in seen:
            if status.ended_by_reboot and server.desired_state == DesiredState.RUNNING:
                self._bring_back(server)
            if status.due_restart and takes_jobs and status.due_restart.due_at <= time.time():
                self._restart(server, status.due_restart)

    def _takes_jobs(self, statuses: Mapping[str, InstanceStatus]) -> bool:
        """Return whether a job queued now would run soon. Queries only if a restart is due."""
        is_due = any(status.due_restart for status in statuses.values())
        if not is_due or not self._is_claiming():
            return False
        return not Host.objects.filter(pk=self._host.pk, is_draining=True).exists()

    def _tell_restart(
        self, server: Server, status: InstanceStatus, *, takes_jobs: bool
    ) -> InstanceStatus:
        """Add to a crashed server's status what will be done; nothing is, if the server should not run."""
        due = status.due_restart
        if due is None:
            return status
        if server.desired_state != DesiredState.RUNNING:
            return replace(status, due_restart=None)
        number = f"{due.number} of {due.budget}"
        if takes_jobs:
            at = date_format(timezone.localtime(datetime.fromtimestamp(due.due_at, UTC)), "H:i:s T")
            # Before the detail, which may end with a line of the console, as in `tell_giving_up`.
            detail = f"It is started again at {at}, unless it is kept stopped. {status.detail}"
            return replace(status, note=f"restarting ({number})", detail=detail)
        return replace(
            status,
            note="to be restarted",
            detail=f"It is started again ({number}) once host {self._host.name} takes jobs. {status.detail}",
        )

    def _look_at(
        self, server: Server, status: InstanceStatus, looked_at: datetime
    ) -> "News | None":
        """Return what to store about a server; None if nothing has changed."""
        changes = operations.describe_state(self._host.name, server, status)
        crashes = unrecorded_crashes(server, status)
        if crashes:
            changes["crashed_run"] = crashes[-1].run
        elif (status.run or 0) < server.crashed_run:
            changes["crashed_run"] = 0  # The instance is gone, or has been replaced by another one.
        if all(getattr(server, name) == value for name, value in changes.items()):
            return None
        if status.state.value != server.actual_state:
            changes["actual_state_at"] = looked_at
        is_silent = status.note == SILENT_NOTE
        if (
            server.state_note == SILENT_NOTE
            and status.state is InstanceState.RUNNING
            and not is_silent
        ):
            # It answers now, which the start that failed could not know.
            changes["last_error"] = ""
        if status.state is InstanceState.ABSENT:
            # The runs of its next instance start counting from one again.
            changes |= {"console_run": 0, "console_offset": 0}
        if crashes:
            self.consoles.catch_up(server)
        rows = [self._describe_crash(server, crash) for crash in crashes]
        # The error of a failed start stays: it says more.
        if rows and (server.actual_state != ActualState.CRASHED or status.restarts):
            changes["last_error"] = rows[-1].detail
        return News([server], changes, rows)

    def _store(self, news: Sequence["News"]) -> None:
        with write_turn(), transaction.atomic():
            stored = [one for one in news if one.store()]
            if stored:
                announce(Channel.PAGES)
        for row in chain.from_iterable([one.crashes for one in stored]):
            logger.warning("server %s: %s", row.server.name, row.detail)

    def _describe_crash(self, server: Server, crash: CrashedRun) -> Crash:
        lines = last_words(server, crash.run)
        how = f"Crashed ({crash.how})." if crash.how else "Crashed; how it ended is not known."
        last_line = find_last_said(lines)
        said = f"Its last line was: {last_line[:300]}" if last_line else "It printed nothing."
        return Crash(
            server=server,
            exit_signal=crash.exit_signal or "",
            detail=f"{how} {said}",
            last_lines="\n".join(lines),
        )

    def _bring_back(self, server: Server) -> None:
        """Queue the start of a server that ran when the host went down: once for each boot.

        A start that was requested since, by this or by a person, counts as the attempt. If it failed, people
        decide what to do next.
        """
        booted_at = timezone.now() - timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME))
        text = (
            f"Host {self._host.name} has restarted, and {server.name} should be running: "
            "Saferoom starts it again."
        )
        # While the host is drained, the job waits for the end of that.
        if job := self._queue_start(server, booted_at, text):
            logger.info("job %s: start of %s after a restart of the host", job.pk, server.name)

    def _restart(self, server: Server, due: DueRestart) -> None:
        """Queue the start of a server that has crashed: once for each crash, however many workers see it.

        A start that was requested since counts as the attempt. If it failed before the game ran, people decide
        what to do next; if the game crashed again, that is the next crash.
        """
        # Needed too if the clock was set back, which could make an attempt seem older than the crash.
        if self._restarted.get(server.pk) == due:
            return
        text = (
            f"{server.name} has crashed and should be running: Saferoom starts it again "
            f"({due.number} of {due.budget})."
        )
        crashed_at = datetime.fromtimestamp(due.crashed_at, UTC)
        # The job finds in the row that this is a restart after a crash: another worker may have an older look.
        conditions = {"host__is_draining": False, "actual_state": ActualState.CRASHED}
        if job := self._queue_start(server, crashed_at, text, **conditions):
            self._restarted[server.pk] = due
            logger.info("job %s: start of %s after a crash", job.pk, server.name)

    def _queue_start(
        self, server: Server, moment: datetime, text: str, **conditions: object
    ) -> Job | None:
        """Queue the start of a server that has ended at `moment`, with `text` as its first line.

        Returns None if it has been started or stopped since, if a job of it waits or runs, or if its row does
        not meet the `conditions`.
        """
        if has_tried_since(server, moment):
            return None  # Until somebody starts it, this is so at each look: it costs no lock.
        with transaction.atomic():
            # Everything that queues or claims waits for this lock, also another worker of the host.
            lock_host(self._host)
            if has_tried_since(server, moment):
                return None
            if Job.objects.active().filter(server=server).exists():
                return None
            # Read after the check for active jobs: one that stopped the server has stored that before it ended.
            wanted = Server.objects.filter(pk=server.pk, desired_state=DesiredState.RUNNING)
            if not wanted.filter(**conditions).exists():
                return None
            job = enqueue(
                Operation.START, server=server, requested_by=None, run=find_run_to_repeat(server)
            )
            append_job_log_line(job.pk, LogStream.STDOUT, text)
        return job


def has_tried_since(server: Server, moment: datetime) -> bool:
    """Return whether the newest start or restart of a server was requested at `moment` or later.

    One in the future was requested before the clock was set back, so it is older than any past `moment`.
    """
    starts = server.jobs.filter(operation__in=STARTS).order_by("-id")
    newest = starts.values_list("created_at", flat=True).first()
    if newest is None or moment <= timezone.now() < newest:
        return False
    return newest >= moment


def find_run_to_repeat(server: Server) -> Run | None:
    """Return the run to repeat if the server was last started “as it was”; None to use the saved settings.

    The person who did that did not want the saved settings, which may not even start. This stays so until
    somebody starts the server with the saved settings, even if the worker of an automatic restart was killed.
    """
    last = server.runs.order_by("-id").first()
    if last and not last.is_known:
        job = server.jobs.filter(operation__in=STARTS).order_by("-id").first()
        return job.run if job and job.run and job.run.sealed else None
    return last if last and last.as_it_was_at and last.sealed else None


@dataclass(frozen=True)
class News:
    """What was found about instances and is not yet in their servers' rows, which are all alike."""

    servers: Sequence[Server]
    changes: Mapping[str, Any]
    crashes: Sequence[Crash]

    @property
    def seen(self) -> dict[str, Any]:
        """What the rows said when the instances were read."""
        return {name: getattr(self.servers[0], name) for name in SEEN_FIELDS}

    def store(self) -> bool:
        """Store it in the open transaction; return False if others know better and nothing was stored."""
        # A job that runs, or that has ended since, knows better; or another worker of the host was first.
        # Times are only compared for equality with what was read: clocks are sometimes set back.
        told_at = [server.actual_state_at for server in self.servers]
        as_seen = Server.objects.filter(
            Q(actual_state_at=None) | Q(actual_state_at__in=told_at),
            ~Exists(running_jobs()),
            pk__in=[server.pk for server in self.servers],
            **self.seen,
        )
        is_ours = as_seen.update(**self.changes, updated_at=timezone.now())
        if is_ours and self.crashes:
            Crash.record(self.servers[0], self.crashes)
        return bool(is_ours)


SEEN_FIELDS = ("actual_state", "restarts", "crashed_run")


def gather_alike(news: Iterable[News]) -> list[News]:
    """Merge equal changes into one: after a reboot of the host, those of all its servers are equal.

    Storing a merged one takes no longer than storing a single one, and writing blocks the database for
    everybody else. Changes with crashes are not merged.
    """
    gathered: dict[Any, list[News]] = defaultdict(list)
    for one in news:
        is_alike = (*one.seen.values(), *sorted(one.changes.items()))
        gathered[one.servers[0].pk if one.crashes else is_alike].append(one)
    return [
        replace(alike[0], servers=[server for one in alike for server in one.servers])
        for alike in gathered.values()
    ]


def unrecorded_crashes(server: Server, status: InstanceStatus) -> list[CrashedRun]:
    """Return the crashes of a server that its row does not have yet, the latest one last.

    The number of the run identifies a crash. So it is found even if the server already runs again when this
    checks, or a job has worked on it in between. A newly made instance counts its runs from 1 again.
    """
    known = server.crashed_run if server.crashed_run <= (status.run or 0) else 0
    return [crash for crash in status.crashed_runs if crash.run > known]


def running_jobs() -> Any:
    """Return the running jobs of the server that an outer query is about."""
    return Job.objects.running().filter(server=OuterRef("pk"))
