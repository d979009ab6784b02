"""Identifies processes: reads /proc, tells a process from a later one with the same number, and signals
it.

A process ID alone identifies nothing, because IDs are reused. What is stored about a process is its ID, its
start time in clock ticks, and the boot it ran in.
"""

# Without pathlib: reading all of /proc takes long enough.
# ruff: noqa: PTH116, PTH123, PTH208

import os
import select
import signal
from collections.abc import Iterator
from typing import NamedTuple

from hostops.linux.proc_stat import read_fields, read_own_fields

# The state letters of proc(5) for a process whose first thread has ended, and that its parent has not reaped.
_ENDED_STATES = frozenset("ZXx")
_THREADS = 18  # the field with the number of threads


class ProcessStat(NamedTuple):
    """The contents of /proc/PID/stat for a living process. `start_ticks` counts from the boot."""

    pid: int
    group: int
    session: int
    start_ticks: int


def read_stat(pid: int) -> ProcessStat | None:
    """Return the facts about process `pid`, or None if there is none or it has ended with all its threads."""
    fields = read_fields(str(pid))
    # Other threads may outlive the first one, with everything that the process has open.
    if not fields or (fields[1] in _ENDED_STATES and int(fields[_THREADS]) <= 1):
        return None
    return ProcessStat(int(fields[0]), int(fields[3]), int(fields[4]), int(fields[20]))


def read_own_stat() -> ProcessStat:
    """Return /proc's facts about this process, including the process ID by which others find it there.

    In a PID namespace other than /proc's own, that ID differs from `os.getpid()`.
    """
    fields = read_own_fields()
    return ProcessStat(int(fields[0]), int(fields[3]), int(fields[4]), int(fields[20]))


def is_alive(pid: int, start_ticks: int) -> bool:
    """Whether the process `pid` that started at `start_ticks` of this boot is still running."""
    stat = read_stat(pid)
    return stat is not None and stat.start_ticks == start_ticks


def wait_for_end(pid: int, start_ticks: int, seconds: float) -> bool:
    """Wait for at most `seconds` until exactly this process has ended; return whether it has."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        # The number is certain to mean one process only from here on.
        if not is_alive(pid, start_ticks):
            return True
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(pidfd)


def living_processes() -> Iterator[ProcessStat]:
    """Yield every living process that we may see."""
    for name in os.listdir("/proc"):
        if name.isdecimal() and (stat := read_stat(int(name))) is not None:
            yield stat


def read_ancestry(pid: int) -> list[int]:
    """Return the IDs of a process, its parent, and so on up to the first one; none if it is gone."""
    ancestry: list[int] = []
    # If an ID is reused during this loop, it must not run forever.
    while pid not in ancestry and (fields := read_fields(str(pid))):
        ancestry.append(pid)
        pid = int(fields[2])
    return ancestry


def family_of(pid: int) -> set[int]:
    """Return the IDs of a process, its descendants, and all processes in the session with its ID."""
    family = {pid}
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal() and (fields := read_fields(name)):
            parents[int(name)] = int(fields[2])
            if int(fields[4]) == pid:
                family.add(int(name))
    while grown := {child for child, parent in parents.items() if parent in family} - family:
        family |= grown
    return family


def read_descendants(pid: int) -> Iterator[int]:
    """Yield the children of a process, their children, and so on, without reading any other process.

    Yields nothing if the kernel does not list them (CONFIG_PROC_CHILDREN, proc_pid_task(5)). It may miss a
    process while others come and go.
    """
    for name in _list(f"/proc/{pid}/task"):
        for child in _read_some(f"/proc/{pid}/task/{name}/children", 64 * 1024).split():
            yield int(child)
            yield from read_descendants(int(child))


def _list(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, ProcessLookupError):
        return []


def read_mount_namespace(pid: int) -> int | None:
    """Return the inode of a process's mount namespace; None if the process is gone, or not ours to inspect."""
    try:
        return os.stat(f"/proc/{pid}/ns/mnt").st_ino
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def read_mounts(pid: int) -> bytes:
    """Return a process's mountinfo, at most the first MiB; empty if it is not ours to inspect."""
    return _read_some(f"/proc/{pid}/mountinfo", 1024**2)


def read_environment(pid: int) -> list[str]:
    """Return the `NAME=VALUE` that a process was started with; empty if it is not ours to inspect.

    The process may have overwritten them.
    """
    data = _read_some(f"/proc/{pid}/environ", 128 * 1024)
    return data.decode("utf-8", "replace").split("\0")


def _read_some(path: str, max_bytes: int) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(max_bytes)
    except OSError:  # gone, going (EINVAL), or not ours
        return b""


def read_command(pid: int) -> str:
    """Return a process's command line for people, or an empty text if it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def send_signal(process: ProcessStat, signal_number: int) -> bool:
    """Signal exactly this process; return False if it is gone. A later one with the same ID is safe."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        # The descriptor pins the process, so from here on the ID means exactly one.
        if not is_alive(process.pid, process.start_ticks):
            return False
        signal.pidfd_send_signal(pidfd, signal_number)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True
