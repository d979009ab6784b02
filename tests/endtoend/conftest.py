"""A panel of its own for each test."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.endtoend.panel import PROJECT_DIR, Panel


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database with all tables and no rows; making it takes as long as the rest of a start."""
    panel = Panel(tmp_path_factory.mktemp("migrated"))
    subprocess.run(
        [sys.executable, PROJECT_DIR / "manage.py", "migrate", "--verbosity=0"],
        env=panel.environment
        | {"SECRET_KEY": "a-key-that-only-this-has", "GAME_SOURCE": "simulator"},
        check=True,
    )
    return panel.database


@pytest.fixture
def bare_panel(tmp_path: Path) -> Iterator[Panel]:
    """Return a running panel that started with nothing, whose admin is signed in."""
    yield from run_panel(Panel(tmp_path / "var"))


@pytest.fixture
def panel(tmp_path: Path, migrated: Path) -> Iterator[Panel]:
    """Return a running panel that started with an empty database, whose admin is signed in."""
    panel = Panel(tmp_path / "var")
    panel.var_dir.mkdir()
    shutil.copy2(migrated, panel.database)
    yield from run_panel(panel)


def run_panel(panel: Panel) -> Iterator[Panel]:
    """Start a panel, and leave nothing of it at the end."""
    panel.set_simulator(steamcmd={"seconds": 0}, srcds={"start_seconds": 0.2})
    try:
        panel.start()
        panel.client.sign_in()
        yield panel
    finally:
        panel.end()
