"""The facts about the panel's health, and which of them keep people from what they need."""

import shutil
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import Error as AnyDatabaseError
from django.db import connection
from django.db.models import Count, Max
from django.utils import timezone
from django.utils.translation import gettext as _

from hostops import __version__
from jobs.models import Worker
from jobs.pages import describe_missing_indexes
from jobs.queue import CLAIM_SECONDS, find_overdue_job
from l4d2site.backups.keeping import LastBackup, read_last
from l4d2site.health.database_state import LEAST_FREE_BYTES, DatabaseState, find_database_state
from servers.durations import describe_duration
from servers.models import Host, Server

LOW_FREE_BYTES = 1024**3
"""With less free space on the panel's own disk there is a note, before it becomes a fault."""


@dataclass(frozen=True)
class WorkerFacts:
    """A worker with a current heartbeat."""

    pid: int
    version: str
    concurrency: int
    is_claiming: bool
    heartbeat_age_seconds: float

    @classmethod
    def of(cls, worker: Worker, now: datetime) -> "WorkerFacts":
        """Return the facts in the row of `worker`."""
        age = round((now - worker.heartbeat_at).total_seconds(), 1)
        return cls(worker.pid, worker.version, worker.concurrency, worker.is_claiming, age)


@dataclass(frozen=True)
class HostFacts:
    """A host: its workers, and what is wrong."""

    name: str
    driver: str
    is_draining: bool
    server_count: int
    last_heard_at: datetime | None
    workers: tuple[WorkerFacts, ...] = ()
    fault: str = ""
    note: str = ""
    problems: str = ""
    problems_url: str = ""
    is_examined: bool = False

    @property
    def sentences(self) -> list[str]:
        """What operators should know that is no fault, with what its doctor found."""
        found = (
            _("Host %(name)s: its doctor found %(problems)s.") % vars(self) if self.problems else ""
        )
        return [one for one in (self.note, found) if one]


@dataclass(frozen=True)
class Facts:
    """The result of a check. `faults` keep people from what they need; `notes` are for operators."""

    database: DatabaseState
    looked_at: datetime
    hosts: tuple[HostFacts, ...] = ()
    disk_free_bytes: int | None = None
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    last_backup: LastBackup | None = None

    @property
    def is_well(self) -> bool:
        """Whether people get what they need."""
        return not self.faults

    def as_json(self) -> dict[str, Any]:
        """Return the facts for programs, without `status`."""
        return {
            "reason": " ".join(self.faults),
            "web": "ok",
            "version": __version__,
            "database": self.database.value,
            "disk_free_bytes": self.disk_free_bytes,
            "last_backup": self.last_backup and vars(self.last_backup),
            "workers": [
                {"host": host.name, **vars(worker)}
                for host in self.hosts
                for worker in host.workers
            ],
            "hosts": [
                {
                    "name": host.name,
                    "driver": host.driver,
                    "is_draining": host.is_draining,
                    "servers": host.server_count,
                    "last_heard_at": host.last_heard_at and host.last_heard_at.isoformat(),
                    "workers": len(host.workers),
                    "fault": host.fault,
                    "note": host.note,
                    "problems": host.problems,
                }
                for host in self.hosts
            ],
            "faults": list(self.faults),
            "notes": list(self.notes),
        }


def read_facts() -> Facts:
    """Check everything. For a separate thread, whose database connection is closed at the end."""
    try:
        return _read_facts()
    finally:
        connection.close()


def hanging() -> Facts:
    """Return the facts while a check does not return: only the database can hold it up."""
    return Facts(DatabaseState.AWAY, timezone.now(), faults=(DatabaseState.AWAY.sentence,))


def _read_facts() -> Facts:
    database = find_database_state()
    faults, notes = [], []
    if database.sentence:
        faults.append(database.sentence)
    hosts: tuple[HostFacts, ...] = ()
    if database.can_be_read:
        try:
            hosts = tuple(_read_hosts())
            faults += describe_missing_indexes()
        except (
            AnyDatabaseError
        ):  # It went away, or became read-only: in a read-only folder SQLite cannot even be read.
            if not faults:
                database = DatabaseState.AWAY
                faults.append(database.sentence)
        else:
            if not any(host.workers for host in hosts):
                lease = f"{settings.JOB_WORKER_LEASE_SECONDS:g}"
                faults.append(
                    _("No worker has sent a heartbeat in the last %(lease)s seconds.")
                    % {"lease": lease}
                )
            faults += [host.fault for host in hosts if host.fault]
            notes += [sentence for host in hosts for sentence in host.sentences]
    free = find_free_bytes()
    if free is not None and free < LOW_FREE_BYTES and database is not DatabaseState.DISK_FULL:
        what = _("The panel's own disk, %(folder)s, has %(free)s MiB free.") % {
            "folder": settings.VAR_DIR,
            "free": f"{free / 1024**2:,.0f}",
        }
        (faults if free < LEAST_FREE_BYTES else notes).append(what)
    last_backup = read_last()
    if last_backup and last_backup.fault:
        notes.append(last_backup.fault)
    return Facts(database, timezone.now(), hosts, free, tuple(faults), tuple(notes), last_backup)


def find_free_bytes() -> int | None:
    """Return how much is free on the disk of VAR_DIR; None if the folder is missing."""
    try:
        return shutil.disk_usage(settings.VAR_DIR).free
    except OSError:
        return None


def _read_hosts() -> list[HostFacts]:
    """Read every host. Costs two more queries for each host where a job has waited long."""
    now = timezone.now()
    workers: dict[int, list[Worker]] = defaultdict(list)
    for worker in Worker.objects.alive().order_by("pid"):
        workers[worker.host_id].append(worker)
    servers = dict(Server.objects.order_by().values_list("host").annotate(Count("pk")))
    beats = dict(Worker.objects.order_by().values_list("host").annotate(Max("heartbeat_at")))
    return [
        _judge(host, servers.get(host.pk, 0), workers[host.pk], beats.get(host.pk), now)
        for host in Host.objects.order_by("name")
    ]


def find_machines(workers: Iterable[Worker], now: datetime) -> set[str]:
    """Return the ids of the boots that workers run in, which are as many as their machines.

    A worker of the boot before may count as alive until its lease is over, but sends no heartbeats.
    """
    recent = now - timedelta(seconds=settings.JOB_WORKER_LEASE_SECONDS / 2)
    return {worker.boot_id for worker in workers if worker.heartbeat_at > recent}


def _judge(
    host: Host, server_count: int, workers: list[Worker], heard_at: datetime | None, now: datetime
) -> HostFacts:
    """Return the facts of a host: a fault if its servers cannot be operated, unless that is intended."""
    fault = note = ""
    if not workers and heard_at is not None:
        silence_seconds = (now - heard_at).total_seconds()
        if silence_seconds < -settings.JOB_WORKER_LEASE_SECONDS:
            said = _("Host %(host)s: its worker was not heard from since the clock was set back.")
        else:
            said = _("Host %(host)s: its worker was last heard from %(silence)s ago.")
        said %= {"host": host.name, "silence": describe_duration(max(0, silence_seconds))}
        if server_count and not host.is_draining:
            fault = f"{said} {_('Its servers cannot be started or stopped.')}"
        else:
            note = said
    elif not workers and server_count:
        fault = _("Host %(host)s has servers, but no worker of it was ever heard from.") % {
            "host": host.name
        }
    elif len(find_machines(workers, now)) > 1:
        fault = _(
            "Host %(host)s: workers of several machines go by this name, so its jobs run now here, now there. "
            "Give each machine a name of its own (HOST_NAME)."
        ) % {"host": host.name}
    elif (job_id := find_overdue_job(host, workers)) is not None:
        fault = _(
            "Host %(host)s: job %(job)d could have run for %(seconds)g s, and a thread is free, but its "
            "worker does not take it. Restart the worker if it does not do so itself."
        ) % {"host": host.name, "job": job_id, "seconds": CLAIM_SECONDS}
    elif workers and not any(worker.is_claiming for worker in workers):
        note = _("Host %(host)s: its worker takes no more jobs.") % {"host": host.name}
    elif others := sorted({worker.version for worker in workers} - {__version__, ""}):
        note = _(
            "Host %(host)s: its worker runs version %(others)s, the panel version %(version)s. "
            "Restart whichever was not restarted."
        ) % {"host": host.name, "others": ", ".join(others), "version": __version__}
    return HostFacts(
        name=host.name,
        driver=host.driver,
        is_draining=host.is_draining,
        server_count=server_count,
        last_heard_at=heard_at,
        workers=tuple(WorkerFacts.of(worker, now) for worker in workers),
        fault=fault,
        note=note,
        problems=host.problems_words,
        is_examined=host.findings_at is not None,
        problems_url=host.problems_url,
    )
