"""Sets the jobs that a worker claims to running, and reads all it needs to carry them out."""

import json
from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connection, models
from django.db.models.base import ModelState
from django.utils import timezone

from jobs.models import Job, Worker
from jobs.sql import adapt, among, execute, plain_columns
from jobs.wakeup import Channel, announcing
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


def set_oldest_running(worker: Worker, host: Host) -> Callable[[], list[Job]]:
    """Set the oldest queued job of a host to running if no job runs there, nor one of its server elsewhere.

    It may run by all the rules, whatever it does, so this takes one round trip; but nothing is set to running
    also where others might. Announces to the pages. PostgreSQL only; returns the same as `set_running`.
    """
    now = adapt(timezone.now())
    result = execute(
        "WITH job AS (UPDATE jobs_job"  # noqa: S608 - nothing but places for parameters
        " SET state = 'running', worker_id = %s, started_at = %s, updated_at = %s"
        " WHERE id = (SELECT id FROM jobs_job WHERE host_id = %s AND state = 'queued'"
        " ORDER BY created_at, id LIMIT 1) AND state = 'queued'"
        " AND NOT EXISTS (SELECT FROM jobs_job other WHERE other.state = 'running'"
        " AND (other.host_id = jobs_job.host_id OR other.server_id = jobs_job.server_id))"
        " AND NOT (SELECT is_draining FROM servers_host host WHERE host.id = jobs_job.host_id)"
        f" RETURNING *) {select_jobs('job', announcing(Channel.PAGES))}",
        [worker.pk, now, now, host.pk],
    )

    def fetch() -> list[Job]:
        made: Made = {}
        return [make_job(row, host, made) for row in result.fetchall()]

    return fetch


@cache
def select_jobs(source: str, beside: str = "") -> str:
    """Return the statement that reads the jobs of `source`, with the plain columns of `TABLES`.

    Behind them come the names of the overlays, the topmost first, as an array, or as JSON on SQLite; then SQL
    of our own `beside` them.
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
        f"SELECT {columns}, {overlays} {beside} FROM {source}"  # noqa: S608
        " LEFT JOIN servers_server server ON server.id = job.server_id"
        " LEFT JOIN servers_blueprint blueprint ON blueprint.id = server.blueprint_id"
    )


def make_job(row: Sequence[Any], host: Host, made: Made) -> Job:
    """Return the job that a row of `select_jobs` holds, with what it relates to; each is `made` once."""
    of_job, of_server, of_blueprint, of_overlays = find_places()
    job: Job = make(Job, row[of_job], made)
    server = make(Server, row[of_server], made)
    blueprint = make(Blueprint, row[of_blueprint], made)
    relate(job, host=host, server=server)
    if server:
        if "overlay_names" not in blueprint.__dict__:
            names = row[of_overlays]
            blueprint.overlay_names = tuple(json.loads(names) if isinstance(names, str) else names)
        relate(server, blueprint=blueprint)
        if server.host_id == job.host_id:
            relate(server, host=host)
    return job


@cache
def find_places() -> tuple[slice, slice, slice, int]:
    """Return where in a row of `select_jobs` the columns of each of `TABLES` are, and the names of overlays."""
    job, server, blueprint = accumulate(len(plain_columns(model)) for _, model in TABLES)
    return slice(job), slice(job, server), slice(server, blueprint), blueprint


def make(model: type[models.Model], values: Sequence[Any], made: Made) -> Any:
    """Return the row of `model` whose plain columns have these values; None if the outer join found none.

    As unpickling makes it: `Model.from_db` takes as long as all statements of a claim do.
    """
    key = (model, values[0])
    if key in made or values[0] is None:
        return made.get(key)
    row = made[key] = model.__new__(model)
    state = ModelState()
    state.adding, state.db = False, DEFAULT_DB_ALIAS
    row.__dict__.update(zip(plain_columns(model), values, strict=True), _state=state)
    return row


def relate(row: models.Model, **related: models.Model | None) -> None:
    """Let relations of `row` be what they are known to be, as `select_related` does."""
    row._state.fields_cache.update(related)  # noqa: SLF001
