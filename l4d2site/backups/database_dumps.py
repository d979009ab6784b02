"""Dumps the panel's database to a file, consistently while it runs, and restores it. For both engines."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from django.db import Error as DatabaseError
from django.db import connection
from psycopg.conninfo import make_conninfo

from hostops.errors import CommandError as ProgramError
from hostops.linux.process import run
from jobs.database import find_database_file, write_turn

# Django's parameters that libpq accepts; the others are psycopg's, or limits that a long dump must not have.
_OF_LIBPQ = (
    *("host", "hostaddr", "port", "user", "dbname", "target_session_attrs", "connect_timeout"),
    *("sslmode", "sslrootcert", "sslcert", "sslkey"),
)


class DumpError(Exception):
    """The database could not be dumped or restored; the text says why, and what to do."""


def engine() -> str:
    """Return the engine of a dump made here; a dump from another engine cannot be restored."""
    return connection.vendor


def dump(path: Path) -> None:
    """Write the whole database, as of one moment, to a new file at `path`."""
    if connection.vendor == "sqlite":
        _copy_sqlite(path)
    else:
        _run(
            "pg_dump",
            "--format=custom",
            "--no-owner",
            "--no-privileges",
            f"--file={path}",
            _conninfo(),
        )
    path.chmod(0o600)


def verify(path: Path) -> None:
    """Raise `DumpError` unless the file is complete."""
    if connection.vendor == "sqlite":
        _verify_sqlite(path)
    else:
        _run("pg_restore", "--list", str(path))


def restore(path: Path) -> None:
    """Replace the whole database with the content of the file, in one transaction."""
    if connection.vendor == "sqlite":
        _restore_sqlite(path)
    else:
        clean = ("--clean", "--if-exists", "--no-owner", "--no-privileges", "--single-transaction")
        _run("pg_restore", *clean, "--exit-on-error", f"--dbname={_conninfo()}", str(path))


def _copy_sqlite(path: Path) -> None:
    if find_database_file() is None:
        raise DumpError("The database is in memory alone: there is nothing that could be kept.")
    try:
        connection.ensure_connection()
        # In one step, so that it is consistent and no reader waits. Holding the write turn keeps workers from
        # writing, and the log from growing, as long as their patience lasts.
        with write_turn(), closing(sqlite3.connect(path)) as copy:
            connection.connection.backup(copy)
            # A single file, without a log beside it.
            copy.execute("PRAGMA journal_mode=DELETE")
    except (DatabaseError, sqlite3.Error) as error:
        raise DumpError(
            f"The database could not be copied: {error}. Look whether it can be read, and whether "
            "BACKUP_DIR has space for it."
        ) from error
    _verify_sqlite(path)


def _verify_sqlite(path: Path) -> None:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as copy:
            said = [row[0] for row in copy.execute("PRAGMA quick_check")]
    except sqlite3.Error as error:
        said = [str(error)]
    if said != ["ok"]:
        raise DumpError(f"The copy of the database is damaged: {'; '.join(said[:3])}")


def _restore_sqlite(path: Path) -> None:
    address = f"{path.absolute().as_uri()}?mode=ro"
    try:
        connection.ensure_connection()
        with write_turn(), closing(sqlite3.connect(address, uri=True)) as copy:
            copy.backup(connection.connection)
        # Like the copy, it now has no write-ahead log.
        connection.connection.execute("PRAGMA journal_mode=WAL")
    except (DatabaseError, sqlite3.Error) as error:
        raise DumpError(
            f"The database could not be replaced: {error}. Stop the panel and its workers first."
        ) from error
    connection.close()


def _run(program: str, *arguments: str) -> None:
    if shutil.which(program) is None:
        raise DumpError(
            f"{program} is not installed. It comes with PostgreSQL's client programs (Debian: apt install "
            "postgresql-client), which have to be as new as the server."
        )
    said: list[str] = []
    password = str(connection.settings_dict["PASSWORD"] or "")
    # In the environment, because everybody can see arguments; and only ours, since PGOPTIONS may be set.
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
    if password:
        environment["PGPASSWORD"] = password
    try:
        run(
            [program, *arguments],
            environment=environment,
            on_line=lambda stream, line: said.append(line) if stream == "stderr" else None,
        )
    except ProgramError as error:
        raise DumpError(f"{program} failed: {' '.join(said[-5:]) or error}") from error


def _conninfo() -> str:
    parameters = connection.get_connection_params()
    return make_conninfo(**{name: value for name, value in parameters.items() if name in _OF_LIBPQ})
