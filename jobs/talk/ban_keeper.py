"""Applies bans to a host's running servers: at once, after each start and after each change of map.

A server's config contains the bans of its start (`hostops.instances.ban_files`). The server applies them on
each map again, with the end that they had then, including bans that were lifted since. So this asks the server
which bans it has, adds what it lacks, and lifts what has ended.
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
from jobs.talk.keeping import Keeping
from servers.models import UP_STATES, Ban, Host, Run, Server, find_lasting

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 2.0
LOOKED_BACK = timedelta(days=1)
"""Bans that ended within this time are lifted on a server, and all that ended since its config was written.

A restart after a crash uses the config of the start before it. Bans lifted before that are taken out of the
files that the game has written itself (`hostops.instances.ban_files.take_out`).
"""

LOOK_AGAIN_SECONDS = 300.0
"""How soon to ask a server again that may have got an ended ban back: it may have restarted its map."""

MAX_LINE_BYTES = 480
"""The length of a line with several ban commands, below the engine's limit of 510 bytes."""

_LISTED = re.compile(r"^ *+\d+ STEAM_[01]:([01]:\d{1,10}) : (permanent)?", re.MULTILINE)


@dataclass(frozen=True)
class WantedBans:
    """The bans that a server should have, in which run and on which map.

    `bans` has ids and Steam IDs, `lifted` has Steam IDs and whether a ban of that ID was permanent.
    """

    run: int
    run_started_at: float
    map: str
    bans: frozenset[tuple[int, str]]
    lifted: frozenset[tuple[str, bool]]

    def is_same_map_as(self, other: "WantedBans") -> bool:
        """Return whether both are for the same map in the same run of the server, as far as can be seen."""
        mine = (self.run, self.run_started_at, self.map)
        return mine == (other.run, other.run_started_at, other.map)


class BanKeeper:
    """Keeps the bans of one host's servers. For use by one thread.

    `refusing` has, by the name of a server, the run that has refused the RCON password.
    """

    def __init__(self, host: Host, refusing: dict[str, int]) -> None:
        self._host = host
        self._refusing = refusing
        self._keeping = Keeping[WantedBans]()
        self._good_until: dict[int, float] = {}

    def look(self) -> bool:
        """Update every running server whose bans, run or map have changed since its last update.

        Return whether some are still to be updated.
        """
        running = self._host.servers.filter(actual_state__in=UP_STATES).order_by()
        newest = Run.objects.filter(server=OuterRef("pk")).order_by("-id").values("started_at")[:1]
        columns = ("name", "host", "owner_id", "map", "console_run", "console_run_started_at")
        servers = list(running.annotate(launched_at=Subquery(newest)).only(*columns))
        concerned = Ban.objects.of_servers(servers) if servers else Ban.objects.none()
        since = {server.pk: find_oldest(server) for server in servers}
        active = list(concerned.in_force())
        ended = list(concerned.ended_since(min(since.values()))) if servers else []
        bans = {ban.pk: ban for ban in active}

        def find_wanted(server: Server) -> WantedBans | None:
            wanted = find_wanted_bans(server, active, ended, since[server.pk])
            given = self._keeping.given.get(server.pk)
            is_about_nothing = not wanted.bans and not wanted.lifted and given is None
            is_good = wanted == given and monotonic() < self._good_until.get(server.pk, 0.0)
            return None if is_about_nothing or is_good else wanted

        def give(server: Server, wanted: WantedBans, until: float) -> bool:
            if not self._tell(server, wanted, bans, until):
                return False
            can_change = bool(wanted.lifted) or any(bans[pk].ends_at for pk, _ in wanted.bans)
            seconds = LOOK_AGAIN_SECONDS if can_change else float("inf")
            self._good_until[server.pk] = monotonic() + seconds
            return True

        is_more_to_do = self._keeping.take_turn(servers, find_wanted, give)
        self._good_until = {
            pk: until for pk, until in self._good_until.items() if pk in self._keeping.given
        }
        return is_more_to_do

    def _tell(
        self, server: Server, wanted: WantedBans, bans: Mapping[int, Ban], until: float
    ) -> bool:
        """Send a server the changes that it lacks; return whether all could be sent before `until`.

        The rest is sent next time, so a server that answers slowly does not hold up the others.
        """
        given = self._keeping.given.get(server.pk)
        is_told = given is not None and given != wanted and given.is_same_map_as(wanted)
        told = given.bans if given and is_told else None
        try:
            listed = self._read_list(server)
            now = timezone.now()
            unknown = [one for one in sorted(wanted.bans) if not knows(bans[one[0]], told, listed)]
            commands = [
                f"banid {bans[pk].minutes_left(now)} {steam_id} kick" for pk, steam_id in unknown
            ]
            commands += [
                f"removeid {steam_id}"
                for steam_id, was_for_good in sorted(wanted.lifted)
                # A permanent ban that never was Saferoom's was made in the game, and stays.
                if listed is None or (steam_id in listed and (was_for_good or not listed[steam_id]))
            ]
            sent = 0
            for line in to_lines(commands):
                if monotonic() > until:
                    known = wanted.bans.difference(unknown[sent:])
                    self._keeping.given[server.pk] = replace(wanted, bans=known, lifted=frozenset())
                    return False
                self._send(server, line, may_type=True)
                sent += line.count(";") + 1
        except (HostError, OSError) as error:
            what = f"server {server.name}: its bans cannot be applied"
            faults.tell(logger, what, error, is_explained=True)
            return False
        return True

    def _read_list(self, server: Server) -> dict[str, bool] | None:
        """Return whom a server has banned, and whether permanently.

        None if it does not accept RCON: then everything is sent without knowing.
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
    """Return whether a server has a ban as it is now: it was `told` on this map, and has not lost it since.

    A permanent ban that it has from its config need not be sent again.
    """
    if listed is not None and ban.steam_id not in listed:
        return False
    if told is None:
        return listed is not None and ban.ends_at is None and listed[ban.steam_id]
    # A ban that replaced another has another end, which the server has to be told.
    return (ban.pk, ban.steam_id) in told


def find_oldest(server: Server) -> datetime:
    """Return the time since which ended bans are lifted on a server."""
    launched_at: datetime | None = vars(server)["launched_at"]
    started_at = datetime.fromtimestamp(server.console_run_started_at, UTC)
    return min(timezone.now() - LOOKED_BACK, started_at, launched_at or started_at)


def find_wanted_bans(
    server: Server, active: Iterable[Ban], ended: Iterable[Ban], since: datetime
) -> WantedBans:
    """Return the bans that a server should have. Of several of one person, the one that ends last counts."""
    lasting = find_lasting(ban for ban in active if ban.holds_on(server))
    lifted: dict[str, bool] = {}
    for ban in ended:
        is_over = ban.steam_id not in lasting and (ban.ended_at is None or ban.ended_at >= since)
        if is_over and ban.holds_on(server):
            lifted[ban.steam_id] = lifted.get(ban.steam_id, False) or ban.ends_at is None
    return WantedBans(
        server.console_run,
        server.console_run_started_at,
        server.map,
        frozenset((ban.pk, steam_id) for steam_id, ban in lasting.items()),
        frozenset(lifted.items()),
    )


def parse_list(text: str) -> dict[str, bool]:
    """Return the Steam IDs in an answer to `listid`, in universe 1, and whether each ban is permanent."""
    return {f"STEAM_1:{rest}": bool(permanent) for rest, permanent in _LISTED.findall(text)}


def to_lines(commands: Iterable[str]) -> Iterator[str]:
    """Yield the commands joined into lines that are not too long for the engine."""
    line = ""
    for command in commands:
        if line and len(line) + 1 + len(command) > MAX_LINE_BYTES:
            yield line
            line = ""
        line = f"{line};{command}" if line else command
    if line:
        yield line
