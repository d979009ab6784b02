"""Keeps servers' output from filling their host's disk: trims its files, stored or not. Needs no database."""

import logging
from collections.abc import Mapping
from time import monotonic
from typing import Protocol

from hostops.errors import HostError
from jobs.logs import faults

logger = logging.getLogger(__name__)

MOST_BYTES = 64 * 1024**2
"""What one run's output may take on its host. Far more than the panel is behind, except in a flood."""

FLOOD_BYTES = 8 * 1024**2
"""What a run keeps that would fill `MOST_BYTES` within a second: the next check may come late."""

LONGEST_WAIT_SECONDS = 1.0
SHORTEST_WAIT_SECONDS = 0.02


class TrimmableConsoles(Protocol):
    """What the guard needs from a host layer."""

    def trim_consoles(self, most_bytes: int) -> Mapping[str, int]:
        """Trim every console; return the size of each one's latest run, by name."""

    def trim_console(self, name: str, most_bytes: int) -> int:
        """Trim one console; return the size of its latest run."""


class ConsoleGuard:
    """Trims the consoles of one host; the faster one grows, the sooner. For use by one thread."""

    def __init__(self, source: TrimmableConsoles) -> None:
        self._source = source
        self._sizes: Mapping[str, int] = {}
        self._looked_at = monotonic()

    def look(self) -> float:
        """Trim what is too large; return in how many seconds to check again.

        A host that cannot be read is logged, and checked again.
        """
        try:
            return self._trim()
        except Exception as error:  # noqa: BLE001 - logged
            what = "the consoles cannot be kept within bounds"
            is_explained = isinstance(error, OSError | HostError)
            faults.tell(logger, what, error, is_explained=is_explained)
            return LONGEST_WAIT_SECONDS

    def _trim(self) -> float:
        sizes = self._source.trim_consoles(MOST_BYTES)
        seconds = max(monotonic() - self._looked_at, SHORTEST_WAIT_SECONDS)
        rates = {
            name: (size - self._sizes.get(name, size)) / seconds for name, size in sizes.items()
        }
        self._sizes, self._looked_at = sizes, monotonic()
        for name, rate in rates.items():
            if rate > MOST_BYTES:
                self._source.trim_console(name, FLOOD_BYTES)
        bytes_a_second = max(rates.values(), default=0)
        if bytes_a_second <= 0:
            return LONGEST_WAIT_SECONDS
        # In that time the fastest one grows by a quarter of the limit.
        wait_seconds = MOST_BYTES / 4 / bytes_a_second
        return min(max(wait_seconds, SHORTEST_WAIT_SECONDS), LONGEST_WAIT_SECONDS)
