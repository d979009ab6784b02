"""Keeps bans on the running servers of a host: at once, after each start and each change of map.

The engine forgets bans with an end when it ends, and what it has written itself comes back with its own
configs. So a server is asked what it has, told what it lacks, and told to lift what has ended.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic

from django.utils import timezone

from hostops.errors import HostError, RconUnusableError
from jobs import operations
from jobs.logs import faults
from servers.models import UP_STATES, Ban, Host, Server

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 2.0
RETRY_SECONDS = 10.0
TURN_SECONDS = 5.0
LOOKED_BACK = timedelta(days=1)
"""Bans that ended so lately are lifted on a server, and all that ended since it was started."""

MAX_LINE_BYTES = 480
"""Several bans go in one command line: below the engine's limit of 510 bytes, which is for one of them."""

_LISTED = re.compile(r"^\s*\d+ (STEAM_[01]):([01]:\d{1,10}) : ", re.MULTILINE)


@dataclass(frozen=True)
class Wish:
    """What a server should know, in which run and on which map. `lifted` are Steam ids."""

    run: int
    run_started_at: float
    map: str
    bans: frozenset[tuple[int, str]]
    lifted: frozenset[str]

    def is_same_run_as(self, other: "Wish") -> bool:
        """Return whether both are of one start of the server."""
        return (self.run, self.run_started_at) == (other.run, other.run_started_at)


class BanKeeper:
    """Keeps the bans of the servers of one host. To be used by one thread.

    `refusing` has by the name of a server its run that has refused the RCON password.
    """

    def __init__(self, host: Host, refusing: dict[str, int]) -> None:
        self._host = host
        self._refusing = refusing
        self._kept: dict[int, Wish] = {}
        self._not_before: dict[int, float] = {}

    def look(self) -> None:
        """Tell every running server whose bans, run or map are others than when it was told last."""
        until = monotonic() + TURN_SECONDS
        running = self._host.servers.filter(actual_state__in=UP_STATES).order_by()
        servers = list(
            running.only("name", "owner_id", "map", "console_run", "console_run_started_at")
        )
        concerned = Ban.objects.of_servers(servers) if servers else Ban.objects.none()
        since = timezone.now() - LOOKED_BACK
        started = min((server.console_run_started_at for server in servers), default=0.0)
        oldest = min(since, datetime.fromtimestamp(started, UTC))
        active, ended = list(concerned.in_force()), list(concerned.ended_since(oldest))
        bans = {ban.pk: ban for ban in active}
        for server in sorted(servers, key=lambda one: self._not_before.get(one.pk, 0.0)):
            wish = make_wish(server, active, ended)
            kept = self._kept.get(server.pk)
            is_about_nothing = not wish.bans and not wish.lifted and kept is None
            if is_about_nothing or wish == kept or monotonic() < self._not_before.get(server.pk, 0):
                continue
            if monotonic() > until:
                return
            self._not_before[server.pk] = monotonic() + RETRY_SECONDS
            if self._tell(server, wish, kept, bans):
                self._kept[server.pk] = wish
                del self._not_before[server.pk]

    def _tell(self, server: Server, wish: Wish, kept: Wish | None, bans: Mapping[int, Ban]) -> bool:
        """Tell a server what it does not know; return whether it could be told."""
        told = kept.bans if kept and kept.is_same_run_as(wish) else frozenset()
        try:
            listed = self._read_list(server)
            now = timezone.now()
            commands = [
                f"banid {bans[pk].minutes_left(now)} {steam_id} kick"
                for pk, steam_id in sorted(wish.bans)
                # One that took the place of another has another end, which the server has to learn.
                if (pk, steam_id) not in told or (listed is not None and steam_id not in listed)
            ]
            commands += [
                f"removeid {steam_id}"
                for steam_id in sorted(wish.lifted)
                if listed is None or steam_id in listed
            ]
            for line in to_lines(commands):
                self._send(server, line, may_type=True)
        except (HostError, OSError) as error:
            what = f"server {server.name}: its bans cannot be told"
            faults.tell(logger, what, error, is_explained=True)
            return False
        return True

    def _read_list(self, server: Server) -> set[str] | None:
        """Return whom a server has banned; None if it does not take RCON: then it is told all, blindly."""
        try:
            return parse_list(self._send(server, "listid", may_type=False))
        except RconUnusableError as error:
            if error.refusing_run:
                self._refusing[server.name] = error.refusing_run
            return None

    def _send(self, server: Server, command: str, *, may_type: bool) -> str:
        answer = operations.get_host(self._host.name).tell(
            server.name,
            command,
            timeout_seconds=ANSWER_SECONDS,
            may_type=may_type,
            refusing_run=self._refusing.get(server.name, 0),
        )
        return answer.text


def make_wish(server: Server, active: Iterable[Ban], ended: Iterable[Ban]) -> Wish:
    """Return what a server should know. Of several bans of one person the one that ends last counts."""
    of_person: dict[str, Ban] = {}
    for ban in active:
        if ban.holds_on(server):
            other = of_person.get(ban.steam_id)
            if other is None or ends_later(ban, other):
                of_person[ban.steam_id] = ban
    lifted = {ban.steam_id for ban in ended if ban.holds_on(server)} - of_person.keys()
    return Wish(
        server.console_run,
        server.console_run_started_at,
        server.map,
        frozenset((ban.pk, steam_id) for steam_id, ban in of_person.items()),
        frozenset(lifted),
    )


def ends_later(ban: Ban, other: Ban) -> bool:
    """Return whether a ban ends later than another."""
    if other.ends_at is None:
        return False
    return ban.ends_at is None or ban.ends_at > other.ends_at


def parse_list(text: str) -> set[str]:
    """Return the Steam ids in an answer to `listid`, in the universe 1."""
    return {f"STEAM_1:{rest}" for _, rest in _LISTED.findall(text)}


def to_lines(commands: Iterable[str]) -> Iterator[str]:
    """Yield the commands in lines that are not too long for the engine."""
    line = ""
    for command in commands:
        if line and len(line) + 1 + len(command) > MAX_LINE_BYTES:
            yield line
            line = ""
        line = f"{line};{command}" if line else command
    if line:
        yield line
