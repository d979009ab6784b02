"""Databases that hold more than a panel, or that others hold: `-m tests.site.backups.strange_databases NAMES`.

Like `scenario`, whose functions these use: the database has all tables, and no rows.
"""

import logging
import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "l4d2site.settings")
django.setup()

from django.conf import settings  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.db.migrations.recorder import MigrationRecorder  # noqa: E402
from django.test.utils import override_settings  # noqa: E402
from django.utils import timezone  # noqa: E402

from jobs.models import DeferredAction  # noqa: E402
from l4d2site.backups import restoring, sealing  # noqa: E402
from l4d2site.backups.database_dumps import faults  # noqa: E402
from servers.models import Server  # noqa: E402
from tests.site.backups.scenario import (  # noqa: E402
    UPPER,
    back_up,
    back_up_database,
    make_servers,
    refuse,
    say,
)

ANOTHERS = "has tables or other objects of another program, which would be lost: "
ANOTHERS_TABLES = "has tables of another program, which would be lost: "
PATH = Path(settings.DATABASES["default"]["NAME"])


def execute(*statements: str) -> None:
    """Execute SQL statements."""
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def fetch(statement: str) -> Any:
    """Return the only value of the only row."""
    with connection.cursor() as cursor:
        cursor.execute(statement)
        [[value]] = cursor.fetchall()
    return value


def keep_what_is_anothers() -> None:
    """Without --replace, no table, view, function or type of another program is lost, whatever its name."""
    is_file = connection.vendor == "sqlite"
    if not is_file:
        keep_objects()
    archive = back_up_database()
    if is_file:
        execute("CREATE VIEW accounts_of_others AS SELECT 1 AS one")
        assert f"{ANOTHERS}accounts_of_others …" in refuse("restore", str(archive))
        execute("DROP VIEW accounts_of_others")
    execute("CREATE TABLE jobs_of_the_office (id int)", "INSERT INTO jobs_of_the_office VALUES (7)")
    execute("CREATE TABLE django_site (id int)")
    if is_file:
        said = refuse("restore", str(archive))
        assert f"{ANOTHERS}django_site, jobs_of_the_office …" in said, said
    else:
        say("restore", str(archive))
    assert fetch("SELECT id FROM jobs_of_the_office") == 7
    say("restore", str(archive), "--replace")
    # As docs/deploy.md says.
    assert "jobs_of_the_office" not in connection.introspection.table_names()

    # A newer version's is the panel's.
    MigrationRecorder(connection).record_applied("jobs", "9999_later")
    execute("CREATE TABLE jobs_newer (id int)")
    say("restore", str(archive))
    assert "jobs_newer" not in connection.introspection.table_names()
    # Another program may have its migrations in the same table.
    MigrationRecorder(connection).record_applied("shop", "0001_initial")
    execute("CREATE TABLE shop_item (id int)")
    if is_file:
        assert f"{ANOTHERS}shop_item …" in refuse("restore", str(archive))
    else:
        say("restore", str(archive))
    assert "shop_item" in connection.introspection.table_names()


def keep_objects() -> None:
    """On PostgreSQL, what is in the backup and in the database is not put back as it was then."""
    execute(
        "CREATE TABLE accounts_of_1 AS SELECT 1 AS one",
        "CREATE SEQUENCE accounts_of_2",
        "CREATE VIEW accounts_of_3 AS SELECT 1 AS one",
        "CREATE MATERIALIZED VIEW accounts_of_4 AS SELECT 1 AS one",
        "CREATE TYPE accounts_of_5 AS ENUM ('one')",
        "CREATE DOMAIN accounts_of_6 AS int",
        "CREATE FUNCTION accounts_of_7() RETURNS int RETURN 1",
    )
    archive = back_up_database()
    # A refusal names the first three.
    for kinds, names in (
        (("TABLE", "SEQUENCE", "VIEW"), ("accounts_of_1", "accounts_of_2", "accounts_of_3")),
        (
            ("MATERIALIZED VIEW", "TYPE", "DOMAIN"),
            ("accounts_of_4", "accounts_of_5", "accounts_of_6"),
        ),
        (("FUNCTION",), ("public.accounts_of_7()",)),
    ):
        said = refuse("restore", str(archive))
        assert f"{ANOTHERS}{', '.join(names)} …" in said, said
        execute(*(f"DROP {kind} {name}" for kind, name in zip(kinds, names, strict=True)))


def take_the_place_of_namesakes() -> None:
    """Another program's tables with the names of the panel's are told; --replace replaces them."""
    User.objects.create_user("olga")
    archive = back_up_database()
    for name in ("django_migrations (id int, foo text)", "jobs_worker (id int)"):
        empty_database()
        execute(f"CREATE TABLE {name}")
        assert f"{ANOTHERS_TABLES}{name.split()[0]} …" in refuse("restore", str(archive))
        say("restore", str(archive), "--replace")
        assert User.objects.filter(username="olga").exists()


def empty_database() -> None:
    """Remove all tables."""
    if connection.vendor == "sqlite":
        connection.close()
        for path in PATH.parent.glob(f"{PATH.name}*"):
            path.unlink()
    else:
        execute("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")


def tell_what_it_waits_for() -> None:
    """A restore waits as long as another program has the database locked, and says so once."""
    archive = back_up_database()
    if connection.vendor == "sqlite":
        with closing(sqlite3.connect(PATH, check_same_thread=False)) as other:
            other.execute("BEGIN IMMEDIATE")
            restore_while_locked(archive, other)
        return
    for lock in (
        "jobs_job IN ACCESS SHARE MODE",
        # What it reads first, to see whether a worker runs.
        "django_migrations IN ACCESS EXCLUSIVE MODE",
        "jobs_worker IN ACCESS EXCLUSIVE MODE",
    ):
        with closing(connection.get_new_connection(connection.get_connection_params())) as other:
            other.autocommit = False
            other.execute(f"LOCK TABLE {lock}")
            restore_while_locked(archive, other)


def restore_while_locked(archive: Path, other: Any) -> None:
    """Restore the backup while the other connection is in a transaction that keeps it waiting."""
    told: list[str] = []

    class Terminal(StringIO):
        def write(self, text: str) -> int:
            if text.startswith("Waiting until another program lets go"):
                told.append(text)
                # Long enough that it could be told twice.
                threading.Timer(1.5, other.rollback).start()
            return len(text)

    released = threading.Timer(30, other.rollback)
    released.start()
    with patch.object(faults, "LONG_WAIT_SECONDS", 0.5):
        call_command("restore", str(archive), "--replace", stdout=Terminal())
    released.cancel()
    assert len(told) == 1, told
    connection.close()


def log_when_it_is_done() -> None:
    """The log says that a backup was restored only if it was; what cannot work is told before."""
    User.objects.create_user("kim")
    archive = back_up()
    User.objects.update(username="somebody")
    with collect_log() as lines:
        failing = patch.object(restoring, "cancel_restored", side_effect=OSError("It broke."))
        with failing:
            refuse("restore", str(archive), "--replace")
        assert lines == []
        (settings.VAR_DIR / "file").touch()
        with override_settings(HOST_ROOT=settings.VAR_DIR / "file/host"):
            said = refuse("restore", str(archive), "--replace")
        assert "was not put back. The folder " in said, said
        assert "/file/host cannot be made: Not a directory. Make it, and give it" in said
        assert User.objects.filter(username="somebody").exists()
        say("restore", str(archive), "--replace")
        [line] = lines
    assert line.startswith("backup_restored ")
    if connection.vendor == "sqlite":
        connection.close()
        with patch.dict(connection.settings_dict, NAME=str(PATH.parent / "gone/db.sqlite3")):
            said = refuse("restore", str(archive), "--replace")
        assert "was not put back. The database cannot be used: unable to open" in said
        assert said.endswith(
            f"See whether {PATH.parent}/gone is there, and belongs to the account that runs this."
        )
    else:
        restore_without_its_tablespace()


@contextmanager
def collect_log() -> Iterator[list[str]]:
    """Yield the lines that are logged of accounts during the block."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("saferoom.accounts")
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)


def restore_without_its_tablespace() -> None:
    """On PostgreSQL, a backup can be put back where its tablespace is missing."""
    execute(
        "SET allow_in_place_tablespaces = true",
        "CREATE TABLESPACE large LOCATION ''",
        "ALTER TABLE jobs_joblog SET TABLESPACE large",
    )
    archive = back_up_database()
    execute("ALTER TABLE jobs_joblog SET TABLESPACE pg_default", "DROP TABLESPACE large")
    say("restore", str(archive), "--replace")


def put_back_any_bytes() -> None:
    """In a PostgreSQL database with the encoding SQL_ASCII, what is not UTF-8 stays as it is, or is told."""
    assert fetch("SHOW server_encoding") == "SQL_ASCII"
    make_servers()
    (UPPER / "mine").unlink()
    execute("SET client_encoding = 'SQL_ASCII'", r"UPDATE auth_user SET username = E'Zo\xeb'")
    connection.close()
    archive = back_up_database()
    execute("UPDATE auth_user SET username = 'somebody'")
    assert "Will be started once a worker runs: alpha." in say("restore", str(archive), "--replace")
    assert fetch("SELECT encode(username::bytea, 'hex') FROM auth_user") == "5a6feb"

    User.objects.update(username="somebody")
    alpha = Server.objects.get(name="alpha")
    odd = r"UPDATE servers_server SET state_detail = E'\xff' WHERE name = 'alpha'"
    execute("SET client_encoding = 'SQL_ASCII'", odd)
    connection.close()
    archive = back_up_database()
    said = refuse("restore", str(archive), "--replace")
    assert "is put back, but no server that was running is started again: invalid byte" in said, (
        said
    )
    DeferredAction.objects.create(
        server=alpha, operation="restart", until=timezone.now() + timedelta(days=1)
    )
    archive = back_up_database()
    User.objects.update(username="as it was")
    said = refuse("restore", str(archive), "--replace")
    assert said.startswith("The backup was not put back. The database could not be replaced: ")
    assert '"UTF8": 0xff. Correct that text where the backup was made, and make it' in said, said
    assert User.objects.filter(username="as it was").exists()


def refuse_what_is_no_text() -> None:
    """The last backup of `put_back_any_bytes` does not fit into a database of UTF-8."""
    [archive] = settings.BACKUP_DIR.glob("*.saferoom-backup")
    said = refuse("restore", str(archive))
    assert said.startswith("The backup was not put back. The database could not be replaced: ")
    assert 'byte sequence for encoding "UTF8": 0xff' in said, said
    assert said.endswith("Correct that text where the backup was made, and make it again."), said


SCENARIOS: dict[str, Callable[[], None]] = {
    scenario.__name__: scenario
    for scenario in (
        keep_what_is_anothers,
        take_the_place_of_namesakes,
        tell_what_it_waits_for,
        log_when_it_is_done,
        put_back_any_bytes,
        refuse_what_is_no_text,
    )
}

if __name__ == "__main__":
    sealing._SCRYPT["n"] = 2**6
    for name in sys.argv[1:]:
        SCENARIOS[name]()
