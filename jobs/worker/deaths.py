"""How a worker ends that cannot go on: with the reason in its log, and an exit code that tells the kind.

Each of its threads does something that no other does. Without one of them the rest would look alive, and do
half of the work. So the process ends at once, and whoever supervises it starts another, which fails the jobs
that ran; game servers go on.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

EXIT_STUCK = os.EX_SOFTWARE  # 70
"""The worker did not do what it could have done."""

EXIT_THREAD_DIED = 79
"""One of its threads met what nobody has thought of. sysexits.h ends at 78."""


@contextmanager
def vital(name: str) -> Iterator[None]:
    """Do what the thread `name` is for; end this process if anything comes out of it."""
    try:
        yield
    except BaseException as error:
        logger.critical(
            "The thread “%s” of this worker has died of %s: %s. The worker ends, for its supervisor to start "
            "another.",
            name,
            type(error).__name__,
            error,
            exc_info=error,
        )
        end_process(EXIT_THREAD_DIED)


def end_process(exit_code: int) -> None:
    """End this process now. What its other threads wait for could hold up any gentler end for ever."""
    os._exit(exit_code)
