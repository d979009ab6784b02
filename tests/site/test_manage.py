"""`manage.py` by any Python of the machine: it finds the one that has Django."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.endtoend.panel import PROJECT_DIR

WITHOUT_DJANGO = (sys.executable, "-S")
"""Without the packages that are installed for it, like the system's Python."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a folder with nothing but `manage.py` and what that imports itself."""
    (tmp_path / "hostops").mkdir()
    for name in ("manage.py", "hostops/__init__.py", "hostops/command_ends.py"):
        shutil.copy(PROJECT_DIR / name, tmp_path / name)
    return tmp_path


def manage(project: Path, *python: str | Path) -> subprocess.CompletedProcess[str]:
    """Give a command that has an argument with a space."""
    return subprocess.run(
        [*python, "manage.py", "backup", "--to", "a folder"],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_python_without_django_hands_over_to_that_of_the_project(project: Path) -> None:
    python = project / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nexit 3\n')
    python.chmod(0o755)
    done = manage(project, *WITHOUT_DJANGO)
    assert done.stdout.splitlines() == ["manage.py", "backup", "--to", "a folder"]
    assert done.returncode == 3


def test_without_an_environment_it_says_how_to_get_one(project: Path) -> None:
    done = manage(project, *WITHOUT_DJANGO)
    assert done.returncode == 1
    said = f"saferoom: Django is not installed in {project.resolve()}/.venv. script/server installs it.\n"
    assert done.stderr == said


def test_an_environment_without_django_does_not_hand_over_to_itself(project: Path) -> None:
    make = [sys.executable, "-m", "venv", "--without-pip", str(project / "environment")]
    subprocess.run(make, check=True)
    (project / ".venv").symlink_to("environment")  # as in an installed release
    done = manage(project, project / ".venv/bin/python")
    assert done.returncode == 1
    assert "Django is not installed" in done.stderr


def test_another_module_that_is_missing_is_not_hidden(project: Path) -> None:
    (project / "django").mkdir()
    (project / "django/__init__.py").touch()
    done = manage(project, *WITHOUT_DJANGO)
    assert "ModuleNotFoundError: No module named 'django.core'" in done.stderr
