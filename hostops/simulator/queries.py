"""Answers A2S queries, as Valve's server query protocol has them."""

import struct
import time

from hostops.simulator.cvars import number_in
from hostops.simulator.game import Game

APP_ID = 550
PROTOCOL = 17
SINGLE = b"\xff\xff\xff\xff"
SPLIT = b"\xfe\xff\xff\xff"
MAX_DATAGRAM = 1200
MAX_COUNTED_ADDRESSES = 1024

# Steamworks' buffers (isteamgameserver.h, matchmakingtypes.h), without their NUL.
MAX_NAME_BYTES = 63
MAX_MAP_BYTES = 31
MAX_KEYWORDS_BYTES = 127

INFO_REQUEST = SINGLE + b"TSource Engine Query\0"
PLAYERS_REQUEST = SINGLE + b"U"
RULES_REQUEST = SINGLE + b"V"

# Flags of A2S_INFO's extra data: port, Steam id, keywords, game id.
EXTRA_DATA = 0x80 | 0x10 | 0x20 | 0x01


class QueryLimits:
    """How many datagrams are answered: of each address, and of all.

    As the Source SDK has it (`CIPRateLimit`): counted over a window that begins with the first datagram and
    is not moved; what exceeds the rate of a whole window is ignored until that has passed.
    """

    def __init__(self, game: Game) -> None:
        self._game = game
        self._of_all = [0.0, 0]
        self._of_address: dict[str, list[float]] = {}

    def allow(self, address: str) -> bool:
        """Count a datagram of this address; return whether it is to be answered."""
        now = time.monotonic()
        if len(self._of_address) > MAX_COUNTED_ADDRESSES:
            window = self._number("sv_max_queries_window")
            kept = {one: at for one, at in self._of_address.items() if now - at[0] <= window}
            self._of_address = kept
        of_one = self._of_address.setdefault(address, [now, 0])
        # The address first, so that one that floods takes nothing from the others.
        return self._count(of_one, "sv_max_queries_sec", now) and self._count(
            self._of_all, "sv_max_queries_sec_global", now
        )

    def _count(self, counter: list[float], limit: str, now: float) -> bool:
        window = self._number("sv_max_queries_window")
        if now - counter[0] > window:
            counter[:] = now, 1
            return True
        counter[1] += 1
        return counter[1] <= self._number(limit) * window

    def _number(self, name: str) -> float:
        return number_in(self._game.cvar(name))


class Queries:
    """Answers the datagrams of one server's port."""

    def __init__(self, game: Game) -> None:
        self._game = game
        self._split_id = 0
        self._limits = QueryLimits(game)

    def answer(self, datagram: bytes, address: tuple[str, int]) -> list[bytes]:
        """Return the datagrams to send back; none for what is not a query, or is one too many."""
        if self._game.address_bans.hold(address[0]) or not datagram.startswith(SINGLE):
            return []
        if not self._limits.allow(address[0]):
            return []
        challenge = struct.pack("<i", _challenge_for(address))
        for request, answer in (
            (INFO_REQUEST, self._info),
            (PLAYERS_REQUEST, self._players),
            (RULES_REQUEST, self._rules),
        ):
            if datagram == request + challenge:
                return self._in_datagrams(answer())
            # Without a challenge, or with somebody else's, there is only the challenge to be had.
            if datagram.startswith(request) and len(datagram) in (len(request), len(request) + 4):
                return [SINGLE + b"A" + challenge]
        return []

    def _info(self) -> bytes:
        game = self._game
        bots = sum(player.is_bot for player in game.players)
        keywords = [game.cvar("sv_tags"), game.cvar("mp_gamemode")]
        keywords += ["secure"] if game.is_vac_secured else []
        return b"".join(
            (
                SINGLE,
                b"I",
                bytes([PROTOCOL]),
                _text(game.cvar("hostname"), MAX_NAME_BYTES),
                _text(game.map, MAX_MAP_BYTES),
                _text("left4dead2"),
                _text("Left 4 Dead 2"),
                struct.pack("<H", APP_ID),
                bytes([len(game.players), game.max_players, bots]),
                b"dl",
                bytes([bool(game.cvar("sv_password")), game.is_vac_secured]),
                _text(game.patch_version),
                bytes([EXTRA_DATA]),
                struct.pack("<H", game.address[1]),
                struct.pack("<Q", 85568392920000000 + game.address[1]),
                _text(",".join(keyword for keyword in keywords if keyword), MAX_KEYWORDS_BYTES),
                struct.pack("<Q", APP_ID),
            )
        )

    def _players(self) -> bytes:
        players = self._game.players
        rows = (
            b"\0" + _text(player.name) + struct.pack("<if", player.score, player.connected_seconds)
            for player in players
        )
        return SINGLE + b"D" + bytes([len(players)]) + b"".join(rows)

    def _rules(self) -> bytes:
        rules = self._game.rules()
        rows = (_text(name) + _text(value) for name, value in rules)
        return SINGLE + b"E" + struct.pack("<H", len(rules)) + b"".join(rows)

    def _in_datagrams(self, answer: bytes) -> list[bytes]:
        if len(answer) <= MAX_DATAGRAM:
            return [answer]
        # Known clients take an id outside of 1 to 32767 for something else.
        self._split_id = self._split_id % 32767 + 1
        size = MAX_DATAGRAM - 12
        parts = [answer[start : start + size] for start in range(0, len(answer), size)]
        header = SPLIT + struct.pack("<i", self._split_id)
        return [
            header + struct.pack("<BBH", len(parts), number, MAX_DATAGRAM) + part
            for number, part in enumerate(parts)
        ]


def _challenge_for(address: tuple[str, int]) -> int:
    # Python's hash of a text has a new key in every process: nobody else can tell what it will be.
    return hash(address) & 0x7FFFFFFF


def _text(text: str, most: int | None = None) -> bytes:
    return text.encode("utf-8", "surrogateescape").replace(b"\0", b"")[:most] + b"\0"
