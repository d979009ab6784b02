"""Runs a check that may hang, without hanging with it, and no more often than is useful."""

import threading
from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

T = TypeVar("T")


class Looks(Generic[T]):
    """Shares the result of a check with all callers.

    One check runs at a time, in its own thread. Its result is kept for `kept_seconds`. Nobody waits for longer
    than `patience_seconds` from its start, and while it hangs no other one starts.
    """

    def __init__(
        self, look: Callable[[], T], *, kept_seconds: float, patience_seconds: float
    ) -> None:
        self._look = look
        self._kept_seconds = kept_seconds
        self._patience_seconds = patience_seconds
        self._changed = threading.Condition()
        self._found: T | None = None
        self._found_at: float | None = None
        self._began_at: float | None = None

    def latest(self) -> T | None:
        """Return a fresh result; None if the check in progress takes too long."""
        with self._changed:
            if self._is_fresh():
                return self._found
            if self._began_at is None:
                self._began_at = monotonic()
                threading.Thread(target=self._run, name="health", daemon=True).start()
            until = self._began_at + self._patience_seconds
            self._changed.wait_for(lambda: self._began_at is None, max(0, until - monotonic()))
            return self._found if self._began_at is None else None

    def forget(self) -> None:
        """Make the next caller get a new check."""
        with self._changed:
            self._found_at = None

    def _is_fresh(self) -> bool:
        return self._found_at is not None and monotonic() - self._found_at < self._kept_seconds

    def _run(self) -> None:
        found: T | None = None
        try:
            found = self._look()
        finally:
            # Even if it failed, which the thread's traceback reports: the result is then None.
            with self._changed:
                self._found, self._found_at, self._began_at = found, monotonic(), None
                self._changed.notify_all()
