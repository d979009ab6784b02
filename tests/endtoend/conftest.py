"""A panel of its own for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.endtoend.panel import Panel


@pytest.fixture
def bare_panel(tmp_path: Path) -> Iterator[Panel]:
    """Return a running panel that started with nothing, whose admin is signed in."""
    yield from run_panel(Panel(tmp_path / "var"))


@pytest.fixture
def panel(tmp_path: Path, migrated: Path) -> Iterator[Panel]:
    """Return a running panel that started with an empty database, whose admin is signed in."""
    panel = Panel(tmp_path / "var")
    panel.take_database(migrated)
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
