"""Keeps operations on one host from colliding: `flock` locks that their commands inherit.

`install` and `rollback` hold the host's lock exclusively. Operations on instances share it, and each holds
its instance's lock exclusively; update checks share it too. Running SteamCMD needs a lock of its own.
SteamCMD inherits that lock, so it stays held while an installer is working, even if the worker that started
it was killed. The next operation detects such an orphan and ends it. Readers take no lock.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from hostops.callbacks import Callbacks
from hostops.linux import process_identity, untrusted
from hostops.linux.files import make_dir, tolerate_no_space
from hostops.linux.proc_stat import read_boot_id
from hostops.linux.process import end_group
from hostops.linux.untrusted import UntrustedFileError

_POLL_SECONDS = 0.05
_LOOK_SECONDS = 1.0  # Searching for orphans reads all of /proc.
_ORPHAN_GRACE_SECONDS = 10.0


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock, and its purpose; written into the lock's file."""

    pid: int
    start_ticks: int
    boot_id: str
    purpose: str

    @property
    def is_alive(self) -> bool:
        """Whether exactly this process is still running."""
        return self.boot_id == read_boot_id() and process_identity.is_alive(
            self.pid, self.start_ticks
        )


@contextlib.contextmanager
def hold(
    path: Path,
    purpose: str,
    callbacks: Callbacks,
    *,
    shared: bool = False,
    may_be_nameless: bool = False,
) -> Iterator[int]:
    """Hold the lock at `path` for the block; yields its descriptor, for commands to inherit.

    Waits for the current holder, saying so once; a cancel ends the waiting. If the holder is dead and only
    a command that it started still holds the lock, that command is ended.

    With `may_be_nameless`, a disk that has no room for the holder's name does not matter. No command may then
    inherit the lock: others would take it for an orphan, and end it.
    """
    make_dir(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _acquire(descriptor, path, purpose, shared, callbacks)
        if not shared:
            # Before any command starts, so that every heir of this lock finds its parent's name.
            with tolerate_no_space() if may_be_nameless else contextlib.nullcontext():
                _write_holder(descriptor, purpose)
        try:
            yield descriptor
        finally:
            if not shared:
                os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def hold_if_free(path: Path, purpose: str) -> Iterator[bool]:
    """Hold the lock at `path` exclusively for the block if nobody has it; yields whether we got it.

    A disk that has no room for the holder's name does not matter, since no command inherits the lock.
    """
    make_dir(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        is_ours = _try_lock(descriptor, fcntl.LOCK_EX)
        if is_ours:
            with tolerate_no_space():
                _write_holder(descriptor, purpose)
        try:
            yield is_ours
        finally:
            if is_ours:
                os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def read_holder(path: Path) -> Holder | None:
    """Return the last holder recorded in the lock's file, or None. It may have released the lock."""
    try:
        return Holder(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def is_locked(path: Path, beneath: Path | None = None) -> bool:
    """Whether somebody holds the lock exclusively. Takes it, shared, for an instant.

    Only `beneath` is trusted, by default the file's own folder. Anything but a file is no lock.
    """
    try:
        descriptor = untrusted.open_file(path, beneath or path.parent)
    except (FileNotFoundError, UntrustedFileError):
        return False
    try:
        return not _try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def has_open(pid: int, status: os.stat_result) -> bool:
    """Whether a process has the file of `status` open, as far as we may see that."""
    return any(True for _ in _descriptors_of(pid, status.st_dev, status.st_ino))


def _acquire(
    descriptor: int,
    path: Path,
    purpose: str,
    shared: bool,
    callbacks: Callbacks,
) -> None:
    said = ""
    look_at = time.monotonic()
    operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while not _try_lock(descriptor, operation):
        callbacks.cancel.raise_if_cancelled()
        if time.monotonic() >= look_at:
            if heirs := _orphaned_heirs(path):
                _end_orphans(path, heirs, callbacks)
                continue
            look_at = time.monotonic() + _LOOK_SECONDS
        if (text := f"{purpose}: waiting for {_describe_holders(path)}.") != said:
            callbacks.say(text)
            said = text
        callbacks.cancel.wait(_POLL_SECONDS)


def _try_lock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_holder(descriptor: int, purpose: str) -> None:
    process = process_identity.read_own_stat()
    holder = Holder(process.pid, process.start_ticks, read_boot_id(), purpose)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(asdict(holder)).encode(), 0)


def _orphaned_heirs(path: Path) -> list[process_identity.ProcessStat]:
    """Return the processes that hold the lock at `path` only because they inherited it from a dead parent."""
    before = read_holder(path)
    if before is not None and before.is_alive:
        return []
    try:
        wanted = path.stat()
    except FileNotFoundError:
        return []
    heirs = [
        process
        for process in process_identity.living_processes()
        if any(
            _holds_by_inheritance(process.pid, number)
            for number in _descriptors_of(process.pid, wanted.st_dev, wanted.st_ino)
        )
    ]
    # Every holder records itself before it starts a command. If the dead holder's name is still there
    # now, these are its heirs, and not those of a holder that came in the meantime.
    return heirs if read_holder(path) == before else []


def _descriptors_of(pid: int, device: int, inode: int) -> Iterator[str]:
    """Yield the numbers of a process's descriptors for one file."""
    folder = Path(f"/proc/{pid}/fd")
    # Gone, or not ours to inspect: then it is not one of the processes we look for.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        for link in folder.iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, OSError):
                status = link.stat()
                if (status.st_dev, status.st_ino) == (device, inode):
                    yield link.name


def _holds_by_inheritance(pid: int, descriptor: str) -> bool:
    """Whether the descriptor holds a flock and survives exec; only descriptors that we pass on do."""
    try:
        text = Path(f"/proc/{pid}/fdinfo/{descriptor}").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return "FLOCK" in fields.get("lock", "") and not int(fields["flags"], 8) & os.O_CLOEXEC


def _end_orphans(
    path: Path, heirs: list[process_identity.ProcessStat], callbacks: Callbacks
) -> None:
    holder = read_holder(path)
    owner = f"{holder.purpose} (process {holder.pid})" if holder else "its parent"
    for heir in heirs:
        callbacks.warn(
            f"Process {heir.pid} ({process_identity.read_command(heir.pid)[:120]}) was left behind when "
            f"{owner} died, and still works on the host's files. It is being ended.",
        )
    for group in {heir.group for heir in heirs}:
        # Still the same group only if one of the heirs found is in it and alive.
        if any(
            (now := process_identity.read_stat(heir.pid)) and now == heir
            for heir in heirs
            if heir.group == group
        ):
            end_group(group, _ORPHAN_GRACE_SECONDS)


def _describe_holders(path: Path) -> str:
    """Describe who holds the lock, or who shares the host's lock."""
    holder = read_holder(path)
    if holder is not None and holder.is_alive:
        return f"{holder.purpose} (process {holder.pid})"
    sharers = [
        other
        for file in (
            *sorted((path.parent / "instances").glob("*.lock")),
            path.parent / "steam.lock",
        )
        if (other := read_holder(file)) is not None and other.is_alive
    ]
    if sharers:
        return ", ".join(f"{other.purpose} (process {other.pid})" for other in sharers)
    return "another operation on this host"
