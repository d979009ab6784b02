"""Decides which queued jobs of a host may run now: reads the rows, and applies `rules` to them."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from jobs.database import execute, execute_all
from jobs.models import JobState
from jobs.queue.rules import ActiveJob, Rules
from servers.models import Host

PAGE = 64
"""How many queued jobs are read at a time. Written into the statements, so that PostgreSQL plans for it."""

# These run at every claim and at most wake-ups, in a table with a million finished jobs. Each reads partial
# indexes. `created_at` stays in the database: converting it took Python a twelfth of a claim of 128 jobs.

COLUMNS = "state, id, host_id, server_id, operation, requested_by_id, created_at"

ACTIVE = (
    "SELECT host.is_draining, job.state, job.id, job.host_id, job.server_id, job.operation,"  # noqa: S608
    " job.requested_by_id FROM servers_host host LEFT JOIN ("
    f"SELECT * FROM (SELECT {COLUMNS} FROM jobs_job WHERE state = 'running') running UNION ALL "
    f"SELECT * FROM (SELECT {COLUMNS} FROM jobs_job WHERE host_id = %s AND state = 'queued'"
    f" ORDER BY created_at, id LIMIT {PAGE}) queued"
    ") job ON TRUE WHERE host.id = %s ORDER BY job.created_at, job.id"
)
"""The running jobs of all hosts, and the oldest queued jobs of this one. Each row says if this host drains.

If there are no such jobs, one row has NULL for the job; if there is no row, the host was removed. It is one
statement because each costs a round trip to PostgreSQL. SQLite takes ORDER BY and LIMIT in a part of a UNION
only inside another SELECT.
"""

FURTHER_QUEUED = (
    "SELECT id, host_id, server_id, operation, requested_by_id FROM jobs_job"  # noqa: S608 - a constant
    " WHERE host_id = %s AND state = 'queued'"
    " AND (created_at, id) > ((SELECT created_at FROM jobs_job WHERE id = %s), %s)"
    " AND (server_id IS NULL OR NOT server_id = ANY(%s))"
    f" ORDER BY created_at, id LIMIT {PAGE}"
)
"""The next queued jobs, without those of busy servers: thousands of jobs of one server may wait.

`Rules` never sees the jobs that are left out, although they wait too. So an exclusive job behind them may count
as the oldest waiting one too early, and hold up those behind it until the next claim. It never runs too early.
"""

HAS_FURTHER = (
    "SELECT 1 WHERE EXISTS (SELECT 1 FROM servers_server server WHERE NOT server.id = ANY(%s) AND EXISTS"
    " (SELECT 1 FROM jobs_job job /* INDEXED BY unfinished_jobs_of_server */"
    " WHERE job.server_id = server.id AND job.finished_at IS NULL"
    " AND job.state = 'queued' AND job.host_id = %s)) OR EXISTS"
    " (SELECT 1 FROM jobs_job /* INDEXED BY unfinished_jobs_of_server */"
    " WHERE server_id IS NULL AND finished_at IS NULL AND NOT state = 'running' AND host_id = %s)"
)
"""Whether `FURTHER_QUEUED` can find anything: a queued job of a server that is not busy, or of no server.

It looks once for each server, which is far less than reading thousands of queued jobs in vain. The rest is for
SQLite, for which nothing collects statistics. With `state = 'queued'` in the last part, it would choose the
index of queued jobs, and read them all. Without the name of another index it would read all finished jobs of no
server. `for_sqlite` makes INDEXED BY of such a comment.
"""

LOCK_HOST = "SELECT id FROM servers_host WHERE id = %s FOR NO KEY UPDATE"


@dataclass(frozen=True)
class SchedulerState:
    """What decides which queued jobs of a host may run: all running jobs, and the oldest queued ones, in order.

    If these are not enough, `pick` reads more, as they are then: only under the host's lock is nothing else
    claimed in between.
    """

    host_id: int
    is_draining: bool
    running: tuple[ActiveJob, ...]
    queued: tuple[ActiveJob, ...]

    def pick(self, limit: int) -> list[ActiveJob]:
        """Return the jobs that may run now, oldest first, at most `limit`."""
        if self.is_draining:
            return []
        rules = Rules(self.host_id, self.running)
        picked: list[ActiveJob] = []
        page = self.queued
        while page:
            for job in page:
                if rules.is_closed or len(picked) == limit:
                    return picked
                if rules.admit(job) is None:
                    picked.append(job)
            may_have_more = len(page) == PAGE and len(picked) < limit
            page = self._read_behind(page[-1].id, rules) if may_have_more else ()
        return picked

    def _read_behind(self, last_id: int, rules: Rules) -> tuple[ActiveJob, ...]:
        busy = rules.busy_server_ids
        if not execute(HAS_FURTHER, [busy, self.host_id, self.host_id]).rows:
            return ()
        parameters = [self.host_id, last_id, last_id, busy]
        return tuple(map(ActiveJob._make, execute(FURTHER_QUEUED, parameters).rows))


def build_scheduler_state(host: Host | None = None) -> SchedulerState:
    """Read the scheduler's state of `host`, by default the one that the settings name.

    Without the lock of the host's row it is a hint, as another worker may be claiming; a claim uses
    `lock_scheduler_state`.
    """
    host_id = (host or Host.local()).pk
    return make_state(host_id, execute(ACTIVE, [host_id, host_id]).rows)


def lock_scheduler_state(host: Host) -> SchedulerState:
    """Lock `host` like `lock_host`, then read its scheduler's state: with all that was committed until then."""
    _, active = execute_all([(LOCK_HOST, [host.pk]), (ACTIVE, [host.pk, host.pk])])
    return make_state(host.pk, active.rows)


def make_state(host_id: int, rows: list[tuple[Any, ...]]) -> SchedulerState:
    """Return the scheduler's state of a host, from the rows of `ACTIVE`."""
    by_state: dict[str | None, list[ActiveJob]] = defaultdict(list)
    for row in rows:
        by_state[row[1]].append(ActiveJob._make(row[2:]))
    return SchedulerState(
        host_id=host_id,
        # A host that has been removed takes no jobs.
        is_draining=not rows or bool(rows[0][0]),
        running=tuple(by_state[JobState.RUNNING]),
        queued=tuple(by_state[JobState.QUEUED]),
    )


def lock_host(host: Host) -> None:
    """Serialize the claims and requests of `host` until the transaction ends.

    On SQLite this locks nothing: its transactions are IMMEDIATE and take turns anyway.
    """
    execute(LOCK_HOST, [host.pk])
