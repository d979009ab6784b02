"""Identifies the process of a worker, and finds out whether it still exists."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from math import inf
from pathlib import Path
from time import CLOCK_BOOTTIME, clock_gettime, monotonic
from typing import Self

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from hostops import __version__
from hostops.linux.proc_stat import read_boot_id
from hostops.linux.process_identity import is_alive, read_own_stat
from jobs.database import Channel, announce, is_away, outage_log, write_watch
from jobs.models import Worker
from servers.models import Host

PULSE_SECONDS = 1.0
"""The least time between two claims that count as heartbeats."""


@dataclass(frozen=True)
class ProcessIdentity:
    """A process, distinguishable from a later one with the same pid.

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
        return self.boot_id == read_boot_id() and self.pid_namespace in ("", read_pid_namespace())

    def is_there(self) -> bool:
        """Return whether the process runs; a zombie counts as not running."""
        return is_alive(self.pid, self.start_ticks)


def read_pid_namespace() -> str:
    """Return the name of this process's pid namespace: outside of it, its pid means nothing."""
    return str(Path("/proc/self/ns/pid").readlink())


def register_worker(host: Host, *, concurrency: int, is_claiming: bool) -> Worker:
    """Register this process as a worker of `host`, and return its row; safe to call again."""
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
            "version": __version__,
        },
        create_defaults={
            "heartbeat_at": now,
            "started_at": now,
            "concurrency": concurrency,
            "is_claiming": is_claiming,
            "version": __version__,
        },
    )
    return worker


def beat(worker: Worker, *, is_claiming: bool) -> None:
    """Store that `worker` is alive now."""
    worker.heartbeat_at = timezone.now()
    worker.is_claiming = is_claiming
    worker.save(update_fields=["heartbeat_at", "is_claiming"])


class Heartbeat:
    """Stores a worker's heartbeat in a thread of its own, which continues whatever the other threads wait for.

    It waits while the database is away. Any other error ends the thread. `guard` is around all that the thread
    does, so it decides what such an error does.
    """

    def __init__(
        self,
        worker: Worker,
        is_claiming: Callable[[], bool],
        guard: AbstractContextManager[None] | None = None,
    ) -> None:
        self._worker = worker
        self._is_claiming = is_claiming
        self._guard = guard or nullcontext()
        self._is_over = threading.Event()
        self._steady_since = monotonic()
        self._last_beat_at = monotonic()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    @property
    def is_steady(self) -> bool:
        """Whether it has reached the database for a whole lease, without a pause.

        Only then does another worker's silence mean anything: after an outage of the database, or a pause of
        this process, every worker seems to have been silent.
        """
        now = monotonic()
        lease_seconds: float = settings.JOB_WORKER_LEASE_SECONDS
        is_recent = now - self._last_beat_at < lease_seconds / 2
        return is_recent and now - self._steady_since >= lease_seconds

    def _run(self) -> None:
        with self._guard:
            self._keep_beating()

    def _keep_beating(self) -> None:
        interval_seconds = settings.JOB_WORKER_LEASE_SECONDS / 6
        what = f"the heartbeat of {self._worker} cannot be stored"
        while not self._is_over.wait(interval_seconds):
            try:
                beat(self._worker, is_claiming=self._is_claiming())
            except Exception as error:
                if not is_away(error):
                    raise
                outage_log.tell(what, error)
                write_watch.note(error)
                connection.close()
                self._steady_since = monotonic()
                continue
            outage_log.end()
            if monotonic() - self._last_beat_at > settings.JOB_WORKER_LEASE_SECONDS / 2:
                self._steady_since = monotonic()
            self._last_beat_at = monotonic()
        connection.close()


class ClaimPulse:
    """Lets the claims of a worker count as heartbeats, one in `PULSE_SECONDS`. For the thread that claims.

    Otherwise, just after a pause of the worker, another one could take it for dead before its next heartbeat,
    and fail what it has just claimed.
    """

    def __init__(self) -> None:
        self._shown_at = -inf

    def show(self, worker: Worker) -> None:
        """Store a heartbeat of `worker`, in the open transaction, unless one was committed just now."""
        # This clock is never set, and it keeps running while the machine sleeps.
        now, claimed_at = timezone.now(), clock_gettime(CLOCK_BOOTTIME)
        if claimed_at - self._shown_at < PULSE_SECONDS:
            return
        # One from the future was stored before the clock was set back. It is no sign of life.
        just_now = (now - timedelta(seconds=PULSE_SECONDS), now)
        this = Worker.objects.filter(pk=worker.pk).exclude(heartbeat_at__range=just_now)
        this.update(heartbeat_at=now)
        transaction.on_commit(partial(setattr, self, "_shown_at", claimed_at))


class LeaseWatch:
    """Finds out which workers have fallen silent, by this process's monotonic clock. For use by one thread.

    The wall clocks of machines are not compared: they jump, and they differ. A worker has fallen silent when
    its heartbeat has not changed for a whole lease, during which this process has checked it regularly.
    """

    def __init__(self) -> None:
        self._seen: dict[int, Sight] = {}

    def has_lapsed(self, worker: Worker) -> bool:
        """Check a worker whose row was just read; return whether its lease is over."""
        lease_seconds: float = settings.JOB_WORKER_LEASE_SECONDS
        now = monotonic()
        sight = self._seen.get(worker.pk)
        is_regular = sight is not None and now - sight.looked_at < lease_seconds / 2
        if sight is None or not is_regular or sight.heartbeat_at != worker.heartbeat_at:
            sight = Sight(worker.heartbeat_at, first_looked_at=now, looked_at=now)
        self._seen[worker.pk] = replace(sight, looked_at=now)
        return now - sight.first_looked_at >= lease_seconds


@dataclass(frozen=True)
class Sight:
    """A heartbeat, and when it was first and last seen, on the monotonic clock."""

    heartbeat_at: datetime
    first_looked_at: float
    looked_at: float


def has_lapsed_by_clock(worker: Worker) -> bool:
    """Return whether the lease of `worker` is over, if its machine's clock and this one agree.

    A heartbeat from the future proves nothing, so the answer is no: its jobs may run.
    """
    oldest, _ = Worker.lease_limits()
    return worker.stopped_at is not None or worker.heartbeat_at < oldest


def is_gone(
    worker: Worker | None, has_lapsed: Callable[[Worker], bool] = has_lapsed_by_clock
) -> bool:
    """Return whether `worker` is gone: it has stopped, its process has ended, or its lease is over.

    A process that cannot be seen from here (another machine, another container) is judged by its
    heartbeat alone, as `has_lapsed` says. A job without a worker has nobody who could end it.
    """
    if worker is None or worker.stopped_at is not None:
        return True
    return is_known_to_be_gone(worker) or has_lapsed(worker)


def is_known_to_be_gone(worker: Worker) -> bool:
    """Return whether the worker's process could be seen from here, and does not exist."""
    identity = ProcessIdentity.of_worker(worker)
    return identity.can_be_seen_here() and not identity.is_there()


def record_gone_workers() -> None:
    """Record as stopped the workers whose processes have ended, so that nothing waits for their leases to end.

    Only workers whose processes could be seen from here: one that is merely silent may come back.
    """
    workers = Worker.objects.filter(stopped_at=None).select_related("host")
    gone = [worker.pk for worker in workers if is_known_to_be_gone(worker)]
    if gone:
        with transaction.atomic():
            silent = Worker.objects.filter(pk__in=gone, stopped_at=None)
            silent.update(stopped_at=timezone.now(), is_claiming=False)
            announce(Channel.PAGES)
