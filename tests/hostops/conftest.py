"""A host with the simulated game installed, for the tests of the host layer. Nothing here knows Django."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostops.host import Host
from hostops.specs import InstanceSpec
from tests.hostops.forked_cli import ForkedCLI, ForkServer
from tests.hostops.hosts import BUILD_ID, CLI, DRIVER, end_everything, write_control
from tests.ports import find_free_port


@pytest.fixture(scope="session")
def installed_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root of a host with the game installed. Copy it, do not use it."""
    root = tmp_path_factory.mktemp("installed")
    write_control(root)
    assert Host(root, game_source="simulator").install_runtime() == BUILD_ID
    return root


@pytest.fixture
def empty_root(tmp_path: Path) -> Iterator[Path]:
    """Return the root of a host with nothing on it except a simulator that takes no time."""
    root = tmp_path / "host"
    root.mkdir()
    write_control(root)
    yield root
    end_everything(root)


@pytest.fixture
def root(installed_root: Path, tmp_path: Path) -> Iterator[Path]:
    """Return the root of a host with the game installed."""
    root = tmp_path / "host"
    shutil.copytree(installed_root, root, symlinks=True)
    write_control(root)
    yield root
    end_everything(root)


@pytest.fixture
def host(root: Path) -> Host:
    """Return a host with the game installed and no server."""
    return Host(
        root,
        driver=DRIVER,
        game_source="simulator",
        start_timeout_seconds=20,
        stop_timeout_seconds=2,
    )


@pytest.fixture
def spec() -> InstanceSpec:
    """Return the spec of a server called alpha."""
    return InstanceSpec("alpha", find_free_port(), config='hostname "Alpha"\n')


@pytest.fixture
def cli(root: Path) -> CLI:
    """Return the command line on the host with the game installed."""
    return CLI(root)


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer]:
    """Return the process whose forks run the verbs of `forked_cli`."""
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture
def forked_cli(root: Path, forks: ForkServer) -> ForkedCLI:
    """Return the command line on the host with the game installed, for tests that run it very often."""
    return ForkedCLI(root, forks)


@pytest.fixture
def alpha(host: Host, spec: InstanceSpec) -> Path:
    """Return the folder of the initialized instance alpha."""
    host.initialize(spec)
    instance_dir = host._layout.instance("alpha").dir
    assert json.loads((instance_dir / "instance.json").read_text())["port"] == spec.port
    return instance_dir
