"""A simulated game that is installed once, and servers of it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostops.simulator.fixtures import GameServers, SteamCmd
from tests.ports import find_free_port


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cmd = SteamCmd(tmp_path_factory.mktemp("installed"))
    cmd.install()
    return cmd.install_dir


@pytest.fixture
def servers(installed: Path, tmp_path: Path) -> Iterator[GameServers]:
    game_dir = tmp_path / "game"
    subprocess.run(["cp", "-r", installed, game_dir], check=True)
    servers = GameServers(game_dir, tmp_path)
    yield servers
    servers.close()


@pytest.fixture
def port() -> int:
    return find_free_port()
