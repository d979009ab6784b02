"""What the page of a job or a server follows: its log and everything else on it, in one stream.

A browser opens six connections to a host, for all its windows together: if a page used two, three pages would
use up all of them.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db.models import QuerySet
from django.utils.timezone import localtime

from jobs.live.rendered_commands import rendered_commands
from jobs.live.topics import (
    Batch,
    ChangesTopic,
    ConsoleTopic,
    JobTopic,
    Snapshot,
    Topic,
    describe_console,
    format_event,
    read_servers,
    to_batch,
    up_to,
)
from jobs.models import JobLog, JobStage
from servers.console import Console
from servers.models import ConsoleRun

TimedLine = tuple[int, str, str, datetime]
BegunChapter = tuple[int, str, datetime]


@dataclass(frozen=True)
class PageTopic:
    """The events of `log` and of `changes`, and more events about the lines that follow them.

    `clock` gives the time of the lines that follow, whenever the second changes. `chapter` says that a stage,
    or a run of the server, begins with the next line, and `began` before it says when. The `commands` of a
    console come with the list that the page shows.
    """

    log: JobTopic | ConsoleTopic
    changes: ChangesTopic

    @staticmethod
    def read_snapshots(topics: Sequence["PageTopic"]) -> list[Snapshot]:
        """Return the states of the jobs and consoles, and whether anything else has changed."""
        jobs = [topic.log for topic in topics if isinstance(topic.log, JobTopic)]
        consoles = [topic.log for topic in topics if isinstance(topic.log, ConsoleTopic)]
        logs: dict[Topic, Snapshot] = dict(zip(jobs, JobTopic.read_snapshots(jobs), strict=True))
        logs |= zip(consoles, read_consoles(consoles), strict=True)
        changes = ChangesTopic.read_snapshots([topic.changes for topic in topics])
        return [
            Snapshot(change.events + logs[topic.log].events, logs[topic.log].is_final)
            for topic, change in zip(topics, changes, strict=True)
        ]

    def read_head(self) -> int:
        """Return the seq of the last line."""
        return self.log.read_head()

    def read_batch(self, after: int, until: int | None = None) -> Batch | None:
        """Return the next lines, with their times and the stages or runs that begin among them."""
        lines = self._read_lines(after, until)
        chapters = self._read_chapters(after, lines[-1][0]) if lines else []
        return to_batch(after, with_times(lines, chapters))

    def _read_chapters(self, after: int, last: int) -> list[BegunChapter]:
        """Return the chapters that begin after line `after`, up to line `last`."""
        begun: QuerySet[JobStage] | QuerySet[ConsoleRun]
        if isinstance(self.log, JobTopic):
            begun = JobStage.objects.filter(job_id=self.log.job_id)
        else:
            begun = ConsoleRun.objects.filter(server_id=self.log.server_id)
        begun = begun.filter(first_seq__gt=after, first_seq__lte=last).order_by("first_seq", "id")
        return [(chapter.first_seq, chapter.name, chapter.started_at) for chapter in begun]

    def _read_lines(self, after: int, until: int | None) -> list[TimedLine]:
        limit = settings.JOB_LOG_REPLAY_LIMIT
        if isinstance(self.log, JobTopic):
            job_lines = JobLog.objects.filter(job_id=self.log.job_id, seq__gt=after)
            rows = up_to(until, job_lines).order_by("seq")[:limit]
            return list(rows.values_list("seq", "stream", "line", "created_at"))
        lines = Console(self.log.server_id).read_after(after, limit, until)
        return [(line.seq, "", line.line, line.created_at) for line in lines]


def read_consoles(topics: Sequence[ConsoleTopic]) -> list[Snapshot]:
    """Do what `ConsoleTopic.read_snapshots` does, with the lists of commands as pages show them."""
    servers = read_servers(topics)
    return [
        describe_console(servers.get(topic.server_id), rendered_commands.of) for topic in topics
    ]


def with_times(
    lines: list[TimedLine], chapters: Iterable[BegunChapter]
) -> Iterable[tuple[int, str]]:
    """Yield each line as (seq, events): the line, and before it what a page has to know by then."""
    waiting = deque(chapters)
    second: datetime | None = None
    for seq, stream, line, created_at in lines:
        events = ""
        while waiting and waiting[0][0] <= seq:
            first_seq, name, started_at = waiting.popleft()
            events += format_event(started_at.isoformat(), event="began")
            # The same text as `data-chapter` in `_log.html`, by which a page identifies a chapter.
            events += format_event(f"{first_seq} {name}", event="chapter")
        if created_at.replace(microsecond=0) != second:
            second = created_at.replace(microsecond=0)
            events += format_event(f"{localtime(second):%H:%M:%S}", event="clock")
        yield seq, events + format_event(line, event=stream, seq=seq)
