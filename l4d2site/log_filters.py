"""How a process log is kept safe and short, whatever strangers send: its lines, and which tracebacks it has."""

import logging
import re
import threading
from time import monotonic

INTERVAL_SECONDS = 60.0
LONGEST_HOST = 80
LONGEST_PATH = 200
LONGEST_REASON = 300


SLASH = r"(?:/|%(?:25)*2F)"
"""A slash in an address, or in one that is quoted within others, each time once more."""

LINK = re.compile(rf"({SLASH}accounts{SLASH}(?:invitation|reset){SLASH})[^\s'\"&]+", re.IGNORECASE)
"""The address of an invitation, or for a new password, also within another one. The group ends at its token."""


class SafeLines(logging.Formatter):
    """Makes one line of each record, and begins those of a traceback so that none looks like another record.

    Strangers choose part of what is logged, and programs such as fail2ban read the log. Characters that cannot
    be printed are escaped. Links are cut before their tokens, wherever they are: anybody could use one.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the line, without the traceback."""
        return escape(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        line, *trace = super().format(record).split("\n")
        return LINK.sub(r"\1...", "\n".join([line, *(f"| {escape(one)}" for one in trace)]))


def escape(text: str) -> str:
    """Return `text` with each character that cannot be printed as Python writes it in a literal."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


class OnceAMinute(logging.Filter):
    """Lets one record a minute through, as one line; the next one says how many were left out.

    For Django's refusals of requests whose `Host` is not in `ALLOWED_HOSTS`. It logs a traceback for each.
    """

    def __init__(self, name: str = "") -> None:
        super().__init__(name)
        self._lock = threading.Lock()
        self._next_at = 0.0
        self._left_out = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log the record, and shorten it to one line."""
        with self._lock:
            now = monotonic()
            if now < self._next_at:
                self._left_out += 1
                return False
            left_out, self._left_out = self._left_out, 0
            self._next_at = now + INTERVAL_SECONDS
        request = getattr(record, "request", None)
        host = str(request.META.get("HTTP_HOST", "")) if request is not None else ""
        more = f", and {left_out} more since this was last said" if left_out else ""
        record.msg = "refused a request for the host %s, which is none of ALLOWED_HOSTS%s"
        record.args = (ascii(host[:LONGEST_HOST]), more)
        make_short_warning(record)
        return True


class OneLine(logging.Filter):
    """Makes a warning of one line of a refusal that Django logs as an error, with a traceback.

    Whoever sent the request chose its path, and mostly the reason too: they are quoted, and cut.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten the record to one line, and log it."""
        if record.levelno < logging.ERROR:
            return True  # It is short already.
        request = getattr(record, "request", None)
        path = str(request.path) if request is not None else ""
        reason = record.getMessage()
        record.msg = "refused a request for %s: %s"
        record.args = (ascii(path[:LONGEST_PATH]), ascii(reason[:LONGEST_REASON]))
        make_short_warning(record)
        return True


class ShortWarning(logging.Filter):
    """Takes the traceback out of a warning, and cuts long texts.

    Django logs a traceback for each request that it refuses.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Log the record; a fault of ours, which is an error, with its traceback."""
        if record.levelno < logging.ERROR:
            record.exc_info = record.exc_text = None
        if isinstance(record.args, tuple):
            record.args = tuple(
                f"{one[:LONGEST_REASON]}..."
                if isinstance(one, str) and len(one) > LONGEST_REASON
                else one
                for one in record.args
            )
        return True


def make_short_warning(record: logging.LogRecord) -> None:
    """Take the traceback out of a record, and make it a warning."""
    record.exc_info = record.exc_text = None
    record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
