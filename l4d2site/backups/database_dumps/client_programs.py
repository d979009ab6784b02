"""Runs PostgreSQL's client programs, such as pg_dump, on the database that the panel is connected to."""

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from django.conf import settings
from django.db import connection

from hostops.errors import CommandError as ProgramError
from hostops.linux.process import run
from l4d2site.backups.database_dumps.faults import DumpError

OF_LIBPQ = (
    *("host", "hostaddr", "port", "user", "dbname", "target_session_attrs", "connect_timeout"),
    *("passfile", "requirepeer", "require_auth", "channel_binding"),
    *("min_protocol_version", "max_protocol_version"),
    *("sslmode", "sslnegotiation", "sslrootcert", "sslcert", "sslkey", "sslcertmode", "sslsni"),
    *("sslcrl", "sslcrldir", "sslcompression"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version"),
    *("gssencmode", "krbsrvname", "gsslib", "gssdelegation"),
    *("oauth_issuer", "oauth_client_id", "oauth_scope"),
)
"""What a program is told of this connection: where it leads, whom it trusts, and as whom it signs in.

The other parameters are limits, which a long dump must not have, or say in another way what these say, as a
service does, or change nothing for a dump.
"""
SECRETS_OF_LIBPQ = ("sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")
"""What it is told in a file, because everybody can see arguments. The password has an environment variable."""
_SERVICE = "panel"
_UNKNOWN = "invalid connection option"
"""What a program says of a parameter that it is too old for."""


def run_connected(program: str, *arguments: str, folder: Path) -> None:
    """Run a program on the database that this process is connected to. Raises `DumpError`.

    While it runs, the private `folder` may have a file with secrets.
    """
    # Only here: a panel on SQLite has no other need of psycopg.
    from psycopg.conninfo import make_conninfo

    # A service, a variable or a file may say where this connection leads, beside DATABASE_URL.
    info = connection.connection.info
    parameters = info.get_parameters()
    if parameters.get("sslcertmode") == "allow":  # The default, which old programs do not know.
        del parameters["sslcertmode"]
    told = {name: value for name, value in parameters.items() if name in OF_LIBPQ}
    secrets = {name: value for name, value in parameters.items() if name in SECRETS_OF_LIBPQ}
    variables = {"PGPASSWORD": info.password} if info.password else {}
    file = folder / "service"
    try:
        if secrets:
            file.touch(0o600)
            lines = [f"[{_SERVICE}]", *(f"{name}={value}" for name, value in secrets.items()), ""]
            file.write_text("\n".join(lines), encoding="utf-8")
            told["service"] = _SERVICE
            variables["PGSERVICEFILE"] = str(file)
        run_program(program, *arguments, make_conninfo(**told), variables=variables)
    finally:
        file.unlink(missing_ok=True)


def run_program(program: str, *arguments: str, variables: Mapping[str, str] | None = None) -> None:
    """Run a program to its end. Raises `DumpError`."""
    if shutil.which(program) is None:
        raise DumpError(
            f"{program} is not installed. It comes with PostgreSQL's client programs (Debian: apt install "
            "postgresql-client), which have to be as new as the server."
        )
    said: list[str] = []
    # Only ours, since PGOPTIONS may be set.
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
    if home := os.environ.get("HOME"):  # It has certificates, and the file of passwords.
        environment["HOME"] = home
    try:
        run(
            [program, *arguments],
            environment={**environment, **(variables or {})},
            on_line=lambda stream, line: said.append(line) if stream == "stderr" else None,
        )
    except ProgramError as error:
        reason = " ".join(said[-5:]) or str(error)
        if os.strerror(errno.ENOSPC) in reason:
            reason += f". Free some room in {settings.BACKUP_DIR}."
        if _UNKNOWN in reason:
            reason += ". Install newer client programs, or leave that out of DATABASE_URL."
        raise DumpError(f"{program} failed: {reason}") from error


def assumed_role() -> list[str]:
    """Return how pg_dump is told the role that this connection has taken on, as `options` can say."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user, session_user")
        [(role, session_role)] = cursor.fetchall()
    return [f"--role={role}"] if role != session_role else []
