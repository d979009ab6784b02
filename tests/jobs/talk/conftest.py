"""A real host, with the simulator as its game, for talking to running servers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.queue.requests import enqueue
from jobs.worker.worker_process import worker_loop
from servers.models import Server
from servers.secrets.encryption import ServerSecret
from tests.hostops.hosts import end_everything, write_control
from tests.ports import find_free_port


@pytest.fixture
def root(settings: Any, tmp_path: Path, server: Server) -> Iterator[Path]:
    """Return the root of a real host, on which Alice's server runs."""
    root = tmp_path / "host"
    root.mkdir()
    settings.HOST_ROOT = root
    write_control(root)
    server.set_secret(ServerSecret.RCON_PASSWORD, "hunter2")
    server.port = find_free_port()
    server.save()
    for operation in ("install", "start"):
        enqueue(operation, server=None if operation == "install" else server, requested_by=None)
        worker_loop(until_empty=True)
    yield root
    end_everything(root)
