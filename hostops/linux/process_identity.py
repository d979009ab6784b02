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
    try:
        # open() rather than pathlib: the launcher imports this module and has to start quickly.
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the command's name in parentheses, and may hold spaces and parentheses.
    fields = text[text.rindex(")") + 2 :].split()
    if fields[0] in _ENDED_STATES:
        return None
    return ProcessStat(pid, int(fields[2]), int(fields[3]), int(fields[19]))


def read_own_stat() -> ProcessStat:
    """Return what /proc says of this process."""
    stat = read_stat(os.getpid())
    if stat is None:
        raise OSError("/proc does not show this process: is it mounted, and of this namespace?")
    return stat


def is_alive(pid: int, start_ticks: int) -> bool:
    """Whether the process `pid` that started at `start_ticks` of this boot still runs."""
    stat = read_stat(pid)
    return stat is not None and stat.start_ticks == start_ticks


def living_processes() -> Iterator[ProcessStat]:
    """Yield every process that is alive and that we may see."""
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdecimal() and (stat := read_stat(int(name))) is not None:
            yield stat


def read_mount_namespace(pid: int) -> int | None:
    """Return the inode of a process's mount namespace; None if it is gone, or not ours to look into."""
    try:
        return os.stat(f"/proc/{pid}/ns/mnt").st_ino  # noqa: PTH116 - of every process there is
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def read_mounts(pid: int) -> bytes:
    """Return a process's mountinfo, or the first MiB of it; nothing if it is not ours to look into."""
    return _read_some(f"/proc/{pid}/mountinfo", 1024**2)


def read_environment(pid: int) -> list[str]:
    """Return the `NAME=VALUE` that a process was started with; nothing if it is not ours to look into.

    It may have overwritten them.
    """
    data = _read_some(f"/proc/{pid}/environ", 128 * 1024)
    return data.decode("utf-8", "replace").split("\0")


def _read_some(path: str, max_bytes: int) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - of every process there is
            return file.read(max_bytes)
    except OSError:  # gone, going (EINVAL), or not ours
        return b""


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
