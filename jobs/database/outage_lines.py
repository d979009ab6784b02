"""Logs that the database is away: once at the start, then once a minute, and once when it answers again.

All threads of a process meet the same outage, some of them several times a second.
"""

import logging
import math
import threading
from collections.abc import Callable
from time import monotonic

from jobs.database.outages import Outage, find_outage, name_kind

logger = logging.getLogger(__name__)

REPEAT_SECONDS = 60.0


class OutageLog:
    """What a process has logged of an outage. `what` names a thing that is tried until the database answers.

    Each kind of error has its own line a minute. An outage that begins within a minute after a line about the
    same error is logged once that minute is over.
    """

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._waiting: dict[str, float] = {}
        """When each thing has last met the outage."""
        self._told: dict[str, float] = {}
        """When each kind of error was last logged."""
        self._counts: dict[str, int] = {}
        """How often each kind has occurred since."""
        self._began_at = 0.0
        self._is_told = False

    def tell(self, what: str, error: BaseException) -> None:
        """Log that `what` has met an outage, unless the same error was logged within the last minute."""
        kind = name_kind(error)
        with self._lock:
            now = self._now()
            self._drop_what_was_given_up(now)
            if not self._waiting:
                self._began_at, self._is_told = now, False
            self._waiting[what] = now
            seconds = now - self._told.get(kind, -math.inf)
            if seconds < REPEAT_SECONDS:
                self._counts[kind] += 1
                return
            # A count of long ago says nothing about this outage.
            count = self._counts[kind] if seconds < 2 * REPEAT_SECONDS else 0
            self._told[kind], self._counts[kind], self._is_told = now, 0, True
        outage = find_outage(error) or Outage.AWAY
        words = " ".join(str(error).split())  # libpq's errors have several lines.
        more = f" ({count} times more in a minute)" if count else ""
        logger.warning("%s: the database %s: %s%s", what, outage, words, more)

    def end(self, what: str = "") -> None:
        """Log that the database answers again, if an outage was logged and nothing else still meets it.

        To be called whenever the database has answered `what`: costs next to nothing if there was no outage.
        Without `what` the outage is over for everything that has met it. Only a successful write shows that.
        """
        if not self._waiting:
            return
        with self._lock:
            now = self._now()
            if what:
                self._waiting.pop(what, None)
                self._drop_what_was_given_up(now)
            else:
                self._waiting.clear()
            if self._waiting:
                return
            is_told, self._is_told = self._is_told, False
            seconds = now - self._began_at
        if is_told:
            logger.warning("the database answers again, after %.1f s", seconds)

    def _drop_what_was_given_up(self, now: float) -> None:
        """Forget what has not failed for a minute: nobody retries it."""
        self._waiting = {
            what: met_at for what, met_at in self._waiting.items() if now - met_at <= REPEAT_SECONDS
        }


outage_log = OutageLog()
"""The outages of this process."""
