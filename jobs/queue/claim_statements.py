"""Sets the jobs that a worker claims to running, and reads all it needs to carry them out."""

import json
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

from django.db import connection
from django.utils import timezone

from jobs.database import Channel, adapt, among, announcing, execute, make
from jobs.models import Job, Worker
from servers.models import Blueprint, Host, Server

JOB_COLUMNS = (
    *("id", "operation", "build_id", "state", "worker_id"),
    *("host_id", "host_name", "server_id", "server_name", "requested_by_name", "run_id"),
)
SERVER_COLUMNS = (
    *("id", "name", "host_id", "blueprint_id", "port"),
    *("arguments", "config", "desired_state", "bind_address"),
    *("rcon_password_token", "join_password_token"),
)
HOST_COLUMNS = ("bind_address",)
"""What an admin may have changed since the worker read the row of its host."""

BLUEPRINT_COLUMNS = (
    *("id", "arguments", "config"),
    *("memory_limit_mib", "tasks_limit", "cpu_weight"),
)
"""What carrying out a job takes: none needs a conversion, and others are read when they are asked for."""

Row = Sequence[Any]


def set_running(
    job_ids: Sequence[int], worker: Worker | None, host: Host
) -> Callable[[], list[Job]]:
    """Set queued jobs of a host to running, but not those that are cancelled in this moment.

    Call what is returned, once the transaction is over, to have them, in the order given, with their servers
    and the blueprints, as far as carrying them out takes.
    """
    now = adapt(timezone.now())
    is_one, one_of = among(job_ids)
    fetch = update_fetching(
        "UPDATE jobs_job"  # noqa: S608 - nothing but places for parameters
        " SET state = 'running', worker_id = %s, started_at = %s, updated_at = %s"
        f" WHERE id {is_one} AND state = 'queued'",
        [worker.pk if worker else None, now, now, *one_of],
    )

    def fetch_in_order() -> list[Job]:
        jobs = {job.id: job for job in make_jobs(fetch(), host)}
        return [jobs[job_id] for job_id in job_ids if job_id in jobs]

    return fetch_in_order


def set_oldest_running(worker: Worker, host: Host) -> Callable[[], list[Job]]:
    """Set the oldest queued job of a host to running if no job runs there, nor one of its server elsewhere.

    It may run by all the rules, whatever it does, so this takes one round trip; but nothing is set to running
    also where others might. Nor if any job has changed while this was on its way, or waited for the host's
    lock: else the end of the job before could be later than the start. Announces to the pages. PostgreSQL
    only; returns the same as `set_running`.
    """
    now = adapt(timezone.now())
    fetch = update_fetching(
        "UPDATE jobs_job SET state = 'running', worker_id = %s, started_at = %s, updated_at = %s"
        " WHERE id = (SELECT id FROM jobs_job WHERE host_id = %s AND state = 'queued'"
        " ORDER BY created_at, id LIMIT 1) AND state = 'queued'"
        " AND NOT EXISTS (SELECT FROM jobs_job other WHERE other.state = 'running'"
        " AND (other.host_id = jobs_job.host_id OR other.server_id = jobs_job.server_id))"
        " AND NOT (SELECT is_draining FROM servers_host host WHERE host.id = jobs_job.host_id)"
        " AND (SELECT max(updated_at) FROM jobs_job) <= %s",
        [worker.pk, now, now, host.pk, now],
        beside=announcing(Channel.PAGES),
    )
    return lambda: make_jobs(fetch(), host)


def update_fetching(
    update: str, parameters: Sequence[Any], beside: str = ""
) -> Callable[[], Iterable[tuple[Row, Row]]]:
    """Execute an UPDATE of jobs; call what is returned for the rows of the jobs, each with its server's.

    SQL of our own `beside` them is evaluated for each; PostgreSQL only.
    """
    if connection.vendor == "postgresql":
        result = execute(
            f"WITH job AS ({update} RETURNING *) SELECT {columns('job', JOB_COLUMNS)},"  # noqa: S608
            f" {columns_of_server()} {beside} FROM job"
            f" LEFT JOIN ({SERVERS}) ON server.id = job.server_id",
            parameters,
        )
        split = len(JOB_COLUMNS)
        return lambda: [(row[:split], row[split:]) for row in result.fetchall()]
    jobs = execute(f"{update} RETURNING {', '.join(JOB_COLUMNS)}", parameters).fetchall()
    place = JOB_COLUMNS.index("server_id")
    is_one, one_of = among([job[place] for job in jobs])
    select = f"SELECT {columns_of_server()} FROM {SERVERS} WHERE server.id {is_one}"  # noqa: S608
    servers = {server[0]: server for server in execute(select, one_of).fetchall()}
    return lambda: [(job, servers.get(job[place], NO_SERVER)) for job in jobs]


SERVERS = (
    "servers_server server JOIN servers_blueprint blueprint ON blueprint.id = server.blueprint_id"
    " JOIN servers_host server_host ON server_host.id = server.host_id"
)
NO_SERVER = (None,)


@cache
def columns_of_server() -> str:
    """Return what is selected of `SERVERS`: behind the columns the overlays' names, the topmost first.

    They are an array, or JSON on SQLite.
    """
    names = (
        "SELECT overlay.name FROM servers_blueprintoverlay place"
        " JOIN servers_overlay overlay ON overlay.id = place.overlay_id"
        " WHERE place.blueprint_id = blueprint.id ORDER BY place.position"
    )
    overlays = (
        f"ARRAY({names})"
        if connection.vendor == "postgresql"
        else f"(SELECT json_group_array(name) FROM ({names}))"  # noqa: S608
    )
    return ", ".join(
        [
            columns("server", SERVER_COLUMNS),
            columns("server_host", HOST_COLUMNS),
            columns("blueprint", BLUEPRINT_COLUMNS),
            overlays,
        ]
    )


def columns(table: str, names: Iterable[str]) -> str:
    """Return what selects columns of a table."""
    return ", ".join([f"{table}.{name}" for name in names])


def make_jobs(rows: Iterable[tuple[Row, Row]], host: Host) -> list[Job]:
    """Return the jobs of `host` in rows of `update_fetching`, with what they relate to."""
    blueprints: dict[int, Blueprint] = {}
    return [
        make(Job, JOB_COLUMNS, of_job, host=host, server=make_server(of_server, host, blueprints))
        for of_job, of_server in rows
    ]


def make_server(row: Row, host: Host, blueprints: dict[int, Blueprint]) -> Server | None:
    """Return a server, with its host if that is `host`; its blueprint is among `blueprints` from then on."""
    if row[0] is None:
        return None
    of_host = len(SERVER_COLUMNS)
    split = of_host + len(HOST_COLUMNS)
    blueprint = blueprints.get(row[split])
    if blueprint is None:
        *of_blueprint, overlays = row[split : split + len(BLUEPRINT_COLUMNS) + 1]
        blueprint = make(Blueprint, BLUEPRINT_COLUMNS, of_blueprint)
        blueprint.overlay_names = tuple(
            json.loads(overlays) if isinstance(overlays, str) else overlays
        )
        blueprints[blueprint.id] = blueprint
    server = make(Server, SERVER_COLUMNS, row, blueprint=blueprint)
    if server.host_id == host.id:
        [host.bind_address] = row[of_host:split]
        server._state.fields_cache["host"] = host  # noqa: SLF001
    return server
