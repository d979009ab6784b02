"""Stores the lines, stages and ends of jobs, in order and without a gap. `log_writer` collects them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import Max
from django.utils import timezone

from jobs.claimed_jobs import ClaimedJob
from jobs.database import Channel, announce, execute, write_turn
from jobs.logs.finishing import Ending, store_endings, store_runs
from jobs.logs.safe_lines import (
    MAX_LINE_CHARS,
    make_line_safe,
    mask_known,
    secrets_of_server,
    secrets_of_settings,
)
from jobs.models import Job, JobLog, JobStage

LOCK_OWNED = (
    "SELECT stage FROM jobs_job"
    " WHERE id = %s AND state = 'running' AND COALESCE(worker_id, 0) = %s FOR NO KEY UPDATE"
)
"""Locks a job that still runs for its worker: until the transaction ends, nobody else can change that."""

COLUMNS = "jobs_joblog (job_id, seq, stream, line, created_at)"
INSERT_LINE = f"INSERT INTO {COLUMNS} VALUES (%s, %s, %s, %s, %s)"  # noqa: S608
COPY_LINES = f"COPY {COLUMNS} FROM STDIN"

LineRow = tuple[int, int, str, str, datetime]


def append_job_log_line(
    job_id: int, stream: str, line: str | bytes, max_chars: int = MAX_LINE_CHARS
) -> int:
    """Make one line safe and store it in a job's log, whatever the job's state; return its seq.

    The passwords of the settings and of the job's server are masked in it. Raises `Job.DoesNotExist`.
    """
    text = line.decode(errors="replace") if isinstance(line, bytes) else line
    with transaction.atomic():
        jobs = Job.objects.select_for_update(no_key=True, of=("self",))
        server = jobs.select_related("server__blueprint").get(pk=job_id).server
        known = secrets_of_settings() | (secrets_of_server(server) if server else frozenset())
        safe = make_line_safe(mask_known(text, known), max_chars)
        announce(Channel.PAGES)
        return insert_lines(job_id, [(stream, safe, timezone.now())])


def insert_lines(job_id: int, lines: Sequence[tuple[str, str, datetime]]) -> int:
    """Append safe lines, given as (stream, text, time); return the last seq.

    The caller's transaction has locked the job's row, so that seqs have no gaps and no duplicates.
    """
    last_seq = last_seq_of(job_id)
    rows = (
        (job_id, seq, stream, text, created_at)
        for seq, (stream, text, created_at) in enumerate(lines, start=last_seq + 1)
    )
    if connection.vendor == "postgresql":
        copy_rows(rows)
    else:
        insert_rows(rows)
    return last_seq + len(lines)


def last_seq_of(job_id: int) -> int:
    """Return the number of the last line of a job's log so far; 0 for none."""
    return JobLog.objects.filter(job_id=job_id).aggregate(last=Max("seq"))["last"] or 0


def insert_rows(rows: Iterable[LineRow]) -> None:
    """Insert lines with one prepared statement: several times as fast as bulk_create and its objects."""
    adapted: dict[datetime, Any] = {}  # Lines of a flood share their times: see `LineClock`.
    adapt = connection.ops.adapt_datetimefield_value
    values = []
    for *row, created_at in rows:
        if created_at not in adapted:
            adapted[created_at] = adapt(created_at)
        values.append((*row, adapted[created_at]))
    with connection.cursor() as cursor:
        cursor.executemany(INSERT_LINE, values)


def copy_rows(rows: Iterable[LineRow]) -> None:
    """Insert lines with PostgreSQL's COPY: nine times as fast as `executemany`, three times as `unnest`."""
    with (
        connection.cursor() as cursor,
        connection.wrap_database_errors,
        cursor.copy(COPY_LINES) as copy,
    ):
        for row in rows:
            copy.write_row(row)


class LeaseLostError(Exception):
    """A job no longer runs for this worker: another one has failed it, or an earlier try has stored its end.

    This try has stored nothing.
    """


@dataclass(frozen=True)
class StageReport:
    """A stage of a job: how many of the waiting lines come before it, and when it began."""

    name: str
    progress: int | None
    lines_before: int
    started_at: datetime


def reductions_of(ending: Ending) -> Iterator[tuple[Ending, str]]:
    """Yield endings with less than `ending`, each with what it lacks in words."""
    if ending.run:
        yield ending._replace(run=None), "its run"
    if ending.server_changes:
        yield ending._replace(server_changes={}), "its server's state"
    if ending.run and ending.server_changes:
        yield ending._replace(run=None, server_changes={}), "its run and its server's state"


@dataclass
class Entries:
    """What is to be stored for one job: lines in order, the stages among them, then its end."""

    job: ClaimedJob
    lines: list[tuple[str, str, datetime]]
    stages: list[StageReport] = field(default_factory=list)
    ending: Ending | None = None
    has_gap: bool = False
    stored_as: int | None = None
    """The seq that an earlier try gave to the last line. That try may have been committed unnoticed."""
    stage_stored_as: int | None = None
    """The id that it gave to the last stage."""
    left_out: str = ""
    """What `reduce` has taken out of the end, in words."""
    _reduced: list[tuple[Ending, str]] | None = None

    def add_stage(self, name: str, progress: int | None) -> None:
        """Add the job's stage. A new progress of the same stage replaces the last one."""
        if self.stages and self.stages[-1].name == name:
            self.stages[-1] = replace(self.stages[-1], progress=progress)
        else:
            self.stages.append(StageReport(name, progress, len(self.lines), timezone.now()))

    def reduce(self) -> bool:
        """Take out of the end what the database may refuse; return False if nothing is left to be tried.

        First the run, whose server may have been removed; then what was learned about the server; then both.
        """
        if self._reduced is None:
            self._reduced = list(reductions_of(self.ending)) if self.ending else []
        if not self._reduced:
            return False
        self.ending, self.left_out = self._reduced.pop(0)
        return True

    @property
    def can_be_split(self) -> bool:
        """Whether there is more than a single line, or more than an end."""
        return len(self.lines) > 1 or bool(self.ending and (self.lines or self.stages))

    def split(self) -> tuple["Entries", "Entries"]:
        """Return the same in two parts: the output and the end or, without an end, half of the lines each."""
        if self.ending:
            return Entries(self.job, self.lines, self.stages), Entries(
                self.job, [], [], self.ending
            )
        middle = len(self.lines) // 2
        early = [stage for stage in self.stages if stage.lines_before <= middle]
        late = [
            replace(stage, lines_before=stage.lines_before - middle)
            for stage in self.stages
            if stage.lines_before > middle
        ]
        return (
            Entries(self.job, self.lines[:middle], early),
            Entries(self.job, self.lines[middle:], late),
        )

    def mark_gap(self, marker: tuple[str, str, datetime]) -> None:
        """Replace the lines, which the database refuses, with `marker`."""
        self.lines, self.has_gap = [marker], True

    def store(self) -> None:
        """Store everything or nothing, in a separate transaction. Raises `LeaseLostError`."""
        with write_turn(), transaction.atomic():
            store_entries([self])

    def store_output(self) -> None:
        """Store the lines and stages in the open transaction. Raises `LeaseLostError`."""
        owned = execute(LOCK_OWNED, [self.job.id, self.job.worker_id or 0]).rows
        if not owned:
            raise LeaseLostError(f"job {self.job.id} no longer belongs to this worker")
        if not self._is_stored():
            self._insert(current_stage=owned[0][0])
        self._store_stage()

    def _is_stored(self) -> bool:
        """Return whether an earlier try was committed: its connection may have broken only after that."""
        if self.stored_as is not None:
            return self.stored_as == last_seq_of(self.job.id)
        if self.stage_stored_as is not None:
            # A try that was rolled back may have left the id to another job.
            return JobStage.objects.filter(pk=self.stage_stored_as, job_id=self.job.id).exists()
        return False

    def _insert(self, current_stage: str) -> None:
        if self.lines:
            self.stored_as = insert_lines(self.job.id, self.lines)
            self._insert_stages(self.stored_as - len(self.lines), current_stage)
        elif self.stages:
            self._insert_stages(last_seq_of(self.job.id), current_stage)

    def _store_stage(self) -> None:
        if self.stages:
            name, progress = self.stages[-1].name, self.stages[-1].progress
            this = Job.objects.filter(pk=self.job.id)
            this.update(stage=name, progress=progress, updated_at=timezone.now())

    def _insert_stages(self, last_seq: int, current: str) -> None:
        """Store where stages began; before these entries, the log ended at `last_seq`, in stage `current`."""
        for stage in self.stages:
            if stage.name != current:
                # Lines that could not be stored have been replaced by a single one that says so.
                first_seq = last_seq + min(stage.lines_before, len(self.lines)) + 1
                row = JobStage.objects.create(
                    job_id=self.job.id,
                    name=stage.name,
                    first_seq=first_seq,
                    started_at=stage.started_at,
                )
                self.stage_stored_as = row.pk
            current = stage.name


def store_entries(batch: Sequence[Entries]) -> None:
    """Store entries of one or more jobs, in order, in the open transaction, and announce them.

    Raises `LeaseLostError` if one of the jobs no longer runs for its worker: then the caller has to roll back.
    """
    for entries in batch:
        if entries.lines or entries.stages:
            entries.store_output()
    endings = [(entries.job, entries.ending) for entries in batch if entries.ending]
    store_runs(ending for _, ending in endings)
    if not endings:
        announce(Channel.PAGES)
    elif not store_endings(endings):
        raise LeaseLostError(f"one of {len(endings)} jobs no longer belongs to this worker")


def safe_stage(name: str, progress: int | None) -> tuple[str, int | None]:
    """Return a stage that fits the columns."""
    return make_line_safe(name, 120), None if progress is None else min(max(progress, 0), 100)
