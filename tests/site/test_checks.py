"""What `manage.py check` says about the machine."""

import errno
import os
import pwd
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import Mock, patch

import pytest
from django.conf import LazySettings
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import connection
from django.test import override_settings

from jobs.management.commands import runjobs
from l4d2site import checks
from l4d2site.checks import (
    check_backup_passphrase,
    check_database_url,
    check_proxies,
    check_secrets_keys,
    check_shared_database,
    check_sqlite,
    check_who_can_read,
    has_wal_reset_bug,
)
from l4d2site.gate.addresses import TrustedProxies
from l4d2site.management.commands import serve
from tests.hostops.test_command_ends import Failing, nowhere, run, stream_on

NO_NAME = "x" * 300
"""A name that is too long. Root may look into every folder, but nobody may look at this."""


@pytest.mark.parametrize("module", [serve, runjobs])
def test_what_runs_for_long_starts_although_remarks_cannot_be_written(module: ModuleType) -> None:
    """The log may be on the disk that is full."""
    errors = stream_on(Failing(errno.ENOSPC))
    with override_settings(SECRETS_KEYS=()):  # There is a remark on that.
        code, _ = run(lambda: module.Command().check(), nowhere(), errors=errors)
    assert code == 0


@pytest.mark.django_db
def test_a_worker_starts_although_it_may_not_look_at_the_panels_folder(
    tmp_path: Path, settings: LazySettings
) -> None:
    settings.VAR_DIR = tmp_path / NO_NAME
    settings.CONTENT_ROOT = settings.VAR_DIR / "content"
    with patch("jobs.management.commands.runjobs.worker_loop") as loop:
        call_command("runjobs", stdout=StringIO(), skip_checks=False)
    loop.assert_called_once()


WORKER = """
from jobs.management.commands.runjobs import Command
Command().check(tags=Command.requires_system_checks)
"""
WEB = """
import l4d2site.urls
"""


@pytest.mark.parametrize(
    ("program", "needs", "needs_not"),
    [
        (WORKER, "jobs.worker", ["l4d2site.urls", "l4d2site.accounts.pages", "psycopg", "fido2"]),
        (WEB, "jobs.pages", ["hostops.host", "jobs.operations", "jobs.talk", "psycopg"]),
    ],
)
def test_a_process_loads_only_what_it_is_for(
    program: str, needs: str, needs_not: list[str], tmp_path: Path
) -> None:
    """On SQLite. Each of them costs some megabytes and a tenth of a start or more."""
    program = f"import sys, django\ndjango.setup()\n{program}\nprint(*sys.modules)"
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}",
    }
    loaded = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert needs in loaded
    assert not {*needs_not} & {*loaded}


CLOSED = """
import io, os, sys
from pathlib import Path

closed, opened = Path(sys.argv[1]), io.open

def refuse(path):
    raise PermissionError(13, "Permission denied", str(path))

def open_or_refuse(path, *arguments):
    return refuse(path) if path == closed else opened(path, *arguments)

from l4d2site.asgi import application, serve, with_static_files  # Starts without static files.
served = with_static_files(serve, closed.parent)
print(served is serve, *served.files)
io.open, os.scandir = open_or_refuse, refuse  # Nothing is closed to root.
print(with_static_files(serve, closed.parent) is serve)
"""


def test_a_web_process_needs_no_static_files_but_has_to_be_allowed_to_read_their_manifest(
    tmp_path: Path,
) -> None:
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "STATIC_ROOT": str(tmp_path / NO_NAME / "static"),
    }
    manifest = tmp_path / "staticfiles.json"
    manifest.write_text("{}")
    (tmp_path / "img").mkdir()
    (tmp_path / "img/mark.svg").write_text("<svg/>")
    # As collectstatic in another process leaves it: the file was listed, and is gone when it is looked at.
    (tmp_path / "img/gone.partial").symlink_to(tmp_path / "nowhere")

    def start(closed: Path) -> tuple[str, str]:
        ended = subprocess.run(
            [sys.executable, "-c", CLOSED, closed],
            env=environment,
            check=False,
            capture_output=True,
            text=True,
        )
        return ended.stdout, ended.stderr

    said, errors = start(tmp_path / "another")
    assert said == "False /static/staticfiles.json /static/img/mark.svg\nTrue\n", errors
    assert f"this account may not look at {tmp_path}/ in STATIC_ROOT" in errors
    said, errors = start(manifest)
    assert said == "False /static/staticfiles.json /static/img/mark.svg\n"
    assert f"This account may not read {manifest}, without which no page can be made." in errors


@pytest.mark.parametrize(
    ("version", "has_bug"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
        ((4, 0, 0), False),
    ],
)
def test_it_knows_which_sqlite_has_the_bug(version: tuple[int, int, int], has_bug: bool) -> None:
    assert has_wal_reset_bug(version) is has_bug


def test_it_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 40, 1))
    monkeypatch.setattr(connection, "vendor", "sqlite")
    (message,) = check_sqlite()
    assert message.id == "saferoom.I001"
    assert "PostgreSQL" in str(message.hint)
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 3))
    assert check_sqlite() == []


def test_postgresql_has_nothing_to_do_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 40, 1))
    monkeypatch.setattr(connection, "vendor", "postgresql")
    assert check_sqlite() == []


def test_no_key_for_passwords_is_a_warning_with_the_command(settings: Any) -> None:
    assert check_secrets_keys() == []
    settings.SECRETS_KEYS = []
    (message,) = check_secrets_keys()
    assert message.id == "saferoom.W004"
    assert "manage.py makesecretskey" in str(message.hint)
    output = StringIO()
    call_command("check", stdout=output, stderr=output)
    assert "saferoom.W004" in output.getvalue()


@pytest.mark.django_db
def test_the_command_finds_nothing_worse() -> None:
    call_command("check", "--database", "default", "--fail-level", "WARNING", stdout=StringIO())


class TestWhoCanRead:
    @pytest.fixture
    def var_dir(self, tmp_path: Path, settings: LazySettings) -> Iterator[Path]:
        """Return a `VAR_DIR` that everybody can reach, with a database in it."""
        # pytest keeps its folders closed; and the umask of this process may be the product's.
        above = Path(tempfile.gettempdir()).resolve()
        private = [folder for folder in (tmp_path, *tmp_path.parents) if above in folder.parents]
        var_dir = tmp_path / "var"
        var_dir.mkdir()
        for folder in (*private, var_dir):
            folder.chmod(0o755)
        for name in ("panel.sqlite3", "local.env"):
            (var_dir / name).touch()
            (var_dir / name).chmod(0o644)
        settings.VAR_DIR, settings.BASE_DIR = var_dir, tmp_path
        with patch.object(checks, "sqlite_file", lambda: var_dir / "panel.sqlite3"):
            yield var_dir
        for folder in private:
            folder.chmod(0o700)

    def test_what_every_account_can_reach_is_told_with_the_cure(self, var_dir: Path) -> None:
        messages = check_who_can_read()
        assert {message.id for message in messages} == {"saferoom.W001"}
        assert [message.hint for message in messages] == [
            f"chmod 700 {var_dir}",
            f"chmod 600 {var_dir / 'local.env'}",
            f"chmod 600 {var_dir / 'panel.sqlite3'}",
        ]

    @pytest.mark.parametrize("mode", [0o700, 0o750, 0o2770])
    def test_behind_a_closed_folder_nothing_is_open(self, var_dir: Path, mode: int) -> None:
        var_dir.chmod(mode)
        assert check_who_can_read() == []

    def test_what_this_account_may_not_look_at_is_passed_over(
        self, var_dir: Path, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.VAR_DIR = var_dir / NO_NAME
        assert [message.hint for message in check_who_can_read()] == [
            f"chmod 700 {var_dir}",
            f"chmod 600 {var_dir / 'panel.sqlite3'}",
        ]
        monkeypatch.setattr(checks, "sqlite_file", lambda: var_dir / NO_NAME / "panel.sqlite3")
        assert check_who_can_read() == check_shared_database() == []

    def test_a_file_that_the_other_account_cannot_use_is_told(self, var_dir: Path) -> None:
        assert check_shared_database() == []
        var_dir.chmod(0o2770)
        (message,) = check_shared_database()
        assert message.id == "saferoom.W002"
        assert "chmod 660" in str(message.hint)
        (var_dir / "panel.sqlite3").chmod(0o660)
        assert check_shared_database() == []

    def test_the_owner_of_such_a_file_may_have_no_name(
        self, var_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        var_dir.chmod(0o2770)
        monkeypatch.setattr(pwd, "getpwuid", Mock(side_effect=KeyError))
        (message,) = check_shared_database()
        assert str(message.hint).startswith(f"As its owner, {os.geteuid()}: chmod 660 ")


class CheckedError(Exception):
    """Ends a command where it checks the machine."""


def test_the_panels_folder_is_private_before_its_start_checks_it(
    tmp_path: Path, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.VAR_DIR = tmp_path / "var"
    settings.VAR_DIR.mkdir(mode=0o755)
    modes = []

    def check(_command: BaseCommand, **_options: Any) -> None:
        modes.append(settings.VAR_DIR.stat().st_mode & 0o777)
        raise CheckedError

    monkeypatch.setattr(BaseCommand, "check", check)
    command = serve.Command()
    # As from a command line: `call_command` skips the checks before a command.
    options = command.create_parser("manage.py", "serve").parse_args([])
    with pytest.raises(CheckedError):
        command.execute(**vars(options))
    assert modes == [0o700]


@pytest.mark.parametrize(
    ("url", "is_told"),
    [
        ("sqlite:////srv/panel.sqlite3", False),
        ("sqlite:///panel.sqlite3?timeout=5", False),
        ("postgres://kim:hunter2@host/panel#1", False),
        ("sqlite://srv/panel.sqlite3", True),
        ("sqlite:/srv/panel.sqlite3", True),
        ("sqlite:////srv/panel#1.sqlite3", True),
        ("sqlite:////srv/panel?.sqlite3", True),
    ],
)
def test_a_database_that_is_another_than_it_seems_is_told(
    settings: LazySettings, url: str, is_told: bool
) -> None:
    settings.DATABASE_URL, settings.IS_SQLITE = url, url.startswith("sqlite:")
    path, before = os.fsdecode(b"/srv/p#\xff"), settings.DATABASES["default"]["NAME"]
    settings.DATABASES["default"]["NAME"] = path
    try:
        messages = check_database_url()
    finally:
        settings.DATABASES["default"]["NAME"] = before
    assert [message.id for message in messages] == ["saferoom.W005"] * is_told
    assert all("sqlite:////srv/p%23%FF " in str(message.hint) for message in messages)


@pytest.mark.parametrize(
    ("line", "is_told"), [(None, True), ("short", True), ("a long passphrase", False)]
)
def test_a_passphrase_that_backups_cannot_use_is_told(
    settings: LazySettings, tmp_path: Path, line: str | None, is_told: bool
) -> None:
    settings.BACKUP_PASSPHRASE_FILE = tmp_path / "passphrase"
    if line:
        settings.BACKUP_PASSPHRASE_FILE.write_text(f"{line}\n")
    messages = check_backup_passphrase()
    assert [message.id for message in messages] == ["saferoom.W006"] * is_told
    assert all(str(settings.BACKUP_PASSPHRASE_FILE) in message.msg for message in messages)


def test_a_passphrase_that_only_the_account_of_backups_may_read_is_no_fault(
    settings: LazySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, **_options: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    settings.BACKUP_PASSPHRASE_FILE = tmp_path / "passphrase"
    monkeypatch.setattr(Path, "open", refuse)
    assert check_backup_passphrase() == []


def test_a_proxy_that_is_not_trusted_is_told(settings: LazySettings) -> None:
    assert check_proxies() == []
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    (message,) = check_proxies()
    assert message.id == "saferoom.W003"
    assert "TRUSTED_PROXIES" in str(message.hint)
    settings.TRUSTED_PROXIES = TrustedProxies.parse(["unix"])
    assert check_proxies() == []
