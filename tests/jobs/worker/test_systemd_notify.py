"""systemd is told when the worker is ready, what it does, that it is alive, and that it ends."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.worker.systemd_notify import SystemdNotifier


class Manager:
    """systemd's end of the notify socket."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)

    def read(self) -> list[str]:
        """Return the lines of the next message, none if there is no message."""
        try:
            return self._socket.recv(4096).decode().split("\n")
        except BlockingIOError:
            return []

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Manager]:
    """Return a manager whose socket the environment names."""
    name = f"saferoom-tests-{os.getpid()}"
    path = str(tmp_path / "notify")
    manager = Manager(path if request.param == "path" else f"\0{name}")
    monkeypatch.setenv("NOTIFY_SOCKET", path if request.param == "path" else f"@{name}")
    yield manager
    manager.close()


def test_it_says_that_it_is_ready(manager: Manager) -> None:
    systemd = SystemdNotifier()
    systemd.ready()
    assert manager.read() == ["READY=1", "STATUS=Carrying out 0 jobs."]
    systemd.turn(0, False)
    assert manager.read() == ["WATCHDOG=1"]


def test_it_says_what_it_does_when_that_changes(manager: Manager) -> None:
    systemd = SystemdNotifier()
    systemd.turn(1, False)
    assert manager.read() == ["STATUS=Carrying out 1 job.", "WATCHDOG=1"]
    systemd.turn(1, False)
    assert manager.read() == []
    systemd.turn(2, False)
    assert manager.read() == ["STATUS=Carrying out 2 jobs."]
    systemd.turn(2, True)
    assert manager.read() == ["STOPPING=1", "STATUS=Finishing 2 jobs, then stopping."]
    systemd.turn(1, True)
    assert manager.read() == ["STATUS=Finishing 1 job, then stopping."]


def test_it_gives_signs_of_life_often_enough(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "8000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    now = [100.0]
    monkeypatch.setattr("jobs.worker.systemd_notify.monotonic", lambda: now[0])
    systemd = SystemdNotifier()
    assert systemd.longest_turn_seconds < 4
    systemd.turn(0, False)
    assert "WATCHDOG=1" in manager.read()
    now[0] += 1.9
    systemd.turn(0, False)
    assert manager.read() == []
    now[0] += 0.1
    systemd.turn(0, False)
    assert manager.read() == ["WATCHDOG=1"]


def test_a_watchdog_of_another_process_is_none_of_ours(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "8000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert SystemdNotifier().longest_turn_seconds == float("inf")


def test_without_systemd_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    systemd = SystemdNotifier()
    systemd.ready()
    systemd.turn(1, True)
    assert caplog.records == []


def test_a_manager_that_is_away_stops_no_job(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    SystemdNotifier().ready()
    assert "systemd cannot be told READY=1" in caplog.text
