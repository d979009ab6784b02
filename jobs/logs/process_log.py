"""What a process says in its own log of faults that it survives. One that comes again is a line a minute."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from hostops.errors import HostError

REPEAT_SECONDS = 60.0


@dataclass
class ToldFault:
    """A fault that is known: when it was told last, and how often it has come since."""

    told_at: float
    count: int = 0


class FaultLog:
    """Tells a fault at once, and then each minute how often it came again.

    Several loops look at the same host many times a second, and meet the same fault: one text is one fault,
    whoever meets it.
    """

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._told: dict[str, ToldFault] = {}

    def tell(
        self, logger: logging.Logger, what: str, error: Exception, *, is_explained: bool = False
    ) -> None:
        """Log that `what` went wrong, unless the same error was told within the last minute.

        The host layer's own words stand by themselves, as do those of an error that `is_explained`. Any other
        is a fault of ours: its traceback is told with it, the first time.
        """
        key = f"{type(error).__name__}: {error}"
        with self._lock:
            now = self._now()
            known = self._told.get(key)
            if known and now - known.told_at < REPEAT_SECONDS:
                known.count += 1
                return
            # What has not come since it was told, or was told long ago, is news when it comes again.
            self._told = {
                text: one
                for text, one in self._told.items()
                if now - one.told_at < 2 * REPEAT_SECONDS
            }
            known = self._told.get(key)
            self._told[key] = ToldFault(now)
        if known and known.count:
            logger.warning("%s: %s (%s times more in a minute)", what, words_of(error), known.count)
        elif is_explained or isinstance(error, HostError):
            logger.warning("%s: %s", what, words_of(error))
        else:
            logger.error("%s: %s", what, words_of(error), exc_info=error)


def words_of(error: Exception) -> str:
    """Return what an error says; its kind if it says nothing."""
    return str(error) or type(error).__name__


faults = FaultLog()
"""Those of this process."""
