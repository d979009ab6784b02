"""Finds out whether a change of map worked: asks the server what it plays, until that is settled.

The engine's answer to the command does not say. It is empty for a map that loads, and a map that does not load
may leave the server on the old map, on none, or on the game's first one.
"""

import re
from dataclasses import dataclass
from time import monotonic

from django.db import transaction
from django.utils import timezone

from hostops.query.a2s import QueryError, query_info
from hostops.query.status import parse_status
from jobs import operations
from jobs.database import Channel, announce, write_turn
from jobs.logs import make_line_safe
from jobs.talk.questions import Questioner
from servers.content import find_mode_in
from servers.models import (
    MAP_CHARS,
    SETTLES_WITHIN,
    CommandState,
    Host,
    MapChange,
    MapChangeState,
    Server,
)

ANSWER_SECONDS = 1.5
TURN_SECONDS = 4.0
"""How long one turn spends on servers that do not answer."""

STAYS_SECONDS = 5.0
"""How long a server must play a third map before that counts as the result of a change."""

MAX_TOLD_BYTES = 31
"""The most bytes of a map's name in an answer to A2S_INFO (Steamworks' buffer)."""

_REFUSED = re.compile(
    r"No such map|not found|map load failed|changelevel failed|Can't changelevel|Unknown command",
    re.IGNORECASE,
)
"""What the engine prints when it does not even try."""


@dataclass(frozen=True)
class Playing:
    """What a server says it plays; `mode` is empty if it does not say."""

    map: str
    mode: str = ""

    def is_as_told(self, change: MapChange) -> bool:
        """Whether that is what was wanted, as far as the server says."""
        return is_same_map(self.map, change.map) and (
            not change.mode or self.mode in ("", change.mode)
        )

    def is_as_before(self, change: MapChange) -> bool:
        """Whether that may be what it played before the change: then the new map may still be loading."""
        has_same_mode = self.mode in ("", change.was_mode)
        return not change.was_map or (is_same_map(self.map, change.was_map) and has_same_mode)


class MapChecker:
    """Settles the changes of map of one host's servers. For use by one thread.

    `refusing` has, by the name of a server, the run that has refused the RCON password.
    """

    def __init__(self, host: Host, refusing: dict[str, int]) -> None:
        self._host = host
        self._questioner = Questioner(host, refusing)
        self._strange: dict[int, tuple[Playing, float]] = {}
        """By change: the other map that its server says it plays, and since when."""
        self._answered_at: dict[int, float] = {}
        """By change: when its command was over, on the monotonic clock: the wall clock is sometimes set."""

    def look(self) -> bool:
        """Ask the servers whose maps should have changed; return whether there are any."""
        until = monotonic() + TURN_SECONDS
        rows = MapChange.objects.unfinished().filter(server__host=self._host)
        changes = list(rows.select_related("server__host", "command").defer("server__config_chain"))
        waiting = {one.pk for one in changes}
        self._strange = {pk: one for pk, one in self._strange.items() if pk in waiting}
        self._answered_at = {pk: at for pk, at in self._answered_at.items() if pk in waiting}
        newest = {change.server_id: change.pk for change in reversed(changes)}
        for change in changes:
            if monotonic() > until:
                break
            if newest[change.server_id] != change.pk:
                settle(change, MapChangeState.OVERTAKEN, None)
            elif change.command.is_finished:
                self._look_at(change)
        return bool(changes)

    def _look_at(self, change: MapChange) -> None:
        command = change.command
        if command.state == CommandState.FAILED:
            settle(change, MapChangeState.NOT_SENT, None)
            return
        if not change.server.is_up:
            settle(change, MapChangeState.UNKNOWN, None)
            return
        seconds = self._seconds_since_answer(change)
        playing = self._ask(change.server)
        if playing and playing.is_as_told(change):
            settle(change, MapChangeState.PLAYING, playing)
        elif playing and self._is_settled(change, playing):
            settle(change, MapChangeState.OTHER, playing)
        elif seconds > SETTLES_WITHIN.total_seconds():
            settle(change, MapChangeState.OTHER if playing else MapChangeState.UNKNOWN, playing)

    def _seconds_since_answer(self, change: MapChange) -> float:
        """Return how long ago a change's command was over.

        The times in the rows are used once, when the change is first seen: there may have been no worker until
        now.
        """
        if change.pk not in self._answered_at:
            finished_at = change.command.finished_at
            age = (timezone.now() - finished_at).total_seconds() if finished_at else 0.0
            self._answered_at[change.pk] = monotonic() - max(0.0, age)
        return monotonic() - self._answered_at[change.pk]

    def _is_settled(self, change: MapChange, playing: Playing) -> bool:
        """Return whether a server will stay with what it plays, which is not what was requested."""
        if _REFUSED.search(change.command.answer):
            return True
        if playing.is_as_before(change):
            self._strange.pop(change.pk, None)
            return False
        before, since = self._strange.get(change.pk, (playing, monotonic()))
        if before != playing:
            since = monotonic()
        self._strange[change.pk] = (playing, since)
        return monotonic() - since >= STAYS_SECONDS

    def _ask(self, server: Server) -> Playing | None:
        """Return what a server says it plays, by a query or else by `status`; None if it says nothing."""
        address = server.own_address or operations.get_host(self._host.name).query_address
        try:
            info = query_info(address, server.current_port, ANSWER_SECONDS)
        except (QueryError, OSError):
            return self._ask_for_status(server)
        return Playing(make_line_safe(info.map, MAP_CHARS)[:MAP_CHARS], find_mode_in(info.keywords))

    def _ask_for_status(self, server: Server) -> Playing | None:
        answer = self._questioner.ask(
            server, "status", ANSWER_SECONDS, "what it plays is not known"
        )
        status = parse_status(answer) if answer is not None else None
        return Playing(make_line_safe(status.map, MAP_CHARS)[:MAP_CHARS]) if status else None


def is_same_map(told: str, wanted: str) -> bool:
    """Return whether a map's name as a server says it, perhaps cut, is that of `wanted`."""
    told, wanted = told.lower(), wanted.lower()
    return told == wanted or (len(told.encode()) >= MAX_TOLD_BYTES and wanted.startswith(told))


def settle(change: MapChange, state: MapChangeState, playing: Playing | None) -> None:
    """Store the result of a change, unless it is already stored, and what its server plays."""
    said = {"said_map": playing.map, "said_mode": playing.mode} if playing else {}
    with write_turn(), transaction.atomic():
        rows = MapChange.objects.unfinished().filter(pk=change.pk)
        rows.update(state=state, finished_at=timezone.now(), **said)
        of_server = {"map": playing.map, "mode": playing.mode} if playing else {}
        # This makes the server's pages update.
        Server.objects.filter(pk=change.server_id).update(updated_at=timezone.now(), **of_server)
        announce(Channel.PAGES)
