"""Runs PostgreSQL's client programs, such as pg_dump, on the database that the panel is connected to."""

import errno
import os
import shutil

from django.conf import settings
from django.db import connection

from hostops.errors import CommandError as ProgramError
from hostops.linux.process import run
from l4d2site.backups.database_dumps.faults import DumpError

# What pg_dump is told of this connection. The other parameters are limits, which a long dump must not have, or
# say in another way what these say, as a service does.
_OF_LIBPQ = (
    *("host", "hostaddr", "port", "user", "dbname", "target_session_attrs", "connect_timeout"),
    *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir", "channel_binding"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version"),
    *("requirepeer", "gssencmode", "krbsrvname"),
)


def run_program(program: str, *arguments: str, password: str = "") -> None:
    """Run a program to its end. Raises `DumpError`."""
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


def assumed_role() -> list[str]:
    """Return how pg_dump is told the role that this connection has taken on, as `options` can say."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user, session_user")
        [(role, session_role)] = cursor.fetchall()
    return [f"--role={role}"] if role != session_role else []


def conninfo() -> str:
    """Return where this connection leads: a service, a variable or a file may say it, beside DATABASE_URL."""
    # Only here: a panel on SQLite has no other need of psycopg.
    from psycopg.conninfo import make_conninfo

    parameters = connection.connection.info.get_parameters()
    return make_conninfo(**{name: value for name, value in parameters.items() if name in _OF_LIBPQ})
