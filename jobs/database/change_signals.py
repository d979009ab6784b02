"""How a process learns at once that another one has committed something.

PostgreSQL announces it (LISTEN and NOTIFY). SQLite is asked for its `data_version` when its write-ahead log was
written. A signal can be a false alarm, and it is lost while the connection is down. So everything that waits
for one also checks again after a while.
"""

import logging
import os
import select
from enum import StrEnum
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from django.db import connection

from hostops.linux.inotify import IN_MODIFY, Inotify
from jobs.database.outage_lines import outage_log
from jobs.database.outages import is_away
from jobs.database.sql import Statement, driver, execute_all, find_database_file

logger = logging.getLogger(__name__)

ASK_SECONDS = 0.004
"""How often SQLite is asked where the kernel cannot report writes to its log. Costs 2.6 % of a core."""
ASK_AFTER_WRITE_SECONDS = 1.0
"""For how long after a write to its log SQLite is asked: a slow disk takes that long to commit."""
SHORTEST_PAUSE_SECONDS = 0.0005

SELECT_LIMIT = 1024
"""select(2) takes only descriptors below this, and a web server has thousands."""

NOTIFY = "SELECT pg_notify(channel, '') FROM unnest(%s::text[]) AS channel"


class Channel(StrEnum):
    """What has changed: `queue` is what workers wait for, `pages` is what people may have open."""

    QUEUE = "saferoom_queue"
    PAGES = "saferoom_pages"


class Interrupt:
    """An event that may also be set from a signal handler.

    `threading.Event` may not: a handler that runs while its own thread holds the event's lock would wait for
    that lock forever. Writing to a descriptor never blocks.
    """

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        """Return the descriptor, which is readable while the event is set."""
        return self._descriptor

    def set(self) -> None:
        """Wake the thread that waits, or the next one that will."""
        os.eventfd_write(self._descriptor, 1)

    def clear(self) -> bool:
        """Clear the event; return whether it was set."""
        try:
            return os.eventfd_read(self._descriptor) > 0
        except BlockingIOError:
            return False

    def wait(self, seconds: float) -> bool:
        """Wait for `set`, at most `seconds`; return whether it was called, and clear the event."""
        wait_to_read([self._descriptor], seconds)
        return self.clear()

    def __del__(self) -> None:
        os.close(self._descriptor)


def wait_to_read(descriptors: list[int], seconds: float) -> None:
    """Wait until one of `descriptors` is readable, at most `seconds`."""
    if max(descriptors) < SELECT_LIMIT:
        select.select(descriptors, [], [], max(seconds, 0))
        return
    poll = select.poll()  # It rounds half a millisecond up to a whole one.
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    poll.poll(max(seconds, 0) * 1000)


class ChangeSignal(Protocol):
    """Signals that the database has changed. For use by one thread at a time."""

    def wait(self, seconds: float, interrupt: Interrupt) -> bool:
        """Wait for a change or for `interrupt`, at most `seconds`; return whether it was a change."""

    def close(self) -> None:
        """Release its resources."""


def read_version() -> object | None:
    """Return a value that differs after every commit of any connection; None if that would cost a query.

    For comparing within one thread, outside transactions. Takes some microseconds.
    """
    if connection.vendor != "sqlite":
        return None
    connection.ensure_connection()
    raw = connection.connection
    # `data_version` counts the commits of others only.
    return raw, raw.execute("PRAGMA data_version").fetchone()[0], raw.total_changes


class DataVersionSignal:
    """SQLite's `PRAGMA data_version`, which differs once another connection has committed.

    Asking takes 3 µs, but waking up for it takes more. So it asks when the database's log was written, and
    again until that write is committed; where no folder can be watched, it asks every few milliseconds. It uses
    the thread's own connection, outside transactions, so the thread's own commits are no change. A checkpoint
    can be a false alarm.
    """

    def __init__(self, database_path: Path) -> None:
        self._seen = self._read()
        self._written_at = monotonic()
        try:
            self._watch: FileWatch | None = FileWatch(
                database_path.with_name(f"{database_path.name}-wal")
            )
        except OSError as error:
            logger.info(
                "cannot watch %s, so SQLite is asked often: %s", database_path.parent, error
            )
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
        """Return the connection and its `data_version`: a new connection counts as a change."""
        connection.ensure_connection()
        raw = connection.connection
        return raw, int(raw.execute("PRAGMA data_version").fetchone()[0])

    def _pause(self, seconds: float, interrupt: Interrupt) -> bool:
        """Wait until it is time to ask again; return whether `interrupt` was set."""
        if self._watch is None:
            return interrupt.wait(min(seconds, ASK_SECONDS))
        # The log is written before a commit is on disk, which takes as long as the disk takes. Pauses that grow
        # with that time see the commit at most a fourth of it late, and ask 30 times in all instead of 290.
        age = monotonic() - self._written_at
        if age < ASK_AFTER_WRITE_SECONDS:
            seconds = min(seconds, max(SHORTEST_PAUSE_SECONDS, age / 4))
        wait_to_read([self._watch.fileno(), interrupt.fileno()], seconds)
        if self._watch.was_written():
            self._written_at = monotonic()
        return interrupt.clear()


class FileWatch:
    """Detects writes to a file, even one that does not exist yet, by inotify(7) on its folder."""

    def __init__(self, path: Path) -> None:
        """Begin to watch. Raises OSError if the kernel cannot, or can watch no more folders."""
        self._name = os.fsencode(path.name)
        self._queue = Inotify()
        try:
            self._queue.add(path.parent, IN_MODIFY)
        except OSError:
            self._queue.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor, which is readable once a file of the folder was written."""
        return self._queue.fileno()

    def was_written(self) -> bool:
        """Return whether the file has been written since the last call."""
        was_written = False
        while events := self._queue.read():
            was_written = was_written or self._name in events
        return was_written

    def close(self) -> None:
        """End the watching."""
        self._queue.close()


class NotifySignal:
    """PostgreSQL's NOTIFY, received on a separate connection, which is reopened when it breaks.

    What the thread itself announces is no change. Notifications are lost while there is no connection, so a new
    connection counts as a change. PgBouncer supports LISTEN in session mode only.
    """

    def __init__(self, channel: Channel, retry_seconds: float = 1.0) -> None:
        self._channel = channel
        self._retry_seconds = retry_seconds
        self._what = f"cannot listen on {channel}"
        self._parameters = connection.get_connection_params()
        self._connection: Any = None

    def wait(self, seconds: float, interrupt: Interrupt) -> bool:
        """Wait for a notification or for `interrupt`, at most `seconds`."""
        try:
            if self._connection is None:
                self._connection = self._listen()
                outage_log.end(self._what)
                return True
            if has_notification(self._connection):
                return True
            descriptors = [self._connection.fileno(), interrupt.fileno()]
            wait_to_read(descriptors, seconds)
            interrupt.clear()
            return has_notification(self._connection)
        except driver().Error as error:
            if not is_away(error):
                raise
            outage_log.tell(self._what, error)
            self.close()
            interrupt.wait(min(seconds, self._retry_seconds))
            return False

    def close(self) -> None:
        """Close the connection."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def _listen(self) -> Any:
        of_django = ("cursor_factory", "context", "prepare_threshold")
        parameters = {
            key: self._parameters[key] for key in self._parameters if key not in of_django
        }
        listener = driver().connect(**parameters, autocommit=True)
        listener.execute(f"LISTEN {self._channel}")
        return listener


def has_notification(listener: Any) -> bool:
    """Take every notification that has arrived; return whether any came from outside this thread."""
    own_pid = connection.connection.info.backend_pid if connection.connection else None
    announcers = {notification.pid for notification in listener.notifies(timeout=0)}
    return bool(announcers - {own_pid})


class PollSignal:
    """For a database without a signal: reports a change whenever the poll interval is over."""

    def __init__(self, interval_seconds: float) -> None:
        self._interval_seconds = interval_seconds

    def wait(self, seconds: float, interrupt: Interrupt) -> bool:
        """Wait for the interval or for `interrupt`, at most `seconds`."""
        interrupt.wait(min(seconds, self._interval_seconds))
        return True

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


class Pace:
    """Limits how often changes are read: `at_once` times in a row, in the long run once per `every_seconds`.

    The first read after a pause often finds nothing: SQLite's `data_version` also changes when a transaction
    begins to write to a log that a checkpoint has copied, some milliseconds before the commit.
    """

    def __init__(self, every_seconds: float, at_once: int) -> None:
        self._every_seconds = every_seconds
        self._spared_seconds = every_seconds * (at_once - 1)
        self._due_at = 0.0

    @property
    def wait_seconds(self) -> float:
        """How long the next read has to wait."""
        return max(0.0, self._due_at - self._spared_seconds - monotonic())

    def count(self) -> None:
        """Count a read."""
        self._due_at = max(self._due_at, monotonic()) + self._every_seconds


class Rest:
    """Whether nothing was committed since a thread's last round. For use by that thread."""

    def __init__(self, longest_seconds: float) -> None:
        self._longest_seconds = longest_seconds
        self._version: object | None = None
        self._until = 0.0

    def begin_round(self) -> bool:
        """Return whether to do another round: something may be new. It counts as begun.

        Always True on PostgreSQL, where asking would cost as many queries as a round.
        """
        try:
            version = read_version()
        except Exception as error:
            if not is_away(error):
                raise
            version = None
        if version is not None and version == self._version and monotonic() < self._until:
            return False
        self._version = version
        self._until = monotonic() + self._longest_seconds
        return True

    def end(self) -> None:
        """Do another round, though nothing may be committed until then."""
        self._until = 0.0


def open_change_signal(channel: Channel, poll_interval_seconds: float) -> ChangeSignal:
    """Return the best signal that the default database offers."""
    if connection.vendor == "postgresql":
        return NotifySignal(channel)
    database = find_database_file()
    return DataVersionSignal(database) if database else PollSignal(poll_interval_seconds)


def announce(*channels: Channel) -> None:
    """Signal a change to everything that waits; if a transaction is open, once it is committed."""
    execute_all(announcing(*channels))


def announcing(*channels: Channel) -> list[Statement]:
    """Return the statements with which a transaction announces a change: on SQLite, none."""
    if connection.vendor != "postgresql":
        return []
    return [(NOTIFY, [[channel.value for channel in channels]])]
