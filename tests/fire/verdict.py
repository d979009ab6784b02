"""The verdict on a chaos run: the database's account compared with the hosts' journals."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from django.db.models import Count, Max

from jobs.models import Job, JobLog, JobState
from jobs.queue.transitions import WORKER_STOPPED
from tests.fire.journal import Entry, read_journal


@dataclass(frozen=True)
class Span:
    """A stretch of time in which a job was at work; `subject` is "" for the whole host."""

    job: int
    host: str
    subject: str
    began_at: float
    ended_at: float

    def excludes(self, other: "Span") -> bool:
        """Return whether the two must not be at work at the same time."""
        is_same = self.host == other.host and (
            self.subject == other.subject or "" in (self.subject, other.subject)
        )
        return is_same and self.job != other.job


def find_overlaps(spans: Iterable[Span]) -> list[tuple[Span, Span]]:
    """Return the pairs that were at work at the same time although they exclude each other."""
    overlaps = []
    at_work: list[Span] = []
    for span in sorted(spans, key=lambda span: span.began_at):
        at_work = [other for other in at_work if other.ended_at > span.began_at]
        overlaps += [(other, span) for other in at_work if span.excludes(other)]
        at_work.append(span)
    return overlaps


@dataclass
class Verdict:
    """Every count of `faults` has to be 0."""

    faults: dict[str, list[str]] = field(default_factory=dict)
    states: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def is_clean(self) -> bool:
        """Whether nothing went wrong."""
        return not any(self.faults.values())

    def rows(self) -> Iterator[tuple[str, str]]:
        """Return the lines to print: each count, with the first few cases."""
        for state, number in sorted(self.states.items()):
            yield f"jobs {state}", str(number)
        for reason, number in self.reasons.most_common(8):
            yield f"  failed: {reason[:70]}", str(number)
        for name, cases in self.faults.items():
            yield name, str(len(cases)) + (f"   e.g. {'; '.join(cases[:3])}" if cases else "")


def judge(
    enqueued: Iterable[int], journal: Path, deaths: dict[int, list[float]], unexpected: list[str]
) -> Verdict:
    """Compare. `deaths` has the times at which workers were killed: that ended what they were doing."""
    entries = list(read_journal(journal))
    begun: Counter[int] = Counter(entry.job for entry in entries if entry.event == "begin")
    ends = {entry.job: entry for entry in entries if entry.event == "end"}
    jobs = {job.pk: job for job in Job.objects.all()}
    verdict = Verdict(states=Counter(job.state for job in jobs.values()))
    verdict.reasons = Counter(job.error for job in jobs.values() if job.state == JobState.FAILED)
    succeeded = [job for job in jobs.values() if job.state == JobState.SUCCEEDED]
    verdict.faults = {
        "lost (enqueued, and no row)": [str(pk) for pk in enqueued if pk not in jobs],
        "stuck (not in a final state)": [
            f"{job} {job.state}" for job in jobs.values() if not job.is_final
        ],
        "run twice": [str(jobs.get(pk, pk)) for pk, times in begun.items() if times > 1],
        "succeeded without having run": [
            str(job) for job in succeeded if job.pk not in ends or not ends[job.pk].is_whole
        ],
        "failed for another reason than its worker": [
            f"{job} {job.error}"
            for job in jobs.values()
            if job.state == JobState.FAILED and job.error != WORKER_STOPPED
        ],
        "overlaps on a host": name_overlaps(host_spans(entries, deaths)),
        "overlaps in the database": name_overlaps(database_spans(jobs.values())),
        "a server's jobs out of order": out_of_order(jobs.values()),
        "started before it was enqueued": [
            str(job) for job in jobs.values() if job.started_at and job.started_at < job.created_at
        ],
        "logs with a gap": [
            str(row["job"])
            for row in JobLog.objects.values("job").annotate(count=Count("pk"), last=Max("seq"))
            if row["count"] != row["last"]
        ],
        "lines lost or doubled": wrong_logs(succeeded, ends),
        "workers that died by themselves": unexpected,
    }
    return verdict


def name_overlaps(spans: Iterable[Span]) -> list[str]:
    """Return the overlaps in words."""
    return [f"{a.job} and {b.job} ({b.subject or a.subject})" for a, b in find_overlaps(spans)]


def host_spans(entries: list[Entry], deaths: dict[int, list[float]]) -> Iterator[Span]:
    """Return when the verbs held their locks; an interrupted one ended with its worker."""
    open_since: dict[tuple[int, int, str], Entry] = {}
    for entry in entries:
        key = (entry.pid, entry.job, entry.subject)
        if entry.event == "enter":
            open_since[key] = entry
        elif entry.event == "leave":
            start = open_since.pop(key)
            yield Span(entry.job, entry.host, entry.subject, start.at, entry.at)
    for start in open_since.values():
        # In a long run a pid is reused: the death meant is the next one.
        died_at = min((at for at in deaths[start.pid] if at >= start.at), default=start.at)
        yield Span(start.job, start.host, start.subject, start.at, died_at)


def database_spans(jobs: Iterable[Job]) -> Iterator[Span]:
    """Return when the jobs ran, as their rows say."""
    for job in jobs:
        if job.started_at and job.finished_at:
            yield Span(
                job.pk,
                job.host_name,
                job.server_name,
                job.started_at.timestamp(),
                job.finished_at.timestamp(),
            )


def out_of_order(jobs: Iterable[Job]) -> list[str]:
    """Return the jobs that started before an older one of their server."""
    of_server: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        if job.started_at and job.server_name:
            of_server[job.server_name].append(job)
    wrong = []
    for started in of_server.values():
        started.sort(key=lambda job: (job.created_at, job.pk))
        wrong += [
            f"{later} before {earlier}"
            for earlier, later in pairwise(started)
            if earlier.started_at and later.started_at and later.started_at < earlier.started_at
        ]
    return wrong


def wrong_logs(succeeded: list[Job], ends: dict[int, Entry]) -> list[str]:
    """Return the jobs whose log does not have exactly the lines that the host layer printed."""
    counts = Counter(JobLog.objects.values_list("job_id", flat=True))
    return [
        f"{job}: {ends[job.pk].lines} lines given, {counts[job.pk]} stored"
        for job in succeeded
        if job.pk in ends and counts[job.pk] != ends[job.pk].lines
    ]
