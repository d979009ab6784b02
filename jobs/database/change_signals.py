"""How a process learns at once that another one has committed something.

PostgreSQL says so (LISTEN and NOTIFY); SQLite is asked for its `data_version` when its log was written. A
signal may be a false alarm, and it is lost while the connection is. So whatever waits for it also looks again
after a while.
"""

import ctypes
import logging
import os
import select
from enum import StrEnum
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import psycopg
from django.db import connection

from jobs.database.outages import is_away
from jobs.database.sql import execute, find_database_file

logger = logging.getLogger(__name__)

ASK_SECONDS = 0.004
"""How often SQLite is asked where the kernel cannot tell when its log is written. Costs 2.6 % of a core."""
ASK_AFTER_WRITE = ((0.02, 0.0005), (1.0, 0.004))
"""Until so many seconds after its log was written, it is asked every so many seconds."""

SELECT_LIMIT = 1024
"""select(2) takes only descriptors below this, and a web server has thousands."""

IN_MODIFY = 0x2
"""Of inotify(7)."""

NOTIFY = "SELECT pg_notify(channel, '') FROM unnest(%s::text[]) AS channel"


class Channel(StrEnum):
    """What has changed: `queue` what workers wait for, `pages` what anybody may be looking at."""

    QUEUE = "saferoom_queue"
    PAGES = "saferoom_pages"


class Interrupt:
    """An event that may also be set from a signal handler.

    `threading.Event` may not: a handler that runs while the same thread holds the event's lock would wait for
    it forever. Writing to a descriptor waits for nothing.
    """

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        """Return the descriptor, which can be read from while the event is set."""
        return self._descriptor

    def set(self) -> None:
        """Wake the thread that waits, or the next one that does."""
        os.eventfd_write(self._descriptor, 1)

    def clear(self) -> bool:
        """Forget that it was set; return whether it was."""
        try:
            return os.eventfd_read(self._descriptor) > 0
        except BlockingIOError:
            return False

    def wait(self, seconds: float) -> bool:
        """Wait for `set`, at most `seconds`; return whether it was called, and forget it."""
        wait_to_read([self._descriptor], seconds)
        return self.clear()

    def __del__(self) -> None:
        os.close(self._descriptor)


def wait_to_read(descriptors: list[int], seconds: float) -> None:
    """Wait until one of `descriptors` can be read from, at most `seconds`."""
    if max(descriptors) < SELECT_LIMIT:
        select.select(descriptors, [], [], max(seconds, 0))
        return
    poll = select.poll()  # It waits for a whole millisecond where half a one is meant.
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    poll.poll(max(seconds, 0) * 1000)


class ChangeSignal(Protocol):
    """Tells that the database has changed. To be used by one thread at a time."""

    def wait(self, seconds: float, interrupt: Interrupt) -> bool:
        """Wait for a change or for `interrupt`, at most `seconds`; return whether it was a change."""

    def close(self) -> None:
        """Let go of what it holds."""


class DataVersionSignal:
    """SQLite's `PRAGMA data_version`, which differs once another connection has committed.

    Asking takes 3 µs, but waking up for it takes more, so it is asked when the log of the database was
    written, and again until what was written there is committed; every few milliseconds where no folder
    can be watched. It is asked on the thread's own connection, outside transactions: so what the thread
    commits itself is no change. A checkpoint can be a false alarm.
    """

    def __init__(self, database_path: Path) -> None:
        self._seen = self._read()
        self._written_at = monotonic()
        try:
            self._watch: FileWatch | None = FileWatch(
                database_path.with_name(f"{database_path.name}-wal")
            )
        except OSError as error:
            logger.info("cannot watch %s, so it is asked often: %s", database_path.parent, error)
            self._watch = None

    def wait(self, seconds: float, interrupt: Interrupt) -> bool:
        """Wait for a commit of another connection or for `interrupt`, at most `seconds`."""
        until = monotonic() + seconds
        while True:
            now = self._read()
            if now != self._seen:
                self._seen = now
                return True
            left = until - monotonic()
            if left <= 0 or self._pause(left, interrupt):
                return False

    def close(self) -> None:
        """End the watching."""
        if self._watch:
            self._watch.close()

    def _read(self) -> tuple[object, int]:
        """Return the connection and its version: a new connection counts as a change."""
        connection.ensure_connection()
        raw = connection.connection
        return raw, int(raw.execute("PRAGMA data_version").fetchone()[0])

    def _pause(self, seconds: float, interrupt: Interrupt) -> bool:
        """Wait until it is time to ask again; True: `interrupt` was set."""
        if self._watch is None:
            return interrupt.wait(min(seconds, ASK_SECONDS))
        # Its log is written before a commit is on the disk, which takes as long as the disk takes.
        age = monotonic() - self._written_at
        pause = next((pause for limit, pause in ASK_AFTER_WRITE if age < limit), seconds)
        wait_to_read([self._watch.fileno(), interrupt.fileno()], min(seconds, pause))
        if self._watch.was_written():
            self._written_at = monotonic()
        return interrupt.clear()


class FileWatch:
    """Tells when a file has been written, also one that does not exist yet: inotify(7) of its folder."""

    def __init__(self, path: Path) -> None:
        """Begin to watch. Raises OSError where the kernel cannot, or not any more folders."""
        self._name = os.fsencode(path.name)
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor: int = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        if libc.inotify_add_watch(self._descriptor, os.fsencode(path.parent), IN_MODIFY) < 0:
            number = ctypes.get_errno()
            os.close(self._descriptor)
            raise OSError(number, os.strerror(number))

    def fileno(self) -> int:
        """Return the descriptor, which can be read from once a file of the folder was written."""
        return self._descriptor

    def was_written(self) -> bool:
        """Return whether the file has been written since this was asked last."""
        was_written = False
        try:
            while events := os.read(self._descriptor, 65_536):
                was_written = was_written or self._name in events
        except BlockingIOError:
            return was_written
        return was_written

    def close(self) -> None:
        """End the watching."""
        os.close(self._descriptor)


class NotifySignal:
    """PostgreSQL's NOTIFY, heard on a connection of its own, which is opened again when it breaks.

    What the thread itself announces is no change. What is notified while there is no connection is lost, so a
    new connection counts as a change. PgBouncer passes LISTEN on in session mode only.
    """

    def __init__(self, channel: Channel, retry_seconds: float = 1.0) -> None:
        self._channel = channel
        self._retry_seconds = retry_seconds
        self._parameters = connection.get_connection_params()
        self._connection: psycopg.Connection[Any] | None = None

    def wait(self, seconds: float, interrupt: Interrupt) -> bool:
        """Wait for a notification or for `interrupt`, at most `seconds`."""
        try:
            if self._connection is None:
                self._connection = self._listen()
                return True
            if has_notification(self._connection):
                return True
            descriptors = [self._connection.fileno(), interrupt.fileno()]
            wait_to_read(descriptors, seconds)
            interrupt.clear()
            return has_notification(self._connection)
        except psycopg.Error as error:
            if not is_away(error):
                raise
            logger.warning("cannot listen on %s: %s", self._channel, str(error).strip())
            self.close()
            interrupt.wait(min(seconds, self._retry_seconds))
            return False

    def close(self) -> None:
        """Close the connection."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def _listen(self) -> "psycopg.Connection[Any]":
        of_django = ("cursor_factory", "context", "prepare_threshold")
        parameters = {
            key: self._parameters[key] for key in self._parameters if key not in of_django
        }
        listener = psycopg.connect(**parameters, autocommit=True)
        listener.execute(f"LISTEN {self._channel}")
        return listener


def has_notification(listener: "psycopg.Connection[Any]") -> bool:
    """Take every notification that has arrived; return whether this thread has not announced all of them."""
    own_pid = connection.connection.info.backend_pid if connection.connection else None
    announcers = {notification.pid for notification in listener.notifies(timeout=0)}
    return bool(announcers - {own_pid})


class PollSignal:
    """Where the database gives no signal: says "changed" whenever the poll interval is over."""

    def __init__(self, interval_seconds: float) -> None:
        self._interval_seconds = interval_seconds

    def wait(self, seconds: float, interrupt: Interrupt) -> bool:
        """Wait for the interval or for `interrupt`, at most `seconds`."""
        interrupt.wait(min(seconds, self._interval_seconds))
        return True

    def close(self) -> None:
        """Nothing is held."""


class Pace:
    """Bounds how often one looks at what has changed: some times at once, and in the long run every so often.

    The first look after a while often finds nothing: SQLite's `data_version` also differs when a transaction
    begins to write a log that a checkpoint has copied, some milliseconds before the commit.
    """

    def __init__(self, every_seconds: float, at_once: int) -> None:
        self._every_seconds = every_seconds
        self._spared_seconds = every_seconds * (at_once - 1)
        self._due_at = 0.0

    @property
    def wait_seconds(self) -> float:
        """How long the next look has to wait."""
        return max(0.0, self._due_at - self._spared_seconds - monotonic())

    def count(self) -> None:
        """Count a look."""
        self._due_at = max(self._due_at, monotonic()) + self._every_seconds


def open_change_signal(channel: Channel, poll_interval_seconds: float) -> ChangeSignal:
    """Return the best signal that the default database gives."""
    if connection.vendor == "postgresql":
        return NotifySignal(channel)
    database = find_database_file()
    return DataVersionSignal(database) if database else PollSignal(poll_interval_seconds)


def announce(*channels: Channel) -> None:
    """Tell those who wait that something has changed: once this transaction is committed, if one is open."""
    if connection.vendor == "postgresql":
        execute(NOTIFY, [[channel.value for channel in channels]])
