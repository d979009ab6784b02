"""Reports the worker's state to systemd, where systemd asks for it (`Type=notify`, `WatchdogSec=`).

The protocol is one datagram of NAME=VALUE lines to `$NOTIFY_SOCKET`: see sd_notify(3). Without that
variable this does nothing.
"""

import logging
import math
import os
import socket
from time import monotonic

logger = logging.getLogger(__name__)


class SystemdNotifier:
    """Sends one worker's reports. For use by the worker's main thread, whose turns the watchdog watches."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        self._watchdog_seconds = _read_watchdog_seconds() if self._address else math.inf
        self._alive_until = 0.0
        self._status = ""
        self._is_stopping = False

    @property
    def longest_turn_seconds(self) -> float:
        """How long the worker may wait for work before it has to report that it is alive."""
        return self._watchdog_seconds / 3

    def ready(self) -> None:
        """Report that the worker takes jobs, and in the same message that it has none yet.

        So the unit has a status as soon as it has started.
        """
        self._status = describe(0, is_stopping=False)
        self._send("READY=1", f"STATUS={self._status}")

    def turn(self, running_jobs: int, is_stopping: bool) -> None:
        """Report what has changed since the last turn, and, often enough, that the worker is alive."""
        lines = []
        if is_stopping and not self._is_stopping:
            self._is_stopping = True
            lines.append("STOPPING=1")
        status = describe(running_jobs, is_stopping)
        if status != self._status:
            self._status = status
            lines.append(f"STATUS={status}")
        if monotonic() >= self._alive_until:
            self._alive_until = monotonic() + self._watchdog_seconds / 4
            lines.append("WATCHDOG=1")
        if lines:
            self._send(*lines)

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        # "@" stands for the NUL of a name in the kernel's abstract namespace.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as messages:
                messages.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            # Jobs matter more than reports about them, and a watchdog that hears nothing acts anyway.
            logger.warning("systemd cannot be told %s: %s", ", ".join(lines), error)


def describe(running_jobs: int, is_stopping: bool) -> str:
    """Return in words what a worker is doing."""
    jobs = f"{running_jobs} job{'' if running_jobs == 1 else 's'}"
    return f"Finishing {jobs}, then stopping." if is_stopping else f"Carrying out {jobs}."


def _read_watchdog_seconds() -> float:
    """Return how long systemd accepts silence: forever, unless it has set a limit for this very process."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or os.environ.get("WATCHDOG_PID") not in (
        None,
        str(os.getpid()),
    ):
        return math.inf
    return int(microseconds) / 1e6
