"""What `script/server` installs, and writes into `var/local.env`.

Settings are chosen once, and never over what somebody set. Nothing of a failed attempt is kept.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from tests.endtoend.panel import PROJECT_DIR

KEY = r"SECRETS_KEYS=([A-Za-z0-9_-]{43}=)"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project's folder with what the script needs, and no `.env`."""
    folder = tmp_path / "project"
    (folder / "script").mkdir(parents=True)
    shutil.copy(PROJECT_DIR / "script/environment", folder / "script/environment")
    (folder / "l4d2site").mkdir()
    shutil.copy(PROJECT_DIR / "l4d2site/env_files.py", folder / "l4d2site/env_files.py")
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (folder / ".venv/bin/python").chmod(0o755)
    return folder


def run(project: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Let the script choose, as `script/server` does; it prints the folder that it chose."""
    script = "source script/environment; choose_settings; choose_secrets_key; printenv VAR_DIR"
    return subprocess.run(
        ["bash", "-euc", script],
        cwd=project,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def choose(project: Path, **environment: str) -> str:
    """Let the script choose; return what `var/local.env` says then."""
    was_there = (project / "var").exists()
    done = run(project, **environment)
    assert done.returncode == 0, done.stderr
    path = project / "var/local.env"
    if not was_there:
        assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600
    assert list((project / "var").iterdir()) == [path]
    return path.read_text()


def make_old(project: Path, text: str) -> None:
    """Leave a `var/local.env` as an earlier version wrote it."""
    (project / "var").mkdir()
    (project / "var/local.env").write_text(text)
    (project / "var/local.env").chmod(0o600)


def test_a_new_panel_gets_a_key(project: Path) -> None:
    secret_key, game, key = choose(project).splitlines()
    assert secret_key.startswith("SECRET_KEY=")
    assert game == "GAME_SOURCE=simulator"
    match = re.fullmatch(KEY, key)
    assert match
    Fernet(match[1])


@pytest.mark.parametrize("end", ["\n", ""])
def test_an_older_panel_gets_one_behind_what_it_has(project: Path, end: str) -> None:
    make_old(project, f"SECRET_KEY=old\nGAME_SOURCE=steam{end}")
    assert re.fullmatch(rf"SECRET_KEY=old\nGAME_SOURCE=steam\n{KEY}\n", choose(project))


def test_a_second_start_changes_nothing(project: Path) -> None:
    assert choose(project) == choose(project)


def test_one_that_is_set_elsewhere_is_not_doubled(project: Path) -> None:
    assert "SECRETS_KEYS" not in choose(project, SECRETS_KEYS="of the environment")
    (project / ".env").write_text("DEBUG=true\nexport SECRETS_KEYS=of the file\n")
    assert "SECRETS_KEYS" not in choose(project)
    (project / ".env").write_text("# SECRETS_KEYS=not set\n")
    assert "SECRETS_KEYS" in choose(project)


def test_a_worker_by_itself_makes_no_key(project: Path) -> None:
    """On another machine it would differ from the panel's."""
    assert "choose_secrets_key" not in (PROJECT_DIR / "script/worker").read_text()
    assert "choose_secrets_key" in (PROJECT_DIR / "script/server").read_text()


def test_the_folder_that_the_file_names_wins_unless_the_environment_names_one(
    project: Path, tmp_path: Path
) -> None:
    of_file, of_environment = tmp_path / "of the file", tmp_path / "of-the-environment"
    (project / ".env").write_text(f'export VAR_DIR="{of_file}"\r\n')
    assert run(project).stdout == f"{of_file}\n"
    assert (of_file / "local.env").exists()
    assert run(project, VAR_DIR=str(of_environment)).stdout == f"{of_environment}\n"
    assert not (project / "var").exists()


def test_a_folder_that_the_settings_refuse_is_not_made(project: Path) -> None:
    done = run(project, VAR_DIR="~/panel")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "VAR_DIR is '~/panel', but must be an absolute path.\n"
    assert not (project / "~").exists()


def test_a_wrong_line_of_the_file_is_told_before_anything_is_made(project: Path) -> None:
    (project / ".env").write_text("VAR_DIR = /somewhere\n")
    done = run(project)
    assert done.returncode == 1
    assert "write VAR_DIR=VALUE" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (project / "var").exists()


@pytest.mark.parametrize(
    ("maker", "said"),
    [
        ("token_urlsafe", "A SECRET_KEY cannot be made: see above."),
        ("Fernet", "A key for SECRETS_KEYS cannot be made: see above."),
    ],
)
def test_a_key_that_cannot_be_made_is_not_written(project: Path, maker: str, said: str) -> None:
    python = project / ".venv/bin/python"
    works = python.read_text()
    python.write_text(works.replace("exec", f'case "$2" in *{maker}*) exit 1 ;; esac\nexec', 1))
    done = run(project)
    assert done.returncode == 1
    assert done.stderr == f"{said}\n"
    python.write_text(works)
    secret_key, _game, key = choose(project).splitlines()
    assert len(secret_key) > len("SECRET_KEY=")
    assert re.fullmatch(KEY, key)


def test_an_interrupted_installation_is_made_up_for(project: Path) -> None:
    """An attempt that ended before pip was there, as Ctrl-C or a full disk may end it."""
    for name in ("requirements.txt", "requirements-dev.txt"):
        (project / name).touch()
    shutil.rmtree(project / ".venv")
    begun = [sys.executable, "-m", "venv", "--without-pip", str(project / ".venv")]
    subprocess.run(begun, check=True)
    done = subprocess.run(
        ["bash", "-euc", "source script/environment; make_environment requirements-dev.txt"],
        cwd=project,
        env={"PATH": os.environ["PATH"], "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert (project / ".venv/installed-requirements-dev.txt").exists()
