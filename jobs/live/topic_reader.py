"""The thread that reads the database for a hub: the watched topics, whenever they have changed."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from time import monotonic

from django.db import connection

from jobs.database import (
    ChangeSignal,
    Channel,
    Interrupt,
    Pace,
    identify_database_file,
    is_away,
    open_change_signal,
    outage_log,
)
from jobs.live.topics import Batch, Snapshot, Topic

logger = logging.getLogger(__name__)

READ_BYTES = 1 << 19
SIGNAL_SECONDS = 0.25
FALLBACK_SECONDS = 2.0
READ_EVERY_SECONDS = 0.02
READS_AT_ONCE = 5
"""One person's action makes a few commits in a row: none of them has to wait. A flood of commits does."""
MAX_PAUSE_SECONDS = 1.0
READ_ALL_SECONDS = 0.25
OUTAGE = "the streams cannot be read"
"""What an outage means here, for the log."""


@dataclass(frozen=True)
class Position:
    """How far a watched topic has been read: to seq `head`, or not at all (None)."""

    topic: Topic
    head: int | None


@dataclass(frozen=True)
class Reading:
    """What one read of a topic found after seq `after`. Without a snapshot, that one waits for more lines."""

    topic: Topic
    after: int | None
    head: int
    snapshot: Snapshot | None
    batches: list[Batch]
    has_more: bool = False

    @classmethod
    def of(cls, position: Position, snapshot: Snapshot) -> "Reading":
        """Read what is new; `snapshot` was read before, so it is not newer than the lines."""
        topic, head = position.topic, position.head
        if head is None:
            return cls(topic, None, topic.read_head(), snapshot, [])
        batches: list[Batch] = []
        # A flood in one topic must not keep the others waiting, nor fill the memory.
        size, after = 0, head
        while size < READ_BYTES:
            batch = topic.read_batch(after)
            if batch is None:
                return cls(topic, head, after, snapshot, batches)
            batches.append(batch)
            size, after = size + len(batch.payload), batch.last
        # A topic's final snapshot has to come after its last line; any other may come in between.
        news = None if snapshot.is_final else snapshot
        return cls(topic, head, after, news, batches, has_more=True)


Answer = Callable[[list[Position]], None]
Publish = Callable[[Sequence[Reading], Answer], None]
"""Takes what was read, in the event loop, and answers what to read next; with nothing, the reader ends."""


class Reader(threading.Thread):
    """Reads for one hub until nobody watches. Its connections are opened and closed in this thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        publish: Publish,
        is_stopping: Callable[[], bool],
    ) -> None:
        super().__init__(name="stream-reader", daemon=True)
        self._loop = loop
        self._publish = publish
        self._is_stopping = is_stopping
        self._interrupt = Interrupt()
        self._is_nudged = False
        self._signal: ChangeSignal | None = None
        self._file = identify_database_file()
        self._pace = Pace(READ_EVERY_SECONDS, READS_AT_ONCE)

    def nudge(self) -> None:
        """Make the reader ask at once what to read: a watcher has come, or the last one has gone."""
        self._is_nudged = True
        self._interrupt.set()

    def run(self) -> None:
        """Read and publish while anybody watches."""
        try:
            self._keep_reading()
        finally:
            self._forget_signal()
            connection.close()

    def _keep_reading(self) -> None:
        readings: list[Reading] = []
        due: Sequence[Position] = []
        read_all_at = 0.0
        while True:
            started = monotonic()
            positions = self._give(readings)
            if not positions:
                return
            if readings:
                # When serving takes the event loop long, because many watch, it happens less often: this leaves
                # half of the loop's time to everything else, and more lines are sent together.
                served_seconds = monotonic() - started
                pause_seconds = max(served_seconds, self._pace.wait_seconds)
                self._interrupt.wait(min(pause_seconds, MAX_PAUSE_SECONDS))
            is_behind = len(readings) < len(due) or any(reading.has_more for reading in readings)
            newcomers = [position for position in positions if position.head is None]
            if newcomers and monotonic() < read_all_at + READ_ALL_SECONDS:
                # A crowd that arrives one by one must not cost a read of all topics each time. Nor may it keep
                # earlier watchers waiting for long.
                due = newcomers
            elif newcomers or is_behind or self._wait_for_change():
                due = positions
                read_all_at = monotonic()
            else:
                due = []
            readings = self._read(due)

    def _give(self, readings: Sequence[Reading]) -> list[Position]:
        """Hand over what was read, and return what to read next; nothing once the event loop has ended."""
        answer: Future[list[Position]] = Future()
        try:
            self._loop.call_soon_threadsafe(self._publish, readings, answer.set_result)
        except RuntimeError:  # The loop is closed.
            return []
        while True:
            try:
                return answer.result(SIGNAL_SECONDS)
            except TimeoutError:
                if self._loop.is_closed():
                    return []

    def _read(self, positions: Sequence[Position]) -> list[Reading]:
        """Read what is new; waits a moment if something could not be read."""
        readings: list[Reading] = []
        self._pace.count()
        try:
            readings.extend(read_all(positions))
        except Exception as error:
            if not is_away(error):
                raise
            outage_log.tell(OUTAGE, error)
            connection.close()
        else:
            outage_log.end(OUTAGE)
        if len(readings) < len(positions):
            self._interrupt.wait(SIGNAL_SECONDS)
        return readings

    def _wait_for_change(self) -> bool:
        """Wait until the database has changed, or may have; return False for a nudge, or if the server stops.

        Not forever: a signal can be lost, and what a person changes in a form is not announced.
        """
        until = monotonic() + FALLBACK_SECONDS
        try:
            if self._signal is None:
                self._signal = open_change_signal(Channel.PAGES, SIGNAL_SECONDS)
                return True  # Changes before it was open are not signalled.
            while monotonic() < until:
                if self._is_nudged or self._is_stopping():
                    self._is_nudged = False
                    return False
                if self._signal.wait(SIGNAL_SECONDS, self._interrupt) or self._has_other_file():
                    return True
        except Exception as error:
            # Without a signal the streams are slower but continue; if the reader died, they would all end.
            if is_away(error):
                outage_log.tell(OUTAGE, error)
            else:
                logger.exception("the change signal of the streams failed; opening it again")
            self._forget_signal()
            self._interrupt.wait(SIGNAL_SECONDS)
        return True

    def _has_other_file(self) -> bool:
        """Return whether another file has taken the place of an SQLite database; if so, let go of the old one.

        This thread's connection is the only one of the process that stays open. Nothing is written to a file
        that was replaced, so it is enough to look after each wait without a change.
        """
        found = identify_database_file()
        if found is None or found == self._file:  # A file that is missing may come back.
            return False
        logger.warning("the database is another file: reading that one")
        self._file = found
        self._forget_signal()
        connection.close()
        return True

    def _forget_signal(self) -> None:
        if self._signal:
            self._signal.close()
            self._signal = None


def read_all(positions: Iterable[Position]) -> Iterator[Reading]:
    """Read what is new in each topic; a topic that cannot be read is left out.

    The reader serves every watcher of its process, so it continues whatever is wrong with one of the topics.
    """
    by_kind: dict[type[Topic], list[Position]] = {}
    for position in positions:
        by_kind.setdefault(type(position.topic), []).append(position)
    for kind, group in by_kind.items():
        try:
            # Before the lines: a snapshot must not be newer than the lines.
            snapshots = kind.read_snapshots([position.topic for position in group])
        except Exception as error:
            if is_away(error):
                raise
            logger.exception("the streams cannot be read: %s", kind.__name__)
            continue
        for position, snapshot in zip(group, snapshots, strict=True):
            try:
                reading = Reading.of(position, snapshot)
            except Exception as error:
                if is_away(error):
                    raise
                logger.exception("a stream cannot be read: %s", position.topic)
                continue
            yield reading
