"""What instances were last seen to do, for callers that ask about all of them every other second."""

import os
import time
from dataclasses import dataclass
from typing import NamedTuple

from hostops.instances import runs
from hostops.layout import InstanceLayout
from hostops.linux.process_identity import is_alive
from hostops.specs import InstanceState, InstanceStatus

LONGEST_SECONDS = 10.0
"""For how long a status is remembered. What changes outside the instance's own folder is seen by then."""

SETTLED_SECONDS = 1.0
"""How old a folder's last change has to be: two in the same tick of the kernel's clock look like one."""


class _FolderState(NamedTuple):
    """Differs once a file of the folder was made, replaced or removed: inode(7)."""

    inode: int
    modified_at_ns: int
    changed_at_ns: int


@dataclass(frozen=True)
class _Memory:
    status: InstanceStatus
    folder: _FolderState
    start_ticks: int
    until: float


class StatusMemory:
    """Reads statuses, and remembers those of instances that just go on running.

    Every record of a run is replaced by a rename, which changes the instance's folder. So if the folder has not
    changed and the process is the same one, nothing has. That takes two system calls instead of forty.
    """

    def __init__(self) -> None:
        self._memories: dict[str, _Memory] = {}

    def read_status(self, instance: InstanceLayout) -> InstanceStatus:
        """Return what `runs.read_status` would, except that a detail may be `LONGEST_SECONDS` old."""
        folder = _read_folder(instance)
        memory = self._memories.get(instance.name)
        if memory is not None and _holds(memory, folder):
            return memory.status
        status = runs.read_status(instance)
        self._memories.pop(instance.name, None)
        run = runs.read_run(instance)
        if (
            folder is not None
            and run is not None
            and _goes_on(status)
            and status.pid == run.pid
            and time.time() - folder.changed_at_ns / 1e9 > SETTLED_SECONDS
        ):
            until = time.monotonic() + LONGEST_SECONDS
            self._memories[instance.name] = _Memory(status, folder, run.start_ticks, until)
        return status


def _holds(memory: _Memory, folder: _FolderState | None) -> bool:
    pid = memory.status.pid
    return (
        folder == memory.folder
        and time.monotonic() < memory.until
        and pid is not None
        and is_alive(pid, memory.start_ticks)
    )


def _goes_on(status: InstanceStatus) -> bool:
    return (
        status.state is InstanceState.RUNNING
        and status.pid is not None
        and not status.is_stopping
        and not status.note
    )


def _read_folder(instance: InstanceLayout) -> _FolderState | None:
    try:
        status = os.stat(instance.dir, follow_symlinks=False)  # noqa: PTH116 - it is called often
    except OSError:
        return None
    return _FolderState(status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
