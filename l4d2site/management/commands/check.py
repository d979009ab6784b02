"""`manage.py check`: Django's, which also works on an SQLite database that somebody is writing to."""

from typing import Any

from django.core.management.base import BaseCommand
from django.core.management.commands import check
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper


class DatabaseChecks(BaseCommand):
    """A command that may check databases, before or as its work."""

    def check(self, *args: Any, **options: Any) -> None:
        """Run Django's checks, which need to know what the databases can do."""
        for alias in options.get("databases") or ():
            recognize_json(connections[alias])
        super().check(*args, **options)


class Command(DatabaseChecks, check.Command):
    """Checks the whole project for mistakes."""


def recognize_json(connection: BaseDatabaseWrapper) -> None:
    """Find out whether SQLite has JSON functions, for Django's check of that.

    Django would ask in a transaction that writes, and take a locked database for an SQLite without them.
    """
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pragma_function_list WHERE name = 'json'")
            [(count,)] = cursor.fetchall()
        connection.features.supports_json_field = count > 0
