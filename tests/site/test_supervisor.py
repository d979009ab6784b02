"""`manage.py serve` as the parent of web server and worker: when it is ready, and how it ends both."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from time import monotonic

import pytest
from django.utils import timezone

from jobs.models import Worker
from jobs.queue.liveness import register_worker
from l4d2site import supervisor
from l4d2site.management.commands.serve import has_registered
from l4d2site.supervisor import Place, StartError, supervise
from servers.models import Host
from tests.ports import find_free_port
from tests.waiting import wait_until

PROGRAM = f'''#!{sys.executable}
"""Stands in for the Python that runs gunicorn and the worker. It notes each signal, and its end."""
import http.server, os, pathlib, signal, socket, sys, threading

folder = pathlib.Path(__file__).parent
name = "web" if "gunicorn" in sys.argv else "worker"
told = 0

def note(text):
    with (folder / name).open("a") as file:
        file.write(text + "\\n")

def end(number, frame):
    global told
    told += 1
    # Before the note: once that is there, the test removes the file.
    is_busy = (folder / f"{{name}}-is-busy").exists()
    note("SIGTERM")
    if not is_busy or (told == 2 and name == "worker"):
        note("ends")
        os._exit(0)

class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/livez" else 503)
        self.end_headers()

    def log_message(self, *arguments):
        pass

class Server(http.server.ThreadingHTTPServer):
    pass

signal.signal(signal.SIGTERM, end)
if name == "web" and (folder / "web-fails").exists():
    while not (folder / "worker").exists():
        pass
    sys.exit(3)
note("begins")  # Before anybody can find that it answers, and end it.
if name == "web":
    bind, port = (folder / "place").read_text().split()
    Server.address_family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    server = Server((bind, int(port)), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
while True:
    signal.pause()
'''


class Scene:
    """A supervisor with stand-ins for its two processes, and what it said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = find_free_port()
        self.said: list[str] = []
        self.said_at: list[float] = []
        self.has_reader = True
        self.bind = "127.0.0.1"
        self.worker_pids: list[int] = []

    def run(
        self,
        *,
        has_registered: Callable[[int], bool] = lambda _pid: True,
        faults: Sequence[str] = (),
        grace_seconds: float = 60,
    ) -> None:
        """Run it; once it is ready, it gets the signal to end."""
        (self.folder / "place").write_text(f"{self.bind}\n{self.port}")

        def has_worker(pid: int) -> bool:
            self.worker_pids.append(pid)
            return bool(self.notes("worker")) and has_registered(pid)

        supervise(
            base_dir=self.folder,
            place=Place(self.bind, self.port),
            health_host="localhost",
            passkey_host="localhost",
            worker_grace_seconds=grace_seconds,
            has_registered=has_worker,
            find_faults=self._end_soon(faults),
            say=self.say,
        )

    @staticmethod
    def _end_soon(faults: Sequence[str]) -> Callable[[], Sequence[str]]:
        def find_faults() -> Sequence[str]:
            os.kill(os.getpid(), signal.SIGTERM)
            return faults

        return find_faults

    def say(self, text: str) -> None:
        """Keep what the supervisor says, as long as somebody reads it."""
        if not self.has_reader:
            raise BrokenPipeError
        self.said_at.append(monotonic())
        self.said.append(text)

    def said_unhurried(self) -> list[str]:
        """Return what it said, whether or not a worker that nothing keeps took over a second to end."""
        pauses = [now - before for before, now in pairwise(self.said_at)]
        took_long = bool(pauses) and pauses[-1] > 1 and self.said[-1].startswith("Letting ")
        return self.said[:-1] if took_long else self.said

    def notes(self, name: str) -> list[str]:
        """Return what one of the processes noted."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def make(self, name: str) -> None:
        """Tell the processes how to behave, by a file of this name."""
        (self.folder / name).touch()

    def finish_job(self) -> None:
        """Let the worker end, as if the job that it was told to finish were over."""
        (self.folder / "worker-is-busy").unlink()
        os.kill(self.worker_pids[-1], signal.SIGTERM)  # Only to wake the stand-in.


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Return a scene whose start may take a second."""
    program = tmp_path / "python"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    return Scene(tmp_path)


def later(act: Callable[[], object], condition: Callable[[], object]) -> threading.Thread:
    """Act in another thread, once a condition is true."""

    def run() -> None:
        wait_until(condition, 30, "it did not come to that")
        act()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def too_late(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], bool]:
    """Let the time for the start be over once both processes run, but the worker has not registered."""

    def has_registered(_pid: int) -> bool:
        monkeypatch.setattr(supervisor, "READY_SECONDS", 0)
        return False

    return has_registered


ORDERLY = ["begins", "SIGTERM", "ends"]
LETTING = "Letting running jobs finish. Press Ctrl-C to cancel them."


def test_a_fault_elsewhere_is_told_and_is_no_reason_not_to_start(scene: Scene) -> None:
    scene.run(faults=["Host old: its worker was last heard from 2 days ago."])
    assert scene.said_unhurried() == [
        f"Saferoom is ready at http://127.0.0.1:{scene.port}/",
        f"To use passkeys, open it at http://localhost:{scene.port}/",
        "Note: Host old: its worker was last heard from 2 days ago.",
    ]
    assert scene.notes("web") == scene.notes("worker") == ORDERLY


@pytest.mark.parametrize(
    ("bind", "shown", "has_passkeys"),
    [
        ("127.0.0.2", "127.0.0.2", False),
        ("0.0.0.0", "127.0.0.1", True),  # noqa: S104
        ("::1", "[::1]", True),
        ("::", "[::1]", True),
    ],
)
def test_it_is_asked_and_shown_where_it_listens(
    scene: Scene, bind: str, shown: str, has_passkeys: bool
) -> None:
    scene.bind = bind
    scene.run()
    assert scene.said[0] == f"Saferoom is ready at http://{shown}:{scene.port}/"
    passkeys = f"To use passkeys, open it at http://localhost:{scene.port}/"
    assert (passkeys in scene.said) == has_passkeys


def test_it_is_ready_once_its_own_worker_has_registered(scene: Scene) -> None:
    said_before: list[list[str]] = []

    def has_registered(_pid: int) -> bool:
        said_before.append(list(scene.said))
        return len(said_before) > 3

    scene.run(has_registered=has_registered)
    assert said_before == [[]] * 4
    assert len(set(scene.worker_pids)) == 1
    assert scene.worker_pids[0] != os.getpid()


def test_a_start_that_fails_says_why_and_lets_the_worker_finish(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.make("worker-is-busy")
    # Two signals of which the worker has not seen the first one are one signal.
    thread = later(
        scene.finish_job,
        lambda: scene.said[-1:] == [LETTING] and "SIGTERM" in scene.notes("worker"),
    )
    with pytest.raises(StartError, match="see above"):
        scene.run(has_registered=too_late(monkeypatch))
    thread.join()
    assert scene.said == [
        "Saferoom was not ready after 0 s: its worker has not registered in the database.",
        LETTING,
    ]
    assert scene.notes("worker") == ["begins", "SIGTERM", "SIGTERM", "ends"]
    assert scene.notes("web") == ORDERLY


def test_the_first_ctrl_c_after_a_failed_start_cancels(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.make("worker-is-busy")
    thread = later(
        lambda: os.kill(os.getpid(), signal.SIGINT), lambda: "SIGTERM" in scene.notes("worker")
    )
    with pytest.raises(StartError):
        scene.run(has_registered=too_late(monkeypatch))
    thread.join()
    assert scene.notes("worker") == ["begins", "SIGTERM", "SIGTERM", "ends"]


def test_a_web_server_that_ends_at_its_start_does_not_kill_the_worker(scene: Scene) -> None:
    scene.make("web-fails")
    with pytest.raises(StartError):
        scene.run()
    assert scene.said_unhurried() == ["The web server ended with code 3 at its start: see above."]
    assert scene.notes("worker") == ORDERLY


def test_what_goes_wrong_later_does_not_kill_them_either(scene: Scene) -> None:
    scene.has_reader = False
    scene.make("worker-is-busy")
    thread = later(
        scene.finish_job,
        lambda: "SIGTERM" in scene.notes("worker") and monotonic() > began_at + 3,
    )
    began_at = monotonic()
    with pytest.raises(BrokenPipeError):
        scene.run()
    thread.join()
    assert scene.notes("worker") == ["begins", "SIGTERM", "SIGTERM", "ends"]
    assert scene.notes("web") == ORDERLY


def test_a_process_that_does_not_end_is_killed_after_its_grace(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "CANCEL_SECONDS", 0.5)
    monkeypatch.setattr(supervisor, "WEB_GRACE_SECONDS", 0.5)
    scene.make("worker-is-busy")
    scene.make("web-is-busy")
    began_at = monotonic()
    scene.run(grace_seconds=1)
    assert monotonic() - began_at > 1 + 0.5 + 0.5
    assert scene.said[-1] == "The worker has not ended in time: killing it."
    assert scene.notes("worker") == scene.notes("web") == ["begins", "SIGTERM"]


@pytest.mark.django_db
def test_a_worker_has_registered_if_it_is_alive_and_of_this_host(host: Host) -> None:
    worker = register_worker(host, concurrency=1, is_claiming=True)
    assert has_registered(worker.pid)
    assert not has_registered(worker.pid + 1)
    Worker.objects.update(host=Host.objects.create(name="other"))
    assert not has_registered(worker.pid)
    Worker.objects.update(host=host, stopped_at=timezone.now())
    assert not has_registered(worker.pid)


def test_a_socket_whose_path_is_too_long_is_told_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="of BIND cannot be used: AF_UNIX path too long"):
        Place(f"unix:{tmp_path}/{'x' * 110}", 0).require_free()
