"""Copies what the servers of a host print into the database: the consoles that the panel shows.

The newest lines of a server are rows. Once they reach `SEGMENT_BYTES` they become a segment (see
`servers.models`); a flood of lines becomes one at once. The oldest segments are deleted when there is more than
`CONSOLE_KEEP_BYTES` of text. What is stored is removed from the files on the host, so that they do not grow.
"""

import logging
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from time import monotonic
from typing import Any, NamedTuple, Protocol

from django.conf import settings
from django.db import Error as AnyDatabaseError
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from hostops.errors import HostError, OperationCancelled
from hostops.specs import CancelToken, ConsoleChunk, ConsolePosition, RunEnding, RunFacts
from jobs.database import Channel, Rest, announce, is_away, outage_log, write_turn
from jobs.logs import faults, find_secrets, make_line_safe, mask_known, secrets_of_server
from jobs.models import Job
from servers.console import Console, to_lines
from servers.models import (
    ActualState,
    ConsoleLine,
    ConsoleRun,
    ConsoleSegment,
    Host,
    Server,
    StoredLine,
)

logger = logging.getLogger(__name__)

SEGMENT_BYTES = 128 * 1024

SEGMENT_LINES = 4096
"""This many new lines at once also become a segment: a row costs more than a short line."""

TURN_SECONDS = 0.1
"""How long one turn spends on consoles that are behind. Quiet ones are checked in each turn."""

LOOK_AT_ALL_SECONDS = 2.0
"""How often every console is checked. The kernel does not report all writes to network file systems."""

RUNS_EVERY_SECONDS = 2.0
"""How often to check whether runs have ended."""

LAUNCH_TIME = timedelta(seconds=10)
"""How long after opening its console a launcher may take to record the run."""

CATCH_UP_SECONDS = 2.0
"""How long a whole console is copied before a crash is recorded. Other servers wait during that time."""

FINISH_SECONDS = 60.0
"""The same before a deletion removes the console."""

RETRY_SECONDS = 0.5

LAST_WORDS = 50
"""How many lines of the console are kept with a crash."""


class ConsoleWatch(Protocol):
    """Reports which consoles have been written."""

    def find_written(self, names: Collection[str]) -> set[str]:
        """Return those of `names` that may have been written since the last call with them."""


class ConsoleSource(Protocol):
    """What the copier needs from a host layer."""

    def watch_consoles(self) -> ConsoleWatch:
        """Return a new watch over the consoles."""

    def read_console(
        self, name: str, position: ConsolePosition, *, max_bytes: int = 262_144
    ) -> ConsoleChunk:
        """Return whole lines of a server's console after `position`, and the position after them."""

    def release_console(self, name: str, position: ConsolePosition) -> None:
        """Free the disk space of what has been stored."""

    def trim_console(self, name: str, most_bytes: int) -> int:
        """Free the space of all but the end of a run's output, stored or not."""

    def instance_settings(self, name: str) -> tuple[str, ...]:
        """Return the arguments and configs that a server has, and those that it runs with."""

    def run_facts(self, name: str, run: int) -> RunFacts | None:
        """Return what is known about one run of a server."""


class Bookmark(NamedTuple):
    """How far the console of a server has been copied, as its row says."""

    pk: int
    name: str
    console_run: int
    console_offset: int
    console_run_started_at: float
    console_seq: int
    console_tail_bytes: int

    @property
    def position(self) -> ConsolePosition:
        """The position on the host up to which it has been copied."""
        return ConsolePosition(self.console_run, self.console_offset, self.console_run_started_at)


class ConsoleCopier:
    """Copies the consoles of one host. For use by one thread.

    Any number of copiers may copy the same consoles, and each may be killed at any point: lines are stored in
    the transaction that moves the position, and only by the copier that read from the stored position.
    """

    def __init__(self, host: Host, source: ConsoleSource) -> None:
        self._host = host
        self._source = source
        # While a job of a server without an instance runs, the server is about to get one.
        has_job = Exists(Job.objects.running().filter(server=OuterRef("pk")))
        self._bookmarks = (
            host.servers.filter(~Q(actual_state=ActualState.ABSENT) | has_job)
            .order_by()
            .values_list(*Bookmark._fields)
        )
        self._servers: dict[str, Bookmark] = {}
        self._servers_rest = Rest(LOOK_AT_ALL_SECONDS)
        self._watch: ConsoleWatch | None = None
        self._behind: dict[str, None] = {}
        """The names of servers that may have printed something new. The first one's turn is next."""
        self._all_due_at = 0.0
        self._secrets: dict[int, tuple[int | None, frozenset[str]]] = {}
        self._going_on: set[int] = set()
        self._runs_due_at = 0.0

    def copy(self) -> None:
        """Copy what the host's servers have written since the last call, or the next part of it."""
        until = monotonic() + TURN_SECONDS
        self._find_behind()
        while self._behind and monotonic() < until:
            # One that has more to copy goes to the end, so no flood starves the others.
            name = next(iter(self._behind))
            del self._behind[name]
            if copied := self._try_copy_next(self._servers[name]):
                self._servers[name] = copied
                self._behind[name] = None
        if monotonic() >= self._runs_due_at:
            self._runs_due_at = monotonic() + RUNS_EVERY_SECONDS
            self._close_runs(ConsoleRun.objects.filter(server__host=self._host))

    def _find_behind(self) -> None:
        """Read which servers there are, and note which of them have printed something.

        Several times a second, and mostly nothing is new: so no model objects are made, no row is read again
        unless something was committed, and no console is opened unless it was written.
        """
        if self._servers_rest.begin_round():
            self._servers = {
                one.name: one for one in (Bookmark(*values) for values in self._bookmarks.all())
            }
            self._behind = {name: None for name in self._behind if name in self._servers}
        if self._watch is None:
            self._watch = self._source.watch_consoles()
        written = self._watch.find_written(self._servers)
        if monotonic() >= self._all_due_at:
            self._all_due_at = monotonic() + LOOK_AT_ALL_SECONDS
            written = set(self._servers)
        self._behind |= dict.fromkeys(name for name in self._servers if name in written)

    def catch_up(self, server: Server) -> None:
        """Copy all that the server has written; after `CATCH_UP_SECONDS`, skip to its end.

        A console that cannot be read is logged, and counts as copied.
        """
        try:
            self._copy_rest(server, CATCH_UP_SECONDS, CancelToken())
        except (OSError, HostError) as error:
            tell_unreadable(server.name, error)

    def finish(self, server: Server, cancel: CancelToken) -> None:
        """Copy all remaining output of a server that no longer runs, and close its run.

        A console that its game has made unreadable is logged: its files can still be removed. What may pass,
        such as an OSError, is raised, and so is OperationCancelled.
        """
        try:
            self._copy_rest(server, FINISH_SECONDS, cancel)
        except OperationCancelled:
            raise
        except HostError as error:
            tell_unreadable(server.name, error)
        self._close_runs(ConsoleRun.objects.filter(server=server))

    def _copy_rest(self, server: Server, seconds: float, cancel: CancelToken) -> None:
        """Copy a console to its end; after `seconds`, skip all but the last part.

        If the server still prints as fast as it can, give up after twice that time.
        """
        began_at = monotonic()
        is_trimmed = False
        bookmark = read_bookmark(server.pk)
        while bookmark and monotonic() - began_at < 2 * seconds:
            cancel.raise_if_cancelled()
            if not is_trimmed and monotonic() - began_at > seconds:
                self._source.trim_console(server.name, 0)
                is_trimmed = True
            bookmark = self._copy_next(bookmark)

    def _try_copy_next(self, bookmark: Bookmark) -> Bookmark | None:
        """Call `_copy_next`; a console that cannot be read is logged, and does not hold up the others."""
        try:
            copied = self._copy_next(bookmark)
        except (OSError, HostError) as error:
            tell_unreadable(bookmark.name, error)
            return None
        return copied

    def _copy_next(self, bookmark: Bookmark) -> Bookmark | None:
        """Copy the next part of a console; return how far it has been copied, or None if nothing is new."""
        position = bookmark.position
        chunk = self._source.read_console(bookmark.name, position)
        if chunk.position == position:
            return None
        lines = self._make_safe(bookmark, chunk)
        runs = self._find_new_runs(bookmark, chunk)
        copied = store(bookmark, chunk.position, lines, runs)
        if copied is None:  # Another worker was faster, and may have read less.
            return read_bookmark(bookmark.pk)
        self._source.release_console(bookmark.name, chunk.position)
        return copied

    def _make_safe(self, bookmark: Bookmark, chunk: ConsoleChunk) -> list[StoredLine]:
        """Return the lines numbered and made safe to store."""
        if not chunk.lines:
            return []
        secrets = self._known_secrets(bookmark, chunk.position)
        now = timezone.now()
        return [
            StoredLine(seq, make_line_safe(mask_known(line, secrets)), now)
            for seq, (_, line) in enumerate(chunk.lines, start=bookmark.console_seq + 1)
        ]

    def _known_secrets(self, bookmark: Bookmark, position: ConsolePosition) -> frozenset[str]:
        """Return the passwords that a server has now, and all that it has had since this worker watches it.

        It may run with the passwords of its last start, which only the host knows if the worker is new.
        """
        server = Server.objects.select_related("blueprint").filter(pk=bookmark.pk).first()
        run, secrets = self._secrets.get(bookmark.pk, (None, frozenset()))
        if server:  # It may just have been removed.
            secrets |= secrets_of_server(server)
        if run != position.run:
            secrets |= find_secrets(*self._source.instance_settings(bookmark.name))
        if settings.STEAM_PASSWORD:
            secrets |= {settings.STEAM_PASSWORD}
        self._secrets[bookmark.pk] = (position.run, secrets)
        return secrets

    def _find_new_runs(self, bookmark: Bookmark, chunk: ConsoleChunk) -> list[ConsoleRun]:
        """Return the runs, not saved, that begin in `chunk`."""
        position, known = chunk.position, bookmark.position
        if (position.run, position.run_started_at) == (known.run, known.run_started_at):
            return []
        runs = []
        first_seqs = {position.run: bookmark.console_seq + len(chunk.lines) + 1}
        for index in range(len(chunk.lines) - 1, -1, -1):
            first_seqs[chunk.lines[index][0]] = bookmark.console_seq + index + 1
        for number in sorted(first_seqs):
            facts = self._source.run_facts(bookmark.name, number)
            started_at = facts.started_at if facts else 0.0
            # If the instance was deleted and made again, another run has the same number.
            is_another = 0.0 not in (started_at, known.run_started_at) and (
                started_at != known.run_started_at
            )
            if number != known.run or is_another:
                runs.append(
                    ConsoleRun(
                        server_id=bookmark.pk,
                        number=number,
                        first_seq=first_seqs[number],
                        started_at=to_datetime(started_at) if facts else timezone.now(),
                        build_id=facts.release if facts else "",
                    )
                )
        return runs

    def _close_runs(self, runs: QuerySet[ConsoleRun]) -> None:
        """Record how those of `runs` ended that are over since the last check."""
        going_on = set()
        for run in runs.filter(ended_at=None).select_related("server"):
            try:
                facts = self._source.run_facts(run.server.name, run.number)
            except (OSError, HostError) as error:
                tell_unreadable(run.server.name, error)
                going_on.add(run.pk)
                continue
            if facts and to_datetime(facts.started_at) != run.started_at:
                if run.build_id:
                    facts = None  # Of another instance, which was made after this one was deleted.
                else:
                    adopt(run, facts)
            is_just_seen = not run.build_id and timezone.now() - run.started_at < LAUNCH_TIME
            if facts.ending is None if facts else is_just_seen:
                going_on.add(run.pk)
                continue
            self.catch_up(run.server)
            close_run(run, facts, was_going_on=run.pk in self._going_on)
        self._going_on = going_on


def tell_unreadable(name: str, error: Exception) -> None:
    """Log that what a server has printed cannot be read."""
    what = f"server {name}: its console cannot be read"
    faults.tell(logger, what, error, is_explained=True)


def read_bookmark(server_id: int) -> Bookmark | None:
    """Return how far a console has been copied; None if the server has been removed."""
    values = Server.objects.filter(pk=server_id).values_list(*Bookmark._fields).first()
    return Bookmark(*values) if values else None


def store(
    bookmark: Bookmark, position: ConsolePosition, lines: list[StoredLine], runs: list[ConsoleRun]
) -> Bookmark | None:
    """Store lines, the runs that begin among them and the position after them, or nothing.

    Returns the new bookmark, or None if another worker of the host was faster.
    """
    segments: list[ConsoleSegment] = []
    rows, tail_bytes = lines, bookmark.console_tail_bytes + text_bytes(lines)
    if tail_bytes >= SEGMENT_BYTES or len(lines) >= SEGMENT_LINES:
        # Read and compressed before the transaction: if they change in between, it stores nothing.
        tail = to_lines(ConsoleLine.objects.filter(server_id=bookmark.pk).order_by("seq"))
        segments = cut_segments(bookmark.pk, [*tail, *lines], tail_bytes)
        rows, tail_bytes = [], 0
    copied = bookmark._replace(
        console_run=position.run,
        console_offset=position.offset,
        console_run_started_at=position.run_started_at,
        console_seq=bookmark.console_seq + len(lines),
        console_tail_bytes=tail_bytes,
    )
    changes: dict[str, Any] = copied._asdict()
    del changes["pk"], changes["name"]
    if runs:
        changes["updated_at"] = timezone.now()  # for pages that list the runs
    with write_turn(), transaction.atomic():
        # Lines and position are stored together, and only by the copier that read from the stored position.
        is_ours = Server.objects.filter(
            pk=bookmark.pk,
            console_run=bookmark.console_run,
            console_offset=bookmark.console_offset,
            console_seq=bookmark.console_seq,
        ).update(**changes)
        if not is_ours:
            return None
        ConsoleRun.objects.bulk_create(runs)
        if segments:
            ConsoleLine.objects.filter(server_id=bookmark.pk).delete()
            ConsoleSegment.objects.bulk_create(segments)
            prune(bookmark.pk)
        ConsoleLine.objects.bulk_create(
            ConsoleLine(
                server_id=bookmark.pk, seq=line.seq, line=line.line, created_at=line.created_at
            )
            for line in rows
        )
        announce(Channel.PAGES)
    return copied


def cut_segments(server_id: int, lines: Sequence[StoredLine], size: int) -> list[ConsoleSegment]:
    """Return lines of `size` bytes as segments of one to two times `SEGMENT_BYTES`."""
    pieces = max(1, size // SEGMENT_BYTES)
    edges = [len(lines) * number // pieces for number in range(pieces + 1)]
    return [
        ConsoleSegment.of(server_id, lines[first:end])
        for first, end in pairwise(edges)
        if first < end
    ]


def text_bytes(lines: Sequence[StoredLine]) -> int:
    """Return the size of lines as text, including a byte for each line end."""
    return len("\n".join([line.line for line in lines]).encode()) + 1 if lines else 0


def prune(server_id: int) -> None:
    """Delete the oldest segments beyond the limit, and the runs of which no lines are left."""
    segments = ConsoleSegment.objects.filter(server_id=server_id)
    sizes = list(segments.order_by("first_seq").values_list("pk", "text_bytes"))
    total = sum(size for _, size in sizes)
    doomed = []
    for pk, size in sizes:
        if total <= settings.CONSOLE_KEEP_BYTES - SEGMENT_BYTES:  # The rest is for the rows.
            break
        doomed.append(pk)
        total -= size
    if doomed:
        segments.filter(pk__in=doomed).delete()
        console = Console(server_id)
        # The first remaining line belongs to the last run that began before it.
        begun = console.runs().filter(first_seq__lte=console.first_seq())
        has_lines = begun.order_by("-first_seq", "-id").values_list("pk", flat=True)[:1]
        begun.exclude(pk__in=list(has_lines)).delete()


def adopt(run: ConsoleRun, facts: RunFacts) -> None:
    """Record the start of a run that was first seen just before its launcher recorded it."""
    run.started_at, run.build_id = to_datetime(facts.started_at), facts.release
    run.save(update_fields=["started_at", "build_id"])


def close_run(run: ConsoleRun, facts: RunFacts | None, *, was_going_on: bool) -> None:
    """Record how a run ended: now, if it was seen running a moment ago, or else after its last output."""
    now = timezone.now()
    ended_at = now
    if facts and facts.last_output_at and not was_going_on:
        ended_at = to_datetime(facts.last_output_at)
    later = ConsoleRun.objects.filter(server=run.server, pk__gt=run.pk).order_by("pk").first()
    if later:
        ended_at = min(ended_at, later.started_at)
    ending = facts.ending if facts and facts.ending else RunEnding.UNKNOWN
    with transaction.atomic():
        is_closed = ConsoleRun.objects.filter(pk=run.pk, ended_at=None).update(
            ended_at=max(ended_at, run.started_at),
            ending=ending.value,
            exit_signal=facts.exit_signal if facts else "",
        )
        if is_closed:
            Server.objects.filter(pk=run.server_id).update(updated_at=now)
            announce(Channel.PAGES)


def to_datetime(seconds: float) -> datetime:
    """Return seconds since the epoch as a time."""
    return datetime.fromtimestamp(seconds, UTC)


def last_words(server: Server, run_number: int | None = None) -> list[str]:
    """Return the last lines of a server's run: of the latest one with that number, or of the last one."""
    console = Console(server.pk)
    runs = console.runs()
    run = (runs if run_number is None else runs.filter(number=run_number)).last()
    if run is None:
        return []
    later = runs.filter(pk__gt=run.pk).first()
    lines = console.read_before(later.first_seq if later else None, LAST_WORDS)
    return [line.line for line in lines if line.seq >= run.first_seq]


def finish_console(source: ConsoleSource, name: str, cancel: CancelToken) -> None:
    """Copy the remaining output of a server that no longer runs, before its files are removed.

    Waits while the database is away, because what is not copied would be lost. For threads that carry out
    jobs: holds no database connection afterwards. Raises OperationCancelled.
    """
    what = f"server {name}: its console cannot be stored yet"
    while True:
        try:
            server = Server.objects.select_related("host").filter(name=name).first()
            if server is not None:
                ConsoleCopier(server.host, source).finish(server, cancel)
        except AnyDatabaseError as error:
            if connection.in_atomic_block or not is_away(error):
                raise
            outage_log.tell(what, error)
        else:
            outage_log.end(what)
            return
        finally:
            if not connection.in_atomic_block:
                connection.close()
        cancel.wait(RETRY_SECONDS)
        cancel.raise_if_cancelled()
