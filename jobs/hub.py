"""One reader of the database for any number of watchers.

Each process and event loop has one hub. It waits for the database's change signal, reads each watched
topic once, and lets every watcher of it take the same encoded bytes. A watcher that is behind reads from
the database at its own pace until it has caught up: it slows nobody, and loses nothing.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from weakref import WeakKeyDictionary

from django.db import InterfaceError, OperationalError, connection

from jobs.topics import Batch, Snapshot, Topic, format_event
from jobs.wakeup import ChangeSignal, Channel, Interrupt, open_change_signal

logger = logging.getLogger(__name__)

PING_SECONDS = 15.0
PING = b": ping\n\n"
END = format_event("", event="end").encode()
RETRY = b"retry: 1000\n\n"
KEPT_BYTES = 1 << 20
BATCHES_AT_ONCE = 20
SIGNAL_SECONDS = 0.5
READ_PAUSE_SECONDS = 0.02
FALLBACK_SECONDS = 2.0


def is_server_stopping() -> bool:
    """Return whether the web server of this process has been told to stop.

    Then the streams end by themselves, without a last event, so that their watchers come back to the next
    process. A web server that knows replaces this function (deploy/gunicorn.conf.py).
    """
    return False


class Feed:
    """What the hub knows of one watched topic: how far it has read, and the newest batches."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.watchers = 0
        self.is_ready = False
        self.head = 0
        self.snapshot = Snapshot()
        self.news = asyncio.Event()
        self._batches: deque[Batch] = deque()
        self._kept_bytes = 0

    def publish(self, reading: "Reading") -> None:
        """Take what was read, and wake the watchers if it is new to them."""
        snapshot = reading.snapshot or self.snapshot
        is_new = bool(reading.batches) or snapshot != self.snapshot or not self.is_ready
        for batch in reading.batches:
            self._batches.append(batch)
            self._kept_bytes += len(batch.payload)
        while self._kept_bytes > KEPT_BYTES:
            self._kept_bytes -= len(self._batches.popleft().payload)
        self.head, self.snapshot, self.is_ready = reading.head, snapshot, True
        if is_new:
            self.wake()

    def wake(self) -> None:
        """Wake the watchers: whoever holds the present `news`."""
        self.news.set()
        self.news = asyncio.Event()

    def kept_after(self, seq: int) -> Batch | None:
        """Return the kept batch that begins right behind `seq`, if there is one."""
        return next((batch for batch in self._batches if batch.after == seq), None)


@dataclass(frozen=True)
class Reading:
    """What one look at a topic found. The snapshot is not newer than the head; None: there is more."""

    head: int
    snapshot: Snapshot | None
    batches: list[Batch]

    @classmethod
    def of(cls, topic: Topic, head: int | None) -> "Reading":
        """Read what is new behind seq `head`; None: only find out where the topic is."""
        snapshot: Snapshot | None = topic.read_snapshot()
        if head is None:
            return cls(topic.read_head(), snapshot, [])
        batches: list[Batch] = []
        # A flood of one topic must not keep the others waiting, nor fill the memory.
        while len(batches) < BATCHES_AT_ONCE and (batch := topic.read_batch(head)):
            batches.append(batch)
            head = batch.last
        if len(batches) == BATCHES_AT_ONCE:
            snapshot = None
        return cls(head, snapshot, batches)


class Hub:
    """Reads for the watchers of one event loop. Its public methods are called in that loop."""

    _of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, "Hub"] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._feeds: dict[Topic, Feed] = {}
        self._reading: asyncio.Task[None] | None = None
        self._interrupt = Interrupt()
        self._is_closing = False
        # The reader has a thread to itself; watchers that catch up share the others.
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="stream-reader")
        self._catching_up = ThreadPoolExecutor(4, thread_name_prefix="stream-replay")

    @classmethod
    def of_running_loop(cls) -> "Hub":
        """Return the hub of the running event loop."""
        loop = asyncio.get_running_loop()
        if loop not in cls._of_loop:
            cls._of_loop[loop] = cls()
        return cls._of_loop[loop]

    async def watch(self, topic: Topic, after: int) -> AsyncGenerator[bytes, None]:
        """Yield the events of `topic` behind seq `after`, for ever or until its last one.

        Ends without the `end` event when the server stops.
        """
        feed = self._join(topic)
        sent = Snapshot()
        try:
            yield RETRY
            while not self._is_closing:
                # Taken before the look at the feed, so that nothing falls between look and wait.
                news, snapshot, head = feed.news, feed.snapshot, feed.head
                while after < head:
                    batch = feed.kept_after(after) or await self._catch_up(topic, after, head)
                    if batch is None:
                        after = head  # The lines in between were deleted meanwhile.
                        break
                    after = batch.last
                    yield batch.payload
                    await asyncio.sleep(0)
                if snapshot != sent:
                    sent = snapshot
                    if snapshot.payload:
                        yield snapshot.payload
                    if snapshot.is_final:
                        yield END
                        return
                if not await has_happened(news):
                    yield PING
        finally:
            self._leave(feed)

    async def _catch_up(self, topic: Topic, after: int, until: int) -> Batch | None:
        # Not further than the head: behind it the kept batches fit on.
        run = asyncio.get_running_loop().run_in_executor
        return await run(self._catching_up, read_for_one, topic, after, until)

    def _join(self, topic: Topic) -> Feed:
        feed = self._feeds.setdefault(topic, Feed(topic))
        feed.watchers += 1
        if self._reading is None or self._reading.done():
            self._reading = asyncio.get_running_loop().create_task(self._keep_reading())
        self._interrupt.set()
        return feed

    def _leave(self, feed: Feed) -> None:
        feed.watchers -= 1
        if feed.watchers == 0:
            del self._feeds[feed.topic]
            self._interrupt.set()

    async def _keep_reading(self) -> None:
        """Read and publish as long as anybody watches."""
        run = asyncio.get_running_loop().run_in_executor
        signal = await run(self._reader, open_change_signal, Channel.PAGES, SIGNAL_SECONDS)
        try:
            while self._feeds and not self._is_closing:
                has_more = await self._read_once()
                # The more watch, the more lines travel together: the pause grows with their number.
                watchers = sum(feed.watchers for feed in self._feeds.values())
                await asyncio.sleep(min(READ_PAUSE_SECONDS + watchers / 4000, 0.25))
                if not has_more:
                    await run(self._reader, self._wait_for_change, signal)
        finally:
            for feed in self._feeds.values():
                feed.wake()
            await run(self._reader, close_signal, signal)

    async def _read_once(self) -> bool:
        """Read and publish what is new; return whether there is more."""
        run = asyncio.get_running_loop().run_in_executor
        feeds = list(self._feeds.values())
        heads = [(feed.topic, feed.head if feed.is_ready else None) for feed in feeds]
        try:
            readings = await run(self._reader, read_all, heads)
        except (OperationalError, InterfaceError) as error:
            logger.warning("the database does not answer the streams: %s", error)
            return False
        except Exception:
            # The reader serves every watcher of this process: it goes on, whatever one topic did.
            logger.exception("the streams could not be read")
            return False
        for feed, reading in zip(feeds, readings, strict=True):
            feed.publish(reading)
        return any(reading.snapshot is None for reading in readings)

    def _wait_for_change(self, signal: ChangeSignal) -> None:
        """Wait, in the reading thread, until the database has changed or somebody has come or gone.

        Not for ever: a signal can be lost, and what a person changes in a form is not announced.
        """
        until = monotonic() + FALLBACK_SECONDS
        is_due = False
        while not (is_due or self._is_closing or not self._feeds or self._has_newcomer()):
            is_due = signal.wait(SIGNAL_SECONDS, self._interrupt) or monotonic() > until
            self._is_closing = is_server_stopping()

    def _has_newcomer(self) -> bool:
        return any(not feed.is_ready for feed in list(self._feeds.values()))


async def has_happened(news: asyncio.Event) -> bool:
    """Wait for `news` as long as a connection may be silent; return whether it came."""
    try:
        await asyncio.wait_for(news.wait(), PING_SECONDS)
    except TimeoutError:
        return False
    return True


def read_all(heads: list[tuple[Topic, int | None]]) -> list[Reading]:
    """Read each topic; runs in the reading thread, which keeps no connection in between."""
    try:
        return [Reading.of(topic, head) for topic, head in heads]
    finally:
        connection.close()


def read_for_one(topic: Topic, after: int, until: int) -> Batch | None:
    """Read one batch for a watcher that is behind; runs in a thread for such reads."""
    try:
        return topic.read_batch(after, until)
    finally:
        connection.close()


def close_signal(signal: ChangeSignal) -> None:
    """Close `signal` in the thread that used it: SQLite crashes if another one still reads from it."""
    signal.close()
