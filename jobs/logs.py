"""Job logs: makes lines safe, stores them without a gap, and ends a job after its last line.

Two forms of one thing: `DirectLog` stores each line as it comes, in the thread it comes in; `LogWriter`
gathers the lines of all jobs of a worker process and stores them in batches from one thread, because
threads that fight for a database's write lock are slow.
"""

import logging
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from time import monotonic, time
from typing import Any, Protocol

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import Max
from django.utils import timezone

from jobs.models import Job, JobLog, LogStream
from jobs.wakeup import Channel, announce
from servers.models import Server

logger = logging.getLogger(__name__)

MAX_LINE_CHARS = 4096
CUT_MARK = " … [cut]"
MASK = "********"

# What follows one of these words is a password: as a cvar, as a launch argument, in a list of arguments
# that was printed, or in SteamCMD's login, where it comes after the account's name.
SECRETS = re.compile(
    r"""
    (?P<name>
      \b (?: rcon_password | sv_password | tv_password | netconpassword )
      (?= [\s"'=:,] ) ["']? \s* [=:,]? \s*
      | \+login \s+ (?! anonymous\b ) \S+ \s+ (?! \+ )
    )
    (?P<value> "[^"]*"? | '[^']*'? | [^\s;"']+ )
    """,
    re.IGNORECASE | re.VERBOSE,
)
MIN_SECRET_CHARS = 4


def find_secrets(*texts: str) -> frozenset[str]:
    """Return the passwords in launch arguments or config texts, to be masked wherever they appear.

    One that is very short is only masked behind its name: it would mask half of every line.
    """
    values = (match["value"] for text in texts for match in SECRETS.finditer(text))
    return frozenset(
        secret for value in values if len(secret := value.strip("\"'")) >= MIN_SECRET_CHARS
    )


def secrets_of(job: Job) -> frozenset[str]:
    """Return the passwords that a job's host is told, from the settings and its server's rows."""
    known = find_secrets(*server_texts(job.server)) if job.server else frozenset()
    return known | {settings.STEAM_PASSWORD} if settings.STEAM_PASSWORD else known


def server_texts(server: Server) -> tuple[str, ...]:
    """Return every text of people that an instance is made from."""
    blueprint = server.blueprint
    return (blueprint.arguments, blueprint.config, server.arguments, server.config)


def mask_known(text: str, secrets: Iterable[str]) -> str:
    """Return `text` with each of `secrets` masked, whatever stands around it."""
    # A longer one first: it may contain a shorter one.
    for secret in sorted(secrets, key=len, reverse=True):
        if secret in text:
            text = text.replace(secret, MASK)
    return text


def make_line_safe(line: str | bytes, max_chars: int = MAX_LINE_CHARS) -> str:
    """Return `line` as it may be stored and shown.

    No NUL, no line break, no lone surrogate, invalid UTF-8 replaced, passwords masked that show as such
    (for others there is `mask_known`), and at most `max_chars` characters, of which the last ones say so
    if it was longer.
    """
    if isinstance(line, bytes):
        line = line.decode(errors="replace")
    line = line.rstrip("\r\n")
    if not line.isprintable():
        line = line.replace("\0", "").replace("\r", " ").replace("\n", " ")
        line = line.encode("utf-8", "replace").decode()
    lowered = line.lower()
    if "password" in lowered or "+login" in lowered:
        line = SECRETS.sub(rf"\g<name>{MASK}", line)
    if len(line) > max_chars:
        line = line[: max(max_chars - len(CUT_MARK), 0)] + CUT_MARK[:max_chars]
    return line


def append_job_log_line(
    job_id: int, stream: str, line: str | bytes, max_chars: int = MAX_LINE_CHARS
) -> int:
    """Store one line of a job's log, made safe, whatever the job's state; return its seq.

    Raises `Job.DoesNotExist`.
    """
    with transaction.atomic():
        Job.objects.select_for_update(no_key=True).only("pk").get(pk=job_id)
        announce(Channel.PAGES)
        return insert_lines(job_id, [(stream, make_line_safe(line, max_chars), timezone.now())])


def insert_lines(job_id: int, lines: Sequence[tuple[str, str, datetime]]) -> int:
    """Insert safe lines as (stream, text, time) behind the last one; return the last seq.

    The caller's transaction holds the job's row, so that seqs have no gap and no double.
    """
    last_seq = JobLog.objects.filter(job_id=job_id).aggregate(last=Max("seq"))["last"] or 0
    rows = (
        (job_id, seq, stream, text, created_at)
        for seq, (stream, text, created_at) in enumerate(lines, start=last_seq + 1)
    )
    if connection.vendor == "postgresql":
        copy_rows(rows)
    else:
        insert_rows(rows)
    return last_seq + len(lines)


LineRow = tuple[int, int, str, str, datetime]
COLUMNS = "jobs_joblog (job_id, seq, stream, line, created_at)"


def insert_rows(rows: Iterable[LineRow]) -> None:
    """Insert lines by one prepared statement: several times as fast as bulk_create and its objects."""
    adapted: dict[datetime, Any] = {}  # Lines of a flood share their times: see `LineClock`.
    adapt = connection.ops.adapt_datetimefield_value
    values = []
    for *row, created_at in rows:
        if created_at not in adapted:
            adapted[created_at] = adapt(created_at)
        values.append((*row, adapted[created_at]))
    with connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {COLUMNS} VALUES (%s, %s, %s, %s, %s)", values)  # noqa: S608


def copy_rows(rows: Iterable[LineRow]) -> None:
    """Insert lines by PostgreSQL's COPY: nine times as fast as `executemany`, three times as `unnest`."""
    with (
        connection.cursor() as cursor,
        connection.wrap_database_errors,
        cursor.copy(f"COPY {COLUMNS} FROM STDIN") as copy,
    ):
        for row in rows:
            copy.write_row(row)


class LineClock:
    """Tells the time to the millisecond; the lines of one millisecond get the same object."""

    def __init__(self) -> None:
        self._current = (0, datetime.fromtimestamp(0, UTC))

    def now(self) -> datetime:
        """Return the time."""
        milliseconds, moment = self._current
        now = int(time() * 1000)
        if now != milliseconds:
            moment = datetime.fromtimestamp(now / 1000, UTC)
            self._current = (now, moment)
        return moment


def lines_missing(count: int) -> tuple[str, str, datetime]:
    """Return the line that marks a gap, where the database refused `count` lines."""
    noun = "line" if count == 1 else "lines"
    return (LogStream.STDERR, f"[{count} {noun} could not be stored]", timezone.now())


class LeaseLostError(Exception):
    """The job is not this worker's any more: nothing was stored."""


@dataclass(frozen=True)
class StageReport:
    """Where a job said it was, behind how many of the lines that wait with it, and since when."""

    name: str
    progress: int | None
    behind: int
    started_at: datetime


@dataclass
class Entries:
    """What is to be stored of one job: lines in order, the stages among them, then its end."""

    job: Job
    lines: list[tuple[str, str, datetime]]
    stages: list[StageReport] = field(default_factory=list)
    finish: Callable[[], bool] | None = None
    stored_as: int | None = None
    """The seq that a try gave to the last line; that it was committed, nobody may have heard."""

    def add_stage(self, name: str, progress: int | None) -> None:
        """Add where the job is now. Another progress of the same stage takes the place of the last."""
        if self.stages and self.stages[-1].name == name:
            self.stages[-1] = replace(self.stages[-1], progress=progress)
        else:
            self.stages.append(StageReport(name, progress, len(self.lines), timezone.now()))

    def halves(self) -> tuple["Entries", "Entries"]:
        """Return the same as two, the second of which has the end."""
        middle = len(self.lines) // 2
        early = [stage for stage in self.stages if stage.behind <= middle]
        late = [
            replace(stage, behind=stage.behind - middle)
            for stage in self.stages
            if stage.behind > middle
        ]
        return (
            Entries(self.job, self.lines[:middle], early),
            Entries(self.job, self.lines[middle:], late, self.finish),
        )

    def store(self) -> Job:
        """Store everything in one transaction, or nothing; return the job's row as it was.

        Raises `LeaseLostError` if the job is not running for its worker any more.
        """
        with transaction.atomic():
            owned = Job.objects.running().filter(pk=self.job.pk, worker=self.job.worker_id)
            row = owned.select_for_update(no_key=True).only("cancel_requested_at", "stage").first()
            if row is None:
                raise LeaseLostError(f"job {self.job.pk} is not this worker's any more")
            # A connection can break between a commit and its confirmation: then all is there already.
            if self.stored_as is None or self.stored_as != self.job.last_seq():
                self._insert(row.stage)
            if self.stages:
                name, progress = self.stages[-1].name, self.stages[-1].progress
                owned.update(stage=name, progress=progress, updated_at=timezone.now())
                self.job.stage, self.job.progress = name, progress
            if self.finish and not self.finish():
                raise LeaseLostError(f"job {self.job.pk} is not this worker's any more")
            announce(Channel.PAGES)
        return row

    def _insert(self, current_stage: str) -> None:
        if self.lines:
            self.stored_as = insert_lines(self.job.pk, self.lines)
            self._insert_stages(self.stored_as - len(self.lines), current_stage)
        elif self.stages:
            self._insert_stages(self.job.last_seq(), current_stage)

    def _insert_stages(self, last_seq: int, current: str) -> None:
        """Note where stages began; before these entries, the log ended with `last_seq`, in stage `current`."""
        for stage in self.stages:
            if stage.name != current:
                # Lines that could not be stored have become a single one, which says so.
                first_seq = last_seq + min(stage.behind, len(self.lines)) + 1
                self.job.stages.create(
                    name=stage.name, first_seq=first_seq, started_at=stage.started_at
                )
            current = stage.name


class JobSink(Protocol):
    """Where a running job's output goes. Every method may be called from any thread."""

    def line(self, job: Job, stream: str, text: str | bytes) -> None:
        """Store a line. May wait while too many lines wait already."""

    def stage(self, job: Job, name: str, progress: int | None) -> None:
        """Store where the job is, and its progress in percent."""

    def finish(self, job: Job, finish: Callable[[], bool]) -> bool:
        """Call `finish` in the transaction that stores the last lines; False: the lease was lost."""


def safe_stage(name: str, progress: int | None) -> tuple[str, int | None]:
    """Return a stage as the columns take it."""
    return make_line_safe(name, 120), None if progress is None else min(max(progress, 0), 100)


class DirectLog:
    """Stores each line at once. `on_cancel_request` is called when a person asks for the end."""

    def __init__(self, on_cancel_request: Callable[[], None]) -> None:
        self._on_cancel_request = on_cancel_request
        self._lock = threading.Lock()

    def line(self, job: Job, stream: str, text: str | bytes) -> None:
        """Store a line."""
        self._store(Entries(job, [(stream, make_line_safe(text), timezone.now())]))

    def stage(self, job: Job, name: str, progress: int | None) -> None:
        """Store where the job is."""
        entries = Entries(job, [])
        entries.add_stage(*safe_stage(name, progress))
        self._store(entries)

    def finish(self, job: Job, finish: Callable[[], bool]) -> bool:
        """End the job."""
        try:
            self._store(Entries(job, [], finish=finish))
        except LeaseLostError:
            return False
        return True

    def _store(self, entries: Entries) -> None:
        with self._lock:
            row = entries.store()
        if row.cancel_requested_at:
            self._on_cancel_request()


class LogWriter:
    """Stores the output of all jobs of a process from one thread, in batches.

    A batch is what came within `batch_seconds` of the last one, or `batch_lines` lines before that, and
    whatever has come while that was stored. At most `max_waiting` lines, and about `max_waiting_chars`
    characters, wait: then `line` waits too, and with it the command that writes them. While the database is
    away they wait until it is back. `on_lease_lost` is told, once, of a job that is another's.
    """

    def __init__(
        self,
        *,
        on_lease_lost: Callable[[Job], None],
        batch_lines: int = 500,
        batch_seconds: float = 0.03,
        max_waiting: int = 20_000,
        max_waiting_chars: int = 8_000_000,
    ) -> None:
        self._on_lease_lost = on_lease_lost
        self._batch_lines = batch_lines
        self._batch_seconds = batch_seconds
        self._max_waiting = max_waiting
        self._max_waiting_chars = max_waiting_chars
        self._changed = threading.Condition()
        self._entries: dict[int, Entries] = {}
        self._waiting = 0
        self._waiting_chars = 0
        self._taken_at = 0.0
        self._clock = LineClock()
        self._lost: set[int] = set()
        self._results: dict[int, bool] = {}
        self._is_closing = False
        self._pause = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)

    @property
    def waiting_lines(self) -> int:
        """How many lines wait to be stored."""
        return self._waiting

    def start(self) -> None:
        """Start the writing thread."""
        self._thread.start()

    def close(self) -> None:
        """Store what waits, and end the thread."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join()

    def line(self, job: Job, stream: str, text: str | bytes) -> None:
        """Store a line soon; waits while `max_waiting` lines wait."""
        safe = make_line_safe(text)
        with self._changed:
            while self._is_full() and job.pk not in self._lost:
                self._changed.wait()
            if job.pk in self._lost:
                return
            self._of(job).lines.append((stream, safe, self._clock.now()))
            self._waiting += 1
            self._waiting_chars += len(safe)
            if self._waiting == 1 or self._waiting == self._batch_lines:
                self._changed.notify_all()

    def stage(self, job: Job, name: str, progress: int | None) -> None:
        """Store where the job is, soon."""
        with self._changed:
            if job.pk not in self._lost:
                self._of(job).add_stage(*safe_stage(name, progress))
                self._changed.notify_all()

    def finish(self, job: Job, finish: Callable[[], bool]) -> bool:
        """End the job after its last line; returns when that is stored, however long it takes."""
        with self._changed:
            if job.pk not in self._lost:
                self._of(job).finish = finish
                self._changed.notify_all()
                while job.pk not in self._results and job.pk not in self._lost:
                    self._changed.wait()
            self._lost.discard(job.pk)
            return self._results.pop(job.pk, False)

    def _is_full(self) -> bool:
        return self._waiting >= self._max_waiting or self._waiting_chars >= self._max_waiting_chars

    def _of(self, job: Job) -> Entries:
        return self._entries.setdefault(job.pk, Entries(job, []))

    def _run(self) -> None:
        while self._collect():
            batch = self._take()
            for entries in batch:
                self._store(entries)
        connection.close()

    def _collect(self) -> bool:
        """Wait until there is a batch; False when closing and nothing is left."""
        with self._changed:
            while not self._entries and not self._is_closing:
                self._changed.wait()
            # What comes after a silence is stored at once; what follows it closely waits for company.
            until = self._taken_at + self._batch_seconds
            while self._entries and not self._is_urgent() and (left := until - monotonic()) > 0:
                self._changed.wait(left)
            self._taken_at = monotonic()
            return bool(self._entries)

    def _is_urgent(self) -> bool:
        is_full = self._waiting >= self._batch_lines
        return is_full or any(
            entries.finish or entries.stages for entries in self._entries.values()
        )

    def _take(self) -> Iterable[Entries]:
        with self._changed:
            batch = list(self._entries.values())
            self._entries = {}
            self._waiting = self._waiting_chars = 0
            self._changed.notify_all()
        return batch

    def _store(self, entries: Entries) -> None:
        """Store `entries`, however long it takes; lines that the database refuses leave a marked gap."""
        pause_seconds = 0.1
        has_gap = False
        while True:
            try:
                entries.store()
            except LeaseLostError as error:
                logger.warning("%s: its output is dropped", error)
                self._give_up(entries.job)
                return
            except (OperationalError, InterfaceError) as error:
                logger.warning("job %s: cannot store its log yet: %s", entries.job.pk, error)
                connection.close()
                self._pause.wait(pause_seconds)
                pause_seconds = min(pause_seconds * 2, 5.0)
            except Exception:
                if len(entries.lines) > 1:
                    # One of them may be the reason: the others are kept.
                    for half in entries.halves():
                        if entries.job.pk not in self._lost:
                            self._store(half)
                    return
                logger.exception("job %s: this cannot be stored: %r", entries.job.pk, entries.lines)
                if has_gap or not entries.lines:
                    self._give_up(entries.job)
                    return
                has_gap = True
                entries.lines = [lines_missing(1)]
            else:
                if entries.finish:
                    self._settle(entries.job, is_lost=False)
                return

    def _give_up(self, job: Job) -> None:
        self._settle(job, is_lost=True)
        self._on_lease_lost(job)

    def _settle(self, job: Job, *, is_lost: bool) -> None:
        with self._changed:
            if is_lost:
                self._lost.add(job.pk)
            else:
                self._results[job.pk] = True
            self._changed.notify_all()
