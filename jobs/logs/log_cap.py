"""Caps the log of a job at `JOB_LOG_MAX_BYTES`: its beginning, how much is left out, and its last lines."""

from collections import deque
from datetime import datetime
from typing import NamedTuple

from django.conf import settings

from jobs.claimed_jobs import ClaimedJob
from jobs.models import LogStream

LAST_LINES = 100
"""How many of the lines that do not fit are kept for the end: they say why a job failed."""

MB = 1_000_000


class LogLine(NamedTuple):
    """A line that is safe to store."""

    stream: str
    text: str
    created_at: datetime


class LogCap:
    """What one running job may still store. Its memory is bounded, whatever the job prints."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._left_bytes = max_bytes
        self._last: deque[LogLine] = deque(maxlen=LAST_LINES)
        self._dropped_lines = 0
        self._dropped_bytes = 0
        self._is_reached = False

    def take(self, line: LogLine) -> list[LogLine]:
        """Take a line; return what to store now: that line, a remark that the log is full, or nothing."""
        size = size_of(line)
        if not self._is_reached and size <= self._left_bytes:
            self._left_bytes -= size
            return [line]
        remarks = []
        if not self._is_reached:
            self._is_reached = True
            kept = describe(self._max_bytes)
            text = f"[The log of a job is kept to {kept}: only its last lines follow, at its end]"
            remarks = [LogLine(LogStream.STDERR, text, line.created_at)]
        if len(self._last) == LAST_LINES:
            self._dropped_lines += 1
            self._dropped_bytes += size_of(self._last[0])
        self._last.append(line)
        return remarks

    def finish(self) -> list[LogLine]:
        """Return what to store at the end: how much is left out, and the last lines."""
        lines = list(self._last)
        self._last.clear()
        if self._dropped_lines:
            noun = "line" if self._dropped_lines == 1 else "lines"
            text = (
                f"[{self._dropped_lines:,} {noun} and {describe(self._dropped_bytes)} more are left out: "
                f"the log of a job is kept to {describe(self._max_bytes)}]"
            )
            lines.insert(0, LogLine(LogStream.STDERR, text, lines[0].created_at))
        return lines


class LogCaps:
    """The caps of the jobs whose output a log writer stores. For one thread at a time."""

    def __init__(self) -> None:
        self._caps: dict[int, LogCap] = {}

    def take(self, job: ClaimedJob, line: LogLine) -> list[LogLine]:
        """Call `LogCap.take` for a line of `job`."""
        cap = self._caps.get(job.id)
        if cap is None:
            cap = self._caps[job.id] = LogCap(settings.JOB_LOG_MAX_BYTES)
        return cap.take(line)

    def finish(self, job: ClaimedJob) -> list[LogLine]:
        """Forget a job; return the result of `LogCap.finish`."""
        cap = self._caps.pop(job.id, None)
        return cap.finish() if cap else []


def size_of(line: LogLine) -> int:
    """Return how many bytes a line takes as text, with its line end."""
    return (len(line.text) if line.text.isascii() else len(line.text.encode())) + 1


def describe(size: int) -> str:
    """Return a number of bytes in words."""
    return f"{size / MB:,.0f} MB" if size >= MB else f"{size:,} bytes"
