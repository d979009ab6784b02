"""Which tables of a database are the panel's, by their names and by its migrations."""

from contextlib import nullcontext

from django.apps import apps
from django.db import Error as AnyDatabaseError
from django.db import connection, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from l4d2site.backups.database_dumps.faults import DumpError
from servers.models import Server


def is_panels() -> bool:
    """Return whether the database is a panel's, and not another program's or empty."""
    return "servers" in {app for app, _name in _list_migrations()}


def list_unknown_migrations() -> set[tuple[str, str]]:
    """Return the migrations in the database, each with its app, that this version does not know."""
    migrations = MigrationLoader(None, ignore_no_migrations=True).disk_migrations
    known = {*migrations, *(one for migration in migrations.values() for one in migration.replaces)}
    return _list_migrations() - known


def _list_migrations() -> set[tuple[str, str]]:
    try:
        # An error would end an open transaction. On SQLite, a new one would wait until nobody writes.
        with transaction.atomic() if connection.in_atomic_block else nullcontext():
            return {*MigrationRecorder(connection).applied_migrations()}
    except AnyDatabaseError:  # Another program's table has the same name.
        return set()


def require_panel(tables: list[str]) -> None:
    """Raise `DumpError` unless the panel's tables are among these: a dump of nothing must not count as one."""
    if (
        MigrationRecorder.Migration._meta.db_table not in tables
        or Server._meta.db_table not in tables
    ):
        raise DumpError(
            "The database has no tables of a panel. Is DATABASE_URL right, and is its disk there?"
        )


def choose_ours(tables: list[str], *, keeps_others: bool) -> list[str]:
    """Return the panel's tables, by their names.

    Those of this version are known. A newer one may have made more: their names begin with that of their app.
    With `keeps_others`, this counts only for apps that a newer version has changed.
    """
    known = {
        MigrationRecorder.Migration._meta.db_table,
        *connection.introspection.django_table_names(),
    }
    if keeps_others:
        labels = {app for app, _name in list_unknown_migrations()}
        labels &= {config.label for config in apps.get_app_configs()}
    else:
        labels = {"django", *(app for app, _name in _list_migrations())}
    begins = tuple(f"{label}_" for label in labels)
    return [name for name in tables if name in known or name.startswith(begins)]


def refuse_to_lose(names: list[str]) -> None:
    """Raise `DumpError` if there is something of another program, such as tables, views and functions."""
    if names:
        raise DumpError(
            "The database has tables or other objects of another program, which would be lost: "
            f"{', '.join(names[:3])} … Is DATABASE_URL right? --replace does it all the same."
        )
