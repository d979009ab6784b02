"""`manage.py migrate`: Django's, which says why it failed."""

from typing import Any

from django.core.management.base import CommandError
from django.core.management.commands import migrate
from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.exceptions import InconsistentMigrationHistory

from jobs.database import is_away


class Command(migrate.Command):
    """Brings the database up to date."""

    def check(self, *args: Any, **options: Any) -> None:
        """Run Django's checks, which need to know what the databases can do."""
        for alias in options.get("databases") or ():
            recognize_json(connections[alias])
        super().check(*args, **options)

    def handle(self, *args: Any, **options: Any) -> None:
        """Say why it failed: `manage.py` itself would only say that the database is older, and to run this."""
        try:
            super().handle(*args, **options)
        except InconsistentMigrationHistory as error:
            raise CommandError(f"The database could not be brought up to date: {error}") from error
        except DatabaseError as error:
            if is_away(error):
                raise
            reason = " ".join(str(error).split()).rstrip(".")
            raise CommandError(
                f"The database could not be brought up to date: {reason}. If something else was doing the "
                "same, do this again. With --traceback this says where it failed."
            ) from error


def recognize_json(connection: BaseDatabaseWrapper) -> None:
    """Find out whether SQLite has JSON functions, for Django's check of that.

    Django would ask in a transaction that writes, and take a locked database for an SQLite without them.
    """
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pragma_function_list WHERE name = 'json'")
            [(count,)] = cursor.fetchall()
        connection.features.supports_json_field = count > 0
