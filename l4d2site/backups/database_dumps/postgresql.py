"""Dumps the panel's schema of a database of PostgreSQL, and puts a dump in its place in one transaction."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import Error as AnyDatabaseError
from django.db import connection, transaction
from django.db.migrations.recorder import MigrationRecorder

from jobs.database import driver
from l4d2site.backups.database_dumps import faults
from l4d2site.backups.database_dumps.client_programs import (
    assumed_role,
    run_connected,
    run_program,
)
from l4d2site.backups.database_dumps.faults import LOCK_TIMEOUT, WAITING, DumpError
from l4d2site.backups.database_dumps.panel_tables import (
    choose_ours,
    refuse_to_lose,
    require_panel,
)
from l4d2site.backups.database_dumps.restore_scripts import execute_script


def dump(path: Path) -> None:
    """Write the panel's schema to a new file at `path`, as pg_dump does. Raises `DumpError`."""
    connection.ensure_connection()
    schema = _find_schema()
    require_panel(_list_tables(schema))
    run_connected(
        "pg_dump",
        "--format=custom",
        "--no-owner",
        "--no-privileges",
        *assumed_role(),
        f"--schema={_quote(schema)}",
        f"--file={path}",
        folder=path.parent,
    )


def verify(path: Path) -> None:
    """Raise `DumpError` unless pg_restore can list what is in the file."""
    run_program("pg_restore", "--list", str(path))


@contextmanager
def replacing(path: Path, keeps_others: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Run the block on the content of the file, which takes the place of the panel's tables, and commit it."""
    script = path.with_name(f"{path.name}.sql")
    clean = ("--clean", "--if-exists", "--no-owner", "--no-privileges", "--no-tablespaces")
    schema = _find_schema()
    # Dumps that were made before have all schemas.
    run_program("pg_restore", *clean, f"--schema={schema}", f"--file={script}", str(path))
    with transaction.atomic():
        notice_lost_client()
        _drop_tables(schema, keeps_others, say)
        others = _list_objects(schema)
        execute_script(script)
        with connection.cursor() as cursor:
            # The script has set that of the dump. With SQL_ASCII, psycopg returns bytes for texts.
            cursor.execute("SET client_encoding = 'UTF8'")
        if keeps_others:
            lost = others.keys() - _list_objects(schema).keys()
            refuse_to_lose(sorted(others[key] for key in lost))
        with connection.cursor() as cursor:
            # The script has emptied it.
            cursor.execute("RESET search_path")
            cursor.execute("SHOW search_path")
            [(schemas,)] = cursor.fetchall()
        if MigrationRecorder.Migration._meta.db_table not in _list_tables(schema):
            raise DumpError(
                "The backup's tables are in another schema than this database's, whose search_path is "
                f"{schemas}. Restore it into a database that has the search_path of the one it was made of."
            )
        with connection.cursor() as cursor:
            # Otherwise a table with rows that are still to be checked could not be migrated.
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        yield
    connection.close()  # The script has set more.


@contextmanager
def telling_of_waits(say: Callable[[str], None]) -> Iterator[None]:
    """Say once in the block if a statement outside of a transaction waits long for another program's lock."""
    has_told = False

    def execute_patiently(execute: Callable[..., Any], *arguments: Any) -> Any:
        nonlocal has_told
        if has_told or connection.in_atomic_block:
            return execute(*arguments)
        link = connection.connection
        with connection.wrap_database_errors:
            limit = int(faults.LONG_WAIT_SECONDS * 1000)
            link.execute(f"SET lock_timeout = {limit}", prepare=False)
        try:
            return execute(*arguments)
        except AnyDatabaseError as error:
            if not _is_lock_timeout(error):
                raise
        finally:
            with suppress(driver().Error):  # The connection may be lost.
                link.execute("RESET lock_timeout", prepare=False)
        has_told = True
        say(WAITING)
        return execute(*arguments)

    with connection.execute_wrapper(execute_patiently):
        yield


def notice_lost_client() -> None:
    """Let PostgreSQL end this session soon after this machine or its network is gone.

    The script lifts the limit on pauses in a transaction, because a slow machine may pause. Without a limit a
    lost session would keep its locks until TCP gives up: by default after two hours.
    """
    seconds = max(2, int(settings.JOB_WORKER_LEASE_SECONDS / 3))
    with connection.cursor() as cursor:
        cursor.execute(f"SET tcp_keepalives_idle = {seconds}")
        cursor.execute("SET tcp_keepalives_interval = 1")
        cursor.execute("SET tcp_keepalives_count = 2")
        cursor.execute(f"SET tcp_user_timeout = '{seconds}s'")


def _find_schema() -> str:
    """Return the schema that has the panel's tables, or will have them; others may be other programs'."""
    tables = {
        MigrationRecorder.Migration._meta.db_table,
        *connection.introspection.django_table_names(include_views=False),
    }
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT nspname FROM unnest(%s::text[]) AS name"
            " JOIN pg_class ON pg_class.oid = to_regclass(quote_ident(name))"
            " JOIN pg_namespace ON pg_namespace.oid = relnamespace ORDER BY nspname",
            [list(tables)],
        )
        schemas = [schema for [schema] in cursor.fetchall()]
        cursor.execute("SELECT current_schema()")
        [first] = cursor.fetchone()
    if len(schemas) > 1:
        raise DumpError(
            f"The panel's tables are in several schemas: {', '.join(schemas)}. Move all of them into one of "
            "these (ALTER TABLE … SET SCHEMA …), and try again."
        )
    if not schemas and first is None:
        raise DumpError("No schema of the database's search_path exists. Create it, and try again.")
    return str(schemas[0] if schemas else first)


def list_replaced() -> list[str]:
    """Return the tables that would be lost to a dump that kept others."""
    return choose_ours(_list_tables(_find_schema()), keeps_others=True)


def _drop_tables(schema: str, keeps_others: bool, say: Callable[[str], None]) -> None:
    """Drop the panel's tables, also those that are newer than the dump: its script does not know them."""
    ours = choose_ours(_list_tables(schema), keeps_others=keeps_others)
    if not ours:
        return
    tables = ", ".join(f"{_quote(schema)}.{_quote(name)}" for name in ours)
    with connection.cursor() as cursor:
        lock = f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE"
        try:
            with transaction.atomic():
                cursor.execute(f"SET LOCAL lock_timeout = {int(faults.LONG_WAIT_SECONDS * 1000)}")
                cursor.execute(lock)
        except AnyDatabaseError as error:
            if not _is_lock_timeout(error):
                raise
            say(WAITING)
            cursor.execute(lock)
        # Without CASCADE: what is not ours and needs one of them is not dropped, but refuses this.
        cursor.execute(f"DROP TABLE {tables}")


def _is_lock_timeout(error: AnyDatabaseError) -> bool:
    return getattr(error.__cause__, "sqlstate", None) == LOCK_TIMEOUT


def _list_tables(schema: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
            # Tables, and those that have partitions.
            " WHERE nspname = %s AND relkind IN ('r', 'p')",
            [schema],
        )
        return sorted(name for [name] in cursor.fetchall())


def _list_objects(schema: str) -> dict[tuple[int, int], str]:
    """Return the names of a schema's objects by their catalogs and OIDs: one that is made again has another.

    Tables, views, sequences, functions, types and so on; not what is part of one of these.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT classid, objid, coalesce(named.name, named.identity)"
            " FROM pg_depend, pg_identify_object(classid, objid, objsubid) AS named"
            " WHERE refclassid = 'pg_namespace'::regclass"
            " AND refobjid = (SELECT oid FROM pg_namespace WHERE nspname = %s)",
            [schema],
        )
        return {(catalog, oid): name for catalog, oid, name in cursor.fetchall()}


def _quote(name: str) -> str:
    """Return a name as SQL and pg_dump's patterns have it. Django does not escape quotation marks in it."""
    return '"{}"'.format(name.replace('"', '""'))
