"""Logs faults that a process survives, in its own log. A repeated fault is one line a minute."""

import errno
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from hostops.errors import HostError
from jobs.database import is_away, outage_log

REPEAT_SECONDS = 60.0

OF_THE_MACHINE = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE}
)
"""What a disk and the rights of files can do to any program: its text and the name of the file say enough."""


@dataclass
class ToldFault:
    """A known fault: when it was last logged, and how often it has occurred since."""

    told_at: float
    count: int = 0


class FaultLog:
    """Logs a fault at once, and then each minute how often it was repeated.

    Several loops read the same host many times a second and meet the same fault. So the error's text identifies
    the fault, whichever loop meets it.
    """

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._told: dict[str, ToldFault] = {}

    def tell(
        self, logger: logging.Logger, what: str, error: Exception, *, is_explained: bool = False
    ) -> None:
        """Log that `what` went wrong, unless the same error was logged within the last minute.

        An outage of the database is one fault, whatever each error says: `outage_log` has it. Errors of the
        host layer and of the machine, and errors that are `is_explained`, are logged as their text alone. Any
        other is a bug of ours: the first time, it is logged with its traceback.
        """
        if is_away(error):
            outage_log.tell(what, error)
            return
        key = f"{type(error).__name__}: {error}"
        with self._lock:
            now = self._now()
            known = self._told.get(key)
            if known and now - known.told_at < REPEAT_SECONDS:
                known.count += 1
                return
            # A fault that was logged long ago counts as new when it occurs again.
            self._told = {
                text: one
                for text, one in self._told.items()
                if now - one.told_at < 2 * REPEAT_SECONDS
            }
            known = self._told.get(key)
            self._told[key] = ToldFault(now)
        if known and known.count:
            logger.warning("%s: %s (%s times more in a minute)", what, words_of(error), known.count)
        elif is_explained or isinstance(error, HostError) or is_of_machine(error):
            logger.warning("%s: %s", what, words_of(error))
        else:
            logger.error("%s: %s", what, words_of(error), exc_info=error)


def is_of_machine(error: Exception) -> bool:
    """Return whether the machine refused something of a file that the error names."""
    if not isinstance(error, OSError) or error.filename is None:
        return False
    return error.errno in OF_THE_MACHINE


def words_of(error: Exception) -> str:
    """Return the error's text, or the name of its class if it has none."""
    return str(error) or type(error).__name__


faults = FaultLog()
"""The faults of this process."""
