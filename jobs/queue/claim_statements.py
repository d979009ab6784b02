"""The SQL of a claim: sets jobs to running, and reads all that is needed to carry them out.

A server becomes a model instance with few columns. The others are deferred: Django reads one when it is
accessed.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, TypeVar, cast

from django.db import DEFAULT_DB_ALIAS, models

from jobs.claimed_jobs import ClaimedJob
from jobs.database import Channel, announcing, execute_all
from jobs.models import Worker
from jobs.queue.rules import ActiveJob
from servers.models import Blueprint, Host, Server

M = TypeVar("M", bound=models.Model)


def in_order(model: type[models.Model], *columns: str) -> dict[str, None]:
    """Return `columns` in the order in which Django loads them, as keys, because it looks up each field."""
    fields = model._meta.concrete_fields
    return dict.fromkeys(field.attname for field in fields if field.attname in columns)


def foreign_key(model: type[models.Model], name: str) -> "models.ForeignKey[Any, Any]":
    """Return a foreign key. Its `set_cached_value` does what `select_related` does, without any checks."""
    return cast("models.ForeignKey[Any, Any]", model._meta.get_field(name))


JOB_COLUMNS = [
    column.name for column in fields(ClaimedJob) if column.name not in ("host", "server")
]
SERVER_COLUMNS = in_order(
    Server,
    *("id", "name", "host_id", "blueprint_id", "port"),
    *("arguments", "config", "desired_state", "bind_address"),
    *("rcon_password_token", "join_password_token"),
)
BLUEPRINT_COLUMNS = in_order(
    Blueprint,
    *("id", "arguments", "config"),
    *("memory_limit_mib", "tasks_limit", "cpu_weight"),
)
"""None of these needs a conversion between the database and Python."""

SERVER_HOST, SERVER_BLUEPRINT = foreign_key(Server, "host"), foreign_key(Server, "blueprint")

SET_RUNNING = (
    "UPDATE jobs_job SET state = 'running', worker_id = %s, started_at = %s, updated_at = %s"  # noqa: S608
    f" WHERE id = ANY(%s) AND state = 'queued' RETURNING {', '.join(JOB_COLUMNS)}"
)
"""Skips a job that was cancelled at this moment: it is no longer queued."""

SERVERS = (
    f"SELECT {', '.join(f'server.{column}' for column in SERVER_COLUMNS)}, server_host.bind_address,"  # noqa: S608
    " (SELECT CAST(json_agg(reference) AS text) FROM"
    " (SELECT COALESCE(pinned.reference, latest.reference,"
    " CASE WHEN overlay.is_host_folder THEN overlay.name END) AS reference"
    " FROM servers_blueprintoverlay place"
    " JOIN servers_overlay overlay ON overlay.id = place.overlay_id"
    " LEFT JOIN servers_overlayversion pinned ON pinned.id = place.version_id"
    " LEFT JOIN servers_overlayversion latest ON latest.id = overlay.latest_id"
    " WHERE place.blueprint_id = blueprint.id ORDER BY place.position) place),"
    " EXISTS (SELECT 1 FROM servers_ban ban WHERE ban.server_id = server.id"
    " OR (ban.server_id IS NULL AND ban.owner_id = server.owner_id))"
    " OR EXISTS (SELECT 1 FROM servers_gameadmin admin WHERE admin.server_id = server.id),"
    f" {', '.join(f'blueprint.{column}' for column in BLUEPRINT_COLUMNS)}"
    " FROM servers_server server"
    " JOIN servers_host server_host ON server_host.id = server.host_id"
    " JOIN servers_blueprint blueprint ON blueprint.id = server.blueprint_id"
    " WHERE server.id = ANY(%s)"
)
"""Reads beside each server: the bind address of its host, which an admin may have changed since the worker read
the host's row; the references of the blueprint's overlays, topmost first, as `refer` has them; and whether it
has bans or admins, as only then they are read."""


def set_running(
    picked: Sequence[ActiveJob], worker: Worker | None, host: Host, now: datetime
) -> list[ClaimedJob]:
    """Set queued jobs of `host` to running, announce that, and return those that were still queued, in order.

    Each comes with its server and the server's blueprint, as they are now.
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
    servers = load_servers(of_servers.rows, host)
    jobs = {row[0]: ClaimedJob(*row) for row in running.rows}
    for job in jobs.values():
        job.host = host
        job.server = servers.get(job.server_id) if job.server_id else None
    return [jobs[job_id] for job_id in job_ids if job_id in jobs]


def load_servers(rows: Iterable[Sequence[Any]], host: Host) -> dict[int, Server]:
    """Return servers by id, each with its blueprint, and with `host` if it is on that host."""
    servers: dict[int, Server] = {}
    blueprints: dict[int, Blueprint] = {}
    of_host = len(SERVER_COLUMNS)
    for row in rows:
        server = load(Server, SERVER_COLUMNS, row[:of_host])
        address, overlay_references, has_people, *of_blueprint = row[of_host:]
        server.has_people = bool(has_people)
        if server.host_id == host.pk:
            host.bind_address = address
            SERVER_HOST.set_cached_value(server, host)
        if server.blueprint_id not in blueprints:
            blueprint = load(Blueprint, BLUEPRINT_COLUMNS, of_blueprint)
            blueprint.place_references = tuple(json.loads(overlay_references or "[]"))
            blueprints[server.blueprint_id] = blueprint
        SERVER_BLUEPRINT.set_cached_value(server, blueprints[server.blueprint_id])
        servers[server.pk] = server
    return servers


def load(model: type[M], columns: Collection[str], row: Sequence[object]) -> M:
    """Return an instance of `model`, made from a row as Django makes it."""
    return model.from_db(DEFAULT_DB_ALIAS, columns, row)
