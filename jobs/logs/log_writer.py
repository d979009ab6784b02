"""Collects the output of a process's running jobs, and stores it in batches, in order and without a gap."""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from math import inf
from time import monotonic, time

from django.db import transaction
from django.utils import timezone

from jobs.claimed_jobs import ClaimedJob
from jobs.database import is_away, write_turn
from jobs.logs.finishing import Ending
from jobs.logs.job_output import Entries, LeaseLostError, safe_stage, store_entries
from jobs.logs.log_cap import LogCaps, LogLine
from jobs.logs.safe_lines import make_line_safe
from jobs.models import LogStream

logger = logging.getLogger(__name__)

END_SECONDS = 0.01
"""How long the end of a job may wait for the ends of others, once the batch before is stored."""


class LineClock:
    """A clock with a resolution of a millisecond; all lines of one millisecond get the same object."""

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


def line_missing() -> tuple[str, str, datetime]:
    """Return the line that marks the gap of one that the database refused."""
    return (LogStream.STDERR, "[1 line could not be stored]", timezone.now())


class LogWriter:
    """Takes the output of running jobs from any thread; one thread stores it whenever something is due.

    A batch of lines is due `batch_seconds` after the last batch, or as soon as there are `batch_lines`; a stage
    or the end of a job is due at once. But while `has_jobs_ahead`, which says whether claimed jobs wait behind
    others for a thread, an end waits for theirs, up to `END_SECONDS`. `on_due` is called when `due_in_seconds`
    may have become shorter, except by an end that waits so: the storing thread has to look by itself then.

    At most `max_waiting` lines, and about `max_waiting_chars` characters, wait here. Beyond that `line` blocks,
    and with it the command that writes them. `on_settled` is called for each end, with whether it was stored.
    `on_given_up` is called once for a job of which nothing more is stored: it no longer belongs to this worker,
    or the database refuses even the line that marks a gap. If the job is not over, its thread still drives the
    host then: only rows are fenced.
    """

    def __init__(
        self,
        *,
        on_settled: Callable[[ClaimedJob, bool], None],
        on_given_up: Callable[[ClaimedJob], None],
        on_due: Callable[[], None] = lambda: None,
        has_jobs_ahead: Callable[[], bool] = lambda: False,
        batch_lines: int = 500,
        batch_seconds: float = 0.03,
        max_waiting: int = 20_000,
        max_waiting_chars: int = 8_000_000,
    ) -> None:
        self._on_settled = on_settled
        self._on_given_up = on_given_up
        self._on_due = on_due
        self._has_jobs_ahead = has_jobs_ahead
        self._batch_lines = batch_lines
        self._batch_seconds = batch_seconds
        self._max_waiting = max_waiting
        self._max_waiting_chars = max_waiting_chars
        self._changed = threading.Condition()
        self._entries: dict[int, Entries] = {}
        self._waiting = 0
        self._waiting_chars = 0
        self._is_urgent = False
        self._taken_at = 0.0
        self._ended_at = inf
        self._settled_at = 0.0
        self._batch: list[Entries] = []
        self._clock = LineClock()
        self._caps = LogCaps()
        self._given_up: set[int] = set()
        self.is_abandoned = False
        """Whether `abandon` was called, after which nothing is stored."""

    # --- What the jobs' threads call ----------------------------------------------------------

    def line(self, job: ClaimedJob, stream: str, text: str | bytes) -> None:
        """Have a line stored soon; blocks while too much waits."""
        safe = make_line_safe(text)
        with self._changed:
            while self._is_full() and not self._is_unwanted(job):
                self._changed.wait()
            if self._is_unwanted(job):
                return
            stored = self._caps.take(job, LogLine(stream, safe, self._clock.now()))
            self._add(job, stored)
            is_due = bool(stored) and self._waiting in (1, self._batch_lines)
        if is_due:
            self._on_due()

    def stage(self, job: ClaimedJob, name: str, progress: int | None) -> None:
        """Have the job's stage and progress stored soon."""
        with self._changed:
            if self._is_unwanted(job):
                return
            self._of(job).add_stage(*safe_stage(name, progress))
            self._is_urgent = True
        self._on_due()

    def finish(self, job: ClaimedJob, ending: Ending) -> None:
        """Have the job's end stored soon, after its last line; `on_settled` reports whether it was."""
        with self._changed:
            # Under the lock: the storing thread asks the same first, and then takes the lock to see this end.
            can_wait = self._has_jobs_ahead()
            is_unwanted = self._is_unwanted(job)
            last_lines = self._caps.finish(job)
            if not is_unwanted:
                self._add(job, last_lines)
                self._of(job).ending = ending
                self._ended_at = min(self._ended_at, monotonic())
            self._given_up.discard(job.id)
        if is_unwanted:
            self._on_settled(job, False)
        if is_unwanted or not can_wait:
            self._on_due()

    def _add(self, job: ClaimedJob, lines: list[LogLine]) -> None:
        for line in lines:
            self._of(job).lines.append(line)
            self._waiting += 1
            self._waiting_chars += len(line.text)

    def _is_full(self) -> bool:
        return self._waiting >= self._max_waiting or self._waiting_chars >= self._max_waiting_chars

    def _is_unwanted(self, job: ClaimedJob) -> bool:
        return job.id in self._given_up or self.is_abandoned

    def _of(self, job: ClaimedJob) -> Entries:
        entries = self._entries.get(job.id)
        if entries is None:
            entries = self._entries[job.id] = Entries(job, [])
        return entries

    # --- What the one storing thread calls ----------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be stored."""
        return not self._batch and not self._entries

    def due_in_seconds(self) -> float:
        """Return the time until something is due: 0 for now, infinity for not before `on_due` is called."""
        if self._batch:
            return 0.0
        with self._changed:
            if not self._entries:
                return inf
            if self._is_urgent or self._waiting >= self._batch_lines:
                return 0.0
            # An end can wait for those of jobs that were claimed since, with the batch before. Otherwise it
            # would be stored while they begin, and threads that compete for Python's lock are slow.
            ends_due_at = self._ended_at
            if self._has_jobs_ahead():
                ends_due_at = max(self._ended_at, self._settled_at) + END_SECONDS
            # Lines that come after a pause are stored at once; lines that follow closely are stored together.
            lines_due_at = self._taken_at + self._batch_seconds if self._waiting else inf
            return max(min(ends_due_at, lines_due_at) - monotonic(), 0.0)

    def take_due(self) -> int:
        """Make a batch of what is due, unless there still is one; return how many jobs end in it."""
        if not self._batch and self.due_in_seconds() == 0:
            self._batch = self._take()
        return sum(part.ending is not None for part in self._batch)

    @property
    def has_batch(self) -> bool:
        """Whether `take_due` has made a batch that is not settled yet."""
        return bool(self._batch)

    def store_batch(self) -> None:
        """Store the batch in the open transaction; after its commit, call `settle_batch`.

        If this or the commit fails, call `store_apart` after the rollback: some constraints are checked only at
        the commit. But if `is_away` is true of the error, the batch is kept for a later try.
        """
        store_entries(self._batch)

    def settle_batch(self) -> None:
        """Forget the batch, whose transaction is committed."""
        batch, self._batch = self._batch, []
        for part in batch:
            self._settle(part)
        self._settled_at = monotonic()

    def store(self) -> None:
        """Store what is due, in a separate transaction."""
        self.take_due()
        if not self._batch:
            return
        try:
            with write_turn(), transaction.atomic():
                self.store_batch()
        except Exception as error:
            if is_away(error):
                raise
            self.store_apart(error)
        else:
            self.settle_batch()

    def store_apart(self, refusal: Exception) -> None:
        """Store a batch that was refused, and rolled back, part by part.

        Each line that the database refuses becomes a marked gap. An end that it refuses is tried again with
        less of what the job learned (`Entries.reduce`).
        """
        logger.debug("a batch of %s parts was refused: %r", len(self._batch), refusal)
        while self._batch:
            part = self._batch[0]
            try:
                part.store()
            except LeaseLostError as error:
                # If it has ended, this may be the second try after an unconfirmed commit that stored it all.
                logger.warning("%s: this part of its output is dropped", error)
                self._give_up(part.job)
            except Exception as error:
                if is_away(error):
                    raise
                if part.can_be_split:
                    # One line, or the end, may be the cause: the rest is kept.
                    self._batch[:1] = part.split()
                    continue
                if part.reduce():
                    what = "job %s: its end is stored without %s if possible: %s"
                    logger.warning(what, part.job.id, part.left_out, error)
                    continue
                logger.exception("job %s: this cannot be stored: %r", part.job.id, part.lines)
                if part.lines and not part.has_gap:
                    part.mark_gap(line_missing())
                else:
                    self._give_up(part.job)
            else:
                self._settle(self._batch.pop(0))

    def abandon(self) -> int:
        """Drop what waits and what is still to come; return how many lines have been dropped so far."""
        with self._changed:
            self.is_abandoned = True
            dropped = self._waiting + sum(len(part.lines) for part in self._batch)
            self._entries, self._batch = {}, []
            self._changed.notify_all()
        return dropped

    def _take(self) -> list[Entries]:
        with self._changed:
            batch = list(self._entries.values())
            self._entries = {}
            self._waiting = self._waiting_chars = 0
            self._is_urgent = False
            self._ended_at = inf
            self._taken_at = monotonic()
            self._changed.notify_all()
        return batch

    def _settle(self, part: Entries) -> None:
        if part.ending:
            self._on_settled(part.job, True)

    def _give_up(self, job: ClaimedJob) -> None:
        """Drop everything of `job`, including what its thread is still going to write."""
        with self._changed:
            dropped = [part for part in self._batch if part.job.id == job.id]
            self._batch = [part for part in self._batch if part.job.id != job.id]
            if later := self._entries.pop(job.id, None):
                dropped.append(later)
                self._waiting -= len(later.lines)
                self._waiting_chars -= sum(len(text) for _, text, _ in later.lines)
            has_ended = any(part.ending for part in dropped)
            if not has_ended:
                self._given_up.add(job.id)
            self._changed.notify_all()
        self._on_given_up(job)
        if has_ended:
            self._on_settled(job, False)
