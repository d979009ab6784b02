"""How the benchmark learns when a job began: each no-op job writes a line into a named pipe."""

import os
import select
from pathlib import Path
from time import monotonic_ns

MARKS_VARIABLE = "BENCH_MARKS"


class Marker:
    """The writing side, in the worker. A line is written whole, whichever thread or process writes."""

    def __init__(self) -> None:
        self._descriptor: int | None = None

    def __call__(self, token: str) -> None:
        """Report that the job `token` is running."""
        now = monotonic_ns()
        if self._descriptor is None:
            self._descriptor = os.open(os.environ[MARKS_VARIABLE], os.O_WRONLY)
        os.write(self._descriptor, f"{token} {now}\n".encode())


mark = Marker()


class Marks:
    """The reading side, in the benchmark."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        # Open for writing too: otherwise it would be at end of file whenever no worker has it open.
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._rest = b""

    def read(self, timeout: float) -> list[tuple[str, int]]:
        """Return the marks that have arrived, as (token, nanoseconds); waits for one at most `timeout` s."""
        readable, _, _ = select.select([self._descriptor], [], [], timeout)
        if not readable:
            return []
        *lines, self._rest = (self._rest + os.read(self._descriptor, 1 << 20)).split(b"\n")
        pairs = (line.decode().split() for line in lines)
        return [(token, int(time)) for token, time in pairs]
