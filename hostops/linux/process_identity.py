"""Which process is meant: reads /proc, tells a process from a later one with the same number,
signals it.

A process number alone names nobody, numbers are used again. Everything that is remembered about a
process is its number, its start time in clock ticks, and the boot it ran in.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# The state letters of proc(5) for a process that has ended and whose parent has not asked how.
_ENDED_STATES = frozenset("ZXx")


class ProcessStat(NamedTuple):
    """What /proc/PID/stat says about a process that is alive. `start_ticks` counts from the boot."""

    pid: int
    group: int
    session: int
    start_ticks: int


def read_boot_id() -> str:
    """Return the kernel's name for this boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123 - see below
        return file.read().strip()


def read_stat(pid: int) -> ProcessStat | None:
    """Return what is known of process `pid`, or None if there is none or it is a zombie."""
    return _read_stat(str(pid))


def read_own_stat() -> ProcessStat:
    """Return what /proc says of this process; its number is the one by which others find it there.

    In a PID namespace that is not /proc's own this is another number than `os.getpid()`.
    """
    stat = _read_stat("self")
    if stat is None:
        raise OSError("/proc does not show this process: is it mounted, and of this namespace?")
    return stat


def _read_stat(name: str) -> ProcessStat | None:
    try:
        # open() rather than pathlib: the launcher imports this module and has to start quickly.
        with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the command's name in parentheses, and may hold spaces and parentheses.
    fields = text[text.rindex(")") + 2 :].split()
    if fields[0] in _ENDED_STATES:
        return None
    pid = int(text.partition(" ")[0])
    return ProcessStat(pid, int(fields[2]), int(fields[3]), int(fields[19]))


def is_alive(pid: int, start_ticks: int) -> bool:
    """Whether the process `pid` that started at `start_ticks` of this boot still runs."""
    stat = read_stat(pid)
    return stat is not None and stat.start_ticks == start_ticks


def living_processes() -> Iterator[ProcessStat]:
    """Yield every process that is alive and that we may see."""
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdecimal() and (stat := read_stat(int(name))) is not None:
            yield stat


def read_command(pid: int) -> str:
    """Return the command line of a process for people, or an empty text if it is gone."""
    try:
        return (
            Path(f"/proc/{pid}/cmdline")
            .read_bytes()
            .replace(b"\0", b" ")
            .decode("utf-8", "replace")
            .strip()
        )
    except (FileNotFoundError, ProcessLookupError):
        return ""


def send_signal(process: ProcessStat, signal_number: int) -> bool:
    """Signal exactly this process; return False if it is gone. A later one with its number is safe."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        # Only now does the number stand for one process: the descriptor pins it.
        if not is_alive(process.pid, process.start_ticks):
            return False
        signal.pidfd_send_signal(pidfd, signal_number)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True
