"""Whether a person's pages have changed: when what they may see last changed, and how many rows there are.

A sum of the times' microseconds goes with them: a change may be committed after one with a later time.

This is read at each commit while anybody has a page open. The ORM took 5 ms to build these statements each
time; executing them takes a tenth of that, so they are SQL.
"""

from collections.abc import Sequence
from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from jobs.database import execute
from jobs.models import Worker

WINDOW = timedelta(minutes=10)
"""Makes the query cheap by its index, however many jobs there are. A job that leaves it is a false alarm."""

MICROSECONDS = (
    # Stored as text, such as 2026-11-29 14:12:13.123456.
    "CAST(substr(%s, 21) AS INTEGER)" if settings.IS_SQLITE else "date_part('microseconds', %s)"
)


def changes_of(column: str) -> str:
    """Return the columns of a group that differ whenever a row's `column` was set to the current time."""
    return f"MAX({column}), COUNT(*), SUM({MICROSECONDS % column})"


# For owners, for members, for memberships themselves (giving or revoking a role is a change too), and for
# people who upload. Besides their own rows, servers start with what is in blueprints; those change so rarely
# that each change counts for everybody.
CHANGED = f"""
WITH recent AS (SELECT server_id, updated_at, overlay_name, requested_by_id FROM jobs_job WHERE updated_at > %s)
SELECT 'servers', owner_id, {changes_of("updated_at")}
  FROM servers_server GROUP BY owner_id
UNION ALL
SELECT 'jobs', server.owner_id, {changes_of("recent.updated_at")}
  FROM recent LEFT JOIN servers_server server ON server.id = recent.server_id GROUP BY server.owner_id
UNION ALL
SELECT 'roles', user_id, {changes_of("updated_at")}
  FROM servers_membership GROUP BY user_id
UNION ALL
SELECT 'shared servers', role.user_id, {changes_of("server.updated_at")}
  FROM servers_membership role JOIN servers_server server ON server.id = role.server_id GROUP BY role.user_id
UNION ALL
SELECT 'jobs of shared servers', role.user_id, {changes_of("recent.updated_at")}
  FROM recent JOIN servers_membership role ON role.server_id = recent.server_id GROUP BY role.user_id
UNION ALL
SELECT 'uploads', requested_by_id, {changes_of("updated_at")}
  FROM recent WHERE overlay_name <> '' GROUP BY requested_by_id
UNION ALL
SELECT 'blueprints', NULL, {changes_of("updated_at")} FROM servers_blueprint
"""  # noqa: S608 - made of what is written here

LIES_ON_HOSTS = (
    "SELECT id, build_id, bind_address, overlays_reported_at FROM servers_host ORDER BY id"
)
OF_EVERYBODY = "blueprints"


def read_versions(user_ids: Sequence[int | None]) -> list[object]:
    """Return for each person a value that changes with anything that they may see; None sees everything.

    Costs the same number of queries for any number of people. Times are as the database returns them: they are
    only compared.
    """
    changed = execute(CHANGED, [timezone.now() - WINDOW]).rows
    alive = list(Worker.objects.alive().order_by("pk").values_list("pk", "is_claiming"))
    hosts = [tuple(row) for row in execute(LIES_ON_HOSTS).rows]
    of_all = (alive, hosts, [row for row in changed if row[0] == OF_EVERYBODY])
    of_people: dict[int | None, list[str]] = {}
    for row in changed:
        of_people.setdefault(row[1], []).append(repr(row))
    everything = sorted(map(repr, changed))
    return [
        (of_all, everything if user_id is None else sorted(of_people.get(user_id, ())))
        for user_id in user_ids
    ]
