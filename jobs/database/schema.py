"""Whether the database is as new as the code: what `manage.py migrate` would still have to do."""

from functools import cache

from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

BEHIND = "The database is older than this version: run manage.py migrate."
"""What to tell people in that case, in one sentence."""


def is_schema_behind() -> bool:
    """Return whether the database lacks a migration of this code. Two queries; raises what they raise."""
    applied = MigrationRecorder(connection).applied_migrations()
    return not newest_migrations() <= applied.keys()


@cache
def newest_migrations() -> frozenset[tuple[str, str]]:
    """Return the last migration of each app, by app and name. They are files of this version: read once."""
    return frozenset(MigrationLoader(None).graph.leaf_nodes())
