"""Runs the web server and the worker as two child processes, and keeps them running until told to stop.

For one machine without systemd; under systemd each is a separate unit.
"""

import ctypes
import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from time import monotonic, sleep
from types import FrameType

PR_SET_PDEATHSIG = 1  # prctl(2)
READY_SECONDS = 60
ASK_SECONDS = 5
LONGEST_PAUSE_SECONDS = 30
WEB_GRACE_SECONDS = 15
CANCEL_SECONDS = 30
"""What a worker may take beyond its grace to cancel its jobs; TimeoutStopSec of its unit allows as much."""

Say = Callable[[str], object]


class StartError(Exception):
    """The start failed; the text says why."""


class Child:
    """A process that is restarted when it ends by itself, after a pause that grows to half a minute."""

    def __init__(self, name: str, argv: Sequence[str], say: Say) -> None:
        self.name = name
        self._argv = list(argv)
        self._say = say
        self._pause_seconds = 1.0
        self._restart_at: float | None = None
        self._start()

    def _start(self) -> None:
        self._started_at = monotonic()
        self._restart_at = None
        # In its own process group: Ctrl-C in a terminal then reaches only the supervisor, which decides.
        # This process has one thread, so preexec_fn is safe.
        self._process = subprocess.Popen(
            self._argv,
            process_group=0,
            preexec_fn=end_with_parent,  # noqa: PLW1509
        )

    @property
    def pid(self) -> int:
        """The pid of the process that was started last."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The exit code; for a signal, its negative number."""
        return self._process.poll()

    def keep_running(self) -> None:
        """Start the process again if it has ended and its pause is over."""
        if self.is_running:
            return
        if self._restart_at is None:
            if monotonic() - self._started_at > LONGEST_PAUSE_SECONDS:
                self._pause_seconds = 1.0
            self._restart_at = monotonic() + self._pause_seconds
            self._say(
                f"The {self.name} ended with code {self.exit_code}: "
                f"starting it again in {self._pause_seconds:.0f} s."
            )
            self._pause_seconds = min(self._pause_seconds * 2, LONGEST_PAUSE_SECONDS)
        elif monotonic() >= self._restart_at:
            self._start()

    def send(self, signal_number: int) -> None:
        """Signal the process if it is running."""
        if self.is_running:
            self._process.send_signal(signal_number)

    def end(self) -> None:
        """Kill the process if it is still running."""
        if self.is_running:
            self._process.kill()
        self._process.wait()


@dataclass(frozen=True)
class Place:
    """Where the web server listens: a port of the address `bind`, or the Unix socket in `unix:/PATH`."""

    bind: str
    port: int

    @property
    def socket_path(self) -> Path | None:
        """The path of the Unix socket; None for a port."""
        return Path(self.bind.removeprefix("unix:")) if self.bind.startswith("unix:") else None

    @property
    def address(self) -> str:
        """The address at which this machine reaches the port: that of loopback for a port of all addresses."""
        everywhere = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
        return everywhere.get(self.bind, self.bind)

    @property
    def url(self) -> str:
        """Where browsers on this machine find it, as far as they can."""
        return self.bind if self.socket_path else self._url(self.address)

    def url_by(self, name: str) -> str | None:
        """Return where they find it by a name of loopback; None if it does not listen there."""
        return self._url(name) if self.address in ("127.0.0.1", "::1", name) else None

    def _url(self, host: str) -> str:
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    def require_free(self) -> None:
        """Raise `StartError` if something already listens there, or nothing can."""
        if self.socket_path:
            require_free_socket(self.socket_path)
        else:
            require_free_port(self.bind, self.port)

    def ask(self, path: str, host: str) -> tuple[int, str]:
        """Return the status and the beginning of the answer to a GET request. Raises `OSError`."""
        web = (
            UnixConnection(self.socket_path)
            if self.socket_path
            else http.client.HTTPConnection(self.address, self.port, timeout=ASK_SECONDS)
        )
        with closing(web):
            try:
                web.request("GET", path, headers={"Host": host})
                response = web.getresponse()
                return response.status, response.read(500).decode(errors="replace")
            except http.client.HTTPException as error:
                raise ConnectionError(repr(error)) from error


class UnixConnection(http.client.HTTPConnection):
    """HTTP through a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ASK_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of to a host."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def end_with_parent() -> None:
    """Make the kernel end this process when the supervisor is gone, for whatever reason."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def supervise(
    *,
    base_dir: Path,
    place: Place,
    health_host: str,
    passkey_host: str | None,
    worker_grace_seconds: float,
    has_registered: Callable[[int], bool],
    find_faults: Callable[[], Sequence[str]],
    say: Say,
) -> None:
    """Run web server and worker until SIGTERM or SIGINT. Raises `StartError`.

    `passkey_host` is a name for which browsers offer passkeys; they never do for an IP address.
    `has_registered` tells whether the worker with a pid has. What `find_faults` finds then, such as a fault of
    another host, is no reason not to start.

    The first signal lets running jobs finish while the pages stay up; the second cancels them. Both processes
    are given their time to end after a failure too.
    """
    place.require_free()
    python = sys.executable
    with counted_signals() as count, ExitStack() as endings:
        web = Child(
            "web server",
            [
                *(python, "-m", "gunicorn"),
                *("-c", str(base_dir / "deploy/gunicorn.conf.py"), "l4d2site.asgi:application"),
            ],
            say,
        )
        endings.callback(end_web, web)
        worker = Child("worker", [python, str(base_dir / "manage.py"), "runjobs"], say)
        endings.callback(end_worker, worker, worker_grace_seconds, count, say)
        try:
            is_ready = wait_until_ready(place, health_host, web, worker, has_registered, count)
        except StartError as error:
            say(str(error))  # At once: what was started may take a while to end.
            raise StartError("Saferoom was not started: see above.") from error
        if is_ready:
            say(f"Saferoom is ready at {place.url}")
            if passkey_host and (url := place.url_by(passkey_host)):
                say(f"To use passkeys, open it at {url}")
            for fault in find_faults():
                say(f"Note: {fault}")
        while not count():
            for child in (web, worker):
                child.keep_running()
            sleep(0.1)


def end_web(web: Child) -> None:
    """Let the web server answer the requests that it has, and end it."""
    web.send(signal.SIGTERM)
    wait_while(lambda: web.is_running, WEB_GRACE_SECONDS)
    web.end()


def end_worker(worker: Child, grace_seconds: float, count: Callable[[], int], say: Say) -> None:
    """Let the worker finish, and pass further signals on to it. Kill it if its grace has not been enough."""
    # After a failure there may have been no signal yet. Then the first one cancels.
    told = min(count(), 1)
    worker.send(signal.SIGTERM)
    started_at = monotonic()
    has_said = False
    while worker.is_running and monotonic() - started_at < grace_seconds + CANCEL_SECONDS:
        if not has_said and monotonic() - started_at > 1:
            has_said = True
            again = " again" if told else ""
            with suppress(OSError):  # That nobody reads it is no reason to hurry the worker.
                say(f"Letting running jobs finish. Press Ctrl-C{again} to cancel them.")
        if count() > told:
            told = count()
            worker.send(signal.SIGTERM)
        sleep(0.05)
    if worker.is_running:
        with suppress(OSError):
            say("The worker has not ended in time: killing it.")
    worker.end()


def require_free_port(bind: str, port: int) -> None:
    """Raise `StartError` if something already listens on the port."""
    with socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, port))
        except OSError as error:
            raise StartError(
                f"Port {port} of {bind} cannot be used: {error.strerror}. "
                "Choose another one: PORT=8001 script/server"
            ) from None


def require_free_socket(path: Path) -> None:
    """Raise `StartError` if there can be no Unix socket at `path`. An unused socket is replaced."""
    if not path.is_absolute():
        raise StartError(
            f"BIND is unix:{path}, but must be an address, or unix: and an absolute path."
        )
    if not path.parent.is_dir():
        raise StartError(f"The folder {path.parent} of BIND is not there. Make it first.")
    if path.exists() and not path.is_socket():
        raise StartError(f"{path} of BIND is there already, and is no socket. Choose another path.")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return
        except OSError as error:
            raise StartError(
                # Python's own errors have no number: of a path that is too long, for one.
                f"The socket {path} of BIND cannot be used: {error.strerror or error}."
            ) from None
    raise StartError(f"Another process listens at {path}. Stop it, or choose another path in BIND.")


def wait_until_ready(
    place: Place,
    health_host: str,
    web: Child,
    worker: Child,
    has_registered: Callable[[int], bool],
    count: Callable[[], int],
) -> bool:
    """Wait until the web server answers and the worker has registered; return False if a signal came first."""
    started_at = monotonic()
    while not count():
        for child in (web, worker):
            if not child.is_running:
                raise StartError(
                    f"The {child.name} ended with code {child.exit_code} at its start: see above."
                )
        try:
            status, text = place.ask("/livez", health_host)
            missing = "" if status == HTTPStatus.OK else f"the web server answers {status} {text}"
        except OSError as error:
            missing = f"the web server does not answer: {error}"
        if not missing and not has_registered(worker.pid):
            missing = "its worker has not registered in the database."
        if not missing:
            return True
        if monotonic() - started_at > READY_SECONDS:
            raise StartError(f"Saferoom was not ready after {READY_SECONDS} s: {missing}")
        sleep(0.1)
    return False


def wait_while(predicate: Callable[[], bool], seconds: float) -> None:
    """Wait until `predicate` is false, at most `seconds`."""
    until = monotonic() + seconds
    while predicate() and monotonic() < until:
        sleep(0.05)


@contextmanager
def counted_signals() -> Iterator[Callable[[], int]]:
    """Count SIGTERM and SIGINT instead of dying from them; yields the count."""
    received = 0

    def count(_signal_number: int, _frame: FrameType | None) -> None:
        nonlocal received
        received += 1

    previous = {number: signal.signal(number, count) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def port_from_environment() -> int:
    """Return PORT as a number. Raises `StartError`."""
    text = os.environ.get("PORT", "8000")
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise StartError(f"PORT is {text!r}, but must be a number from 1 to 65535.")
    return int(text)
