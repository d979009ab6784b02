"""Dumps the panel's database to a file, consistently while it runs, and restores it. For both engines."""

import errno
import fcntl
import os
import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from hostops.errors import CommandError as ProgramError
from hostops.linux.process import run
from jobs.database import driver, find_database_file, write_turn
from l4d2site.backups import keeping
from servers.models import Server

# What pg_dump is told of this connection. The other parameters are limits, which a long dump must not have, or
# say in another way what these say, as a service does.
_OF_LIBPQ = (
    *("host", "hostaddr", "port", "user", "dbname", "target_session_attrs", "connect_timeout"),
    *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir", "channel_binding"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version"),
    *("requirepeer", "gssencmode", "krbsrvname"),
)


FOLDER_PREFIXES = (".dump-", ".restore-")
"""How the folders of dumps begin; of the second kind restores once made them."""
_STOP = "If the panel or a worker runs, stop it first."
_WAITING = f"Waiting until another program lets go of the database. {_STOP}"
_MOVE_AWAY = "Move {0}, {0}-wal and {0}-shm away, and do this again."
NEW_SECONDS = 60.0
"""How old a folder of a dump must be before it can be one that nobody holds: it is made before it is locked."""


_RESTRICT, _UNRESTRICT = b"\\restrict ", b"\\unrestrict "
"""How the two lines for psql begin in pg_restore's scripts, which end with the same key."""
_AS_ANY_BYTES = b"SET client_encoding = 'SQL_ASCII';\n"
"""In the script of a database that takes any bytes. With this, COPY takes them into any other one too."""
_AS_UTF8 = b"SET client_encoding = 'UTF8';\n"
_TEXT = re.compile(rb"""'[^']*'|"[^"]*"|--[^\n]*|\$(\w*)\$.*?\$\1\$""", re.DOTALL)
"""Texts, names and comments in such a script. A quotation mark in one is doubled: one ends, another begins."""
_OPEN_TEXT = re.compile(rb"""['"]|\$\w*\$""")

LONG_WAIT_SECONDS = 5.0
"""After how long a restore says that it waits for a lock."""

_LOCK_TIMEOUT = "55P03"
"""PostgreSQL's code for a lock that another session keeps for longer than `lock_timeout`."""

_OF_LOCKS = ("40P01", _LOCK_TIMEOUT)
"""The former is PostgreSQL's code for a deadlock."""

_OF_TABLES = "rp"
_OF_ANY_KIND = "rpvmfS"
"""Letters of pg_class.relkind: tables, and those that have partitions; views, foreign tables and sequences."""

_NOT_IN_ENCODING = "22021"
"""PostgreSQL's code for bytes that are no text: a database with the encoding SQL_ASCII takes any."""

_DEPENDENT_OBJECTS = "2BP01"
"""PostgreSQL's code for an object that cannot be dropped because another one needs it."""


class DumpError(Exception):
    """The database could not be dumped or restored; the text says why, and what to do."""


def engine() -> str:
    """Return the engine of a dump made here; a dump from another engine cannot be restored."""
    return connection.vendor


@contextmanager
def dump_folder() -> Iterator[Path]:
    """Yield a folder in BACKUP_DIR for a dump, which is not sealed, and remove it after the block.

    First remove those that were left behind by a process that was killed.
    """
    backup_dir = keeping.make_folder()
    for prefix in FOLDER_PREFIXES:
        for path in backup_dir.glob(f"{prefix}*"):
            if _is_left_behind(path):
                shutil.rmtree(path, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=FOLDER_PREFIXES[0], dir=backup_dir) as name:
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield Path(name)
        finally:
            os.close(descriptor)


def _is_left_behind(path: Path) -> bool:
    """Return whether no process holds the lock of a dump's folder."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False  # Gone by now, or no such folder.
    try:
        if time.time() - os.fstat(descriptor).st_mtime < NEW_SECONDS:
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def dump(path: Path) -> None:
    """Write the whole database, as of one moment, to a new file at `path`; on PostgreSQL the panel's schema."""
    if connection.vendor == "sqlite":
        _copy_sqlite(path)
    else:
        connection.ensure_connection()
        schema = _find_schema()
        _require_panel(_list_tables(schema))
        _run(
            "pg_dump",
            "--format=custom",
            "--no-owner",
            "--no-privileges",
            *_assumed_role(),
            f"--schema={_quote(schema)}",
            f"--file={path}",
            _conninfo(),
            password=connection.connection.info.password,
        )
    path.chmod(0o600)


def _require_panel(tables: list[str]) -> None:
    """Raise `DumpError` unless the panel's tables are among these: a dump of nothing must not count as one."""
    if (
        MigrationRecorder.Migration._meta.db_table not in tables
        or Server._meta.db_table not in tables
    ):
        raise DumpError(
            "The database has no tables of a panel. Is DATABASE_URL right, and is its disk there?"
        )


def verify(path: Path) -> None:
    """Raise `DumpError` unless the file is complete."""
    if connection.vendor == "sqlite":
        _verify_sqlite(path)
    else:
        _run("pg_restore", "--list", str(path))


@contextmanager
def replacing(path: Path, *, keeps_others: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Run the block on the content of the file, which then takes the place of the whole database.

    The block may change it and its schema; nobody sees it before. If anything fails or ends the process, the
    database is as it was. With `keeps_others` it also stays so if tables of another program would be lost.
    Waits for other programs' locks without a limit, and says so after `LONG_WAIT_SECONDS`.
    """
    replace = _replacing_sqlite if connection.vendor == "sqlite" else _replacing_postgresql
    try:
        with replace(path, keeps_others, say):
            yield
    except (DatabaseError, driver().Error) as error:
        raise DumpError(f"The database could not be replaced: {_explain(error)}") from error


def _explain(error: BaseException) -> str:
    cause = error.__cause__ or error
    if getattr(cause, "sqlstate", None) == _DEPENDENT_OBJECTS:
        detail = cause.diag.message_detail or str(cause)  # type: ignore[attr-defined]
        needs = "; ".join(detail.splitlines())
        return f"{needs}. Drop what is not the panel's, restore, and make it again."
    reason = " ".join(str(error).split()).rstrip(".")
    return f"{reason}. {advise(error)}".rstrip()


def advise(error: BaseException) -> str:
    """Return what to do about the database's error when a backup is put back; empty if nothing is known."""
    cause = error.__cause__ or error
    code = getattr(cause, "sqlstate", None)
    if code in _OF_LOCKS:
        return _STOP
    if code == _NOT_IN_ENCODING:
        return "Correct that text where the backup was made, and make it again."
    file = find_database_file()
    if file is None:
        return ""
    return {
        sqlite3.SQLITE_CANTOPEN: (
            f"See whether {file.parent} is there, and belongs to the account that runs this."
        ),
        sqlite3.SQLITE_BUSY: _STOP,
        sqlite3.SQLITE_LOCKED: _STOP,
        sqlite3.SQLITE_FULL: f"Free some room for {file}, and in {settings.BACKUP_DIR}.",
        sqlite3.SQLITE_IOERR: (
            f"See whether there is room for {file}, and in {settings.BACKUP_DIR}, and whether the disks work."
        ),
        # Its pages may have another size than those of the copy.
        sqlite3.SQLITE_READONLY: f"{_MOVE_AWAY.format(file)} If it cannot be moved, its folder is read-only.",
        sqlite3.SQLITE_CORRUPT: _MOVE_AWAY.format(file),
        sqlite3.SQLITE_NOTADB: _MOVE_AWAY.format(file),
    }.get(getattr(cause, "sqlite_errorcode", 0) & 0xFF, "")


def _copy_sqlite(path: Path) -> None:
    file = find_database_file()
    if file is None:
        raise DumpError("The database is in memory alone: there is nothing that could be kept.")
    if not file.exists():  # Connecting would make it.
        raise DumpError(f"{file} is not there. Is DATABASE_URL right, and is its disk there?")
    try:
        _require_panel(connection.introspection.table_names())
        # In one step, so that it is consistent and no reader waits. Holding the write turn keeps workers from
        # writing, and the log from growing, as long as their patience lasts.
        with write_turn(), closing(sqlite3.connect(path)) as copy:
            connection.connection.backup(copy, progress=_let_signals_in)
            # A single file, without a log beside it.
            copy.execute("PRAGMA journal_mode=DELETE")
    except (DatabaseError, sqlite3.Error) as error:
        raise DumpError(
            f"The database could not be copied: {error}. Look whether it can be read, and whether "
            "BACKUP_DIR has space for it."
        ) from error
    _verify_sqlite(path)


def _let_signals_in(*_pages: int) -> None:
    """Do nothing. Python heeds signals when it calls this; without it, not even while it waits for a lock."""


def _verify_sqlite(path: Path) -> None:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as copy:
            said = [row[0] for row in copy.execute("PRAGMA quick_check")]
    except sqlite3.Error as error:
        said = [str(error)]
    if said != ["ok"]:
        raise DumpError(f"The copy of the database is damaged: {'; '.join(said[:3])}")


@contextmanager
def _replacing_sqlite(path: Path, keeps_others: bool, say: Callable[[str], None]) -> Iterator[None]:
    if keeps_others:
        tables = connection.introspection.table_names()
        others = sorted({*tables} - {*_choose_ours(tables, keeps_others=True)})
        _refuse_to_lose([name for name in others if not name.startswith("sqlite_")])  # Its own.
    name = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = str(path)
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = name
    with closing(sqlite3.connect(path)) as copy:
        # As in a dump: a single file, without a log beside it.
        copy.execute("PRAGMA journal_mode=DELETE")
        connection.ensure_connection()
        # One transaction: those who read meanwhile see the old database until its end.
        with write_turn():
            connection.connection.execute("PRAGMA busy_timeout = 250")  # It tries again, and again.
            copy.backup(connection.connection, progress=_telling_of_wait(say))
    # Like the copy, it now has no write-ahead log.
    connection.connection.execute("PRAGMA journal_mode=WAL")
    connection.close()


def _telling_of_wait(say: Callable[[str], None]) -> Callable[[int, int, int], None]:
    """Return what SQLite is to call after each try to write. Python heeds signals when it is called."""
    begun_at = time.monotonic()
    has_told = False

    def tell(status: int, *_pages: int) -> None:
        nonlocal has_told
        is_locked = status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
        if is_locked and not has_told and time.monotonic() - begun_at >= LONG_WAIT_SECONDS:
            has_told = True
            say(_WAITING)

    return tell


@contextmanager
def _replacing_postgresql(
    path: Path, keeps_others: bool, say: Callable[[str], None]
) -> Iterator[None]:
    script = path.with_name(f"{path.name}.sql")
    clean = ("--clean", "--if-exists", "--no-owner", "--no-privileges", "--no-tablespaces")
    schema = _find_schema()
    # Dumps that were made before have all schemas.
    _run("pg_restore", *clean, f"--schema={schema}", f"--file={script}", str(path))
    with transaction.atomic():
        notice_lost_client()
        _drop_tables(schema, keeps_others, say)
        others = _identify(schema, _OF_ANY_KIND)
        _execute_script(script)
        with connection.cursor() as cursor:
            # The script has set that of the dump. With SQL_ASCII, psycopg returns bytes for texts.
            cursor.execute("SET client_encoding = 'UTF8'")
        if keeps_others:
            lost = others.keys() - _identify(schema, _OF_ANY_KIND).keys()
            _refuse_to_lose(sorted(others[oid] for oid in lost))
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
    """Return the tables that would be lost if a dump took the place of the database, but kept others."""
    if connection.vendor == "sqlite":
        return connection.introspection.table_names()
    return _choose_ours(_list_tables(_find_schema()), keeps_others=True)


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
    except DatabaseError:  # Another program's table has the same name.
        return set()


def _refuse_to_lose(tables: list[str]) -> None:
    if tables:
        raise DumpError(
            f"The database has tables of another program, which would be lost: {', '.join(tables[:3])} … Is "
            "DATABASE_URL right? --replace does it all the same."
        )


def _drop_tables(schema: str, keeps_others: bool, say: Callable[[str], None]) -> None:
    """Drop the panel's tables, also those that are newer than the dump: its script does not know them."""
    ours = _choose_ours(_list_tables(schema), keeps_others=keeps_others)
    if not ours:
        return
    tables = ", ".join(f"{_quote(schema)}.{_quote(name)}" for name in ours)
    with connection.cursor() as cursor:
        lock = f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE"
        try:
            with transaction.atomic():
                cursor.execute(f"SET LOCAL lock_timeout = {int(LONG_WAIT_SECONDS * 1000)}")
                cursor.execute(lock)
        except DatabaseError as error:
            if getattr(error.__cause__, "sqlstate", None) != _LOCK_TIMEOUT:
                raise
            say(_WAITING)
            cursor.execute(lock)
        # Without CASCADE: what is not ours and needs one of them is not dropped, but refuses this.
        cursor.execute(f"DROP TABLE {tables}")


def _choose_ours(tables: list[str], *, keeps_others: bool) -> list[str]:
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


def _list_tables(schema: str) -> list[str]:
    return sorted(_identify(schema, _OF_TABLES).values())


def _identify(schema: str, kinds: str) -> dict[int, str]:
    """Return the names of a schema's relations by their OIDs: one that is made again has another.

    `kinds` has a letter for each kind, as in pg_class.relkind.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_class.oid, relname FROM pg_class"
            " JOIN pg_namespace ON pg_namespace.oid = relnamespace"
            " WHERE nspname = %s AND position(relkind::text IN %s) > 0",
            [schema, kinds],
        )
        return dict(cursor.fetchall())


def _quote(name: str) -> str:
    """Return a name as SQL and pg_dump's patterns have it. Django does not escape quotation marks in it."""
    return '"{}"'.format(name.replace('"', '""'))


def _execute_script(path: Path) -> None:
    """Execute a script of pg_restore's in the open transaction. psql would need one of its own."""
    lines: list[bytes] = []
    key = b""
    takes_any_bytes = connection.connection.info.parameter_status("server_encoding") == "SQL_ASCII"
    with path.open("rb") as script, driver().Cursor(connection.connection) as cursor:
        for line in script:
            if not key and line.startswith(_RESTRICT):
                key = line.removeprefix(_RESTRICT)
            if line == _AS_ANY_BYTES and not takes_any_bytes:
                lines.append(_AS_UTF8)
                takes_any_bytes = True  # The next one is part of a text.
            elif not (key and line in (_RESTRICT + key, _UNRESTRICT + key)):
                lines.append(line)
            if not line.endswith(b" FROM stdin;\n"):
                continue
            statements = b"".join(lines)
            if (begin := _find_copy(statements)) is not None:
                cursor.execute(statements[:begin], prepare=False)
                with cursor.copy(statements[begin:]) as copy:
                    while (row := script.readline()) not in (b"\\.\n", b""):
                        copy.write(row)
                lines.clear()
        cursor.execute(b"".join(lines), prepare=False)


def _find_copy(statements: bytes) -> int | None:
    """Return where a COPY begins that is the last statement; None if what looks like one is part of a text."""
    code = _TEXT.sub(lambda text: b" " * len(text[0]), statements)
    if _OPEN_TEXT.search(code):
        return None
    begin = code.rfind(b"\nCOPY ")
    return None if begin < 0 else begin + 1


def _run(program: str, *arguments: str, password: str = "") -> None:
    if shutil.which(program) is None:
        raise DumpError(
            f"{program} is not installed. It comes with PostgreSQL's client programs (Debian: apt install "
            "postgresql-client), which have to be as new as the server."
        )
    said: list[str] = []
    # In the environment, because everybody can see arguments; and only ours, since PGOPTIONS may be set.
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
    if home := os.environ.get("HOME"):  # It has certificates, and the file of passwords.
        environment["HOME"] = home
    if password:
        environment["PGPASSWORD"] = password
    try:
        run(
            [program, *arguments],
            environment=environment,
            on_line=lambda stream, line: said.append(line) if stream == "stderr" else None,
        )
    except ProgramError as error:
        reason = " ".join(said[-5:]) or str(error)
        if os.strerror(errno.ENOSPC) in reason:
            reason += f". Free some room in {settings.BACKUP_DIR}."
        raise DumpError(f"{program} failed: {reason}") from error


def _assumed_role() -> list[str]:
    """Return how pg_dump is told the role that this connection has taken on, as `options` can say."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user, session_user")
        [(role, session_role)] = cursor.fetchall()
    return [f"--role={role}"] if role != session_role else []


def _conninfo() -> str:
    """Return where this connection leads: a service, a variable or a file may say it, beside DATABASE_URL."""
    # Only here: a panel on SQLite has no other need of psycopg.
    from psycopg.conninfo import make_conninfo

    parameters = connection.connection.info.get_parameters()
    return make_conninfo(**{name: value for name, value in parameters.items() if name in _OF_LIBPQ})
