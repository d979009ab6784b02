"""Keeps bans on the running servers of a host: at once, after each start and each change of map.

A server bans those whom its config has as it starts (`hostops.instances.ban_files`), and once more on each map:
with the end that they had then, and those that were lifted since. So it is asked what it has, told what it
lacks, and told to lift what has ended.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from time import monotonic

from django.db.models import OuterRef, Subquery
from django.utils import timezone

from hostops.errors import HostError, RconUnusableError
from jobs import operations
from jobs.logs import faults
from servers.models import UP_STATES, Ban, Host, Run, Server, find_lasting

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 2.0
RETRY_SECONDS = 10.0
TURN_SECONDS = 5.0
LOOKED_BACK = timedelta(days=1)
"""Bans that ended so lately are lifted on a server, and all that ended since its config was written.

A restart after a crash takes the config of the start before it. What was lifted before that is taken out of the
files that the game has written itself (`hostops.instances.ban_files.take_out`).
"""

LOOK_AGAIN_SECONDS = 300.0
"""How soon a server is asked again that may have got back a ban that is over: it may begin its map anew."""

MAX_LINE_BYTES = 480
"""Several bans go in one command line: below the engine's limit of 510 bytes, which is for one of them."""

_LISTED = re.compile(r"^ *+\d+ STEAM_[01]:([01]:\d{1,10}) : (permanent)?", re.MULTILINE)


@dataclass(frozen=True)
class Wish:
    """What a server should know, in which run and on which map.

    `bans` are ids and Steam ids, `lifted` Steam ids and whether a ban of theirs was for good.
    """

    run: int
    run_started_at: float
    map: str
    bans: frozenset[tuple[int, str]]
    lifted: frozenset[tuple[str, bool]]

    def is_same_map_as(self, other: "Wish") -> bool:
        """Return whether both are of one map in one start of the server, as far as can be seen."""
        mine = (self.run, self.run_started_at, self.map)
        return mine == (other.run, other.run_started_at, other.map)


class BanKeeper:
    """Keeps the bans of the servers of one host. To be used by one thread.

    `refusing` has by the name of a server its run that has refused the RCON password.
    """

    def __init__(self, host: Host, refusing: dict[str, int]) -> None:
        self._host = host
        self._refusing = refusing
        self._kept: dict[int, Wish] = {}
        self._not_before: dict[int, float] = {}
        self._good_until: dict[int, float] = {}

    def look(self) -> None:
        """Tell every running server whose bans, run or map are others than when it was told last."""
        until = monotonic() + TURN_SECONDS
        running = self._host.servers.filter(actual_state__in=UP_STATES).order_by()
        newest = Run.objects.filter(server=OuterRef("pk")).order_by("-id").values("started_at")[:1]
        columns = ("name", "host", "owner_id", "map", "console_run", "console_run_started_at")
        servers = list(running.annotate(launched_at=Subquery(newest)).only(*columns))
        concerned = Ban.objects.of_servers(servers) if servers else Ban.objects.none()
        since = {server.pk: find_oldest(server) for server in servers}
        active = list(concerned.in_force())
        ended = list(concerned.ended_since(min(since.values()))) if servers else []
        bans = {ban.pk: ban for ban in active}
        for server in sorted(servers, key=lambda one: self._not_before.get(one.pk, 0.0)):
            wish = make_wish(server, active, ended, since[server.pk])
            kept = self._kept.get(server.pk)
            is_about_nothing = not wish.bans and not wish.lifted and kept is None
            is_kept = wish == kept and monotonic() < self._good_until.get(server.pk, 0.0)
            if is_about_nothing or is_kept or monotonic() < self._not_before.get(server.pk, 0):
                continue
            if monotonic() > until:
                return
            self._not_before[server.pk] = monotonic() + RETRY_SECONDS
            if self._tell(server, wish, kept, bans, until):
                self._kept[server.pk] = wish
                can_change = bool(wish.lifted) or any(bans[pk].ends_at for pk, _ in wish.bans)
                seconds = LOOK_AGAIN_SECONDS if can_change else float("inf")
                self._good_until[server.pk] = monotonic() + seconds
                del self._not_before[server.pk]

    def _tell(
        self,
        server: Server,
        wish: Wish,
        kept: Wish | None,
        bans: Mapping[int, Ban],
        until: float,
    ) -> bool:
        """Tell a server what it does not know; return whether it could be told all of that by `until`.

        What there was no time for comes next: a server that answers slowly does not hold up the others.
        """
        is_told = kept is not None and kept != wish and kept.is_same_map_as(wish)
        told = kept.bans if kept and is_told else None
        try:
            listed = self._read_list(server)
            now = timezone.now()
            unknown = [one for one in sorted(wish.bans) if not knows(bans[one[0]], told, listed)]
            commands = [
                f"banid {bans[pk].minutes_left(now)} {steam_id} kick" for pk, steam_id in unknown
            ]
            commands += [
                f"removeid {steam_id}"
                for steam_id, was_for_good in sorted(wish.lifted)
                # One for good that was never Saferoom's is somebody's in the game, and stays.
                if listed is None or (steam_id in listed and (was_for_good or not listed[steam_id]))
            ]
            sent = 0
            for line in to_lines(commands):
                if monotonic() > until:
                    known = wish.bans.difference(unknown[sent:])
                    self._kept[server.pk] = replace(wish, bans=known, lifted=frozenset())
                    return False
                self._send(server, line, may_type=True)
                sent += line.count(";") + 1
        except (HostError, OSError) as error:
            what = f"server {server.name}: its bans cannot be told"
            faults.tell(logger, what, error, is_explained=True)
            return False
        return True

    def _read_list(self, server: Server) -> dict[str, bool] | None:
        """Return whom a server has banned, and whether for good.

        None if it does not take RCON: then it is told all, blindly.
        """
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


def knows(
    ban: Ban, told: frozenset[tuple[int, str]] | None, listed: Mapping[str, bool] | None
) -> bool:
    """Return whether a server has a ban as it is now: it was `told` on this map, and has not lost it.

    Whom it has banned for good by its config, nobody need tell it of again.
    """
    if listed is not None and ban.steam_id not in listed:
        return False
    if told is None:
        return listed is not None and ban.ends_at is None and listed[ban.steam_id]
    # One that took the place of another has another end, which the server has to learn.
    return (ban.pk, ban.steam_id) in told


def find_oldest(server: Server) -> datetime:
    """Return since when bans that have ended are lifted on a server."""
    launched_at: datetime | None = vars(server)["launched_at"]
    started_at = datetime.fromtimestamp(server.console_run_started_at, UTC)
    return min(timezone.now() - LOOKED_BACK, started_at, launched_at or started_at)


def make_wish(server: Server, active: Iterable[Ban], ended: Iterable[Ban], since: datetime) -> Wish:
    """Return what a server should know. Of several bans of one person the one that ends last counts."""
    lasting = find_lasting(ban for ban in active if ban.holds_on(server))
    lifted: dict[str, bool] = {}
    for ban in ended:
        is_over = ban.steam_id not in lasting and (ban.ended_at is None or ban.ended_at >= since)
        if is_over and ban.holds_on(server):
            lifted[ban.steam_id] = lifted.get(ban.steam_id, False) or ban.ends_at is None
    return Wish(
        server.console_run,
        server.console_run_started_at,
        server.map,
        frozenset((ban.pk, steam_id) for steam_id, ban in lasting.items()),
        frozenset(lifted.items()),
    )


def parse_list(text: str) -> dict[str, bool]:
    """Return the Steam ids in an answer to `listid`, in the universe 1, and whether each is banned for good."""
    return {f"STEAM_1:{rest}": bool(permanent) for rest, permanent in _LISTED.findall(text)}


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
