"""Asks all game servers of a host at once what they run, without waiting for any of them.

For one server, and for more than `ServerInfo`, see `hostops.query.a2s`.
"""

import socket
import time
from collections.abc import Iterable
from typing import Any

from hostops.query.a2s import (
    CHALLENGE_ANSWER,
    INFO_ANSWER,
    INFO_REQUEST,
    MAX_DATAGRAM,
    WHOLE,
    Fragment,
    QueryError,
    ServerInfo,
    join_fragments,
    parse_datagram,
    parse_info,
)

MOST_CHALLENGES = 3
"""Of one server in one sweep: who answers every answer with a new challenge is not asked for ever."""


class Sweep:
    """One question to each server of `address`, put at once and, to who is silent, once more half-way.

    The ports of those that do not answer before `timeout_seconds` are over are not in `answers`.
    """

    def __init__(self, address: str, ports: Iterable[int], timeout_seconds: float) -> None:
        self.answers: dict[int, ServerInfo] = {}
        self._waiting = set(ports)
        self._challenges: dict[int, int] = {}
        self._fragments: dict[tuple[int, int], list[Fragment]] = {}
        self._deadline = time.monotonic() + timeout_seconds
        self._ask_again_at: float | None = self._deadline - timeout_seconds / 2
        found = socket.getaddrinfo(address, None, type=socket.SOCK_DGRAM)[0]
        family, kind, protocol, _, target = found
        self._target: tuple[Any, ...] = target
        self._socket = socket.socket(family, kind, protocol)
        self._socket.setblocking(False)
        self._socket.bind(("", 0))
        self._ask_waiting()

    @property
    def port(self) -> int:
        """The port that the answers come to."""
        port: int = self._socket.getsockname()[1]
        return port

    def collect(self) -> bool:
        """Take the answers that have come; True: that was all. Takes no time worth speaking of."""
        while self._waiting:
            try:
                datagram, sender = self._socket.recvfrom(MAX_DATAGRAM)
            except BlockingIOError:
                break
            # Anybody may send to this port.
            if sender[0] == self._target[0] and sender[1] in self._waiting:
                self._take(sender[1], datagram)
        now = time.monotonic()
        if self._ask_again_at is not None and now >= self._ask_again_at:
            # A datagram may get lost, and srcds drops queries when there are many.
            self._ask_again_at = None
            self._ask_waiting()
        return not self._waiting or now >= self._deadline

    def close(self) -> None:
        """Let go of the port that the answers come to."""
        self._socket.close()

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
            # What cannot be understood is no answer.
            self._waiting.discard(port)

    def _ask_waiting(self) -> None:
        for port in self._waiting:
            self._ask(port, b"")

    def _ask(self, port: int, challenge: bytes) -> None:
        try:
            self._socket.sendto(
                WHOLE + INFO_REQUEST + challenge, (self._target[0], port, *self._target[2:])
            )
        except OSError:
            # The network is away, or its queue full: the server is asked again, or stays unanswered.
            return
