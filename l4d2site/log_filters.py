"""Log filters for records that strangers can cause as often as they like."""

import logging
import threading
from time import monotonic

INTERVAL_SECONDS = 60.0
LONGEST_HOST = 80


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
        record.exc_info = record.exc_text = None
        record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
        return True
