"""How a process learns at once that another one has committed something.

PostgreSQL says so (LISTEN and NOTIFY); SQLite is asked for its `data_version`, which costs next to nothing.
A signal may be a false alarm, and may be lost while a connection is: whoever waits for it looks again after
a while all the same.
"""

import logging
import os
import select
import sqlite3
from enum import StrEnum
from time import monotonic
from typing import Any, Protocol

import psycopg
from django.db import connection

logger = logging.getLogger(__name__)

DATA_VERSION_INTERVAL_SECONDS = 0.004


class Channel(StrEnum):
    """What has changed: `queue` what workers wait for, `pages` what anybody may be looking at."""

    QUEUE = "saferoom_queue"
    PAGES = "saferoom_pages"


class Interrupt:
    """An event that may also be set from a signal handler.

    `threading.Event` may not: a handler that runs while the same thread holds the event's lock would wait
    for it for ever. Writing to a descriptor waits for nobody.
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
    poll = (
        select.poll()
    )  # select() takes no descriptor above 1,023, and a web server has thousands.
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

    It takes 3 µs, so it may be asked often; a checkpoint can be a false alarm. Its connection does
    nothing else: commits of its own, or an open transaction, would hide those of others.
    """

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._version = self._read()

    def wait(self, seconds: float, interrupt: Interrupt) -> bool:
        """Wait for a commit of another connection or for `interrupt`, at most `seconds`."""
        until = monotonic() + seconds
        while True:
            version = self._read()
            if version != self._version:
                self._version = version
                return True
            left = until - monotonic()
            if left <= 0 or interrupt.wait(min(left, DATA_VERSION_INTERVAL_SECONDS)):
                return False

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _read(self) -> int:
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])


class NotifySignal:
    """PostgreSQL's NOTIFY, heard on a connection of its own, which is made anew when it breaks.

    What is notified while there is no connection is lost, so a new connection counts as a change.
    PgBouncer passes LISTEN on in session mode only.
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
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
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
    """Take every notification that has arrived; return whether there was one."""
    return len(list(listener.notifies(timeout=0))) > 0


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


def open_change_signal(channel: Channel, poll_interval_seconds: float) -> ChangeSignal:
    """Return the best signal that the default database gives."""
    if connection.vendor == "postgresql":
        return NotifySignal(channel)
    name = str(connection.settings_dict["NAME"])
    if "mode=memory" in name or name == ":memory:":
        return PollSignal(poll_interval_seconds)
    return DataVersionSignal(name)


def announce(*channels: Channel) -> None:
    """Tell those who wait that something has changed: once this transaction is committed, if one is open."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            for channel in channels:
                cursor.execute(f"NOTIFY {channel}")
