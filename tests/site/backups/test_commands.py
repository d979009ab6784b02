"""`manage.py backup` and `restore`, on both engines, as `scenario` carries them out."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from l4d2site.backups.database_dumps import DumpError, client_programs
from tests.conftest import migrate
from tests.fire.postgres import Postgres
from tests.systemd.sandbox import REPOSITORY
from tests.waiting import wait_until

STRANGE = "tests.site.backups.strange_databases"
NOT_TOLD = (
    # Limits, which a long dump must not have.
    *("options", "tcp_user_timeout"),
    *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
    # What says in another way what the others say, and what programs set themselves.
    *("service", "password", "client_encoding", "application_name", "fallback_application_name"),
    # What changes nothing for one session, or makes it one of another kind.
    *("load_balance_hosts", "sslkeylogfile", "replication"),
)
"""Parameters of a connection that pg_dump is not told."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """Return a server with a database that has all tables."""
    # A socket's path has a length limit that a test's folder may exceed.
    with tempfile.TemporaryDirectory(prefix="saferoom-backup-") as folder:
        server = Postgres(Path(folder), fsync=False, addresses=["127.0.0.1"])
        server.start()
        try:
            migrate(server.make_database("migrated"))
            yield server
        finally:
            server.stop("immediate")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a database with all tables and no rows."""
    if request.param == "sqlite":
        shutil.copy2(request.getfixturevalue("migrated"), tmp_path / "db.sqlite3")
        return f"sqlite:///{tmp_path}/db.sqlite3"
    server: Postgres = request.getfixturevalue("postgres")
    return server.make_database(tmp_path.name, template="migrated")


@pytest.mark.parametrize(
    "scenarios", [["restore_all"], ["survive_kills", "cancel_jobs"], ["cross_versions"]]
)
def test_what_was_there_is_there_again_and_nothing_that_may_have_ended(
    database_url: str, tmp_path: Path, scenarios: list[str]
) -> None:
    require_success(database_url, tmp_path, "tests.site.backups.scenario", *scenarios)


def test_a_database_may_hold_more_than_a_panel_and_be_held_by_others(
    database_url: str, tmp_path: Path
) -> None:
    require_success(
        database_url,
        tmp_path,
        STRANGE,
        "keep_what_is_anothers",
        "log_when_it_is_done",
        "take_the_place_of_namesakes",
        "tell_what_it_waits_for",
    )


@pytest.mark.postgres
def test_a_database_that_takes_any_bytes_can_be_put_back(
    postgres: Postgres, tmp_path: Path
) -> None:
    execute(
        postgres,
        "CREATE DATABASE any_bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'",
    )
    dump = tmp_path / "tables.sql"
    subprocess.run(["pg_dump", "--file", dump, postgres.url("migrated")], check=True)
    load = ["psql", "--quiet", "--output", os.devnull, "--file", str(dump)]
    subprocess.run([*load, postgres.url("any_bytes")], check=True)
    of_text = postgres.make_database("of_text", template="migrated")
    require_success(postgres.url("any_bytes"), tmp_path, STRANGE, "put_back_any_bytes")
    require_success(of_text, tmp_path, STRANGE, "refuse_what_is_no_text")


@pytest.mark.postgres
def test_a_backup_is_of_the_panels_database_also_if_a_service_says_where_that_is(
    postgres: Postgres, tmp_path: Path
) -> None:
    postgres.make_database("of_service", template="migrated")
    where = conninfo_to_dict(postgres.url("of_service"))
    service = "".join(f"{name}={value}\n" for name, value in where.items())
    (tmp_path / "services").write_text(f"[panel]\n{service}")
    url = "postgres:///?service=panel"
    done = run_in_panel(
        url,
        tmp_path,
        "manage.py",
        "backup",
        "--database-only",
        PGSERVICEFILE=str(tmp_path / "services"),
    )
    assert "verified" in done.stdout, done.stderr


@pytest.fixture
def pg_dump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder where a stand-in for pg_dump notes what it is told; it says that it is too old for it."""
    program = tmp_path / "pg_dump"
    program.write_text(
        f'#!/bin/sh\ncd {tmp_path}\nprintf %s "$*" >arguments\n'
        'stat -c %a "$PGSERVICEFILE" >mode\ncat "$PGSERVICEFILE" >secrets\n'
        "echo 'invalid connection option \"require_auth\"' >&2\nexit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_pg_dump_is_told_whom_the_connection_trusts_and_secrets_in_a_file(
    pg_dump: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted = {
        "requirepeer": "postgres",
        "require_auth": "scram-sha-256",
        "ssl_min_protocol_version": "TLSv1.3",
    }
    others = {"options": "-c statement_timeout=5", "sslcertmode": "allow", "sslpassword": "hush"}
    info = SimpleNamespace(get_parameters=lambda: trusted | others, password="")
    connection = SimpleNamespace(connection=SimpleNamespace(info=info))
    monkeypatch.setattr(client_programs, "connection", connection)
    folder = pg_dump / "private"
    folder.mkdir()
    with pytest.raises(DumpError, match="Install newer client programs, or leave that out"):
        client_programs.run_connected("pg_dump", folder=folder)
    told = conninfo_to_dict((pg_dump / "arguments").read_text())
    assert told == trusted | {"service": "panel"}
    assert (pg_dump / "secrets").read_text() == "[panel]\nsslpassword=hush\n"
    assert (pg_dump / "mode").read_text() == "600\n"
    assert not list(folder.iterdir())


def test_each_parameter_of_a_connection_is_told_or_does_not_matter_to_a_dump() -> None:
    """Another one may come with a newer libpq: it has to be looked at."""
    known = {*client_programs.OF_LIBPQ, *client_programs.SECRETS_OF_LIBPQ, *NOT_TOLD}
    assert {default.keyword.decode() for default in pq.Conninfo.get_defaults()} <= known


@pytest.mark.postgres
def test_a_backup_is_made_with_a_key_that_has_a_passphrase(
    postgres: Postgres, tmp_path: Path
) -> None:
    certify = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-days", "2", "-subj", "/CN=panel")
    for name, *protection in (("server", "-nodes"), ("client", "-passout", "pass:hush hush")):
        where = ("-keyout", f"{name}.key", "-out", f"{name}.crt")
        subprocess.run(
            [*certify, *protection, *where], cwd=postgres.root, check=True, capture_output=True
        )
    if os.geteuid() == 0:  # Then the server runs as another account, which must own its key.
        shutil.chown(postgres.root / "server.key", "nobody")
    execute(
        postgres,
        f"ALTER SYSTEM SET ssl_cert_file = '{postgres.root}/server.crt'",
        f"ALTER SYSTEM SET ssl_key_file = '{postgres.root}/server.key'",
        "ALTER SYSTEM SET ssl = on",
        "SELECT pg_reload_conf()",
    )
    wait_until(lambda: has_tls(postgres), 20, "TLS is not switched on")
    postgres.make_database("over_tls", template="migrated")
    url = f"{postgres.url('over_tls', address='127.0.0.1')}?sslmode=require"
    certificate = f"sslcert={postgres.root}/client.crt&sslkey={postgres.root}/client.key"
    done = run_in_panel(
        f"{url}&{certificate}&sslpassword=hush%20hush",
        tmp_path,
        "manage.py",
        "backup",
        "--database-only",
    )
    assert "verified" in done.stdout, done.stderr


def has_tls(postgres: Postgres) -> bool:
    """Return whether new connections to the server may use TLS."""
    with closing(psycopg.connect(postgres.url())) as server:
        return bool(server.execute("SHOW ssl").fetchone() == ("on",))


def execute(postgres: Postgres, *statements: str) -> None:
    """Execute SQL statements, each in a transaction of its own."""
    with closing(psycopg.connect(postgres.url(), autocommit=True)) as server:
        for statement in statements:
            server.execute(statement)


def require_success(database_url: str, tmp_path: Path, module: str, *scenarios: str) -> None:
    """Run scenarios in a separate process, because the commands replace the database that they run on."""
    done = run_in_panel(database_url, tmp_path, "-m", module, *scenarios)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def run_in_panel(
    database_url: str, tmp_path: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run Python with the settings of a panel that has the database."""
    (tmp_path / "passphrase").write_text("correct horse battery\n")
    environment = variables | {
        "PATH": os.environ["PATH"],
        "SECRET_KEY": "only-for-this-throw-away-panel",
        "SECRETS_KEYS": "c2FmZXJvb20tdGVzdC1rZXktb2YtMzItYnl0ZXMtISE=",
        "DATABASE_URL": database_url,
        "VAR_DIR": str(tmp_path),
        "GAME_SOURCE": "simulator",
        "BACKUP_PASSPHRASE_FILE": str(tmp_path / "passphrase"),
    }
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
