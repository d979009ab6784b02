"""Sends commands to a running game server over RCON (Source RCON protocol, TCP on the game's port).

Uses one connection per command: srcds drops idle connections, and mixes up the answers of several open
ones.
"""

import socket
import struct
import time
from dataclasses import dataclass

from hostops.errors import AnswerLostError, HostError

AUTH = 3
AUTH_RESPONSE = 2
EXEC_COMMAND = 2
RESPONSE_VALUE = 0

AUTH_ID = 1
COMMAND_ID = 2
END_ID = 3
REFUSED_ID = -1

HEADER = struct.Struct("<iii")
MIN_PACKET = 10
MAX_PACKET = 65536
"""The largest packet accepted, without its length field. srcds sends up to 4,096 bytes, other servers more."""
MAX_COMMAND_BYTES = 4096 - MIN_PACKET
MAX_ANSWER_BYTES = 4 * 1024 * 1024


class RconError(HostError):
    """A command could not be sent over RCON, or its answer did not arrive."""


class PasswordRefusedError(RconError):
    """The server has a different RCON password, or none."""


class UnreachableError(RconError):
    """Nothing listens on the server's RCON port."""


class LostAnswerError(RconError, AnswerLostError):
    """The command was sent, but its answer did not arrive completely."""


@dataclass(frozen=True)
class Packet:
    """One RCON packet."""

    identifier: int
    kind: int
    body: bytes = b""

    def encode(self) -> bytes:
        """Return the packet in its wire format."""
        size = len(self.body) + MIN_PACKET
        return HEADER.pack(size, self.identifier, self.kind) + self.body + b"\0\0"


def parse_packet(data: bytes | bytearray, start: int = 0) -> tuple[Packet, int] | None:
    """Return the packet that begins at `start` and where it ends, or None while it is incomplete.

    It leaves the following data in place: with many small packets, that would be copied for each. Raises
    RconError if no packet can begin like this.
    """
    if len(data) - start < 4:
        return None
    size = int.from_bytes(data[start : start + 4], "little", signed=True)
    if not MIN_PACKET <= size <= MAX_PACKET:
        raise RconError(f"It announces a packet of {size} bytes, which is not RCON.")
    end = start + 4 + size
    if len(data) < end:
        return None
    _, identifier, kind = HEADER.unpack_from(data, start)
    # Bodies end at their first NUL, wherever the packet ends.
    body = bytes(data[start + HEADER.size : end]).partition(b"\0")[0]
    return Packet(identifier, kind, body), end


def execute(address: str, port: int, password: str, command: str, timeout_seconds: float) -> str:
    """Execute one console command on the server at `address` and return what it printed.

    Raises RconError after at most `timeout_seconds`: PasswordRefusedError for a wrong password,
    UnreachableError if nothing listens, LostAnswerError once the command may have been executed. Raises
    ValueError for a command that cannot be sent: one with a line break or another control character, or of more
    than 4,086 bytes. A server that is told to quit closes the connection without an answer.
    """
    body = _encoded(command)
    deadline = time.monotonic() + timeout_seconds
    conversation: _Conversation | None = None
    try:
        with socket.create_connection((address, port), timeout=timeout_seconds) as connection:
            conversation = _Conversation(connection, deadline)
            conversation.authenticate(password)
            return conversation.execute(body)
    except (RconError, OSError) as error:
        kind, reason = _explain(error, timeout_seconds)
        if conversation and conversation.has_sent_command:
            kind = LostAnswerError
        raise kind(f"RCON at {address}:{port} {reason}") from None


def _explain(error: RconError | OSError, timeout_seconds: float) -> tuple[type[RconError], str]:
    """Return the error type for the caller, and the rest of its sentence."""
    match error:
        case RconError():
            return type(error), f"failed. {error}"
        case ConnectionRefusedError():
            return UnreachableError, (
                "refused the connection: no server has this TCP port open. "
                "Look into the server's console to see whether it runs."
            )
        case TimeoutError():
            return RconError, (
                f"did not answer within {timeout_seconds:g} seconds. The server may hang, or be "
                "changing its map: try again, or look into its console."
            )
    return RconError, f"failed: {error}."


class _Conversation:
    """The exchange over one connection."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline
        self._received = bytearray()
        self._position = 0
        """Where the next packet begins in it."""
        self.has_sent_command = False
        """Whether the server may have received the command and executed it."""

    def authenticate(self, password: str) -> None:
        """Log in; raises PasswordRefusedError for a wrong password."""
        self._send(Packet(AUTH_ID, AUTH, password.encode()))
        while True:
            packet = self._receive()
            # An empty RESPONSE_VALUE comes first, sometimes together with the verdict.
            if packet.kind != AUTH_RESPONSE:
                continue
            if packet.identifier == REFUSED_ID:
                raise PasswordRefusedError(
                    "The server refused the password: it must be the rcon_password of the server's config, "
                    "which may not be empty."
                )
            return

    def execute(self, body: bytes) -> str:
        """Send a command and return its complete answer."""
        # Nothing marks the last packet of a long answer. srcds echoes an empty RESPONSE_VALUE after the
        # answers to everything before it: when that arrives, the answer is complete.
        self.has_sent_command = True  # Set first: a partial send may contain the whole command.
        self._send(Packet(COMMAND_ID, EXEC_COMMAND, body), Packet(END_ID, RESPONSE_VALUE))
        answer = bytearray()
        while True:
            packet = self._receive()
            if packet.identifier == END_ID:
                return answer.decode("utf-8", "replace")
            if packet.identifier == COMMAND_ID:
                answer += packet.body
            if len(answer) > MAX_ANSWER_BYTES:
                raise RconError(f"The answer is longer than {MAX_ANSWER_BYTES} bytes.")

    def _send(self, *packets: Packet) -> None:
        self._connection.settimeout(self._remaining_seconds())
        self._connection.sendall(b"".join(packet.encode() for packet in packets))

    def _receive(self) -> Packet:
        while (parsed := parse_packet(self._received, self._position)) is None:
            self._connection.settimeout(self._remaining_seconds())
            data = self._connection.recv(65536)
            if not data:
                raise RconError("The server closed the connection before it answered.")
            del self._received[: self._position]
            self._position = 0
            self._received += data
        packet, self._position = parsed
        return packet

    def _remaining_seconds(self) -> float:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        return remaining


def _encoded(command: str) -> bytes:
    if any(ord(character) < 32 for character in command):
        raise ValueError(
            "A console command cannot contain a line break or another control character."
        )
    body = command.encode()
    if len(body) > MAX_COMMAND_BYTES:
        raise ValueError(
            f"The console command has {len(body)} bytes; RCON takes at most {MAX_COMMAND_BYTES}."
        )
    return body
