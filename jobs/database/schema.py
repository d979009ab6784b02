"""Whether the database is as new as the code: what `manage.py migrate` would still have to do."""

from functools import cache
from typing import Any

from django.core.management.base import CommandError
from django.db import connection, connections
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.db.models.signals import post_migrate, pre_migrate
from django.dispatch import receiver

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


@receiver(pre_migrate)
def refuse_what_cannot_be_undone(plan: list[tuple[Migration, bool]], **_: Any) -> None:
    """Refuse to go back past a migration that cannot be undone, before Django undoes those that came later."""
    for migration, is_backwards in plan:
        if is_backwards and not all(operation.reversible for operation in migration.operations):
            raise CommandError(
                f"The migration {migration} cannot be undone, so nothing was changed. To go back to before it, "
                "restore a backup from that time."
            )


@receiver(pre_migrate)
def let_migrations_pause(using: str, **_: Any) -> None:
    """Let PostgreSQL wait while a migration computes: the settings limit a transaction's pauses.

    Everything else waits for a migration anyway, so here the limit protects nobody.
    """
    if connections[using].vendor == "postgresql":
        with connections[using].cursor() as cursor:
            cursor.execute("SET idle_in_transaction_session_timeout = 0")


@receiver(post_migrate)
def end_pause_of_migrations(using: str, **_: Any) -> None:
    """Restore the limit of the settings."""
    if connections[using].vendor == "postgresql":
        with connections[using].cursor() as cursor:
            cursor.execute("RESET idle_in_transaction_session_timeout")
