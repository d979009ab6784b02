"""The newest jobs that a person may see, at the same cost however many there are.

A person's jobs are those of the servers that they own or that are shared with them, and of their uploads. No
index has all these in one order. So the newest jobs of each server are looked up, in each wanted state, and the
page shows the newest of those. Jobs that succeeded have no index: of nearly every server most do, so they are
soon found.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.utils.translation import gettext as _

from jobs.database import is_away
from jobs.models import ACTIVE_STATES, UNSUCCESSFUL_STATES, Job, JobQuerySet, JobState
from servers.permissions import Verb, follows_everything, may

LARGEST_ID = 2**63 - 1

NEWEST_OF_PERSON = """
WITH own (id) AS (
         SELECT id FROM servers_server WHERE owner_id = %s
         UNION SELECT server_id FROM servers_membership WHERE user_id = %s
     ),
     wanted (state) AS (VALUES {places})
SELECT id FROM ({of_servers}) of_servers
UNION ALL
SELECT id FROM (
    SELECT id FROM jobs_job
    WHERE server_id IS NULL AND NOT (server_name = '') AND requested_by_id = %s
    AND state IN (SELECT state FROM wanted) AND id < %s
    ORDER BY id DESC LIMIT %s
) of_removed_servers
UNION ALL
SELECT id FROM (
    SELECT id FROM jobs_job
    WHERE NOT (overlay_name = '') AND server_id IS NULL AND requested_by_id = %s
    AND state IN (SELECT state FROM wanted) AND id < %s
    ORDER BY id DESC LIMIT %s
) of_uploads
ORDER BY id DESC LIMIT %s
"""
"""The ids, newest first, of what `JobQuerySet.visible_to` returns for a person who sees nobody else's jobs.
Every role lets one see a server. `places` has the placeholders of the states. The indexes are those of a
server's jobs, `jobs_of_removed_servers` and `jobs_of_uploaders`."""

OF_SERVERS = """
    SELECT job.id FROM own CROSS JOIN LATERAL (
        SELECT newest.id FROM jobs_job newest
        WHERE newest.server_id = ANY (ARRAY[own.id]) AND {condition} AND newest.id < %s
        ORDER BY newest.server_id DESC, newest.id DESC LIMIT %s
    ) job
"""
"""The newest jobs of each server that meet a condition. With a plain equation for the server instead of the
array, PostgreSQL might read all jobs in the order of their ids, in the hope of finding some of it soon."""

OF_SERVERS_IN_SQLITE = """
    SELECT job.id FROM own JOIN jobs_job job INDEXED BY {index} ON job.server_id = own.id
    WHERE {condition} AND job.id < %s AND job.id >= COALESCE((
        SELECT older.id FROM jobs_job older INDEXED BY {index}
        WHERE older.server_id = own.id AND {condition} AND older.id < %s
        ORDER BY older.id DESC LIMIT 1 OFFSET %s
    ), 0)
"""
"""The same for SQLite, which has no LATERAL: all jobs from the oldest wanted one on. PostgreSQL would read all
jobs for this. By itself, SQLite would take the index of all jobs of a server, to begin at an id."""


ALL_OF_SERVER = ("TRUE", "jobs_of_server")
UNFINISHED = ("finished_at IS NULL", "unfinished_jobs_of_server")
UNSUCCESSFUL = (
    "state IN (" + ", ".join(f"'{state}'" for state in UNSUCCESSFUL_STATES) + ")",
    "unsuccessful_jobs_of_server",
)
"""What each index of a server's jobs has as its condition, and its name. A database uses the index only where a
query says the same."""

INDEXES_OF_TABLE = "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = %s"

PLAN_OF_SERVER = (
    "EXPLAIN QUERY PLAN SELECT id FROM jobs_job INDEXED BY {index}"
    " WHERE server_id = 1 AND {condition} AND id < 1 ORDER BY id DESC"
)
"""How SQLite would look up the newest jobs of a server. With the right index, that is a single step."""

INDEXED = {
    **dict.fromkeys(ACTIVE_STATES, UNFINISHED),
    JobState.SUCCEEDED: ALL_OF_SERVER,
    **dict.fromkeys(UNSUCCESSFUL_STATES, UNSUCCESSFUL),
}


def parse_id(text: str) -> int | None:
    """Return `text` as an id, or None if it is not one."""
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        return None
    return min(int(text), LARGEST_ID)


def read_newest(user: User, states: Sequence[str], before: int | None, limit: int) -> list[Job]:
    """Return the newest jobs that `user` may see, in one of `states`, with an id below `before`."""
    end = before or LARGEST_ID
    if not sees_hosts_alone(user) and follows_everything(user):
        jobs = Job.objects.visible_to(user).filter(pk__lt=end).order_by("-id")
        if set(states) == set(JobState.values):
            return list(jobs[:limit])
        return take_newest(jobs, states, limit)
    with connection.cursor() as cursor:
        cursor.execute(*newest_of_person(user.pk, states, end, limit))
        ids = [job_id for (job_id,) in cursor.fetchall()]
    own = list(Job.objects.filter(pk__in=ids).order_by("-id"))
    if not sees_hosts_alone(user):
        return own
    # Two queries: one for both would search all jobs for those of hosts.
    about_hosts = Job.objects.about_hosts().filter(pk__lt=end).order_by("-id")
    of_hosts = take_newest(about_hosts, states, limit)
    return sorted([*own, *of_hosts], key=lambda job: -job.pk)[:limit]


def sees_hosts_alone(user: User) -> bool:
    """Return whether `user` sees the jobs of hosts, but not those of everybody's servers."""
    sees_servers = may(user, Verb.VIEW) or may(user, Verb.VIEW_ANY_JOB)
    return may(user, Verb.VIEW_HOSTS) and not sees_servers


def take_newest(jobs: JobQuerySet, states: Sequence[str], limit: int) -> list[Job]:
    """Return the newest of `jobs` in one of `states`."""
    # One query per state: no index has the order of several states, so one query would read all jobs.
    newest = (list(jobs.in_state(state)[:limit]) for state in states)
    return sorted(chain.from_iterable(newest), key=lambda job: -job.pk)[:limit]


def describe_missing_indexes() -> list[str]:
    """Return a sentence for each index that a list names and this database lacks: what to do.

    Costs six short queries.

    An index that has only the name of one counts as missing: SQLite refuses a query that names it. Only for
    SQLite, which is told the names. A migration that has made an index is not run again.
    """
    if connection.vendor != "sqlite":
        return []
    with connection.cursor() as cursor:
        cursor.execute(INDEXES_OF_TABLE, [Job._meta.db_table])
        present = {name for (name,) in cursor.fetchall()}
    unusable = find_unusable_indexes()
    named = {index for _condition, index in (ALL_OF_SERVER, UNFINISHED, UNSUCCESSFUL)}
    editor = connection.schema_editor()
    wanted = {
        index.name: str(index.create_sql(Job, editor))
        for index in Job._meta.indexes
        if index.name in named
    }
    sentences = []
    for name, statement in wanted.items():
        if name not in present:
            sentence = _(
                "The database lacks the index %(name)s, so lists of jobs fail. manage.py migrate does not "
                "make it again: stop the panel and its workers, run manage.py dbshell, and enter: "
                "%(statement)s;"
            )
        elif name in unusable:
            sentence = _(
                "The database's index %(name)s is another one than lists of jobs need, so they fail or take "
                "long. manage.py migrate does not make it again: stop the panel and its workers, run "
                "manage.py dbshell, and enter: DROP INDEX %(name)s; %(statement)s;"
            )
        else:
            continue
        sentences.append(sentence % {"name": name, "statement": statement})
    return sentences


def find_unusable_indexes() -> set[str]:
    """Return the indexes that SQLite cannot use for the lists that name them, or only beside a sort.

    SQLite is asked: an index that somebody has made by hand can be written in many ways.
    """
    unusable = set()
    with connection.cursor() as cursor:
        for condition, index in chain.from_iterable(conditions_of([state]) for state in JobState):
            try:
                cursor.execute(PLAN_OF_SERVER.format(condition=condition, index=index))
            except OperationalError as error:  # It does not have the condition.
                if is_away(error):
                    raise
                unusable.add(index)
                continue
            [*_, step], *others = cursor.fetchall()
            if others or "server_id=?" not in step:
                unusable.add(index)
    return unusable


def newest_of_person(
    user_id: int, states: Sequence[str], end: int, limit: int
) -> tuple[str, list[Any]]:
    """Return the statement for this database, and its parameters."""
    is_sqlite = connection.vendor == "sqlite"
    of_servers = OF_SERVERS_IN_SQLITE if is_sqlite else OF_SERVERS
    parts = [
        of_servers.format(condition=condition, index=index)
        for condition, index in conditions_of(states)
    ]
    statement = NEWEST_OF_PERSON.format(
        places=", ".join(["(%s)"] * len(states)), of_servers=" UNION ALL ".join(parts)
    )
    of_part = [end, end, limit - 1] if is_sqlite else [end, limit]
    of_person = [user_id, end, limit]
    parameters = [user_id, user_id, *states, *of_part * len(parts), *of_person, *of_person, limit]
    return statement, parameters


def conditions_of(states: Sequence[str]) -> list[tuple[str, str]]:
    """Return conditions that jobs in one of `states` meet, each with the index that has it."""
    if set(states) == set(JobState.values):
        return [ALL_OF_SERVER]
    indexed = ((state, *INDEXED[state]) for state in map(JobState, states))
    return [(f"state = '{state}' AND {condition}", index) for state, condition, index in indexed]
