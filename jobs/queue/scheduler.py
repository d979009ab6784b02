"""Which queued jobs of a host may run now: the rules, and the rows that decide."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from jobs.database import adapt, execute, places
from jobs.models import EXCLUSIVE_OPERATIONS
from servers.models import Host


class QueuedJob(NamedTuple):
    """What the scheduler knows of a job that waits."""

    id: int
    server_id: int | None
    operation: str


@dataclass(frozen=True)
class SchedulerState:
    """What decides which queued jobs of one host may run, as read from the database at one moment.

    `oldest_queued` holds the oldest ones, in order: more of them are read only if none of these may run.
    """

    host_id: int
    is_draining: bool
    busy_server_ids: frozenset[int]
    is_busy: bool
    is_exclusive: bool
    oldest_queued: tuple[QueuedJob, ...]

    @property
    def is_exclusive_next(self) -> bool:
        """Whether an exclusive job is the host's oldest queued one: then no later job may overtake it."""
        return bool(self.oldest_queued) and self.oldest_queued[0].operation in EXCLUSIVE_OPERATIONS

    def pick(self, limit: int) -> list[int]:
        """Return the ids of the jobs to run now, the oldest first, at most `limit`."""
        if self.is_draining or self.is_exclusive or not self.oldest_queued:
            return []
        if self.is_exclusive_next:
            # Exclusive: it waits for what runs, and what is behind it waits for it.
            return [] if self.is_busy else [self.oldest_queued[0].id]
        picked, may_go_on = self._pick_from(self.oldest_queued, limit)
        if may_go_on and len(picked) < limit and len(self.oldest_queued) >= LOOK_AHEAD:
            # Some of the oldest are blocked: those that are not, among all that wait, begin with the same ones.
            picked, _ = self._pick_from(self._read_unblocked(limit), limit)
        return picked

    def _pick_from(self, queued: Iterable[QueuedJob], limit: int) -> tuple[list[int], bool]:
        """Return what may run of these, and whether jobs behind them may too."""
        busy = set(self.busy_server_ids)
        picked: list[int] = []
        has_skipped = False
        for job in queued:
            if job.operation in EXCLUSIVE_OPERATIONS and not has_skipped:
                # With the picked ones gone it is the oldest: the others wait for it.
                return picked, False
            # An exclusive job behind an older one waits for it: that one runs, or can run now.
            if job.operation in EXCLUSIVE_OPERATIONS or job.server_id in busy:
                has_skipped = True
                continue
            if job.server_id is not None:
                busy.add(job.server_id)
            picked.append(job.id)
            if len(picked) == limit:
                break
        return picked, True

    def _read_unblocked(self, limit: int) -> list[QueuedJob]:
        """Look among all jobs for the oldest ones of servers that no job runs for."""
        statement = select_queued(
            f"AND operation NOT IN ({places(EXCLUSIVE_OPERATIONS)})"  # noqa: S608 - only places
            " AND (server_id IS NULL OR server_id NOT IN"
            " (SELECT server_id FROM jobs_job WHERE state = 'running' AND server_id IS NOT NULL))",
            limit,
        )
        rows = execute(statement, [self.host_id, *map(adapt, EXCLUSIVE_OPERATIONS)]).fetchall()
        return [QueuedJob(*row) for row in rows]


LOOK_AHEAD = 32
"""How many of a host's oldest queued jobs are read at a time, or a multiple of it."""


def select_queued(condition: str = "", limit: int = 1) -> str:
    """Return the statement that reads a host's oldest queued jobs that meet an SQL condition of our own.

    It reads `limit` jobs or a little more: plans are kept for few texts, and depend on how much is read.
    """
    return (
        "SELECT id, server_id, operation FROM jobs_job"  # noqa: S608
        f" WHERE host_id = %s AND state = 'queued' {condition}"
        f" ORDER BY created_at, id LIMIT {math.ceil(limit / LOOK_AHEAD) * LOOK_AHEAD}"
    )


def has_queued_jobs(host: Host) -> bool:
    """Return whether a job of `host` waits."""
    return bool(execute(select_queued(), [host.pk]).fetchall())


def build_scheduler_state(host: Host | None = None, limit: int = 1) -> SchedulerState:
    """Read what decides about the queued jobs of `host`, by default the one the settings name.

    The answer holds only as long as the host's row is locked. It is read at every claim and most wake-ups.
    """
    host_id = (host or Host.local()).pk
    # Running ones of every host: a server that has moved must not run here while its old host still acts.
    of_running = execute(
        "SELECT host.is_draining, job.host_id, job.server_id, job.operation FROM servers_host host"
        " LEFT JOIN jobs_job job ON job.state = 'running' WHERE host.id = %s",
        [host_id],
    )
    of_queued = execute(select_queued(limit=limit), [host_id])
    running, queued = of_running.fetchall(), of_queued.fetchall()
    operations_here = [operation for _, job_host, _, operation in running if job_host == host_id]
    return SchedulerState(
        host_id=host_id,
        # A host that has been removed takes no jobs.
        is_draining=not running or bool(running[0][0]),
        busy_server_ids=frozenset(server for _, _, server, _ in running if server is not None),
        is_busy=bool(operations_here),
        is_exclusive=any(operation in EXCLUSIVE_OPERATIONS for operation in operations_here),
        oldest_queued=tuple(QueuedJob(*row) for row in queued),
    )
