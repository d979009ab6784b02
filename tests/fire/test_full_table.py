"""The statements of a claim with 10,000 queued and 100,000 finished jobs, as the database plans them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Index, UniqueConstraint

from jobs.models import Job, JobState
from jobs.queue.liveness import register_worker
from jobs.queue.requests import enqueue
from jobs.queue.scheduler import PAGE
from jobs.queue.transitions import (
    claim_jobs,
    claim_next_job,
    read_cancel_requests,
    recover_stale_jobs,
)
from servers.models import Blueprint, Host, Server
from tests.fire.crowd import fill_jobs

pytestmark = pytest.mark.django_db

PARTIAL = {
    rule.name
    for rule in (*Job._meta.indexes, *Job._meta.constraints)
    if isinstance(rule, Index | UniqueConstraint)
    and rule.condition is not None
    and not rule.name.startswith(("unsuccessful_", "jobs_by_state"))
}
"""The names of the partial indexes that stay small: finished jobs are not in them."""

SERVERS = 200
MOST_SORTED = PAGE + SERVERS
"""A claim sorts the first queued jobs together with those that run: at most one for each server."""

Statement = tuple[str, Any]


def plan_on_sqlite(statement: Statement) -> Iterator[str]:
    """Return how SQLite reads the jobs, and whether it sorts. With the parameters bound, as when it ran."""
    sql, parameters = statement
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)
        steps = [(parent, step) for _, parent, _, step in cursor.fetchall()]
    of_jobs = {parent for parent, step in steps if "jobs_job" in step or " job " in step}
    # The running jobs and the first queued ones: the steps that read them have another parent.
    of_few = {parent for parent, step in steps if step == "SCAN job LEFT-JOIN"}
    for parent, step in steps:
        if parent in of_few:
            continue
        # A subquery sorts what it reads itself: few overlays.
        if "jobs_job" in step or " job " in step or ("ORDER BY" in step and parent in of_jobs):
            yield step


def plan_on_postgresql(statement: Statement) -> Iterator[str]:
    """Return how PostgreSQL reads the jobs, and whether it sorts many of them."""
    sql, parameters = statement
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", parameters)
        (answer,) = cursor.fetchone()
    trees = json.loads(answer) if isinstance(answer, str) else answer
    nodes: list[dict[str, Any]] = [trees[0]["Plan"]]
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if "Index Name" in node:
            step = f"{node['Node Type']} {node.get('Scan Direction')} {node['Index Name']}"
            yield f"{step} {node.get('Index Cond', '')}".rstrip()
        elif node["Node Type"] == "Seq Scan" and node["Relation Name"] == "jobs_job":
            yield "Seq Scan"
        elif node["Node Type"] == "Sort" and node["Plan Rows"] > MOST_SORTED:
            yield "Sort"


def forget_statistics() -> None:
    """Let SQLite know as little about its tables as in production, where nothing collects statistics."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM sqlite_stat1")
        cursor.execute("ANALYZE sqlite_master")  # It reads the statistics again.


@contextmanager
def statements_by_state() -> Iterator[list[Statement]]:
    """Collect the statements that search jobs by their state."""
    statements: list[Statement] = []

    def note(execute: Any, sql: str, parameters: Any, many: bool, context: Any) -> Any:
        looks = sql.startswith("SELECT") and "state" in sql.partition("WHERE")[2]
        claims = sql.startswith("UPDATE") and "jobs_job SET state = 'running'" in sql
        if "jobs_job" in sql and (looks or claims):
            statements.append((sql, parameters))
        return execute(sql, parameters, many, context)

    with connection.execute_wrapper(note):
        yield statements


@pytest.mark.parametrize("has_statistics", [True, False])
def test_a_claim_reads_only_the_indexes_of_what_waits_and_runs(
    alice: User, host: Host, blueprint: Blueprint, has_statistics: bool
) -> None:
    servers = [
        Server.objects.create(
            name=f"s{number}", owner=alice, host=host, blueprint=blueprint, port=27015 + number
        )
        for number in range(SERVERS)
    ]
    fill_jobs(servers, queued=10_000, finished=100_000)
    if not has_statistics:
        if connection.vendor != "sqlite":
            pytest.skip("PostgreSQL collects statistics by itself")
        forget_statistics()
    worker = register_worker(host, concurrency=4, is_claiming=True)
    enqueue("install", host=host, requested_by=alice)
    with statements_by_state() as statements:
        assert claim_next_job(worker)
        assert len(claim_jobs(worker, host, 150)) == 150
        read_cancel_requests(worker)
        recover_stale_jobs()
    explain = plan_on_sqlite if connection.vendor == "sqlite" else plan_on_postgresql
    assert len(statements) >= 4
    for statement in statements:
        steps = list(explain(statement))
        assert steps, statement
        for step in steps:
            if "servers_" in step or "jobs_worker" in step:
                continue  # What a job belongs to is looked up by key, in tables that stay small.
            by_id = ("WHERE id IN", "id = ANY", "WHERE id = %s")
            if any(text in statement[0] for text in by_id) and (
                "INTEGER PRIMARY KEY" in step or "jobs_job_pkey" in step
            ):
                continue  # The few that were claimed are read by their ids.
            is_of_few = list(statement[1] or ()) == [JobState.RUNNING] or any(
                text in step for text in ("'running'", "(id = ", "id=?")
            )
            if "jobs_by_state" in step and is_of_few:
                continue  # It has all that failed, by their state: of those that run few, of an id one.
            assert any(name in step for name in PARTIAL), f"{step}: {statement}"


def test_a_queue_of_busy_servers_only_is_not_read_to_its_end(
    alice: User, host: Host, blueprint: Blueprint
) -> None:
    servers = [
        Server.objects.create(name=name, owner=alice, host=host, blueprint=blueprint, port=port)
        for name, port in (("busy", 27015), ("free", 27016))
    ]
    fill_jobs(servers[:1], queued=PAGE + 10, finished=0)
    worker = register_worker(host, concurrency=4, is_claiming=True)
    assert len(claim_jobs(worker, host, 4)) == 1

    def claim() -> tuple[int, int]:
        """Claim; return how many jobs that gave, and how often jobs behind the first ones were read."""
        with statements_by_state() as statements:
            claimed = len(claim_jobs(worker, host, 4))
        return claimed, sum("(created_at, id) >" in sql for sql, _ in statements)

    assert claim() == (0, 0)
    enqueue("start", server=servers[1], requested_by=alice)
    assert claim() == (1, 1)
    assert claim() == (0, 0)
    of_host = Job.objects.create(operation="unpack", host=host, requested_by=alice)
    assert claim() == (1, 1)
    assert Job.objects.get(pk=of_host.pk).state == JobState.RUNNING


def test_a_claim_that_is_full_reads_no_further(
    alice: User, host: Host, blueprint: Blueprint
) -> None:
    servers = [
        Server.objects.create(
            name=f"s{number}", owner=alice, host=host, blueprint=blueprint, port=27015 + number
        )
        for number in range(PAGE + 1)
    ]
    fill_jobs(servers, queued=PAGE + 1, finished=0)
    worker = register_worker(host, concurrency=4, is_claiming=True)
    with statements_by_state() as statements:
        assert len(claim_jobs(worker, host, PAGE)) == PAGE
    # It claims a whole page; only one more job would be a reason to read the next.
    assert not [sql for sql, _ in statements if "(created_at, id) >" in sql]
