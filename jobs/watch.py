"""What a worker reads from its host between jobs: the servers' actual states, and their consoles.

Nothing here changes anything on the host; what has to be done there is queued, as any other wish.
"""

import logging
import time
from datetime import timedelta
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from hostops.specs import ConsoleChunk, ConsolePosition, InstanceState, InstanceStatus
from jobs import operations
from jobs.logs import append_job_log_line, make_line_safe
from jobs.models import Job, LogStream, Operation
from jobs.queue import enqueue, lock_host
from jobs.wakeup import Channel, announce
from servers.models import ActualState, ConsoleLine, Crash, DesiredState, Host, Server

logger = logging.getLogger(__name__)

CONSOLE_LINES_KEPT = 10_000
"""Per server. A console is a window on what happens; what is to be kept is in the server's own logs."""

PRUNE_EVERY = 500

CRASH_LINES = 50
"""How much of its console is kept with a crash."""

CATCH_UP_CHUNKS = 200
"""How much of a console is copied at most before a crash is recorded, of 256 KiB each."""


class HostWatch:
    """Watches one host. To be used by one thread."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._layer = operations.get_host(host.name)

    def report_host(self) -> None:
        """Store what the host is like."""
        operations.report_host(self._host)

    # --- States -------------------------------------------------------------------------------

    def store_states(self) -> None:
        """Store what differs from what is stored, record crashes, and bring back what a reboot ended.

        The server of a running job is left to that job.
        """
        statuses = self._layer.statuses()
        for server in self._host.servers.filter(~Exists(running_jobs())):
            status = statuses.get(server.name) or InstanceStatus(server.name, InstanceState.ABSENT)
            self._store_state(server, status)
            if status.ended_by_reboot and server.desired_state == DesiredState.RUNNING:
                self._bring_back(server)

    def _store_state(self, server: Server, status: InstanceStatus) -> None:
        restarts = status.restarts or 0
        changes: dict[str, Any] = {
            "actual_state": status.state.value,
            "running_build_id": status.release or "",
            "restarts": restarts,
        }
        if all(getattr(server, name) == value for name, value in changes.items()):
            return
        now = timezone.now()
        if status.state.value != server.actual_state:
            changes["actual_state_at"] = now
        if status.state is InstanceState.ABSENT:
            # The runs of its next instance are counted from the first one again.
            changes |= {"console_run": 0, "console_offset": 0}
        has_ended = status.state is InstanceState.CRASHED != server.actual_state
        has_crashed = has_ended or restarts > server.restarts
        if has_crashed:
            self._catch_up(server)
            changes["last_error"] = status.detail
        with transaction.atomic():
            # A job that began meanwhile knows better; another worker of the host may have been first.
            is_ours = Server.objects.filter(
                ~Exists(running_jobs()),
                pk=server.pk,
                actual_state=server.actual_state,
                restarts=server.restarts,
            ).update(**changes, updated_at=now)
            if not is_ours:
                return
            if has_crashed:
                self._record_crash(server, status)
            announce(Channel.PAGES)

    def _record_crash(self, server: Server, status: InstanceStatus) -> None:
        newest = server.console_lines.order_by("-seq")
        lines = newest.filter(run=newest.values("run")[:1])
        texts = list(lines.values_list("line", flat=True)[:CRASH_LINES])
        Crash.record(
            server,
            exit_signal=status.exit_signal or "",
            detail=status.detail,
            last_lines="\n".join(reversed(texts)),
        )
        logger.warning("server %s has crashed: %s", server.name, status.detail)

    def _bring_back(self, server: Server) -> None:
        """Queue the start of a server that ran when the host went down: once for each boot.

        A start that was asked for since, by this or by anybody, was the try. If it failed, people
        decide what is next.
        """
        booted_at = timezone.now() - timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME))
        with transaction.atomic():
            lock_host(self._host)
            tries = server.jobs.filter(
                operation__in=(Operation.START, Operation.RESTART), created_at__gte=booted_at
            )
            if tries.exists() or Job.objects.active().filter(server=server).exists():
                return
            job = enqueue(Operation.START, server=server, requested_by=None)
            append_job_log_line(
                job.pk,
                LogStream.STDOUT,
                f"Host {self._host.name} has restarted, and {server.name} should be running: "
                "Saferoom starts it again.",
            )
        logger.info("job %s: start of %s after a restart of the host", job.pk, server.name)

    # --- Consoles -----------------------------------------------------------------------------

    def copy_consoles(self) -> None:
        """Copy what the servers of the host have written since the last time into rows."""
        # Several times a second, and mostly nothing is new: no model objects are made for that.
        servers = self._host.servers.exclude(actual_state=ActualState.ABSENT)
        for values in servers.values_list(*Bookmark._fields):
            self._copy_console(Bookmark(*values))

    def _catch_up(self, server: Server) -> None:
        """Copy all that the server has written, as far as that is within reason."""
        for _ in range(CATCH_UP_CHUNKS):
            values = Server.objects.filter(pk=server.pk).values_list(*Bookmark._fields).first()
            if values is None or not self._copy_console(Bookmark(*values)):
                return

    def _copy_console(self, bookmark: "Bookmark") -> bool:
        """Copy the next part of a console; return whether there was one."""
        position = ConsolePosition(bookmark.console_run, bookmark.console_offset)
        chunk = self._layer.read_console(bookmark.name, position)
        if chunk.position == position:
            return False
        self._store_console(bookmark, chunk)
        return True

    def _store_console(self, bookmark: "Bookmark", chunk: ConsoleChunk) -> None:
        now = timezone.now()
        first = bookmark.console_seq
        last = first + len(chunk.lines)
        rows = [
            ConsoleLine(
                server_id=bookmark.pk, seq=seq, run=run, line=make_line_safe(line), created_at=now
            )
            for seq, (run, line) in enumerate(chunk.lines, start=first + 1)
        ]
        with transaction.atomic():
            # Lines and position are stored together, and by the one who read from the stored position.
            is_ours = Server.objects.filter(
                pk=bookmark.pk,
                console_run=bookmark.console_run,
                console_offset=bookmark.console_offset,
                console_seq=first,
            ).update(
                console_run=chunk.position.run,
                console_offset=chunk.position.offset,
                console_seq=last,
            )
            if not is_ours:
                return
            ConsoleLine.objects.bulk_create(rows)
            announce(Channel.PAGES)
            if first // PRUNE_EVERY != last // PRUNE_EVERY:
                ConsoleLine.objects.filter(
                    server_id=bookmark.pk, seq__lte=last - CONSOLE_LINES_KEPT
                ).delete()


class Bookmark(NamedTuple):
    """How far the console of a server has been copied, as its row says."""

    pk: int
    name: str
    console_run: int
    console_offset: int
    console_seq: int


def running_jobs() -> Any:
    """Return the running jobs of the server that an outer query is about."""
    return Job.objects.running().filter(server=OuterRef("pk"))
