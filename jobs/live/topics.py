"""What can be watched: a job, a server's console, and everything that one may see on the pages.

A topic says how to read the database and how its events look; `streams` does the rest. Everything here is
synchronous and runs in the hub's reading threads.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from django.conf import settings
from django.db.models import Count, Max, Model, QuerySet
from django.utils import timezone

from jobs.models import Job, JobLog, Worker
from servers.console import Console
from servers.models import Blueprint, Host, Membership, Server

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

    @staticmethod
    def read_snapshots(topics: Sequence[Any]) -> list[Snapshot]:
        """Return what each of `topics`, all of this kind, is like now; one costs as many queries as all."""

    def read_head(self) -> int:
        """Return the seq of the last event."""

    def read_batch(self, after: int, until: int | None = None) -> Batch | None:
        """Return the next events behind seq `after`, some hundreds at most, or None."""


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

    @staticmethod
    def read_snapshots(topics: Sequence["JobTopic"]) -> list[Snapshot]:
        """Return the jobs' states; a job that was deleted is over."""
        jobs = Job.objects.in_bulk([topic.job_id for topic in topics])
        return [describe_job(jobs.get(topic.job_id)) for topic in topics]

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


def describe_job(job: Job | None) -> Snapshot:
    """Return the `state` event of a job."""
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
    """A server's console: its lines are default `message` events. It never ends by itself.

    A `commands` event says that there is news of the commands that were sent to it.
    """

    server_id: int

    @staticmethod
    def read_snapshots(topics: Sequence["ConsoleTopic"]) -> list[Snapshot]:
        """Return whether there are news of commands; a console is over when its server is removed."""
        ids = [topic.server_id for topic in topics]
        rows = Server.objects.order_by().filter(pk__in=ids)
        versions = dict(rows.values_list("pk", "commands_version"))
        return [describe_console(versions.get(server_id)) for server_id in ids]

    def read_head(self) -> int:
        """Return the seq of the last line."""
        return Console(self.server_id).last_seq()

    def read_batch(self, after: int, until: int | None = None) -> Batch | None:
        """Return the next lines that are still kept."""
        lines = Console(self.server_id).read_after(after, settings.JOB_LOG_REPLAY_LIMIT, until)
        return to_batch(
            after, ((line.seq, format_event(line.line, seq=line.seq)) for line in lines)
        )


def describe_console(commands_version: int | None) -> Snapshot:
    """Return the `commands` event of a console, by its server's version; None if that is removed."""
    if not commands_version:
        return Snapshot(is_final=commands_version is None)
    event = format_event(json.dumps({"version": commands_version}), event="commands")
    return Snapshot(event.encode())


@dataclass(frozen=True)
class ChangesTopic:
    """Whether anything has changed that a person may see: a `change` event, at once and at each change.

    It does not say what: a page that hears it fetches itself anew. `user_id` None means everybody's
    servers and jobs, as admins see them; else it is about what is a person's own or shared with them.
    """

    user_id: int | None

    @staticmethod
    def read_snapshots(topics: Sequence["ChangesTopic"]) -> list[Snapshot]:
        """Return for each person an event that differs whenever something differs for them."""
        # The window lets the index answer, however many jobs there are; leaving it is a false alarm.
        recent = Job.objects.filter(updated_at__gt=timezone.now() - CHANGES_WINDOW)
        of_members = recent.filter(server__memberships__isnull=False)
        # Of owners, of members, of what members are (a role that is given or taken is a change too), and of who
        # uploads.
        versions = [
            versions_by(Server.objects.values_list("owner_id")),
            versions_by(recent.values_list("server__owner_id")),
            versions_by(Membership.objects.values_list("user_id")),
            versions_by(Membership.objects.values_list("user_id"), "server__updated_at"),
            versions_by(of_members.values_list("server__memberships__user_id")),
            versions_by(recent.exclude(overlay_name="").values_list("requested_by_id")),
        ]
        workers = Worker.objects.filter(stopped_at=None).order_by("pk")
        alive = [(worker.pk, worker.is_claiming) for worker in workers if worker.is_alive]
        # What running servers would start with, besides their own rows. Rare enough to be news for everybody.
        blueprints = Blueprint.objects.aggregate(Max("updated_at"), Count("pk"))
        # And what lies on the hosts.
        columns = ("pk", "build_id", "bind_address", "overlays_reported_at")
        hosts = list(Host.objects.order_by("pk").values_list(*columns))
        of_all = (alive, sorted(blueprints.items()), hosts)
        return [
            to_change_event([versions_for(topic.user_id, one) for one in versions], *of_all)
            for topic in topics
        ]

    def read_head(self) -> int:
        """Changes are not numbered."""
        return 0

    def read_batch(self, after: int, until: int | None = None) -> Batch | None:  # noqa: ARG002
        """Changes are not kept: there is nothing to catch up with."""
        return None


Versions = dict[int | None, tuple[datetime, int]]


def versions_by(
    rows: "QuerySet[Any, tuple[int | None]]", changed_at: str = "updated_at"
) -> Versions:
    """Return, by the one value of `rows`, when the last of them changed, and how many there are."""
    groups = rows.order_by().annotate(Max(changed_at), Count("pk"))
    return {user_id: (last_at, count) for user_id, last_at, count in groups}


def versions_for(user_id: int | None, versions: Versions) -> object:
    """Return what a person sees of `versions`; None is an admin, who sees everybody's."""
    return versions.get(user_id) if user_id is not None else sorted(versions.values())


def to_change_event(*version: object) -> Snapshot:
    """Return the event that says that what a person sees has this version."""
    digest = hashlib.sha256(repr(version).encode()).hexdigest()[:16]
    return Snapshot(format_event(json.dumps({"version": digest}), event="change").encode())
