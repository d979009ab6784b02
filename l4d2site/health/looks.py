"""Looks at something that may hang, without hanging with it, and not more often than is of use."""

import threading
from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

T = TypeVar("T")


class Looks(Generic[T]):
    """Hands out what a look found, to however many ask.

    There is one look at a time, in a thread of its own. What it found is kept for `kept_seconds`; nobody
    waits for it longer than `patience_seconds` from its beginning, and while it hangs no other is begun.
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
        """Return what a look found that is fresh; None if the one that is under way takes too long."""
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
        """Let the next who asks get a new look."""
        with self._changed:
            self._found_at = None

    def _is_fresh(self) -> bool:
        return self._found_at is not None and monotonic() - self._found_at < self._kept_seconds

    def _run(self) -> None:
        found: T | None = None
        try:
            found = self._look()
        finally:
            # Also if it failed, which the thread's traceback tells: then this look found nothing.
            with self._changed:
                self._found, self._found_at, self._began_at = found, monotonic(), None
                self._changed.notify_all()
