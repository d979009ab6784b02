"""Ends a worker that cannot continue, with the reason in its log and an exit code for the kind of failure.

Each thread of a worker does something that no other does. Without one of them the rest would look alive and do
half of the work. So the process ends at once, and its supervisor starts another, which fails the jobs that ran.
Game servers keep running.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

EXIT_STUCK = os.EX_SOFTWARE  # 70
"""The worker left a job that it could have run, or its database was replaced, or only others can write that."""

EXIT_THREAD_DIED = 79
"""One of its threads met an unexpected error. sysexits.h ends at 78."""

OF_INDEXES = ("no such index: ", "no query solution")
"""How SQLite's errors begin if a statement names an index that was dropped, or that does not fit it."""


@contextmanager
def vital(name: str) -> Iterator[None]:
    """Guard the block, which is all that the thread `name` does: any exception from it ends this process."""
    try:
        yield
    except BaseException as error:
        logger.critical(
            "The thread “%s” of this worker has died of %s: %s. The worker ends, for its supervisor to start "
            "another.%s",
            name,
            type(error).__name__,
            error,
            find_cure(error),
            exc_info=error,
        )
        end_process(EXIT_THREAD_DIED)


def find_cure(error: BaseException) -> str:
    """Return what to do, after a space, if the next worker would end in the same way; otherwise nothing."""
    if str(error).startswith(OF_INDEXES):
        return " That one will end the same way until the index is made again: the Health page says how."
    return ""


def end_process(exit_code: int) -> None:
    """End this process now: a gentler end could wait forever for its other threads."""
    os._exit(exit_code)
