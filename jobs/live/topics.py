"""What can be watched: a job, a server's console, and everything that a person may see on the pages.

A topic knows how to read the database and how its events look; `fan_out` does the rest. Everything here is
synchronous and runs in the hub's reading threads.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from django.conf import settings
from django.db.models import Max, Model, QuerySet

from jobs.live.change_versions import read_versions
from jobs.models import Job, JobLog
from servers.console import Console
from servers.models import Server

Line = TypeVar("Line", bound=Model)


@dataclass(frozen=True)
class Batch:
    """Events ready to be sent: those after seq `after`, up to and including seq `last`."""

    after: int
    last: int
    payload: bytes


@dataclass(frozen=True)
class Snapshot:
    """The state of a topic at one moment, apart from its lines. Nothing comes after a final one."""

    events: tuple[bytes, ...] = ()
    is_final: bool = False

    def since(self, sent: "Snapshot") -> bytes:
        """Return the events that `sent` did not have."""
        return b"".join(event for event in self.events if event not in sent.events)


class Topic(Protocol):
    """Something with numbered events in the database. Equal topics share one reader."""

    @staticmethod
    def read_snapshots(topics: Sequence[Any]) -> list[Snapshot]:
        """Return the present state of each of `topics`, all of this kind; the number of queries is fixed."""

    def read_head(self) -> int:
        """Return the seq of the last event."""

    def read_batch(self, after: int, until: int | None = None) -> Batch | None:
        """Return the next events after seq `after`, a few hundred at most, or None."""


def format_event(data: str, *, event: str = "", seq: int | None = None) -> str:
    """Return one Server-Sent Event. A line break in `data` does not end it."""
    lines = [] if seq is None else [f"id: {seq}"]
    if event:
        lines.append(f"event: {event}")
    lines += [f"data: {line}" for line in data.replace("\r", " ").split("\n")]
    return "\n".join(lines) + "\n\n"


def to_batch(after: int, events: Iterable[tuple[int, str]]) -> Batch | None:
    """Return the events, given as (seq, text), in one batch; None if there are none."""
    pairs = list(events)
    if not pairs:
        return None
    return Batch(after, pairs[-1][0], "".join(text for _, text in pairs).encode())


def up_to(until: int | None, lines: QuerySet[Line]) -> QuerySet[Line]:
    """Return the lines up to and including seq `until`, or all of them."""
    return lines if until is None else lines.filter(seq__lte=until)


@dataclass(frozen=True)
class JobTopic:
    """A job: its log lines are `stdout` and `stderr` events, its state is a `state` event."""

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
    return Snapshot((format_event(json.dumps(state), event="state").encode(),), job.is_final)


@dataclass(frozen=True)
class ConsoleTopic:
    """A server's console: its lines are default `message` events. It ends only when its server is removed.

    A `commands` event says that there is news about commands that were sent to it.
    """

    server_id: int

    @staticmethod
    def read_snapshots(topics: Sequence["ConsoleTopic"]) -> list[Snapshot]:
        """Return whether there is news about commands; a removed server's console is final."""
        servers = read_servers(topics)
        return [describe_console(servers.get(topic.server_id)) for topic in topics]

    def read_head(self) -> int:
        """Return the seq of the last line."""
        return Console(self.server_id).last_seq()

    def read_batch(self, after: int, until: int | None = None) -> Batch | None:
        """Return the next lines that are still kept."""
        lines = Console(self.server_id).read_after(after, settings.JOB_LOG_REPLAY_LIMIT, until)
        return to_batch(
            after, ((line.seq, format_event(line.line, seq=line.seq)) for line in lines)
        )


def read_servers(topics: Iterable[ConsoleTopic]) -> dict[int, Server]:
    """Return the servers that still exist, with the columns that `describe_console` needs."""
    columns = ("name", "commands_version")
    return Server.objects.only(*columns).in_bulk({topic.server_id for topic in topics})


def describe_console(
    server: Server | None, more: Callable[[Server], dict[str, str]] = lambda _: {}
) -> Snapshot:
    """Return the `commands` event of a console, with what `more` adds; None stands for a removed server."""
    if server is None:
        return Snapshot(is_final=True)
    if not server.commands_version:
        return Snapshot()  # Nothing was ever sent to it.
    data = {"version": server.commands_version, **more(server)}
    return Snapshot((format_event(json.dumps(data), event="commands").encode(),))


@dataclass(frozen=True)
class ChangesTopic:
    """Whether anything has changed that a person may see: a `change` event at once, and one at each change.

    It does not say what has changed: a page that receives it fetches itself again. `user_id` None means
    everybody's servers and jobs, as admins see them; otherwise those of one person, own or shared.
    """

    user_id: int | None

    @staticmethod
    def read_snapshots(topics: Sequence["ChangesTopic"]) -> list[Snapshot]:
        """Return for each person an event that changes whenever something changes for them."""
        versions = read_versions([topic.user_id for topic in topics])
        return [to_change_event(version) for version in versions]

    def read_head(self) -> int:
        """Changes are not numbered."""
        return 0

    def read_batch(self, after: int, until: int | None = None) -> Batch | None:  # noqa: ARG002
        """Changes are not kept: there is nothing to catch up with."""
        return None


def to_change_event(version: object) -> Snapshot:
    """Return the event with the version of what a person sees."""
    digest = hashlib.sha256(repr(version).encode()).hexdigest()[:16]
    return Snapshot((format_event(json.dumps({"version": digest}), event="change").encode(),))
