"""Queries all game servers of a host at once, without waiting for any of them.

For a single server, and for more than `ServerInfo`, see `hostops.query.a2s`.
"""

import socket
import time
from collections.abc import Mapping

from hostops.query.a2s import Inquiry, ServerInfo


class Sweep:
    """One query to each server, all sent at once, and repeated half-way to those that are silent.

    `addresses` maps each server's port to its address. `answers` lacks the ports that do not answer before
    `timeout_seconds` have passed, and those whose address is not known.
    """

    def __init__(self, addresses: Mapping[int, str], timeout_seconds: float) -> None:
        self.answers: dict[int, ServerInfo] = {}
        self._deadline = time.monotonic() + timeout_seconds
        self._ask_again_at: float | None = self._deadline - timeout_seconds / 2
        known = {address: _resolve(address) for address in set(addresses.values())}
        # Each has a socket of its own: what one server sends without end takes no room from another's answer.
        self._waiting = {
            port: Inquiry(found, port)
            for port, address in addresses.items()
            if (found := known[address])
        }
        for inquiry in self._waiting.values():
            inquiry.ask()

    def collect(self) -> bool:
        """Take the answers that have arrived; return True once there will be no more. Never blocks."""
        now = time.monotonic()
        is_second_time = self._ask_again_at is not None and now >= self._ask_again_at
        if is_second_time:
            self._ask_again_at = None
        for port, inquiry in list(self._waiting.items()):
            answer = inquiry.collect()
            if answer is not None:
                self.answers[port] = answer
            elif inquiry.is_pending:
                if is_second_time:
                    # A datagram may get lost, and srcds drops queries under load.
                    inquiry.ask()
                continue
            inquiry.close()
            del self._waiting[port]
        return not self._waiting or now >= self._deadline

    def close(self) -> None:
        """Close the sockets for the answers."""
        for inquiry in self._waiting.values():
            inquiry.close()


def _resolve(address: str) -> str | None:
    """Return the numeric form of an address; None if nobody knows it."""
    try:
        found = socket.getaddrinfo(address, None, type=socket.SOCK_DGRAM)
    except OSError:
        return None
    return str(found[0][4][0])
