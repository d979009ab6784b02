"""One RCON connection to the simulated server, as the Source RCON protocol has it."""

import struct
from collections.abc import Callable

AUTH = 3
AUTH_RESPONSE = 2
EXEC_COMMAND = 2
RESPONSE_VALUE = 0

MAX_PACKET = 4096
REFUSED_ID = -1


class ProtocolError(Exception):
    """The client sent something that is not RCON; the connection is to be closed."""


class RconConnection:
    """Turns received bytes into bytes to send. It owns no socket."""

    def __init__(
        self,
        password: Callable[[], str],
        execute: Callable[[str], str],
        on_refusal: Callable[[], None],
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
            if not self._is_authenticated:
                self._on_refusal()
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


def _packet(identifier: int, kind: int, body: bytes = b"") -> bytes:
    return struct.pack("<iii", len(body) + 10, identifier, kind) + body + b"\0\0"


def _packets(identifier: int, answer: bytes) -> bytes:
    size = MAX_PACKET - 10
    bodies = [answer[start : start + size] for start in range(0, len(answer), size)] or [b""]
    return b"".join(_packet(identifier, RESPONSE_VALUE, body) for body in bodies)
