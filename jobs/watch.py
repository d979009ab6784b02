"""What a worker reads from its host between jobs: the servers' actual states, and their consoles.

Nothing here changes anything on the host.
"""

from collections.abc import Iterable

from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from hostops.specs import ConsolePosition, InstanceState
from jobs import operations
from jobs.logs import make_line_safe
from jobs.models import Job
from jobs.wakeup import Channel, announce
from servers.models import ActualState, ConsoleLine, Host, Server

CONSOLE_LINES_KEPT = 10_000
"""Per server. A console is a window on what happens; what is to be kept is in the server's own logs."""

PRUNE_EVERY = 500


class HostWatch:
    """Watches one host. To be used by one thread."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._layer = operations.get_host(host.name)

    def report_host(self) -> None:
        """Store what the host is like."""
        operations.report_host(self._host)

    def store_states(self) -> None:
        """Store the actual states that differ from the stored ones; a running job stores its own."""
        statuses = self._layer.statuses()
        running = Job.objects.running().filter(server=OuterRef("pk"))
        for server in self._host.servers.filter(~Exists(running)):
            status = statuses.get(server.name)
            state = status.state.value if status else InstanceState.ABSENT.value
            if state == server.actual_state:
                continue
            crash = {"last_error": status.detail} if status and state == ActualState.CRASHED else {}
            # A job that began meanwhile knows better.
            Server.objects.filter(~Exists(running), pk=server.pk).update(
                actual_state=state,
                actual_state_at=timezone.now(),
                updated_at=timezone.now(),
                **crash,
            )

    def copy_consoles(self) -> None:
        """Copy what the servers of the host have written since the last time into rows."""
        for server in self._host.servers.exclude(actual_state=ActualState.ABSENT):
            position = ConsolePosition(server.console_run, server.console_offset)
            chunk = self._layer.read_console(server.name, position)
            if chunk.position != position:
                self._store_console(server, chunk.lines, chunk.position)

    def _store_console(
        self, server: Server, lines: Iterable[tuple[int, str]], position: ConsolePosition
    ) -> None:
        now = timezone.now()
        rows = [
            ConsoleLine(server=server, seq=seq, run=run, line=make_line_safe(line), created_at=now)
            for seq, (run, line) in enumerate(lines, start=server.console_seq + 1)
        ]
        with transaction.atomic():
            # Lines and position are stored together, and by the one who read from the stored position.
            is_ours = Server.objects.filter(
                pk=server.pk, console_run=server.console_run, console_offset=server.console_offset
            ).update(
                console_run=position.run,
                console_offset=position.offset,
                console_seq=server.console_seq + len(rows),
            )
            if not is_ours:
                return
            ConsoleLine.objects.bulk_create(rows)
            announce(Channel.PAGES)
            first = server.console_seq
            last = first + len(rows)
            if first // PRUNE_EVERY != last // PRUNE_EVERY:
                server.console_lines.filter(seq__lte=last - CONSOLE_LINES_KEPT).delete()
