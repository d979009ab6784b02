"""Who did what: jobs that people requested, console commands, and the record of accounts, servers and sign-ins.

All are read by time, newest first, through indexes, so a page costs the same at any depth. Only the jobs of one
server are sorted: no index has them by time.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from heapq import merge
from itertools import islice
from typing import TypeVar

from django.contrib.auth.models import User
from django.db.models import Model, Q, QuerySet
from django.utils.translation import gettext as _

from jobs.models import Job
from l4d2site.accounts.models import (
    BY_COMMAND,
    DONE_TO_PEOPLE_KINDS,
    DOOR_KINDS,
    PEOPLE_KINDS,
    PLAYER_KINDS,
    SETTING_KINDS,
    AccountEvent,
    EventKind,
)
from servers.models import ConsoleCommand, Server, has_role
from servers.people import name_targets
from servers.permissions import Verb, may

ENTRIES_PER_PAGE = 50
LARGEST_ID = 2**63 - 1

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_MICROSECOND = (datetime(2999, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)

AnyRow = TypeVar("AnyRow", bound=Model)

EVENT_KINDS: dict[str, tuple[EventKind, ...]] = {
    "settings": SETTING_KINDS,
    "players": PLAYER_KINDS,
    "people": PEOPLE_KINDS,
    "door": DOOR_KINDS,
}
"""The events that each filter shows; the remaining filters, `jobs` and `commands`, show none."""


@dataclass(frozen=True)
class AuditQuery:
    """What the reader wants to see: a kind, a person, a server, and the time from `since` to before `until`."""

    kind: str = ""
    who: str = ""
    server: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def choose_period(self, rows: QuerySet[AnyRow], column: str) -> QuerySet[AnyRow]:
        """Return the rows whose `column` is in the period."""
        if self.since is not None:
            rows = rows.filter(**{f"{column}__gte": self.since})
        if self.until is not None:
            rows = rows.filter(**{f"{column}__lt": self.until})
        return rows


@dataclass(frozen=True)
class Place:
    """Where a page begins: after the entries of `microsecond` that have at least these ids."""

    microsecond: int = LAST_MICROSECOND
    job_id: int = LARGEST_ID
    event_id: int = LARGEST_ID
    command_id: int = LARGEST_ID

    @classmethod
    def parse(cls, text: str) -> "Place":
        """Parse an address such as `1764218698000000-812-77-5`; return the newest place for anything else."""
        numbers = text.split("-")
        if len(numbers) != 4 or not all(
            one.isascii() and one.isdecimal() and len(one) < 20 for one in numbers
        ):
            return cls()
        microsecond, *ids = (min(int(one), LARGEST_ID) for one in numbers)
        return cls(min(microsecond, LAST_MICROSECOND), *ids)

    def __str__(self) -> str:
        return "-".join(str(number) for number in asdict(self).values())

    def read_from(
        self, rows: QuerySet[AnyRow], column: str, smallest_id: int, limit: int
    ) -> QuerySet[AnyRow]:
        """Return the `limit` newest rows after this place, by `column`."""
        at = EPOCH + timedelta(microseconds=self.microsecond)
        is_older = Q(**{f"{column}__lt": at}) | Q(pk__lt=smallest_id)
        rows = rows.filter(is_older, **{f"{column}__lte": at})
        return rows.order_by(f"-{column}", "-pk")[:limit]


@dataclass(frozen=True)
class Entry:
    """One thing that somebody did. `state` is a job's; `url` leads to details."""

    at: datetime
    who: str
    what: str
    whom: str = ""
    subject: str = ""
    subject_url: str = ""
    detail: str = ""
    state: str = ""
    state_label: str = ""
    url: str = ""
    address: str = ""
    count: int = 1
    job_id: int | None = None
    event_id: int | None = None
    command_id: int | None = None
    line: str = ""

    @property
    def microsecond(self) -> int:
        """When it was done, in microseconds since 1970."""
        return (self.at - EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True)
class AuditPage:
    """Some entries, newest first, and where the older ones begin; None if there are none."""

    entries: list[Entry]
    older: Place | None


def read_page(user: User, query: AuditQuery, place: Place) -> AuditPage:
    """Return the page that begins at `place`, of what `user` may see and wants to. At most four queries."""
    limit = ENTRIES_PER_PAGE + 1
    jobs = place.read_from(find_jobs(user, query), "created_at", place.job_id, limit)
    events = place.read_from(find_events(query), "at", place.event_id, limit)
    newest = place.read_from(find_commands(user, query), "created_at", place.command_id, limit)
    commands = list(newest)
    targets = name_targets(commands)
    entries = list(
        islice(
            merge(
                map(describe_job, jobs),
                map(describe_event, events),
                (describe_command(one, targets.get(one.pk, "")) for one in commands),
                key=lambda entry: entry.at,
                reverse=True,
            ),
            limit,
        )
    )
    shown = entries[:ENTRIES_PER_PAGE]
    return AuditPage(shown, find_older(shown, place) if len(entries) == limit else None)


def find_older(shown: list[Entry], place: Place) -> Place:
    """Return the place after these entries of the page that began at `place`."""
    last = shown[-1].microsecond
    # Of the last moment, other entries may be on the next page.
    same = [entry for entry in shown if entry.microsecond == last]
    start = place if place.microsecond == last else Place()
    return Place(
        last,
        min((one.job_id for one in same if one.job_id is not None), default=start.job_id),
        min((one.event_id for one in same if one.event_id is not None), default=start.event_id),
        min(
            (one.command_id for one in same if one.command_id is not None),
            default=start.command_id,
        ),
    )


def find_jobs(user: User, query: AuditQuery) -> QuerySet[Job]:
    """Return the jobs that `user` may see and wants to."""
    jobs = query.choose_period(Job.objects.visible_to(user), "created_at")
    if query.kind not in ("", "jobs"):
        return jobs.none()
    if query.who:
        jobs = jobs.filter(requested_by__in=people_called(query.who))
    if query.server:
        row = Server.objects.filter(name=query.server).first()
        jobs = (
            jobs.filter(server=row) if row else jobs.filter(server=None, server_name=query.server)
        )
    return jobs


def find_events(query: AuditQuery) -> QuerySet[AccountEvent]:
    """Return the events that the reader wants to see: a person caused them, or they concern that person."""
    events = query.choose_period(AccountEvent.objects.select_related("server"), "at")
    if query.kind and query.kind not in EVENT_KINDS:
        return events.none()
    if query.kind:
        events = events.filter(kind__in=EVENT_KINDS[query.kind])
    if query.who:
        is_about = Q(user__in=people_called(query.who)) | Q(name=query.who)
        events = events.filter(is_about | Q(actor_name__iexact=query.who))
    if query.server:
        events = events.filter(server__name=query.server)
    return events


def find_commands(user: User, query: AuditQuery) -> QuerySet[ConsoleCommand]:
    """Return the console commands that `user` may see and wants to."""
    sent = ConsoleCommand.objects.select_related("server").defer("answer", "typed")
    commands = query.choose_period(sent, "created_at")
    if query.kind not in ("", "commands"):
        return commands.none()
    if not may(user, Verb.VIEW):
        commands = commands.filter(has_role(user, Verb.VIEW, "server__"))
    if query.who:
        commands = commands.filter(requested_by__in=people_called(query.who))
    if query.server:
        commands = commands.filter(server__name=query.server)
    return commands


def people_called(name: str) -> QuerySet[User, int]:
    """Return the ids of the accounts named `name`, ignoring case."""
    return User.objects.filter(username__iexact=name).values_list("pk", flat=True)


def describe_job(job: Job) -> Entry:
    """Return a job as an entry of the audit."""
    return Entry(
        at=job.created_at,
        who=job.requested_by_name or "Saferoom",
        what=job.operation_label,
        subject=job.subject,
        detail=job.error,
        state=job.state,
        state_label=job.get_state_display(),
        url=job.get_absolute_url(),
        job_id=job.pk,
    )


def describe_event(event: AccountEvent) -> Entry:
    """Return an event as an entry of the audit; its server and its people are named only once."""
    subject = event.server.name if event.server else ""
    is_done_to = event.kind in DONE_TO_PEOPLE_KINDS
    detail = event.detail.removeprefix(subject).removeprefix(": ")
    if is_done_to and event.actor_name:
        detail = detail.removesuffix(f"by {event.actor_name}").removesuffix(" ").removesuffix(",")
    return Entry(
        at=event.at,
        who=describe_actor(event) if is_done_to else event.name or _("somebody"),
        what=event.get_kind_display(),
        whom=event.name if is_done_to else "",
        subject=subject,
        subject_url=event.server.get_absolute_url() if event.server else "",
        detail=detail,
        address=event.address,
        count=event.count,
        event_id=event.pk,
    )


def describe_actor(event: AccountEvent) -> str:
    """Return who caused an event that concerns somebody, as far as it was recorded."""
    if event.actor_name == BY_COMMAND:
        return _("a command on the machine")
    return event.actor_name or _("not recorded")


def describe_command(command: ConsoleCommand, whom: str) -> Entry:
    """Return a console command as an entry of the audit; `whom` is the player it meant. It has no passwords."""
    return Entry(
        at=command.created_at,
        who=command.requested_by_name or "Saferoom",
        what=command.kind_label,
        whom=whom,
        subject=command.server.name,
        subject_url=command.server.get_absolute_url(),
        detail=command.get_state_display(),
        url=command.get_absolute_url(),
        command_id=command.pk,
        line=command.text,
    )
