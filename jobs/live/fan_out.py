"""One reader of the database for any number of watchers.

Each process and event loop has one hub. Its reader (`topic_reader`) reads each watched topic once, and every
watcher of the topic takes the same encoded bytes. A watcher has only a position. One that is behind what the
hub keeps reads from the database at its own pace: it slows nobody down, and loses nothing.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from weakref import WeakKeyDictionary

from django.db import connection

from jobs.database import is_away, outage_log
from jobs.live.open_streams import OpenStreams, StreamPlace
from jobs.live.stream_access import Permit, find_revoked_and_disconnect, right_changes
from jobs.live.topic_reader import Answer, Position, Reader, Reading
from jobs.live.topics import Batch, Snapshot, Topic, format_event

logger = logging.getLogger(__name__)

PING_SECONDS = 15.0
PING = b": ping\n\n"
END = format_event("", event="end").encode()
REFUSED = format_event("", event="refused").encode()
RETRY = b"retry: 1000\n\n"
CHECK_SECONDS = 15.0
"""How often the permits of watchers are checked: it takes about 1.2 ms of CPU time for each person."""
CHECK_SOON_SECONDS = 2.0
"""The shortest time between two checks, after something that permits depend on has changed."""
PERMITS = "the permits of open streams cannot be checked"
"""What a failed check means, for the log."""
REPLAY_PAUSE_SECONDS = 0.5
"""How long a watcher waits before it tries again to read from a database that is away."""
KEPT_BYTES = 1 << 20
SENT_BYTES = 1 << 18
JOINED_KEPT = 4


class ServerStop:
    """Whether the web server of this process has been told to stop.

    If so, the streams end without a last event, so that their watchers reconnect to the next process. A web
    server that can tell registers a function (deploy/gunicorn.conf.py); for others this stays False.
    """

    def __init__(self) -> None:
        self._ask: Callable[[], bool] = lambda: False

    def ask_by(self, ask: Callable[[], bool]) -> None:
        """Use `ask` from now on. May be called from any thread."""
        self._ask = ask

    def is_asked_for(self) -> bool:
        """Return whether the server has been told to stop."""
        return self._ask()


server_stop = ServerStop()
"""The one of this process."""


class Shelf:
    """Keeps the newest batches, up to `KEPT_BYTES`, and finds one by the seq behind which it begins."""

    def __init__(self) -> None:
        self._batches: dict[int, Batch] = {}
        self._bytes = 0

    def add(self, batch: Batch) -> None:
        """Keep `batch`, and drop the oldest ones beyond the limit."""
        if (old := self._batches.pop(batch.after, None)) is not None:
            self._bytes -= len(old.payload)
        self._batches[batch.after] = batch
        self._bytes += len(batch.payload)
        while self._bytes > KEPT_BYTES:
            oldest = next(iter(self._batches))
            self._bytes -= len(self._batches.pop(oldest).payload)

    def find(self, after: int) -> Batch | None:
        """Return the batch that begins right behind seq `after`, if it is kept."""
        return self._batches.get(after)


class Feed:
    """One watched topic of the hub: how far it was read, and its newest batches."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.watchers = 0
        self.is_ready = False
        self.head = 0
        self.snapshot = Snapshot()
        self.news = asyncio.Event()
        self.pings = 0
        self._woken_at = monotonic()
        self._newest = Shelf()
        self._replayed = Shelf()
        self._joined: dict[int, Batch] = {}
        self._replays: dict[tuple[int, int], asyncio.Future[Batch | None]] = {}

    @property
    def position(self) -> Position:
        """How far the topic has been read."""
        return Position(self.topic, self.head if self.is_ready else None)

    def publish(self, reading: Reading) -> None:
        """Take what was read, and wake the watchers if it is new to them."""
        snapshot = reading.snapshot or self.snapshot
        is_new = bool(reading.batches) or snapshot != self.snapshot or not self.is_ready
        for batch in reading.batches:
            self._newest.add(batch)
        self._joined = {}
        self.head, self.snapshot, self.is_ready = reading.head, snapshot, True
        if is_new:
            self.wake()

    def wake(self) -> None:
        """Wake the watchers, who wait on the present `news`."""
        self._woken_at = monotonic()
        self.news.set()
        self.news = asyncio.Event()

    def ping_if_silent(self) -> None:
        """Make the watchers send a ping if they have sent nothing for long."""
        if monotonic() - self._woken_at >= PING_SECONDS:
            self.pings += 1
            self.wake()

    def kept_after(self, seq: int) -> Batch | None:
        """Return what is kept right behind `seq`, in one batch of limited size."""
        if (joined := self._joined.get(seq)) is None:
            parts: list[Batch] = []
            size, after = 0, seq
            while size < SENT_BYTES and (batch := self._newest.find(after)):
                parts.append(batch)
                size += len(batch.payload)
                after = batch.last
            if not parts:
                return self._replayed.find(seq)
            joined = Batch(seq, after, b"".join(part.payload for part in parts))
            # Most watchers are at the same position, and take the same batch.
            if len(self._joined) == JOINED_KEPT:
                self._joined.pop(next(iter(self._joined)))
            self._joined[seq] = joined
        return joined

    async def replay(self, seq: int, until: int, executor: ThreadPoolExecutor) -> Batch | None:
        """Read what is behind `seq` from the database; watchers that ask for the same share one read."""
        future = self._replays.get((seq, until))
        if future is None:
            future = asyncio.get_running_loop().run_in_executor(
                executor, read_for_one, self.topic, seq, until
            )
            self._replays[seq, until] = future
            future.add_done_callback(lambda _: self._replays.pop((seq, until)))
        # Shielded, so that a watcher who leaves does not cancel the read for the others.
        batch = await asyncio.shield(future)
        if batch:
            self._replayed.add(batch)
        return batch


class Hub:
    """Feeds the watchers of one event loop. Its methods are called in that loop."""

    _of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, "Hub"] = WeakKeyDictionary()

    def __init__(self) -> None:
        self.watchers = 0
        self.open_streams = OpenStreams()
        self._feeds: dict[Topic, Feed] = {}
        self._reader: Reader | None = None
        self._is_closing = False
        self._permits: Counter[Permit] = Counter()
        self._revoked: set[Permit] = set()
        self._checked_at = monotonic()
        self._checked_changes = right_changes.count
        self._check: asyncio.Future[set[Permit]] | None = None
        # The reader has its own thread; watchers that catch up share these.
        self._replaying = ThreadPoolExecutor(4, thread_name_prefix="stream-replay")

    @classmethod
    def of_running_loop(cls) -> "Hub":
        """Return the hub of the running event loop."""
        loop = asyncio.get_running_loop()
        if loop not in cls._of_loop:
            cls._of_loop[loop] = cls()
        return cls._of_loop[loop]

    async def watch(
        self,
        topic: Topic,
        after: int,
        permit: Permit | None = None,
        place: StreamPlace | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """Yield the events of `topic` behind seq `after`, forever or until its last one.

        Ends without the `end` event when the server stops, and with the event `refused` some seconds after the
        permit was revoked. Without a permit, anybody may watch. Leaves `place` at the end.
        """
        feed = self._join(topic)
        if permit:
            self._permits[permit] += 1
        sent = Snapshot()
        pings = feed.pings
        try:
            yield RETRY
            while not self._is_closing:
                if permit in self._revoked:
                    yield REFUSED
                    return
                # Taken before reading the feed, so that no news is lost between reading and waiting.
                news, snapshot, head = feed.news, feed.snapshot, feed.head
                while after < head and not self._is_closing and permit not in self._revoked:
                    # Not beyond the head: the kept batches continue right behind it.
                    try:
                        batch = feed.kept_after(after) or await feed.replay(
                            after, head, self._replaying
                        )
                    except Exception as error:
                        if not is_away(error):
                            raise
                        # The reader logs it, once for all watchers.
                        await asyncio.sleep(REPLAY_PAUSE_SECONDS)
                        continue
                    if batch is None:
                        after = head  # The lines in between have been deleted.
                        break
                    after = batch.last
                    yield batch.payload
                    if after < head:
                        await asyncio.sleep(0)  # Let others go first while it catches up.
                if after < head:
                    continue
                if snapshot != sent:
                    unsent, sent = snapshot.since(sent), snapshot
                    if unsent:
                        yield unsent
                    if snapshot.is_final:
                        yield END
                        return
                if pings != feed.pings:
                    pings = feed.pings
                    yield PING
                await news.wait()
        finally:
            self._leave(feed)
            if permit:
                self._forget(permit)
            if place:
                place.leave()

    def _forget(self, permit: Permit) -> None:
        self._permits[permit] -= 1
        if not self._permits[permit]:
            del self._permits[permit]
            self._revoked.discard(permit)

    def _check_permits(self) -> None:
        """When it is time, check all permits in a thread; watchers with a revoked one are told soon."""
        changes = right_changes.count
        interval = CHECK_SECONDS if changes == self._checked_changes else CHECK_SOON_SECONDS
        if self._check or monotonic() - self._checked_at < interval or not self._permits:
            return
        self._checked_at, self._checked_changes = monotonic(), changes
        self._check = asyncio.get_running_loop().run_in_executor(
            self._replaying, find_revoked_and_disconnect, list(self._permits)
        )
        self._check.add_done_callback(self._take_check)

    def _take_check(self, check: "asyncio.Future[set[Permit]]") -> None:
        self._check = None
        if check.cancelled():
            return
        if error := check.exception():
            # Watchers that were let in stay until a check succeeds.
            if is_away(error):
                outage_log.tell(PERMITS, error)
            else:
                logger.warning("%s: %s", PERMITS, error)
            self._checked_changes = -1  # It may have been about a change.
            return
        outage_log.end(PERMITS)
        # Some watchers may have left since.
        self._revoked |= check.result() & self._permits.keys()
        if self._revoked:
            for feed in self._feeds.values():
                feed.wake()

    def _publish(self, readings: Sequence[Reading], answer: Answer) -> None:
        """Publish what the reader has read; answer it after the waiting watchers have been served."""
        for reading in readings:
            # All its watchers may have left since, and new ones may have come that have read nothing yet.
            feed = self._feeds.get(reading.topic)
            if feed and feed.position.head == reading.after:
                feed.publish(reading)
        self._is_closing = self._is_closing or server_stop.is_asked_for()
        self._check_permits()
        for feed in self._feeds.values():
            if self._is_closing:
                feed.wake()
            else:
                feed.ping_if_silent()
        asyncio.get_running_loop().call_soon(self._answer, answer)

    def _answer(self, answer: Answer) -> None:
        positions = [] if self._is_closing else [feed.position for feed in self._feeds.values()]
        if not positions:
            self._reader = None
        answer(positions)

    def _join(self, topic: Topic) -> Feed:
        feed = self._feeds.setdefault(topic, Feed(topic))
        feed.watchers += 1
        self.watchers += 1
        if self._reader is None or not self._reader.is_alive():
            loop = asyncio.get_running_loop()
            self._reader = Reader(loop, self._publish, server_stop.is_asked_for)
            self._reader.start()
        elif not feed.is_ready:
            self._reader.nudge()
        return feed

    def _leave(self, feed: Feed) -> None:
        feed.watchers -= 1
        self.watchers -= 1
        if feed.watchers == 0:
            del self._feeds[feed.topic]
        if self._reader and not self._feeds:
            self._reader.nudge()


def read_for_one(topic: Topic, after: int, until: int) -> Batch | None:
    """Read one batch for a watcher that is behind; runs in one of the threads for such reads."""
    try:
        return topic.read_batch(after, until)
    finally:
        connection.close()
