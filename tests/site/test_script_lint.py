"""`script/lint` fails for each fault that one of its checks finds, and looks at every shell script."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.endtoend.panel import PROJECT_DIR
from tests.shell_scripts import are_sound, find_shell_scripts

CHECKS = (
    *("ruff format --check .", "ruff check .", "mypy", "lint-imports"),
    *("python -m tests.architecture", "python -m tests.shell_scripts"),
    "python manage.py makemigrations --check --dry-run",
)
FIXES = ("ruff format .", "ruff check --fix .", *CHECKS[2:])
SCRIPTS = [path.relative_to(PROJECT_DIR) for _, path in find_shell_scripts(PROJECT_DIR)]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a folder with the script and stand-ins for the tools, each of which fails if FAULT says so."""
    (tmp_path / "script").mkdir()
    for name in ("lint", "environment"):
        shutil.copy(PROJECT_DIR / "script" / name, tmp_path / "script")
    for name in ("requirements.txt", "requirements-dev.txt"):
        (tmp_path / name).touch()
    folder = tmp_path / ".venv/bin"
    folder.mkdir(parents=True)
    for name in ("ruff", "mypy", "lint-imports", "python"):
        (folder / name).write_text(
            f'#!/bin/sh\nasked="{name}${{1:+ $*}}"\necho "$asked" >>calls\n[ "$asked" != "$FAULT" ]\n'
        )
        (folder / name).chmod(0o755)
    installed = subprocess.run(["cksum"], input=b"", capture_output=True, check=True).stdout
    (tmp_path / ".venv/installed-requirements-dev.txt").write_bytes(installed)
    return tmp_path


def lint(project: Path, *arguments: str, fault: str = "") -> int:
    """Run the script while one check finds a fault; return its exit code."""
    return subprocess.run(
        ["script/lint", *arguments],
        cwd=project,
        env={"PATH": os.environ["PATH"], "FAULT": fault},
        timeout=60,
    ).returncode


@pytest.mark.parametrize(("arguments", "checks"), [((), CHECKS), (("--fix",), FIXES)])
def test_without_a_fault_it_runs_every_check_and_succeeds(
    project: Path, arguments: tuple[str, ...], checks: tuple[str, ...]
) -> None:
    assert lint(project, *arguments) == 0
    assert sorted((project / "calls").read_text().splitlines()) == sorted(checks)


@pytest.mark.parametrize("fault", CHECKS)
def test_a_fault_that_a_check_finds_makes_it_fail(project: Path, fault: str) -> None:
    assert lint(project, fault=fault) != 0


@pytest.mark.parametrize("fault", FIXES)
def test_a_fault_that_cannot_be_fixed_makes_it_fail(project: Path, fault: str) -> None:
    assert lint(project, "--fix", fault=fault) != 0


def test_scripts_are_found_by_their_first_line() -> None:
    listed = {
        *("deploy/install", "deploy/uninstall", "deploy/l4d2ctl", "deploy/saferoom"),
        *(".ci/run", "script/environment", "script/lint", "tests/systemd/boot.sh"),
    }
    assert listed <= {str(path) for path in SCRIPTS}


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_a_script_that_its_shell_cannot_read_is_a_fault(tmp_path: Path, script: Path) -> None:
    copy = tmp_path / script
    copy.parent.mkdir(parents=True)
    text = (PROJECT_DIR / script).read_text()
    copy.write_text(text)
    assert are_sound(tmp_path)
    copy.write_text(f"{text}if then\n")
    assert not are_sound(tmp_path)


def test_what_is_installed_or_made_is_not_looked_at(tmp_path: Path) -> None:
    for folder in (".venv/bin", "var/host", ".git/hooks"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "other").write_text("#!/bin/sh\nif then\n")
    (tmp_path / "program").write_text(f"#!{sys.executable}\nif then\n")
    assert are_sound(tmp_path)
