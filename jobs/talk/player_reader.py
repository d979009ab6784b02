"""Finds out who is on a host's servers: asks by RCON when their number has changed, and keeps sessions.

`jobs.watch.player_watch` counts people cheaply and often. Only `status` says who they are, and the engine logs
each RCON command. So this asks only when the count has changed, and at longer intervals while somebody is on.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

from django.db import transaction
from django.db.models import Count, Max, OuterRef, Q, Subquery
from django.utils import timezone

from hostops.query.status import StatusPlayer, parse_status
from jobs.database import Channel, announce, write_turn
from jobs.logs import make_line_safe
from jobs.talk.questions import Questioner
from servers.models import (
    NAME_CHARS,
    SESSIONS_KEPT_OF_SERVER,
    UP_STATES,
    Host,
    PlayerSession,
    Run,
    Server,
)

ASK_EVERY_SECONDS = 60.0
"""How often to ask a server whose number of people stays the same: one may have replaced another."""

RETRY_SECONDS = 10.0
"""How soon to ask again after no answer, or one that does not fit the count: somebody may be connecting."""

ANSWER_SECONDS = 2.0
TURN_SECONDS = 5.0
"""How long one turn spends on servers that do not answer. The next turn begins with those left out."""

REJOINED_AFTER = timedelta(seconds=60)
"""Somebody who connected this much later than their session says has left and come back in between."""


@dataclass
class Asked:
    """With how many people a server was last asked, and when it is asked next, on the monotonic clock."""

    players: int
    due_at: float


class PlayerReader:
    """Keeps the sessions on one host's servers. For use by one thread.

    `refusing` has, by the name of a server, the run that has refused the RCON password.
    """

    def __init__(self, host: Host, refusing: dict[str, int]) -> None:
        self._host = host
        self._questioner = Questioner(host, refusing)
        self._asked: dict[int, Asked] = {}

    def look(self) -> bool:
        """Ask the servers that are due, and store who is on; return whether somebody is, or was just now."""
        until = monotonic() + TURN_SECONDS
        is_open = Q(player_sessions__left_at=None)
        newest_run = Run.objects.filter(server=OuterRef("pk")).order_by("-id")
        servers = self._host.servers.order_by().annotate(
            open_sessions=Count("player_sessions", filter=is_open),
            last_seen_at=Max("player_sessions__seen_at", filter=is_open),
            run_started_at=Subquery(newest_run.values("started_at")[:1]),
        )
        concerned = servers.filter(Q(players__gt=0) | Q(open_sessions__gt=0))
        rows = list(concerned.only("name", "host", "actual_state", "players"))
        self._asked = {row.pk: self._asked[row.pk] for row in rows if row.pk in self._asked}
        for server in sorted(rows, key=self._due_at):
            if monotonic() > until:
                break
            self._look_at(server)
        return bool(rows)

    def _due_at(self, server: Server) -> float:
        asked = self._asked.get(server.pk)
        return asked.due_at if asked else 0.0

    def _look_at(self, server: Server) -> None:
        if server.actual_state not in UP_STATES or server.players == 0:
            # Nobody can be on: the worker has seen that it does not run, or the server says that it is empty.
            store_people(server, ())
            return
        if server.players is None:
            # It does not answer: the people who were on may still be, unless it was started again.
            if is_new_run(server):
                store_people(server, ())
            return
        asked = self._asked.get(server.pk)
        if asked and asked.players == server.players and monotonic() < asked.due_at:
            return
        people = self._ask(server)
        if people is not None:
            store_people(server, people)
        is_whole = people is not None and len(people) == server.players
        pause = ASK_EVERY_SECONDS if is_whole else RETRY_SECONDS
        self._asked[server.pk] = Asked(server.players, monotonic() + pause)

    def _ask(self, server: Server) -> tuple[StatusPlayer, ...] | None:
        """Return who is on; None if that cannot be known."""
        answer = self._questioner.ask(server, "status", ANSWER_SECONDS, "who is on is not known")
        status = parse_status(answer) if answer is not None else None
        return status.people if status else None


def is_new_run(server: Server) -> bool:
    """Return whether a server, as `look` has read it, was started since anybody was last seen on it."""
    read: dict[str, Any] = vars(server)
    seen_at, started_at = read["last_seen_at"], read["run_started_at"]
    return bool(seen_at and started_at and seen_at < started_at)


def store_people(server: Server, people: Iterable[StatusPlayer]) -> None:
    """Store that these people, and nobody else, are on a server now.

    Open pages update when somebody has come or gone, or has a new name. New pings alone do not update them:
    every page of a full host would be fetched again each second. Pages show those at their next refresh.
    """
    now = timezone.now()
    on = {person.steam_id: person for person in people}
    stored = PlayerSession.objects.open().filter(server=server)
    if not on and not stored.exists():
        return
    with write_turn(), transaction.atomic():
        # Another worker of the host may do this too: the lock makes them take turns.
        locked = Server.objects.select_for_update(no_key=True).filter(pk=server.pk)
        if locked.only("pk").first() is None:
            return  # It has just been removed.
        is_news = False
        for session in stored:
            person = on.get(session.steam_id)
            if person is None or joined_at(person, now) - session.joined_at > REJOINED_AFTER:
                # They were on when last seen, and are gone now.
                session.left_at = now if server.is_up else session.seen_at
                session.save(update_fields=["left_at"])
                is_news = True
            else:
                del on[session.steam_id]
                is_news |= session.name != safe_name(person)
                take(session, person, now)
        PlayerSession.objects.bulk_create(
            [make_session(server, person, now) for person in on.values()]
        )
        if is_news or on:
            Server.objects.filter(pk=server.pk).update(updated_at=now)
            announce(Channel.PAGES)


def take(session: PlayerSession, person: StatusPlayer, now: datetime) -> None:
    """Store what a server says about somebody whose session continues."""
    session.name = safe_name(person)
    session.ping, session.loss, session.seen_at = person.ping, person.loss, now
    session.save(update_fields=["name", "ping", "loss", "seen_at"])


def make_session(server: Server, person: StatusPlayer, now: datetime) -> PlayerSession:
    """Return a new session, not saved, for somebody who has come."""
    return PlayerSession(
        server=server,
        steam_id=person.steam_id,
        name=safe_name(person),
        ping=person.ping,
        loss=person.loss,
        joined_at=joined_at(person, now),
        seen_at=now,
    )


def joined_at(person: StatusPlayer, now: datetime) -> datetime:
    """Return when somebody connected, from how long the server says they have been on."""
    return now - timedelta(seconds=person.connected_seconds)


def safe_name(person: StatusPlayer) -> str:
    """Return a name made safe to store and show."""
    return make_line_safe(person.name, NAME_CHARS)[:NAME_CHARS]


def forget_old_sessions() -> None:
    """Delete the sessions that are no longer kept."""
    PlayerSession.objects.outdated().delete()
    PlayerSession.objects.forget_beyond(SESSIONS_KEPT_OF_SERVER)
