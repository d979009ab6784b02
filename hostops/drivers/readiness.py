"""Finds out whether a server can be started on its port, and whether a started one answers."""

import time

from hostops.drivers import port_holders
from hostops.errors import HostError
from hostops.instances import runs
from hostops.layout import HostLayout, InstanceLayout
from hostops.linux import untrusted
from hostops.linux.holes import find_data
from hostops.linux.sockets import WILDCARD
from hostops.linux.untrusted import UntrustedFileError
from hostops.query.a2s import QueryError, query_info

READY_LINE = b"Connection to Steam servers successful."
"""What srcds prints once it is up."""

_QUERY_SECONDS = 0.2
_QUERY_INTERVAL_SECONDS = 0.5
_CHUNK_BYTES = 1 << 20
_TURN_BYTES = 4 << 20
"""Searched in one call: some milliseconds."""


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
        """Look at the next `_TURN_BYTES` of what it has printed: a flood may outrun that."""
        number, offset = self._offsets.get(instance, (0, 0))
        if number != run.run:
            offset = 0
        try:
            path = instance.console_log_path(run.run)
            descriptor = untrusted.open_file(path, instance.trusted_dir)
        except (FileNotFoundError, UntrustedFileError):
            return False
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
            offset = find_data(descriptor, offset)
            end = offset + _TURN_BYTES
            while offset < end:
                file.seek(offset)
                data = file.read(_CHUNK_BYTES)
                if READY_LINE in data:
                    return True
                # What comes next may complete a line that has begun.
                offset = max(offset, file.tell() - len(READY_LINE) + 1)
                if len(data) < _CHUNK_BYTES:
                    break
        self._offsets[instance] = (run.run, offset)
        return False

    def _answers(self, instance: InstanceLayout, run: runs.Run) -> bool:
        now = time.monotonic()
        if now - self._queried_at.get(instance, float("-inf")) < _QUERY_INTERVAL_SECONDS:
            return False
        self._queried_at[instance] = now
        try:
            address = run.address or self._query_address
            query_info(address, run.port, timeout_seconds=_QUERY_SECONDS)
        except QueryError:
            return False
        return True


def require_free_port(
    layout: HostLayout, instance: InstanceLayout, port: int, address: str = WILDCARD
) -> None:
    """Raise HostError if the instance cannot have the port at the address, UDP and TCP: srcds takes both.

    What its own run holds is not in the way: it has ended before the next one begins. The text says who holds
    the port, as far as this account may see that, and which port is free.
    """
    for protocol in port_holders.find_conflicts(port, address):
        held = port_holders.find_in_the_way(port, address, protocol)
        if held and port_holders.are_own(instance, port, held):
            continue
        free = port_holders.find_free_port(layout)
        raise HostError(
            f"Port {port} ({protocol}) of {instance.name} is in use by "
            f"{port_holders.describe_holder(layout, instance, held)}. "
            f"Stop that, or give {instance.name} another port{'.' if free is None else f': {free} is free.'}"
        )
