"""Sets the jobs that a worker claims to running, and reads all it needs to carry them out."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Any

from django.db import connection, models
from django.utils import timezone

from jobs.models import Job, Worker
from jobs.sql import adapt, among, execute, plain_columns
from servers.models import Blueprint, Host, Server

TABLES: tuple[tuple[str, type[models.Model]], ...] = (
    ("job", Job),
    ("server", Server),
    ("blueprint", Blueprint),
)

Made = dict[tuple[type[models.Model], int], Any]


def set_running(
    job_ids: Sequence[int], worker: Worker | None, host: Host
) -> Callable[[], list[Job]]:
    """Set queued jobs of a host to running, but not those that are cancelled in this moment.

    Call what is returned, once the transaction is over, to have them, in the order given, with their servers
    and the blueprints. Columns that need a conversion, such as times, are read when they are asked for.
    """
    now = adapt(timezone.now())
    is_one, one_of = among(job_ids)
    update = (
        "UPDATE jobs_job"  # noqa: S608 - nothing but places for parameters
        " SET state = 'running', worker_id = %s, started_at = %s, updated_at = %s"
        f" WHERE id {is_one} AND state = 'queued'"
    )
    parameters = [worker.pk if worker else None, now, now, *one_of]
    if connection.vendor == "postgresql":
        result = execute(f"WITH job AS ({update} RETURNING *) {select_jobs('job')}", parameters)
    else:
        execute(update, parameters)
        running = f"WHERE job.id {is_one} AND job.state = 'running'"
        result = execute(f"{select_jobs('jobs_job job')} {running}", one_of)

    def fetch() -> list[Job]:
        made: Made = {}
        jobs = {row[0]: make_job(row, host, made) for row in result.fetchall()}
        return [jobs[job_id] for job_id in job_ids if job_id in jobs]

    return fetch


@cache
def select_jobs(source: str) -> str:
    """Return the statement that reads the jobs of `source`, with the plain columns of `TABLES`.

    The last column holds the names of the overlays, the topmost first, as an array, or as JSON on SQLite.
    """
    columns = ", ".join(
        f"{alias}.{column}" for alias, model in TABLES for column in plain_columns(model)
    )
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
    return (
        f"SELECT {columns}, {overlays} FROM {source}"  # noqa: S608
        " LEFT JOIN servers_server server ON server.id = job.server_id"
        " LEFT JOIN servers_blueprint blueprint ON blueprint.id = server.blueprint_id"
    )


def make_job(row: Sequence[Any], host: Host, made: Made) -> Job:
    """Return the job that a row of `select_jobs` holds, with what it relates to; each is `made` once."""
    values = iter(row)
    job: Job
    job, server, blueprint = (make(model, values, made) for _, model in TABLES)
    job.host, job.server = host, server
    if server:
        names = row[-1]
        blueprint.overlay_names = tuple(json.loads(names) if isinstance(names, str) else names)
        server.blueprint = blueprint
        if server.host_id == job.host_id:
            server.host = host
    return job


def make(model: type[models.Model], values: Iterator[Any], made: Made) -> Any:
    """Return the row of `model` whose plain columns come next; None if the outer join found none."""
    columns = plain_columns(model)
    own = list(islice(values, len(columns)))
    key = (model, own[0])
    if own[0] is not None and key not in made:
        made[key] = model.from_db(connection.alias, columns, own)
    return made.get(key)
