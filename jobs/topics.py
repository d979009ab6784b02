"""What can be watched: a job, a server's console, and everything that one may see on the pages.

A topic says how to read the database and how its events look; `jobs.streams` does the rest. Everything here is
synchronous and runs in the hub's reading threads.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, TypeVar

from django.conf import settings
from django.db.models import Count, Max, Model, QuerySet
from django.utils import timezone

from jobs.models import Job, JobLog, Worker
from servers.models import ConsoleLine, Server

Line = TypeVar("Line", bound=Model)
CHANGES_WINDOW = timedelta(minutes=10)


@dataclass(frozen=True)
class Batch:
    """Events that are ready to be sent: those after seq `after`, up to and with seq `last`."""

    after: int
    last: int
    payload: bytes


@dataclass(frozen=True)
class Snapshot:
    """What a topic is like at one moment, besides its lines. After a final one nothing will come."""

    payload: bytes = b""
    is_final: bool = False


class Topic(Protocol):
    """Something with numbered events in the database. Equal topics share one reader."""

    def read_head(self) -> int:
        """Return the seq of the last event."""

    def read_batch(self, after: int, until: int | None = None) -> Batch | None:
        """Return the next events behind seq `after`, some hundreds at most, or None."""

    def read_snapshot(self) -> Snapshot:
        """Return what the topic is like now."""


def format_event(data: str, *, event: str = "", seq: int | None = None) -> str:
    """Return one Server-Sent Event. A line break in `data` does not end it."""
    lines = [] if seq is None else [f"id: {seq}"]
    if event:
        lines.append(f"event: {event}")
    lines += [f"data: {line}" for line in data.replace("\r", " ").split("\n")]
    return "\n".join(lines) + "\n\n"


def to_batch(after: int, events: Iterable[tuple[int, str]]) -> Batch | None:
    """Return the events, as (seq, text), in one piece; None if there are none."""
    pairs = list(events)
    if not pairs:
        return None
    return Batch(after, pairs[-1][0], "".join(text for _, text in pairs).encode())


def up_to(until: int | None, lines: QuerySet[Line]) -> QuerySet[Line]:
    """Return the lines up to and with seq `until`, or all of them."""
    return lines if until is None else lines.filter(seq__lte=until)


@dataclass(frozen=True)
class JobTopic:
    """A job: its log lines are `stdout` and `stderr` events, where it is is a `state` event."""

    job_id: int

    def read_head(self) -> int:
        """Return the seq of the last line."""
        return JobLog.objects.filter(job_id=self.job_id).aggregate(last=Max("seq"))["last"] or 0

    def read_batch(self, after: int, until: int | None = None) -> Batch | None:
        """Return the next lines."""
        rows = up_to(until, JobLog.objects.filter(job_id=self.job_id, seq__gt=after))
        values = rows.order_by("seq").values_list("seq", "stream", "line")[
            : settings.JOB_LOG_REPLAY_LIMIT
        ]
        return to_batch(
            after,
            ((seq, format_event(line, event=stream, seq=seq)) for seq, stream, line in values),
        )

    def read_snapshot(self) -> Snapshot:
        """Return the job's state; a job that was deleted is over."""
        job = Job.objects.filter(pk=self.job_id).first()
        if job is None:
            return Snapshot(is_final=True)
        state = {
            "state": job.state,
            "stage": job.stage,
            "progress": job.progress,
            "exit_code": job.exit_code,
            "error": job.error,
            "is_final": job.is_final,
        }
        return Snapshot(format_event(json.dumps(state), event="state").encode(), job.is_final)


@dataclass(frozen=True)
class ConsoleTopic:
    """A server's console: its lines are default `message` events. It never ends by itself."""

    server_id: int

    def read_head(self) -> int:
        """Return the seq of the last line."""
        lines = ConsoleLine.objects.filter(server_id=self.server_id)
        return lines.aggregate(last=Max("seq"))["last"] or 0

    def read_batch(self, after: int, until: int | None = None) -> Batch | None:
        """Return the next lines that are still kept."""
        rows = up_to(until, ConsoleLine.objects.filter(server_id=self.server_id, seq__gt=after))
        values = rows.order_by("seq").values_list("seq", "line")[: settings.JOB_LOG_REPLAY_LIMIT]
        return to_batch(after, ((seq, format_event(line, seq=seq)) for seq, line in values))

    def read_snapshot(self) -> Snapshot:
        """A console has no state of its own; it is over when its server is removed."""
        return Snapshot(is_final=not Server.objects.filter(pk=self.server_id).exists())


@dataclass(frozen=True)
class ChangesTopic:
    """Whether anything has changed that a person may see: a `change` event, at once and at each change.

    It does not say what: a page that hears it fetches itself anew. `owner_id` None means everybody's
    servers and jobs, as admins see them.
    """

    owner_id: int | None

    def read_head(self) -> int:
        """Changes are not numbered."""
        return 0

    def read_batch(self, after: int, until: int | None = None) -> Batch | None:  # noqa: ARG002
        """Changes are not kept: there is nothing to catch up with."""
        return None

    def read_snapshot(self) -> Snapshot:
        """Return an event that differs whenever something differs."""
        servers, jobs = Server.objects.all(), Job.objects.all()
        if self.owner_id is not None:
            servers = servers.filter(owner_id=self.owner_id)
            jobs = jobs.filter(server__owner_id=self.owner_id)
        # The window lets the index answer, however many jobs there are; leaving it is a false alarm.
        recent = jobs.filter(updated_at__gt=timezone.now() - CHANGES_WINDOW)
        workers = Worker.objects.filter(stopped_at=None).order_by("pk")
        version = (
            servers.aggregate(Max("updated_at"), Count("pk")),
            recent.aggregate(Max("updated_at"), Count("pk")),
            [(worker.pk, worker.is_claiming) for worker in workers if worker.is_alive],
        )
        digest = hashlib.sha256(repr(version).encode()).hexdigest()[:16]
        return Snapshot(format_event(json.dumps({"version": digest}), event="change").encode())
