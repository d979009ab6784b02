"""A panel of its own for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.endtoend.panel import Panel


@pytest.fixture
def panel(tmp_path: Path) -> Iterator[Panel]:
    """Return a running panel whose admin is signed in."""
    panel = Panel(tmp_path / "var")
    panel.set_simulator(steamcmd={"seconds": 0}, srcds={"start_seconds": 0.2})
    try:
        panel.start()
        panel.client.sign_in()
        yield panel
    finally:
        panel.end()
