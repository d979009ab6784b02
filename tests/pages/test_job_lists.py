"""The lists of jobs: whose jobs they show, and that no list reads all jobs."""

import random
import re
from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from jobs.models import ACTIVE_STATES, Job, JobState
from jobs.pages.job_lists import LARGEST_ID, newest_of_person, read_newest
from servers.fleet import BoardQuery, read_board
from servers.models import Blueprint, Host, Membership, Server
from tests.fire.crowd import fill_jobs

ALL = JobState.values
pytestmark = pytest.mark.django_db


@pytest.fixture
def jobs(alice: User, bob: User, host: Host, blueprint: Blueprint) -> list[Job]:
    """Return jobs of Alice's and Bob's servers, one of them shared, of hosts, and of removed servers."""
    random_ = random.Random(11)
    of_people = [
        Server.objects.create(name=f"s{number}", owner=owner, host=host, blueprint=blueprint)
        for number, owner in enumerate([alice, alice, alice, bob])
    ]
    Membership.objects.create(server=of_people[0], user=bob, role="viewer")
    servers = [None, None, *of_people]
    rows = []
    for _ in range(600):
        server = random_.choice(servers)
        removed = random_.choice(["", "gone"])
        # At most one of them runs.
        state = random_.choice([*FINAL, FINAL[0], FINAL[0], JobState.QUEUED])
        rows.append(
            Job(
                operation="stop",
                host=host,
                server=server,
                server_name=server.name if server else removed,
                requested_by=random_.choice([alice, bob, None]),
                state=state,
                finished_at=timezone.now() if state in FINAL else None,
            )
        )
    return Job.objects.bulk_create(rows)


FINAL = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


@pytest.fixture
def erin(db: None) -> User:
    """Return somebody who looks after hosts, and sees nobody else's server."""
    erin = User.objects.create_user("erin", is_staff=True)
    erin.user_permissions.add(Permission.objects.get(codename="install"))
    return erin


@pytest.mark.parametrize("states", [ALL, ["failed"], ["queued"], ["succeeded"], ACTIVE_STATES])
def test_a_person_sees_just_what_is_visible_to_them_the_newest_first(
    jobs: list[Job], alice: User, bob: User, dana: User, erin: User, states: Sequence[str]
) -> None:
    for person in (alice, bob, dana, erin):
        visible = Job.objects.visible_to(person).filter(state__in=states).order_by("-id")
        for before in (None, jobs[300].pk, jobs[0].pk):
            wanted = list(visible.filter(pk__lt=before or LARGEST_ID))
            for limit in (1, 7, 51, 1000):
                assert read_newest(person, states, before, limit) == wanted[:limit]


BY_STATE = {
    "sqlite": (
        *("jobs_by_state", "one_running_job_per_server"),
        *("unfinished_jobs_of_server", "unsuccessful_jobs_of_server"),
    ),
    # Those of waiting or running jobs, because there are few.
    "postgresql": (
        *("jobs_by_state", "jobs_of_server", "queued_jobs_of_person", "running_jobs_of_host"),
        *("unfinished_jobs_of_server", "unsuccessful_jobs_of_server"),
    ),
}
"""The indexes from which each database may read a list by state; the last two are used for a person's own."""


@pytest.fixture
def history(alice: User, bob: User, host: Host, blueprint: Blueprint) -> None:
    """Add some thousand jobs, nearly all of them Bob's, few of which failed or wait."""
    hers = Server.objects.create(name="hers", owner=alice, host=host, blueprint=blueprint)
    his = Server.objects.create(name="his", owner=bob, host=host, blueprint=blueprint)
    servers = {3: hers, 4: None}
    now = timezone.now()
    states = {7: "failed", 8: "queued"}
    Job.objects.bulk_create(
        Job(
            operation="stop",
            host=host,
            server=servers.get(number % 200, his),
            server_name="s",
            requested_by=alice if number % 200 in servers else bob,
            state=states.get(number % 100, "succeeded"),
            finished_at=None if number % 100 == 8 else now,
        )
        for number in range(6_000)
    )
    if connection.vendor == "postgresql":
        tidy_indexes()
        with connection.cursor() as cursor:
            # What fits into a few pages is read completely, whatever indexes there are.
            cursor.execute("SET LOCAL enable_seqscan = off")


def tidy_indexes() -> None:
    """Make each index of jobs as large as its rows need: other tests leave gaps that cost time to read."""
    with connection.cursor() as cursor:
        cursor.execute("REINDEX TABLE jobs_job")
        cursor.execute("ANALYZE jobs_job")


OWNERS_LISTS = [
    (ALL, "jobs_of_server"),
    (["succeeded"], "jobs_of_server"),
    (["failed"], "unsuccessful_jobs_of_server"),
    (["cancelled"], "unsuccessful_jobs_of_server"),
    (["queued"], "unfinished_jobs_of_server"),
    (ACTIVE_STATES, "unfinished_jobs_of_server"),
]


# Adding the jobs takes longer than all that is asked about them, so a test asks for every list.
@pytest.mark.usefixtures("history")
def test_an_owners_list_is_looked_up_in_indexes(alice: User) -> None:
    for states, index in OWNERS_LISTS:
        plan = explain(*newest_of_person(alice.pk, states, LARGEST_ID, 51))
        # PostgreSQL may also find everybody's few failed jobs in the index by state.
        indexes = [index, "jobs_by_state"] if connection.vendor == "postgresql" else [index]
        assert any(re.search(rf"\b{one}\b", plan) for one in indexes), plan
        if connection.vendor == "sqlite":
            # Both the search for where to begin, and what is read from there.
            for alias in ("older", "job"):
                assert re.search(rf"SEARCH {alias} USING (COVERING )?INDEX {index}\b", plan), plan
        # PostgreSQL may also take another index for these: they are few.
        assert "jobs_of_removed_servers" in plan or connection.vendor == "postgresql", plan
        assert not reads_all_jobs(plan), plan


@pytest.mark.usefixtures("history")
def test_a_list_by_state_is_looked_up_in_indexes(dana: User, erin: User) -> None:
    for person, states in product((dana, erin), (["failed"], ["cancelled"], ACTIVE_STATES)):
        with CaptureQueriesContext(connection) as queries:
            read_newest(person, states, None, 51)
        of_jobs = [query["sql"] for query in queries if "jobs_job" in query["sql"]]
        # Some are then read by the ids that were found.
        searches = [one for one in of_jobs if '"jobs_job"."id" IN' not in one]
        assert searches
        for statement in searches:
            plan = explain(statement, ())
            taken = BY_STATE[connection.vendor]
            assert any(re.search(rf"\b{index}\b", plan) for index in taken), plan
            assert not reads_all_jobs(plan), plan


@pytest.mark.usefixtures("history")
def test_the_waiting_jobs_of_a_person_are_counted_in_an_index(alice: User) -> None:
    waiting = Job.objects.queued().filter(requested_by=alice).order_by()
    plan = explain(*waiting.values("pk").query.sql_with_params())
    assert "queued_jobs_of_person" in plan, plan


def test_the_list_of_servers_looks_up_which_have_jobs(
    alice: User, host: Host, blueprint: Blueprint
) -> None:
    servers = [
        Server.objects.create(name=f"s{number}", owner=alice, host=host, blueprint=blueprint)
        for number in range(3)
    ]
    # The database then knows how many jobs there are.
    fill_jobs(servers, queued=3, finished=6_000)
    if connection.vendor == "postgresql":
        tidy_indexes()
    with CaptureQueriesContext(connection) as queries:
        assert read_board(alice, BoardQuery()).count == 3
    counting = [query["sql"] for query in queries if "in_busy" in query["sql"]]
    assert len(counting) == 1
    plan = explain(counting[0], ())
    assert "unfinished_jobs_of_server" in plan, plan
    assert not reads_all_jobs(plan), plan
    # Django's name for the jobs inside another statement.
    assert "SCAN U0" not in plan, plan


def explain(statement: str, parameters: Sequence[Any]) -> str:
    """Return how the database executes a statement."""
    with connection.cursor() as cursor:
        how = "EXPLAIN" if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN"
        cursor.execute(f"{how} {statement}", list(parameters) or None)
        return "\n".join(str(row[-1]) for row in cursor.fetchall())


def reads_all_jobs(plan: str) -> bool:
    """Return whether a plan goes through all jobs."""
    whole = ("Seq Scan on jobs_job", "SCAN jobs_job", "SCAN job", "SCAN older", "jobs_job_pkey")
    return any(one in plan for one in whole)
