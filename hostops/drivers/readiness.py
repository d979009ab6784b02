"""Finds out whether a server can be started on its port, and whether a started one answers."""

import errno
import socket
import time

from hostops.errors import HostError
from hostops.instances import runs
from hostops.layout import HostLayout, InstanceLayout
from hostops.query.a2s import QueryError, query_info

READY_LINE = b"Connection to Steam servers successful."
"""What srcds prints once it is up."""

_QUERY_SECONDS = 0.2
_QUERY_INTERVAL_SECONDS = 0.5
_CHUNK_BYTES = 1 << 20


class Readiness:
    """Looks for the ready line in the console of runs, reading every byte once, and queries their
    port.

    Either is enough: a server without a connection to Steam prints no such line, and a real one
    does not answer on every address. May be used by several threads.
    """

    def __init__(self, query_address: str) -> None:
        self._query_address = query_address
        self._offsets: dict[InstanceLayout, tuple[int, int]] = {}
        self._queried_at: dict[InstanceLayout, float] = {}

    def is_ready(self, instance: InstanceLayout, run: runs.Run) -> bool:
        """Whether the run is up, and if so, record it. Waits for an answer for at most 0.2 s."""
        if self._has_ready_line(instance, run) or self._answers(instance, run):
            runs.mark_ready(instance, run)
            self._offsets.pop(instance, None)
            self._queried_at.pop(instance, None)
            return True
        return False

    def _has_ready_line(self, instance: InstanceLayout, run: runs.Run) -> bool:
        number, offset = self._offsets.get(instance, (0, 0))
        if number != run.run:
            offset = 0
        try:
            with instance.console_log_path(run.run).open("rb") as file:
                file.seek(offset)
                while data := file.read(_CHUNK_BYTES):
                    if READY_LINE in data:
                        return True
                    # What comes next may complete a line that has begun.
                    offset = max(offset, file.tell() - len(READY_LINE) + 1)
                    if len(data) < _CHUNK_BYTES:
                        break
                    file.seek(offset)
        except FileNotFoundError:
            return False
        self._offsets[instance] = (run.run, offset)
        return False

    def _answers(self, instance: InstanceLayout, run: runs.Run) -> bool:
        now = time.monotonic()
        if now - self._queried_at.get(instance, float("-inf")) < _QUERY_INTERVAL_SECONDS:
            return False
        self._queried_at[instance] = now
        try:
            query_info(self._query_address, run.port, timeout_seconds=_QUERY_SECONDS)
        except QueryError:
            return False
        return True


def require_free_port(layout: HostLayout, instance: InstanceLayout, port: int) -> None:
    """Raise HostError if something has the port, UDP or TCP: srcds takes both."""
    for protocol, kind in (("UDP", socket.SOCK_DGRAM), ("TCP", socket.SOCK_STREAM)):
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:
                # Connections that ended lately do not keep a server from listening.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                raise HostError(
                    f"Port {port} ({protocol}) of {instance.name} is in use by "
                    f"{_find_user(layout, instance, port)}. Stop that, or give {instance.name} another port."
                ) from None


def _find_user(layout: HostLayout, instance: InstanceLayout, port: int) -> str:
    for name in layout.instance_names():
        other = layout.instance(name)
        last_run = runs.read_run(other)
        if other != instance and last_run and last_run.port == port and runs.is_alive(other):
            return f"the server {name}"
    return "another program on this host"
