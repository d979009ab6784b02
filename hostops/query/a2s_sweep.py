"""Queries all game servers of a host at once, without waiting for any of them.

For a single server, and for more than `ServerInfo`, see `hostops.query.a2s`.
"""

import socket
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from hostops.query.a2s import (
    CHALLENGE_ANSWER,
    INFO_ANSWER,
    INFO_REQUEST,
    MAX_DATAGRAM,
    MOST_CHALLENGES,
    WHOLE,
    Fragment,
    QueryError,
    ServerInfo,
    join_fragments,
    parse_datagram,
    parse_info,
)


class _Target(NamedTuple):
    """How to reach a server: the socket to use, and the address in the socket's form."""

    socket: socket.socket
    name: tuple[Any, ...]


class Sweep:
    """One query to each server, all sent at once, and repeated half-way to those that are silent.

    `addresses` maps each server's port to its address. `answers` lacks the ports that do not answer before
    `timeout_seconds` have passed.
    """

    def __init__(self, addresses: Mapping[int, str], timeout_seconds: float) -> None:
        self.answers: dict[int, ServerInfo] = {}
        self._waiting = set(addresses)
        self._challenges: dict[int, int] = {}
        self._fragments: dict[tuple[int, int], list[Fragment]] = {}
        self._deadline = time.monotonic() + timeout_seconds
        self._ask_again_at: float | None = self._deadline - timeout_seconds / 2
        self._sockets: dict[socket.AddressFamily, socket.socket] = {}
        known = {address: self._open(address) for address in set(addresses.values())}
        self._targets = {port: known[address] for port, address in addresses.items()}
        self._ask_waiting()

    @property
    def ports(self) -> list[int]:
        """The ports at which the answers arrive: one each for IPv4 and IPv6, if there is a server to query."""
        return [one.getsockname()[1] for one in self._sockets.values()]

    def collect(self) -> bool:
        """Take the answers that have arrived; return True once there will be no more. Never blocks."""
        for one in self._sockets.values():
            self._receive(one)
        now = time.monotonic()
        if self._ask_again_at is not None and now >= self._ask_again_at:
            # A datagram may get lost, and srcds drops queries under load.
            self._ask_again_at = None
            self._ask_waiting()
        return not self._waiting or now >= self._deadline

    def close(self) -> None:
        """Close the sockets for the answers."""
        for one in self._sockets.values():
            one.close()

    def _open(self, address: str) -> "_Target":
        """Resolve an address, and return it with a socket that can reach it."""
        family, kind, protocol, _, name = socket.getaddrinfo(address, None, type=socket.SOCK_DGRAM)[
            0
        ]
        if family not in self._sockets:
            self._sockets[family] = one = socket.socket(family, kind, protocol)
            one.setblocking(False)
            one.bind(("", 0))
        return _Target(self._sockets[family], name)

    def _receive(self, one: socket.socket) -> None:
        while self._waiting:
            try:
                datagram, sender = one.recvfrom(MAX_DATAGRAM)
            except BlockingIOError:
                return
            # Anybody can send to this port.
            if sender[1] in self._waiting and sender[0] == self._targets[sender[1]].name[0]:
                self._take(sender[1], datagram)

    def _take(self, port: int, datagram: bytes) -> None:
        try:
            received = parse_datagram(datagram)
            if isinstance(received, Fragment):
                parts = self._fragments.setdefault((port, received.answer_id), [])
                parts.append(received)
                answer = join_fragments(parts)
                if answer is None:
                    return
            else:
                answer = received
            if answer[:1] == CHALLENGE_ANSWER and len(answer) == 5:
                self._challenges[port] = self._challenges.get(port, 0) + 1
                if self._challenges[port] <= MOST_CHALLENGES:
                    self._ask(port, answer[1:])
            elif answer[:1] == INFO_ANSWER:
                self.answers[port] = parse_info(answer[1:])
                self._waiting.discard(port)
        except QueryError:
            # A malformed answer counts as none.
            self._waiting.discard(port)

    def _ask_waiting(self) -> None:
        for port in self._waiting:
            self._ask(port, b"")

    def _ask(self, port: int, challenge: bytes) -> None:
        sender, name = self._targets[port]
        try:
            sender.sendto(WHOLE + INFO_REQUEST + challenge, (name[0], port, *name[2:]))
        except OSError:
            # No network, or a full queue: the server is asked again, or stays unanswered.
            return
