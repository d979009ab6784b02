"""The SQL of a claim: sets jobs to running, and reads all that is needed to carry them out."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import datetime
from functools import lru_cache
from typing import Any

from jobs.claimed_jobs import ClaimedJob, ClaimedServer
from jobs.database import Channel, announcing, execute_all
from jobs.models import Worker
from jobs.queue.rules import ActiveJob
from servers.models import Host

JOB_COLUMNS = [
    column.name for column in fields(ClaimedJob) if column.name not in ("host", "server")
]

SET_RUNNING = (
    "UPDATE jobs_job SET state = 'running', worker_id = %s, started_at = %s, updated_at = %s"  # noqa: S608
    f" WHERE id = ANY(%s) AND state = 'queued' RETURNING {', '.join(JOB_COLUMNS)}"
)
"""Skips a job that was cancelled at this moment: it is no longer queued."""

REFERENCES = (
    "(SELECT CAST(json_agg(reference) AS text) FROM"
    " (SELECT COALESCE(pinned.reference, latest.reference,"
    " CASE WHEN overlay.is_host_folder THEN overlay.name END) AS reference"
    " FROM servers_blueprintoverlay place"
    " JOIN servers_overlay overlay ON overlay.id = place.overlay_id"
    " LEFT JOIN servers_overlayversion pinned ON pinned.id = place.version_id"
    " LEFT JOIN servers_overlayversion latest ON latest.id = overlay.latest_id"
    " WHERE place.blueprint_id = blueprint.id ORDER BY place.position) place)"
)
"""The references of a blueprint's overlays, topmost first, as `refer` has them."""

HAS_PEOPLE = (
    "(EXISTS (SELECT 1 FROM servers_ban ban WHERE ban.server_id = server.id"
    " OR (ban.server_id IS NULL AND ban.owner_id = server.owner_id))"
    " OR EXISTS (SELECT 1 FROM servers_gameadmin admin WHERE admin.server_id = server.id))"
)
"""Whether a server has bans or admins, as only then they are read."""

SERVER_COLUMNS = {
    "name": "server.name",
    "blueprint_arguments": "blueprint.arguments",
    "arguments": "server.arguments",
    "blueprint_config": "blueprint.config",
    "config": "server.config",
    "rcon_password_token": "server.rcon_password_token",
    "join_password_token": "server.join_password_token",
    "blueprint_id": "blueprint.id",
    "place_references": REFERENCES,
    "port": "server.port",
    "bind_address": "server.bind_address",
    "host_bind_address": "server_host.bind_address",
    "memory_limit_mib": "blueprint.memory_limit_mib",
    "tasks_limit": "blueprint.tasks_limit",
    "cpu_weight": "blueprint.cpu_weight",
    "id": "server.id",
    "desired_state": "server.desired_state",
    "has_people": HAS_PEOPLE,
}
"""Where the fields of `ClaimedServer` are. An admin may have changed the bind address of the
host since the worker read the host's row."""

SERVER_FIELDS = [field.name for field in fields(ClaimedServer)]
PLACES, PEOPLE = map(SERVER_FIELDS.index, ("place_references", "has_people"))

SERVERS = (
    f"SELECT {', '.join(map(SERVER_COLUMNS.__getitem__, SERVER_FIELDS))}"  # noqa: S608 - constants
    " FROM servers_server server"
    " JOIN servers_host server_host ON server_host.id = server.host_id"
    " JOIN servers_blueprint blueprint ON blueprint.id = server.blueprint_id"
    " WHERE server.id = ANY(%s)"
)
"""Reads servers with all that they are started with."""


def set_running(
    picked: Sequence[ActiveJob], worker: Worker | None, host: Host, now: datetime
) -> list[ClaimedJob]:
    """Set queued jobs of `host` to running, announce that, and return those that were still queued, in order.

    Each has its server as it is now: before the claim sets its `desired_state`.
    """
    job_ids = [job.id for job in picked]
    server_ids = list({job.server_id for job in picked if job.server_id is not None})
    running, of_servers, *_ = execute_all(
        [
            (SET_RUNNING, [worker.pk if worker else None, now, now, job_ids]),
            (SERVERS, [server_ids]),
            *announcing(Channel.PAGES),
        ]
    )
    servers = load_servers(of_servers.rows)
    jobs = {row[0]: ClaimedJob(*row) for row in running.rows}
    for job in jobs.values():
        job.host = host
        job.server = servers.get(job.server_id) if job.server_id else None
    return [jobs[job_id] for job_id in job_ids if job_id in jobs]


def load_servers(rows: Iterable[Sequence[Any]]) -> dict[int, ClaimedServer]:
    """Return servers by id, from rows of `SERVERS`."""
    servers = {}
    for row in rows:
        values = list(row)
        values[PLACES] = parse_references(values[PLACES])
        values[PEOPLE] = bool(values[PEOPLE])
        server = ClaimedServer(*values)
        servers[server.id] = server
    return servers


@lru_cache(maxsize=128)
def parse_references(text: str | None) -> tuple[str | None, ...]:
    """Return `REFERENCES` as a tuple. Cached, because many servers share a blueprint."""
    return tuple(json.loads(text or "[]"))
