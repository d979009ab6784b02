"""Reads the jobs that a worker has just claimed, with all it needs to carry them out."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Any

from django.db import connection, models

from jobs.models import Job
from jobs.sql import places, plain_columns
from servers.models import Blueprint, Host, Server

TABLES: tuple[tuple[str, type[models.Model]], ...] = (
    ("job", Job),
    ("server", Server),
    ("blueprint", Blueprint),
)

Made = dict[tuple[type[models.Model], int], Any]


def read_running(job_ids: Sequence[int], host: Host) -> list[Job]:
    """Return those of a host's jobs that run, in the order given, with their servers and the blueprints.

    Columns that need a conversion, such as times, are read when they are asked for.
    """
    made: Made = {}
    with connection.cursor() as cursor:
        cursor.execute(select_jobs(len(job_ids)), job_ids)
        jobs = {row[0]: make_job(row, host, made) for row in cursor.fetchall()}
    add_overlays([row for (model, _), row in made.items() if model is Blueprint])
    return [jobs[job_id] for job_id in job_ids if job_id in jobs]


@cache
def select_jobs(count: int) -> str:
    """Return the statement that reads `count` jobs, those that run, with the plain columns of `TABLES`."""
    columns = ", ".join(
        f"{alias}.{column}" for alias, model in TABLES for column in plain_columns(model)
    )
    return (
        f"SELECT {columns} FROM jobs_job job"  # noqa: S608
        " LEFT JOIN servers_server server ON server.id = job.server_id"
        " LEFT JOIN servers_blueprint blueprint ON blueprint.id = server.blueprint_id"
        f" WHERE job.id IN ({places(range(count))}) AND job.state = 'running'"
    )


def make_job(row: Sequence[Any], host: Host, made: Made) -> Job:
    """Return the job that a row of `select_jobs` holds, with what it relates to; each is `made` once."""
    values = iter(row)
    job: Job
    job, server, blueprint = (make(model, values, made) for _, model in TABLES)
    job.host, job.server = host, server
    if server:
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


def add_overlays(blueprints: Sequence[Blueprint]) -> None:
    """Read the names of the overlays of blueprints into them, the topmost first."""
    if not blueprints:
        return
    ids = [blueprint.pk for blueprint in blueprints]
    names: dict[int, list[str]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT place.blueprint_id, overlay.name FROM servers_blueprintoverlay place"  # noqa: S608
            " JOIN servers_overlay overlay ON overlay.id = place.overlay_id"
            f" WHERE place.blueprint_id IN ({places(ids)}) ORDER BY place.position",
            ids,
        )
        for blueprint_id, name in cursor.fetchall():
            names[blueprint_id].append(name)
    for blueprint in blueprints:
        blueprint.overlay_names = tuple(names[blueprint.pk])
