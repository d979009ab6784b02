"""Settings: a missing or bad value stops the program with its name and what it should be."""

import os
import runpy
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import pytest
from django.core.exceptions import ImproperlyConfigured

from l4d2site.gate.worker import GateWorker
from tests.endtoend.panel import PROJECT_DIR
from tests.ports import find_free_port


def change(changes: dict[str, str | None]) -> dict[str, str]:
    """Return an environment with which a panel starts, with some of it changed; None removes a variable."""
    environment = {
        "PATH": os.environ["PATH"],
        "VAR_DIR": "/nonexistent/saferoom",
        "SECRET_KEY": "a-key-that-only-the-tests-have",
        "GAME_SOURCE": "simulator",
    } | changes
    return {name: value for name, value in environment.items() if value is not None}


def read(**changes: str | None) -> dict[str, Any]:
    """Return the settings that a process would read in the changed environment."""
    with patch.dict(os.environ, change(changes), clear=True):
        return runpy.run_path(str(PROJECT_DIR / "l4d2site/settings.py"))


def load(*options: str, **changes: str | None) -> subprocess.CompletedProcess[str]:
    """Run `manage.py check` in the changed environment."""
    return subprocess.run(
        [sys.executable, PROJECT_DIR / "manage.py", "check", *options],
        env=change(changes),
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_good_settings_load() -> None:
    answer = load()
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", None),
        ("SECRET_KEY", "short"),
        ("SECRETS_KEYS", "not-a-key"),
        ("SECRETS_KEYS", "dGhlLWtleS10aGF0LW9ubHktdGhlLXRlc3RzLWhhdmU=,short"),
        ("DEBUG", "ture"),
        ("VAR_DIR", "relative/folder"),
        ("ALLOWED_HOSTS", ""),
        ("CSRF_TRUSTED_ORIGINS", "panel.example.org"),
        ("DATABASE_URL", "mysql://localhost/x"),
        ("DATABASE_URL", "user:hunter2@host"),
        ("JOB_WORKER_ENABLED", "maybe"),
        ("OWNERS_INVITE", "maybe"),
        ("JOB_WORKER_POLL_SECONDS", "soon"),
        ("JOB_WORKER_POLL_SECONDS", "0"),
        ("JOB_WORKER_CONCURRENCY", "many"),
        ("JOB_WORKER_CONCURRENCY", "0"),
        ("JOB_WORKER_LEASE_SECONDS", "1"),
        ("JOB_WORKER_GRACE_SECONDS", "-1"),
        ("JOB_LOG_REPLAY_LIMIT", "0"),
        ("JOB_LOG_MAX_BYTES", "64 MB"),
        ("JOB_LOG_MAX_BYTES", "1000"),
        ("HOST_MIN_FREE_BYTES", "1 GiB"),
        ("HOST_MIN_FREE_BYTES", "-1"),
        ("CONSOLE_KEEP_BYTES", "50 MB"),
        ("CONSOLE_KEEP_BYTES", "1000"),
        ("HOST_NAME", "Not A Name"),
        ("HOST_ROOT", "relative/folder"),
        ("HOST_DRIVER", "docker"),
        ("HOST_ADDRESS", "nowhere"),
        ("STEAM_PASSWORD_FILE", "relative/file"),
        ("STEAM_PASSWORD", 'quo"te'),
        ("GAME_SOURCE", "torrent"),
        ("TIME_ZONE", "Mars/Olympus"),
        ("STATIC_ROOT", "relative/folder"),
        ("TRUSTED_PROXIES", "proxy.example.org"),
        ("TRUSTED_PROXIES", "127.0.0.1,0.0.0.0/0"),
        ("SIGN_IN_FAILURES_PER_ADDRESS", "0"),
        ("HEADER_SECONDS", "soon"),
        ("BODY_MAX_BYTES", "3 MiB"),
        ("BODIES_MAX_BYTES", "4000000"),
        ("STREAMS_PER_PERSON", "0"),
        ("PANEL_URL", "panel.example.org"),
        ("PANEL_URL", "https://panel.example.org/path"),
        ("EMAIL_URL", "pigeon://hunter2@host"),
        ("REQUIRE_STAFF_MFA", "maybe"),
        ("ACCOUNT_EVENTS_KEEP_DAYS", "0"),
        ("HEALTH_TOKEN", "too-short"),
        ("HEALTH_TOKEN", "long enough but with blanks"),
        ("HSTS_SECONDS", "a year"),
        ("HSTS_SECONDS", "-1"),
        ("HSTS_SECONDS", "31536000"),  # without TLS
    ],
)
def test_a_bad_value_is_named(name: str, value: str | None) -> None:
    with pytest.raises(ImproperlyConfigured, match=rf"^{name} is .*must be") as refused:
        read(**{name: value})
    secret = ("SECRET_KEY", "SECRETS_KEYS", "DATABASE_URL", "EMAIL_URL", "HEALTH_TOKEN")
    assert str(value) not in str(refused.value) or name not in secret


@pytest.mark.parametrize(
    ("name", "value"),
    [("SECRET_KEY", None), ("DATABASE_URL", "user:hunter2@host"), ("HSTS_SECONDS", "a year")],
)
def test_a_program_ends_with_one_line_about_a_bad_value(name: str, value: str | None) -> None:
    answer = load(**{name: value})
    assert answer.returncode == 1
    (line,) = answer.stderr.splitlines()
    assert line.startswith(f"saferoom: {name} is ")
    assert "hunter2" not in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgres://kim:hunter2@host:99x/panel"),
        ("DATABASE_URL", "postgres://kim:hunter2@host:99999/panel"),
        ("DATABASE_URL", "postgres://kim:hunter2@host:0/panel"),
        ("DATABASE_URL", "postgres://kim:hunter2@[::1/panel"),
        ("JOB_WORKER_CONCURRENCY", "\N{ARABIC-INDIC DIGIT FOUR}"),
        ("BACKUP_KEEP", "1_0"),
        ("JOB_WORKER_LEASE_SECONDS", "3_0"),
        ("JOB_WORKER_LEASE_SECONDS", "\N{ARABIC-INDIC DIGIT THREE}3"),
        ("DATABASE_URL", "postgres://kim:hunter2@host/panel?pool=true"),
        ("DATABASE_URL", "sqlite:///"),
        ("DATABASE_URL", "sqlite://:memory:"),
        ("DATABASE_URL", "sqlite:////srv/a%00b.sqlite3"),
        ("DATABASE_URL", "postgres://kim:hunter2@host/panel%00"),
        ("JOB_WORKER_LEASE_SECONDS", "1e400"),
        ("JOB_WORKER_GRACE_SECONDS", "1e400"),
        ("JOB_WORKER_GRACE_SECONDS", "10 min"),
    ],
)
def test_a_value_that_cannot_work_is_named_too(name: str, value: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=rf"{name} is .* but must be") as refused:
        read(**{name: value})
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///var/panel.sqlite3", str(PROJECT_DIR / "var/panel.sqlite3")),
        ("sqlite:////srv/panel.sqlite3", "/srv/panel.sqlite3"),
    ],
)
def test_the_database_is_the_same_file_wherever_a_process_is_started(url: str, path: str) -> None:
    assert read(DATABASE_URL=url)["DATABASES"]["default"]["NAME"] == path


def test_a_link_to_the_database_is_followed(tmp_path: Path) -> None:
    """SQLite keeps its log beside the file itself: checkpoints and wake-ups would look beside the link."""
    (tmp_path / "panel.sqlite3").symlink_to(tmp_path / "disk" / "real.sqlite3")
    found = read(DATABASE_URL=f"sqlite:///{tmp_path}/panel.sqlite3")["DATABASES"]["default"]["NAME"]
    assert found == str(tmp_path / "disk" / "real.sqlite3")


def test_a_relative_database_that_was_found_where_a_process_is_started_still_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "panel.sqlite3").write_bytes(bytes(8192))
    found = read(DATABASE_URL="sqlite:///panel.sqlite3")["DATABASES"]["default"]["NAME"]
    assert found == str(tmp_path / "panel.sqlite3")


def test_a_relative_database_needs_no_folder_in_which_a_process_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    found = read(DATABASE_URL="sqlite:///panel.sqlite3")["DATABASES"]["default"]["NAME"]
    assert found == str(PROJECT_DIR / "panel.sqlite3")


def test_of_two_files_that_a_relative_database_could_be_none_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty one would take the place of the panel's, and its backups those of the good ones."""
    monkeypatch.chdir(tmp_path)
    in_panel = PROJECT_DIR / f"{tmp_path.name}.sqlite3"
    here, url = tmp_path / in_panel.name, f"sqlite:///{in_panel.name}"
    here.write_bytes(bytes(8192))
    in_panel.write_bytes(bytes(8192))
    try:
        with pytest.raises(ImproperlyConfigured, match="with four slashes") as refused:
            read(DATABASE_URL=url)
        assert f"{here} and {in_panel}" in str(refused.value)
        for path in (here, in_panel):
            assert read(DATABASE_URL=f"sqlite:///{path}")["DATABASES"]["default"]["NAME"] == str(
                path
            )
        here.write_bytes(bytes(4096))  # What a command leaves that only connects.
        assert read(DATABASE_URL=url)["DATABASES"]["default"]["NAME"] == str(in_panel)
        (tmp_path / f"{here.name}-wal").write_bytes(bytes(8192))
        with pytest.raises(ImproperlyConfigured, match="with four slashes"):
            read(DATABASE_URL=url)
        here.rename(tmp_path / "elsewhere")
        (tmp_path / f"{here.name}-wal").rename(tmp_path / "elsewhere-wal")
        here.symlink_to("elsewhere")
        with pytest.raises(ImproperlyConfigured, match="with four slashes"):
            read(DATABASE_URL=url)
        here.unlink()
        here.mkdir()
        for number in range(300):  # Its size is that of its names.
            (here / f"{number:0200}").touch()
        assert read(DATABASE_URL=url)["DATABASES"]["default"]["NAME"] == str(in_panel)
        shutil.rmtree(here)
        here.symlink_to(in_panel)
        assert read(DATABASE_URL=url)["DATABASES"]["default"]["NAME"] == str(in_panel)
    finally:
        in_panel.unlink()


def test_a_database_whose_lock_would_be_elsewhere_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^DATABASE_URL is set, .* the path itself"):
        read(DATABASE_URL="sqlite:///file:/srv/panel.sqlite3")


def test_any_folder_can_be_that_of_the_panels_own_database() -> None:
    for folder in ("/srv/c++", "/srv/100%41", "/srv/#1?a", "/srv/é", os.fsdecode(b"/srv/\xff")):
        found = read(VAR_DIR=folder)["DATABASES"]["default"]["NAME"]
        assert found == f"{folder}/saferoom.sqlite3"


def test_a_database_that_cannot_be_looked_at_is_no_fault_of_the_settings() -> None:
    # Root may look into every folder, so this name is too long. The page for /livez needs no database.
    name = "x" * 300
    found = read(DATABASE_URL=f"sqlite:////var/{name}")["DATABASES"]["default"]["NAME"]
    assert found == f"/var/{name}"


def test_mails_need_the_address_of_the_panel() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^PANEL_URL is '', but must be set"):
        read(EMAIL_URL="smtp://mail.example.org")
    good = read(EMAIL_URL="smtp://mail.example.org", PANEL_URL="https://panel.example.org")
    assert good["EMAIL_HOST"] == "mail.example.org"


PRODUCTION = {
    "SECRET_KEY": secrets.token_urlsafe(50),
    "SECRETS_KEYS": "dGhlLWtleS10aGF0LW9ubHktdGhlLXRlc3RzLWhhdmU=",
    "ALLOWED_HOSTS": "panel.example.org",
    "CSRF_TRUSTED_ORIGINS": "https://panel.example.org",
    "BEHIND_TLS_PROXY": "true",
    "TRUSTED_PROXIES": "unix",
}


@pytest.mark.parametrize("hsts_seconds", ["0", "31536000"])
def test_what_docs_deploy_sets_up_passes_the_checks_for_production(hsts_seconds: str) -> None:
    answer = load("--deploy", "--fail-level=WARNING", **PRODUCTION, HSTS_SECONDS=hsts_seconds)
    assert answer.returncode == 0, answer.stderr


def test_the_checks_for_production_still_find_what_is_missing() -> None:
    without_tls = PRODUCTION | {"BEHIND_TLS_PROXY": "false"}
    answer = load("--deploy", "--fail-level=WARNING", **without_tls)
    assert answer.returncode == 1
    assert "security.W012" in answer.stderr  # a session's cookie in clear text


def test_the_web_server_says_what_is_wrong_in_one_line_and_gives_up() -> None:
    environment = {"PATH": os.environ["PATH"], "SECRET_KEY": "short", "PORT": str(find_free_port())}
    answer = subprocess.run(
        [
            *(sys.executable, "-m", "gunicorn", "--config", "deploy/gunicorn.conf.py"),
            *("--log-level", "critical", "l4d2site.asgi:application"),
        ],
        cwd=PROJECT_DIR,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.returncode == 3
    assert answer.stderr.startswith("saferoom: SECRET_KEY is set, but must be")
    assert "Traceback" not in answer.stderr


def test_it_says_so_too_if_only_the_application_finds_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    worker = object.__new__(GateWorker)
    worker.app = Mock()
    worker.app.wsgi.side_effect = ImproperlyConfigured("STATIC_ROOT is closed.")
    with pytest.raises(SystemExit) as ended:
        worker.load_wsgi()
    assert ended.value.code == 3
    assert capsys.readouterr().err == "saferoom: STATIC_ROOT is closed.\n"


def test_debugging_needs_no_secret() -> None:
    assert load(SECRET_KEY=None, DEBUG="true").returncode == 0
