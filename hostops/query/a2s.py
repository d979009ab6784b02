"""Asks a running game server what it is doing, over Valve's server query protocol (A2S, UDP).

It changes nothing on the server. The parsers are pure functions over bytes; `query_info` and `Inquiry` use the
network.
"""

import socket
import struct
import time
from dataclasses import dataclass

from hostops.errors import HostError

WHOLE = b"\xff\xff\xff\xff"
SPLIT = b"\xfe\xff\xff\xff"

INFO_REQUEST = b"TSource Engine Query\0"

INFO_ANSWER = b"I"
CHALLENGE_ANSWER = b"A"

MAX_DATAGRAM = 65535

MOST_CHALLENGES = 3
"""How many of a server's challenges are answered for one query."""

MOST_DATAGRAMS = 64
"""How many datagrams are read at a time: a server may send them faster than they can be read."""

_MAX_ANSWERS = 16  # assembled from fragments at the same time
_MAX_ANSWER_BYTES = (
    65_536  # of one that came in fragments; what a server says about itself takes one datagram
)


class QueryError(HostError):
    """A server did not answer a query, or the answer makes no sense."""


@dataclass(frozen=True)
class ServerInfo:
    """What a server says about itself (A2S_INFO). `players` includes the bots."""

    name: str
    map: str
    folder: str
    game: str
    app_id: int
    players: int
    max_players: int
    bots: int
    version: str
    has_password: bool
    is_vac_secured: bool
    protocol: int
    server_type: str
    environment: str
    port: int | None = None
    steam_id: int | None = None
    keywords: str = ""


@dataclass(frozen=True)
class Fragment:
    """One datagram of an answer that needed several."""

    answer_id: int
    count: int
    number: int
    payload: bytes


class Assembly:
    """Assembles the answers of one server, which come in one datagram or in several."""

    def __init__(self) -> None:
        self._parts: dict[int, dict[int, Fragment]] = {}

    def add(self, datagram: bytes) -> bytes | None:
        """Return the answer that `datagram` completes, without its header; None while parts are missing.

        Raises QueryError. However much a server sends, an answer is no longer than `_MAX_ANSWER_BYTES`.
        """
        received = parse_datagram(datagram)
        if not isinstance(received, Fragment):
            return received
        if received.answer_id not in self._parts and len(self._parts) >= _MAX_ANSWERS:
            self._parts.clear()
        parts = self._parts.setdefault(received.answer_id, {})
        parts[received.number] = received
        try:
            answer = join_fragments(list(parts.values()))
        except QueryError:
            del self._parts[received.answer_id]
            raise
        if answer is not None:
            del self._parts[received.answer_id]
        return answer


def query_info(address: str, port: int, timeout_seconds: float) -> ServerInfo:
    """Ask what the server is and what it runs. Raises QueryError after at most `timeout_seconds`."""
    where = f"{address}:{port}"
    deadline = time.monotonic() + timeout_seconds
    try:
        with _connect(address, port) as connection:
            # A datagram may get lost, and srcds drops queries under load, so ask twice.
            for attempt_deadline in (deadline - timeout_seconds / 2, deadline):
                try:
                    return parse_info(_ask(connection, attempt_deadline))
                except TimeoutError:
                    continue
    except QueryError as error:
        raise QueryError(
            f"The server at {where} gave a malformed answer to a query. {error}"
        ) from None
    except ConnectionRefusedError:
        raise QueryError(
            f"Nothing answers queries at {where}: no server has this UDP port open. "
            "Look into the server's console to see whether it runs."
        ) from None
    except OSError as error:
        raise QueryError(f"The server at {where} cannot be queried: {error}.") from None
    raise QueryError(
        f"The server at {where} did not answer a query within {timeout_seconds:g} seconds. It may still be "
        "starting, or hang, or answer only on another address of its host."
    )


class Inquiry:
    """Queries one server repeatedly, without blocking: the caller polls `fileno()`.

    If a server's port is closed the kernel says so at once, and no server is bothered.
    """

    def __init__(self, address: str, port: int) -> None:
        self._target = (address, port)
        self._connection: socket.socket | None = None
        self._assembly = Assembly()
        self._challenges = 0
        self.is_pending = False
        """Whether an answer may still come: nothing has said that the port is closed."""

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when something arrives; -1 if nothing was sent."""
        return self._connection.fileno() if self._connection else -1

    def close(self) -> None:
        """Close the socket for the answers."""
        if self._connection:
            self._connection.close()

    def ask(self) -> None:
        """Send the query again."""
        self._challenges = 0
        try:
            if self._connection is None:
                self._connection = _connect(*self._target)
                self._connection.setblocking(False)
            # Discard an error from the last query (a closed port), which would make this send fail.
            self._connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._connection.send(WHOLE + INFO_REQUEST)
        except OSError:  # The port is closed, or there is no route to the address.
            self.is_pending = False
        else:
            self.is_pending = True

    def collect(self) -> ServerInfo | None:
        """Return the answer, if one has arrived. A malformed answer counts as none.

        It reads some datagrams: `fileno()` stays readable if there are more.
        """
        for _ in range(MOST_DATAGRAMS):
            if not self._connection or not self.is_pending:
                return None
            try:
                info = self._take(self._connection, self._connection.recv(MAX_DATAGRAM))
            except BlockingIOError:
                return None
            except QueryError:
                continue
            except OSError:
                self.is_pending = False
                return None
            if info is not None:
                return info
        return None

    def _take(self, connection: socket.socket, datagram: bytes) -> ServerInfo | None:
        answer = self._assembly.add(datagram)
        if answer is None:
            return None
        if answer[:1] == INFO_ANSWER:
            return parse_info(answer[1:])
        if answer[:1] == CHALLENGE_ANSWER and len(answer) == 5:
            self._challenges += 1
            # A server that answers everything with a new challenge is not asked forever.
            if self._challenges <= MOST_CHALLENGES:
                connection.send(WHOLE + INFO_REQUEST + answer[1:])
        return None


def parse_info(payload: bytes) -> ServerInfo:
    """Parse an A2S_INFO answer after its type byte. Raises QueryError if it is malformed."""
    reader = _Reader(payload)
    protocol = reader.byte()
    name, map_name, folder, game = (reader.text() for _ in range(4))
    app_id = reader.number("<H")
    players, max_players, bots = (reader.byte() for _ in range(3))
    server_type, environment = (chr(reader.byte()) for _ in range(2))
    has_password, is_vac_secured = (bool(reader.byte()) for _ in range(2))
    version = reader.text()
    port = steam_id = None
    keywords = ""
    # The rest is optional; the bits of one byte say what is there.
    extra = reader.byte() if reader.has_more else 0
    if extra & 0x80:
        port = reader.number("<H")
    if extra & 0x10:
        steam_id = reader.number("<Q")
    if extra & 0x40:
        reader.number("<H")
        reader.text()
    if extra & 0x20:
        keywords = reader.text()
    if extra & 0x01:
        # The lower 24 bits of the game id are the full app id; the earlier field has only 16 bits of it.
        app_id = reader.number("<Q") & 0xFFFFFF
    return ServerInfo(
        name=name,
        map=map_name,
        folder=folder,
        game=game,
        app_id=app_id,
        players=players,
        max_players=max_players,
        bots=bots,
        version=version,
        has_password=has_password,
        is_vac_secured=is_vac_secured,
        protocol=protocol,
        server_type=server_type,
        environment=environment,
        port=port,
        steam_id=steam_id,
        keywords=keywords,
    )


def parse_datagram(datagram: bytes) -> bytes | Fragment:
    """Return a whole answer without its header, or one fragment. Raises QueryError."""
    if datagram.startswith(WHOLE):
        return datagram[4:]
    if not datagram.startswith(SPLIT):
        raise QueryError(f"The answer begins with {datagram[:4].hex(' ')}, which is no A2S header.")
    reader = _Reader(datagram[4:])
    answer_id = reader.number("<i")
    if answer_id < 0:
        raise QueryError("The answer is compressed, which Left 4 Dead 2 never does.")
    count, number, _ = reader.byte(), reader.byte(), reader.number("<H")
    if number >= count:
        raise QueryError(f"The answer is part {number + 1} of {count}.")
    return Fragment(answer_id, count, number, reader.rest())


def join_fragments(fragments: list[Fragment]) -> bytes | None:
    """Join `fragments` of one id into an answer without its header; None while parts are missing."""
    parts = {fragment.number: fragment.payload for fragment in fragments}
    count = fragments[0].count
    if any(fragment.count != count for fragment in fragments):
        raise QueryError("The parts of the answer disagree on how many there are.")
    if sum(len(payload) for payload in parts.values()) > _MAX_ANSWER_BYTES:
        raise QueryError("The parts of the answer are too long.")
    if len(parts) < count:
        return None
    answer = b"".join(parts[number] for number in range(count))
    if not answer.startswith(WHOLE):
        raise QueryError("The parts of the answer do not make an answer.")
    return answer[4:]


class _Reader:
    """Reads values from bytes in order; a missing value is a QueryError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def has_more(self) -> bool:
        return self._position < len(self._data)

    def byte(self) -> int:
        return self.number("<B")

    def number(self, layout: str) -> int:
        return int(self._unpack(layout))

    def text(self) -> str:
        end = self._data.find(b"\0", self._position)
        if end < 0:
            raise QueryError("The answer ends in the middle of a text.")
        raw = self._data[self._position : end]
        self._position = end + 1
        return raw.decode("utf-8", "replace")

    def rest(self) -> bytes:
        return self._data[self._position :]

    def _unpack(self, layout: str) -> int | float:
        try:
            (value,) = struct.unpack_from(layout, self._data, self._position)
        except struct.error:
            raise QueryError("The answer ends in the middle of a number.") from None
        self._position += struct.calcsize(layout)
        return value  # type: ignore[no-any-return]


def _connect(address: str, port: int) -> socket.socket:
    family, kind, protocol, _, target = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM)[0]
    connection = socket.socket(family, kind, protocol)
    try:
        # A connected socket accepts datagrams only from this server, and is told if its port is closed.
        connection.connect(target)
    except OSError:
        connection.close()
        raise
    return connection


def _ask(connection: socket.socket, deadline: float) -> bytes:
    """Return the answer after its type byte. Raises TimeoutError at `deadline`."""
    connection.send(WHOLE + INFO_REQUEST)
    challenge = b""
    assembly = Assembly()
    while True:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        connection.settimeout(remaining)
        answer = assembly.add(connection.recv(MAX_DATAGRAM))
        if answer is None:
            continue
        if answer[:1] == CHALLENGE_ANSWER:
            if len(answer) != 5:
                raise QueryError(f"The challenge has {len(answer) - 1} bytes instead of 4.")
            if answer[1:] != challenge:
                challenge = answer[1:]
                connection.send(WHOLE + INFO_REQUEST + challenge)
        elif answer[:1] == INFO_ANSWER:
            return answer[1:]
        # Anything else is a late answer to an earlier query.
