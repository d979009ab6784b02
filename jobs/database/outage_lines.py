"""Logs that the database is away: once at the start, then once a minute, and once when it answers again.

All threads of a process meet the same outage, some of them several times a second.
"""

import logging
import threading
from collections.abc import Callable
from math import inf
from time import monotonic

from jobs.database.outages import Outage, find_outage

logger = logging.getLogger(__name__)

REPEAT_SECONDS = 60.0


class OutageLog:
    """What a process has logged of an outage. `what` names a thing that is tried until the database answers.

    An outage that begins within a minute after a line about another one is logged once that minute is over.
    """

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._waiting: set[str] = set()
        self._began_at = 0.0
        self._met_at = self._told_at = -inf
        self._is_told = False
        self._count = 0

    def tell(self, what: str, error: BaseException) -> None:
        """Log that `what` has met an outage, unless one was logged within the last minute."""
        with self._lock:
            now = self._now()
            if now - self._met_at > REPEAT_SECONDS:
                # What had met the last outage has been given up, and so has not succeeded.
                self._waiting.clear()
                self._is_told = False
            if not self._waiting:
                self._began_at, self._count = now, 0
            self._met_at = now
            self._waiting.add(what)
            if now - self._told_at < REPEAT_SECONDS:
                self._count += 1
                return
            count, self._count = self._count, 0
            self._told_at, self._is_told = now, True
        outage = find_outage(error) or Outage.AWAY
        words = " ".join(str(error).split())  # libpq's errors have several lines.
        more = f" ({count} times more in a minute)" if count else ""
        logger.warning("%s: the database %s: %s%s", what, outage, words, more)

    def end(self, what: str = "") -> None:
        """Log that the database answers again, if `what` has met an outage that was logged.

        To be called whenever the database has answered `what`: costs next to nothing if there was no outage.
        Without `what` the outage is over for everything that has met it. Only a successful write shows that.
        """
        if not self._waiting or (what and what not in self._waiting):
            return
        with self._lock:
            # Something else may still fail: it has met the next outage then.
            self._waiting.clear()
            is_told, self._is_told = self._is_told, False
            seconds = self._now() - self._began_at
        if is_told:
            logger.warning("the database answers again, after %.1f s", seconds)


outage_log = OutageLog()
"""The outages of this process."""
