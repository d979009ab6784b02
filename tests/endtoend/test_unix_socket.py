"""`manage.py serve` on a Unix socket, as for a proxy on the same machine."""

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from l4d2site.supervisor import Place, StartError
from tests.endtoend.panel import PROJECT_DIR, Panel
from tests.waiting import wait_until


@pytest.mark.endtoend
def test_serve_listens_on_a_unix_socket_and_on_no_port(tmp_path: Path, migrated: Path) -> None:
    path = tmp_path / "web.sock"
    panel = Panel(tmp_path / "var")  # only for what its processes are told
    panel.take_database(migrated)
    environment = panel.environment | {
        "BIND": f"unix:{path}",
        "SECRET_KEY": "a-key-that-only-this-test-has",
        "GAME_SOURCE": "simulator",
    }
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, PROJECT_DIR / "manage.py", "serve"],
            cwd=PROJECT_DIR,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        ready = f"Saferoom is ready at unix:{path}"

        def is_ready() -> bool:
            assert process.poll() is None, log.read_text()
            return ready in log.read_text().splitlines()

        wait_until(is_ready, 90, "it did not print its ready line")
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert Place(f"unix:{path}", 0).ask("/accounts/login/", "localhost")[0] == 200
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", panel.port), timeout=5)
        # A second one must not take it over.
        with pytest.raises(StartError, match="Another process listens at"):
            Place(f"unix:{path}", 0).require_free()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()


@pytest.mark.parametrize(
    ("bind", "said"),
    [
        (
            "unix:web.sock",
            "BIND is unix:web.sock, but must be an address, or unix: and an absolute",
        ),
        ("unix:/nonexistent/web.sock", "The folder /nonexistent of BIND is not there"),
    ],
)
def test_a_socket_that_cannot_be_is_told(bind: str, said: str) -> None:
    with pytest.raises(StartError, match=said):
        Place(bind, 8000).require_free()


def test_a_socket_that_nobody_listens_on_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(os.fspath(path))
    Place(f"unix:{path}", 8000).require_free()
    path.unlink()
    path.write_text("no socket")
    with pytest.raises(StartError, match="is no socket"):
        Place(f"unix:{path}", 8000).require_free()
