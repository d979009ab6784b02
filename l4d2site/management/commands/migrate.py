"""`manage.py migrate`: Django's, which says why it failed."""

from typing import Any

from django.core.management.base import CommandError
from django.core.management.commands import migrate
from django.db import DatabaseError
from django.db.migrations.exceptions import InconsistentMigrationHistory

from jobs.database import is_away
from l4d2site.management.commands.check import DatabaseChecks


class Command(DatabaseChecks, migrate.Command):
    """Brings the database up to date."""

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
