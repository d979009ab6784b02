"""The panel's database: a file that two accounts share, or PostgreSQL."""

import re
import secrets

from deploy.installer import places
from deploy.installer.errors import CommandError, InstallError
from deploy.installer.machine import Machine

SQLITE = f"sqlite:///{places.VAR_DIR}/saferoom.sqlite3"
ROLE = "saferoom_panel"
"""No account has this name: PostgreSQL lets an account in without a password as the role of the same name."""


def make_on_this_machine(machine: Machine) -> str:
    """Make role and database in this machine's PostgreSQL, and return the URL with a new password.

    The URL uses TCP, so that the password is required: through the socket, the account's name is enough.
    """
    machine.run("systemctl", "enable", "--now", "postgresql.service")
    port = ask_port(machine)
    password = secrets.token_urlsafe(24)
    exists = (
        _psql(machine, "SELECT 1 FROM pg_roles WHERE rolname = 'saferoom_panel'").strip() == "1"
    )
    verb = "ALTER" if exists else "CREATE"
    # As input, not as an argument: everybody can see arguments.
    machine.run(
        *_AS_POSTGRES,
        "--quiet",
        given=f"{verb} ROLE {ROLE} LOGIN PASSWORD '{password}';\n",
        env={"HOME": "/"},
    )
    if _psql(machine, "SELECT 1 FROM pg_database WHERE datname = 'saferoom_panel'").strip() != "1":
        made = f"CREATE DATABASE {ROLE} OWNER {ROLE}"
        if _psql(machine, "SHOW server_encoding").strip() not in ("UTF8", ""):
            # Such as SQL_ASCII, of a cluster that was made without a locale. Only template0 takes another one.
            made += " ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        machine.run(*_AS_POSTGRES, "--quiet", "--command", made)
    return f"postgres://{ROLE}:{password}@127.0.0.1:{port}/{ROLE}"


def require_same(wanted: str, last: str, url: str) -> None:
    """Raise `InstallError` if another database is wanted than the one with the existing data, at `url`."""
    if not url or wanted == last:
        return
    if wanted == "create":
        is_same = re.match(rf"postgres://{ROLE}:[^@/]*@127\.0\.0\.1:", url) is not None
    elif wanted == "sqlite":
        is_same = url.startswith("sqlite:")
    else:
        is_same = url == wanted
    if not is_same:
        raise InstallError(
            "--database names another database than the settings, and the installer moves no data.",
            f"Leave it out to keep the one in {places.SETTINGS_DIR}, or change DATABASE_URL there.",
        )


def ask_port(machine: Machine) -> int:
    """Return the port of this machine's PostgreSQL. Raises `InstallError` if it does not answer."""
    answer = _psql(machine, "SHOW port")
    if not answer and machine.is_dry_run:
        return 5432
    if not re.fullmatch(r"\d+\s*", answer):
        raise InstallError(
            f"PostgreSQL on this machine does not answer: {answer.strip()}",
            "Look at `pg_lsclusters` and at `journalctl -u 'postgresql*'`. A cluster is made by "
            "`pg_createcluster 15 main --start`.",
        )
    return int(answer)


_AS_POSTGRES = (
    *("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "psql", "--no-psqlrc"),
    *("--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1", "--dbname", "postgres"),
)


def _psql(machine: Machine, statement: str) -> str:
    """Return the result of a statement that only reads, or the error's text; nothing in a dry run."""
    try:
        return machine.ask(*_AS_POSTGRES, "--command", statement)
    except CommandError as error:
        return "" if machine.is_dry_run else error.output


def drop_from_this_machine(machine: Machine) -> None:
    """Remove the database and role that `make_on_this_machine` made."""
    machine.run(*_AS_POSTGRES, "--quiet", "--command", f"DROP DATABASE IF EXISTS {ROLE}")
    machine.run(*_AS_POSTGRES, "--quiet", "--command", f"DROP ROLE IF EXISTS {ROLE}")
