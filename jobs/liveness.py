"""Which process a worker is, and whether it is still there."""

from dataclasses import dataclass
from pathlib import Path

from django.utils import timezone

from hostops.identity import is_alive, read_boot_id, read_own_stat
from jobs.models import Worker
from servers.models import Host


@dataclass(frozen=True)
class ProcessIdentity:
    """A process, told apart from a later one that is given the same pid.

    `start_ticks` is field 22 of /proc/PID/stat: clock ticks from boot to the process's start.
    """

    pid: int
    start_ticks: int
    boot_id: str
    pid_namespace: str

    @classmethod
    def of_this_process(cls) -> "ProcessIdentity":
        """Return the identity of the calling process."""
        stat = read_own_stat()
        return cls(stat.pid, stat.start_ticks, read_boot_id(), read_pid_namespace())

    @classmethod
    def of_worker(cls, worker: Worker) -> "ProcessIdentity":
        """Return the identity that `worker` registered with."""
        return cls(worker.pid, worker.process_started, worker.boot_id, worker.pid_namespace)

    def can_be_seen_here(self) -> bool:
        """Return whether /proc here would show the process: same boot, same pid namespace."""
        return self.boot_id == read_boot_id() and self.pid_namespace == read_pid_namespace()

    def is_there(self) -> bool:
        """Return whether the process runs; a zombie does not."""
        return is_alive(self.pid, self.start_ticks)


def read_pid_namespace() -> str:
    """Return the name of the pid namespace of this process: only in it its pid means anything."""
    return str(Path("/proc/self/ns/pid").readlink())


def register_worker(host: Host, *, concurrency: int, is_claiming: bool) -> Worker:
    """Store that this process is a worker of `host`, and return its row; safe to call again."""
    identity = ProcessIdentity.of_this_process()
    now = timezone.now()
    worker, _ = Worker.objects.update_or_create(
        host=host,
        pid=identity.pid,
        process_started=identity.start_ticks,
        boot_id=identity.boot_id,
        pid_namespace=identity.pid_namespace,
        defaults={
            "heartbeat_at": now,
            "stopped_at": None,
            "concurrency": concurrency,
            "is_claiming": is_claiming,
        },
        create_defaults={
            "heartbeat_at": now,
            "started_at": now,
            "concurrency": concurrency,
            "is_claiming": is_claiming,
        },
    )
    return worker


def beat(worker: Worker, *, is_claiming: bool) -> None:
    """Store that `worker` is alive now."""
    worker.heartbeat_at = timezone.now()
    worker.is_claiming = is_claiming
    worker.save(update_fields=["heartbeat_at", "is_claiming"])


def is_gone(worker: Worker | None) -> bool:
    """Return whether `worker` is not there any more: stopped, its process gone, or its lease over.

    A process that cannot be seen from here (another machine, another boot, another container) is judged
    by its heartbeat alone.
    """
    if worker is None or not worker.is_alive:
        return True
    identity = ProcessIdentity.of_worker(worker)
    return identity.can_be_seen_here() and not identity.is_there()
