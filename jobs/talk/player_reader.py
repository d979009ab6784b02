"""Who is on the servers of a host: asks by RCON when their number has changed, and keeps sessions.

`jobs.watch.player_watch` counts people cheaply and often. Only `status` knows who they are, and the engine logs
each command that comes by RCON: so it is asked when that count has changed, and once in a while as long as
somebody is on.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic

from django.db import transaction
from django.db.models import Count, Q
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
    Server,
)

ASK_EVERY_SECONDS = 60.0
"""How often a server with people on it is asked though their number stays: one may have come for another."""

RETRY_SECONDS = 10.0
"""How soon one is asked again whose answer did not come, or does not fit its count: somebody connects."""

ANSWER_SECONDS = 2.0
TURN_SECONDS = 5.0
"""How long one turn goes on with servers that do not answer. The next begins with those that were left out."""

REJOINED_AFTER = timedelta(seconds=60)
"""Who has connected so much later than the session says has left and come back in between."""


@dataclass
class Asked:
    """When a server was asked last, on the monotonic clock, for how many people, and when it is next."""

    players: int
    due_at: float


class PlayerReader:
    """Keeps the sessions of the servers of one host. To be used by one thread.

    `refusing` has by the name of a server its run that has refused the RCON password.
    """

    def __init__(self, host: Host, refusing: dict[str, int]) -> None:
        self._host = host
        self._questioner = Questioner(host, refusing)
        self._asked: dict[int, Asked] = {}

    def look(self) -> None:
        """Ask the servers of which it is time, and store who is on."""
        until = monotonic() + TURN_SECONDS
        is_open = Count("player_sessions", filter=Q(player_sessions__left_at=None))
        servers = self._host.servers.order_by().annotate(open_sessions=is_open)
        concerned = servers.filter(Q(players__gt=0) | Q(open_sessions__gt=0))
        rows = list(concerned.only("name", "host", "actual_state", "players"))
        self._asked = {row.pk: self._asked[row.pk] for row in rows if row.pk in self._asked}
        for server in sorted(rows, key=self._due_at):
            if monotonic() > until:
                return
            self._look_at(server)

    def _due_at(self, server: Server) -> float:
        asked = self._asked.get(server.pk)
        return asked.due_at if asked else 0.0

    def _look_at(self, server: Server) -> None:
        if server.actual_state not in UP_STATES or server.players == 0:
            # Nobody can be there: the worker has seen that it does not run, or it says itself that it is empty.
            store_people(server, ())
            return
        if server.players is None:
            return  # It does not answer: who was there may still be.
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


def store_people(server: Server, people: Iterable[StatusPlayer]) -> None:
    """Store that these people, and nobody else, are on a server now.

    Open pages hear of who has come and gone, and of new names. Pings alone are no news: every page of a full
    host would be fetched again each second. Pages show new pings at their next refresh.
    """
    now = timezone.now()
    on = {person.steam_id: person for person in people}
    stored = PlayerSession.objects.open().filter(server=server)
    if not on and not stored.exists():
        return
    with write_turn(), transaction.atomic():
        # Another worker of the host may be here as well: one after the other.
        locked = Server.objects.select_for_update(no_key=True).filter(pk=server.pk)
        if locked.only("pk").first() is None:
            return  # It was removed just now.
        is_news = False
        for session in stored:
            person = on.get(session.steam_id)
            if person is None or joined_at(person, now) - session.joined_at > REJOINED_AFTER:
                # They were on when they were seen last, and gone by now.
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
    """Store what a server says of somebody whose session goes on."""
    session.name = safe_name(person)
    session.ping, session.loss, session.seen_at = person.ping, person.loss, now
    session.save(update_fields=["name", "ping", "loss", "seen_at"])


def make_session(server: Server, person: StatusPlayer, now: datetime) -> PlayerSession:
    """Return the session, not saved, of somebody who is new."""
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
    """Return when somebody connected, by how long the server says they have been there."""
    return now - timedelta(seconds=person.connected_seconds)


def safe_name(person: StatusPlayer) -> str:
    """Return a name as it may be stored and shown."""
    return make_line_safe(person.name, NAME_CHARS)[:NAME_CHARS]


def forget_old_sessions() -> None:
    """Delete the sessions that are no longer kept."""
    PlayerSession.objects.outdated().delete()
    PlayerSession.objects.forget_beyond(SESSIONS_KEPT_OF_SERVER)
