"""Which process is meant: reads /proc, tells a process from a later one with the same number,
signals it.

A process number alone names nobody, numbers are used again. Everything that is remembered about a
process is its number, its start time in clock ticks, and the boot it ran in.
"""

# Without pathlib, whose import would take a sixth of the launcher's start-up time:
# ruff: noqa: PTH123, PTH208

import os
import signal
from collections.abc import Iterator
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
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def read_stat(pid: int) -> ProcessStat | None:
    """Return what is known of process `pid`, or None if there is none or it is a zombie."""
    fields = _read_fields(str(pid))
    if not fields or fields[1] in _ENDED_STATES:
        return None
    return ProcessStat(int(fields[0]), int(fields[3]), int(fields[4]), int(fields[20]))


def read_own_stat() -> ProcessStat:
    """Return what /proc says of this process; its number is the one by which others find it there.

    In a PID namespace that is not /proc's own this is another number than `os.getpid()`.
    """
    fields = _read_fields("self")
    if not fields:
        raise OSError("/proc does not show this process: is it mounted, and of this namespace?")
    return ProcessStat(int(fields[0]), int(fields[3]), int(fields[4]), int(fields[20]))


def is_alive(pid: int, start_ticks: int) -> bool:
    """Whether the process `pid` that started at `start_ticks` of this boot still runs."""
    stat = read_stat(pid)
    return stat is not None and stat.start_ticks == start_ticks


def wait_for_end(pid: int, start_ticks: int, seconds: float) -> bool:
    """Wait for at most `seconds` until exactly this process has ended; return whether it has."""
    import select  # The launcher, which imports this module, waits for nobody.

    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        # Only now does the number stand for one process.
        if not is_alive(pid, start_ticks):
            return True
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(pidfd)


def living_processes() -> Iterator[ProcessStat]:
    """Yield every process that is alive and that we may see."""
    for name in os.listdir("/proc"):
        if name.isdecimal() and (stat := read_stat(int(name))) is not None:
            yield stat


def read_ancestry(pid: int) -> list[int]:
    """Return the numbers of a process, its parent, and so on up to the first one; none if it is gone."""
    ancestry: list[int] = []
    # A number that is used again while this looks must not make it go round.
    while pid not in ancestry and (fields := _read_fields(str(pid))):
        ancestry.append(pid)
        pid = int(fields[2])
    return ancestry


def family_of(pid: int) -> set[int]:
    """Return the numbers of a process, its descendants, and what is in the session of that number."""
    family = {pid}
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal() and (fields := _read_fields(name)):
            parents[int(name)] = int(fields[2])
            if int(fields[4]) == pid:
                family.add(int(name))
    while grown := {child for child, parent in parents.items() if parent in family} - family:
        family |= grown
    return family


def read_descendants(pid: int) -> Iterator[int]:
    """Yield the children of a process, their children, and so on, without a look at any other process.

    None where the kernel does not list them (CONFIG_PROC_CHILDREN, proc_pid_task(5)). While processes come
    and go it may miss one.
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
    """Return the inode of a process's mount namespace; None if it is gone, or not ours to look into."""
    try:
        return os.stat(f"/proc/{pid}/ns/mnt").st_ino  # noqa: PTH116 - the launcher does without pathlib
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
        with open(path, "rb") as file:
            return file.read(max_bytes)
    except OSError:  # gone, going (EINVAL), or not ours
        return b""


def read_command(pid: int) -> str:
    """Return the command line of a process for people, or an empty text if it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
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


def _read_fields(name: str) -> list[str]:
    """Return the fields of /proc/NAME/stat (proc_pid_stat(5)) without the name; none if it is gone."""
    try:
        # open() rather than pathlib: the launcher imports this module and has to start quickly.
        with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return []
    # The name stands second in parentheses, and may hold spaces and parentheses.
    return [text.partition(" ")[0], *text[text.rindex(")") + 2 :].split()]
