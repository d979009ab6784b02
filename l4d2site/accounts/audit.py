"""Who did what: jobs that people requested, and the record of accounts, servers and sign-ins.

Both are read by id, newest first, so a page costs the same at any depth.
"""

from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from itertools import islice

from django.contrib.auth.models import User
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from jobs.models import Job
from l4d2site.accounts.models import (
    DOOR_KINDS,
    PEOPLE_KINDS,
    SETTING_KINDS,
    AccountEvent,
    EventKind,
)
from servers.models import Server

ENTRIES_PER_PAGE = 50
LARGEST_ID = 2**63 - 1

EVENT_KINDS: dict[str, tuple[EventKind, ...]] = {
    "settings": SETTING_KINDS,
    "people": PEOPLE_KINDS,
    "door": DOOR_KINDS,
}
"""The events that each filter shows; the remaining filter, `jobs`, shows none."""


@dataclass(frozen=True)
class Place:
    """Where a page begins: after this job and this event."""

    job_id: int = LARGEST_ID
    event_id: int = LARGEST_ID

    @classmethod
    def parse(cls, text: str) -> "Place":
        """Parse an address such as `812-77`; return the newest place for anything else."""
        numbers = text.split("-")
        if len(numbers) != 2 or not all(
            one.isascii() and one.isdecimal() and len(one) < 20 for one in numbers
        ):
            return cls()
        job_id, event_id = (min(int(one), LARGEST_ID) for one in numbers)
        return cls(job_id, event_id)

    def __str__(self) -> str:
        return f"{self.job_id}-{self.event_id}"


@dataclass(frozen=True)
class Entry:
    """One thing that somebody did. `state` is a job's; `url` leads to details."""

    at: datetime
    who: str
    what: str
    subject: str = ""
    detail: str = ""
    state: str = ""
    state_label: str = ""
    url: str = ""
    address: str = ""
    count: int = 1
    job_id: int | None = None
    event_id: int | None = None


@dataclass(frozen=True)
class AuditPage:
    """Some entries, newest first, and where the older ones begin; None if there are none."""

    entries: list[Entry]
    older: Place | None


def read_page(jobs: QuerySet[Job], events: QuerySet[AccountEvent], place: Place) -> AuditPage:
    """Return the page of these jobs and events that begins at `place`. Costs two queries."""
    limit = ENTRIES_PER_PAGE + 1
    newest_jobs = jobs.filter(pk__lt=place.job_id).order_by("-pk")[:limit]
    newest_events = events.filter(pk__lt=place.event_id).order_by("-pk")[:limit]
    entries = list(
        islice(
            merge(
                map(describe_job, newest_jobs),
                map(describe_event, newest_events),
                key=lambda entry: entry.at,
                reverse=True,
            ),
            limit,
        )
    )
    shown = entries[:ENTRIES_PER_PAGE]
    if len(entries) < limit:
        return AuditPage(shown, None)
    job_ids = [entry.job_id for entry in shown if entry.job_id is not None]
    event_ids = [entry.event_id for entry in shown if entry.event_id is not None]
    older = Place(
        min(job_ids, default=place.job_id),
        min(event_ids, default=place.event_id),
    )
    return AuditPage(shown, older)


def find_jobs(user: User, kind: str, who: str, server: str) -> QuerySet[Job]:
    """Return the jobs that `user` may see and that match the filters."""
    jobs = Job.objects.visible_to(user)
    if kind and kind != "jobs":
        return jobs.none()
    if who:
        jobs = jobs.filter(requested_by__in=people_called(who))
    if server:
        row = Server.objects.filter(name=server).first()
        jobs = jobs.filter(server=row) if row else jobs.filter(server=None, server_name=server)
    return jobs


def find_events(kind: str, who: str, server: str) -> QuerySet[AccountEvent]:
    """Return the events that match the filters."""
    events = AccountEvent.objects.select_related("server")
    if kind == "jobs":
        return events.none()
    if kind in EVENT_KINDS:
        events = events.filter(kind__in=EVENT_KINDS[kind])
    if who:
        events = events.filter(Q(user__in=people_called(who)) | Q(name=who))
    if server:
        events = events.filter(server__name=server)
    return events


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
    """Return an event as an entry of the audit; its server is named only once."""
    subject = event.server.name if event.server else ""
    return Entry(
        at=event.at,
        who=event.name or _("somebody"),
        what=event.get_kind_display(),
        subject=subject,
        detail=event.detail.removeprefix(subject).removeprefix(": "),
        url=event.server.get_absolute_url() if event.server else "",
        address=event.address,
        count=event.count,
        event_id=event.pk,
    )
