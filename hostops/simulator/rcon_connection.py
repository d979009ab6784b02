"""One RCON connection to the simulated server, as the Source RCON protocol has it."""

import struct
import time
from collections.abc import Callable

from hostops.simulator.cvars import number_in

AUTH = 3
AUTH_RESPONSE = 2
EXEC_COMMAND = 2
RESPONSE_VALUE = 0

MAX_PACKET = 4096
REFUSED_ID = -1


class ProtocolError(Exception):
    """The client sent something that is not RCON; the connection is to be closed."""


class RconConnection:
    """Turns received bytes into bytes to send. It owns no socket.

    `on_refusal()` is told of a wrong password; if it returns True, the connection is closed without an answer.
    """

    def __init__(
        self,
        password: Callable[[], str],
        execute: Callable[[str], str],
        on_refusal: Callable[[], bool],
    ) -> None:
        self._password = password
        self._execute = execute
        self._on_refusal = on_refusal
        self._received = b""
        self._is_authenticated = False

    def receive(self, data: bytes) -> bytes:
        """Take up bytes from the client; return what to answer. Raises ProtocolError."""
        self._received += data
        answer = b""
        while len(self._received) >= 4:
            (size,) = struct.unpack_from("<i", self._received)
            if not 10 <= size <= MAX_PACKET:
                raise ProtocolError(f"a packet of {size} bytes")
            if len(self._received) < 4 + size:
                break
            packet, self._received = self._received[4 : 4 + size], self._received[4 + size :]
            identifier, kind = struct.unpack_from("<ii", packet)
            answer += self._answer(identifier, kind, packet[8:].partition(b"\0")[0])
        return answer

    def _answer(self, identifier: int, kind: int, body: bytes) -> bytes:
        if kind == AUTH:
            password = self._password().encode("utf-8", "surrogateescape")
            # Without a password nobody gets in, whatever they send.
            self._is_authenticated = bool(password) and body == password
            if not self._is_authenticated and self._on_refusal():
                raise ProtocolError("too many wrong passwords")
            result = identifier if self._is_authenticated else REFUSED_ID
            return _packet(identifier, RESPONSE_VALUE) + _packet(result, AUTH_RESPONSE)
        if not self._is_authenticated:
            return _packet(REFUSED_ID, AUTH_RESPONSE)
        if kind == EXEC_COMMAND:
            text = self._execute(body.decode("utf-8", "surrogateescape"))
            return _packets(identifier, text.encode("utf-8", "surrogateescape"))
        if kind == RESPONSE_VALUE:
            # srcds sends such a packet back, and this odd one after it; clients use it to find an answer's end.
            return _packet(identifier, RESPONSE_VALUE) + _packet(
                identifier, RESPONSE_VALUE, b"\0\0\0\1\0\0\0\0"
            )
        raise ProtocolError(f"a packet of type {kind}")


class WrongPasswords:
    """Counts wrong passwords by address (Source SDK, `CRConServer::HandleFailedRconAuth`)."""

    def __init__(self, cvar: Callable[[str], str]) -> None:
        self._cvar = cvar
        self._times: dict[str, list[float]] = {}
        self._counts: dict[str, int] = {}

    def count(self, address: str) -> bool:
        """Count one; return whether the address is to be banned."""
        now = time.monotonic()
        times = self._times.setdefault(address, [])
        times.append(now)
        del times[:-20]
        self._counts[address] = self._counts.get(address, 0) + 1
        most, at_once = sorted(
            (
                number_in(self._cvar("sv_rcon_maxfailures")),
                number_in(self._cvar("sv_rcon_minfailures")),
            ),
            reverse=True,
        )
        seconds = number_in(self._cvar("sv_rcon_minfailuretime"))
        recent = sum(at + seconds >= now for at in times)
        return self._counts[address] > most or recent > at_once


def _packet(identifier: int, kind: int, body: bytes = b"") -> bytes:
    return struct.pack("<iii", len(body) + 10, identifier, kind) + body + b"\0\0"


def _packets(identifier: int, answer: bytes) -> bytes:
    size = MAX_PACKET - 10
    bodies = [answer[start : start + size] for start in range(0, len(answer), size)] or [b""]
    return b"".join(_packet(identifier, RESPONSE_VALUE, body) for body in bodies)
