"""What the tests of the host layer do with a host: tell the simulator, run the command line, look, clean up."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import pytest

from hostops.drivers.starting import Starter
from hostops.instances import runs
from hostops.layout import HostLayout, InstanceLayout
from hostops.linux import locks
from hostops.linux.process_identity import living_processes, send_signal
from hostops.simulator.steam_client import DEFAULT_BUILD_ID
from hostops.specs import OnLine, OnStage
from tests.waiting import wait_until

BUILD_ID = DEFAULT_BUILD_ID
LATER_BUILD_ID = str(int(BUILD_ID) + 1)
REPOSITORY = Path(__file__).resolve().parents[2]
TIMEOUT = 30.0
DRIVER = os.environ.get("SAFEROOM_TEST_DRIVER", "process")
"""The driver of the servers: the tests of the floor `systemd` run these tests once more with another one."""
STRIDE = int(os.environ.get("SAFEROOM_TEST_STRIDE", "1"))
"""If a test interrupts a verb at each of its steps, every how many steps: more than 1 for that other driver."""


def write_control(
    root: Path, *, steamcmd: dict[str, object] | None = None, srcds: dict[str, object] | None = None
) -> None:
    """Configure the simulator; nothing takes time unless this says so."""
    control = {
        "steamcmd": {"seconds": 0, **(steamcmd or {})},
        "srcds": {"start_seconds": 0, **(srcds or {})},
    }
    (root / "simulator.json").write_text(json.dumps(control))


class Output:
    """Keeps what an operation reports, in order."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.stages: list[tuple[str, int | None]] = []
        self._watchers: list[tuple[str, Callable[[], None]]] = []
        self._lock = threading.Lock()

    @property
    def callbacks(self) -> dict[str, OnLine | OnStage]:
        """The arguments with which a verb reports here."""
        return {"on_line": self.on_line, "on_stage": self.on_stage}

    @property
    def text(self) -> str:
        """Return all lines as one text."""
        return "\n".join(line for _, line in self.lines)

    def errors(self) -> str:
        """Return the lines of stderr as one text."""
        return "\n".join(line for stream, line in self.lines if stream == "stderr")

    def when(self, part: str, action: Callable[[], None]) -> None:
        """Call `action` when a line or stage that contains `part` arrives."""
        self._watchers.append((part, action))

    def on_line(self, stream: str, line: str) -> None:
        """Take a line."""
        with self._lock:
            self.lines.append((stream, line))
        self._watch(line)

    def on_stage(self, name: str, progress: int | None) -> None:
        """Take a stage."""
        with self._lock:
            self.stages.append((name, progress))
        self._watch(name)

    def _watch(self, text: str) -> None:
        for part, action in self._watchers:
            if part in text:
                action()


class CLI:
    """Runs `python -m hostops` on a root, as a process, optionally started by another program: `prefix`."""

    def __init__(self, root: Path, prefix: Sequence[str] = ()) -> None:
        self.root = root
        self._prefix = prefix
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOST_ROOT": str(root),
            "GAME_SOURCE": "simulator",
            "HOST_DRIVER": DRIVER,
            "PYTHONUNBUFFERED": "1",
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a verb to its end."""
        return subprocess.run(
            [*self._prefix, sys.executable, "-m", "hostops", *arguments],
            cwd=REPOSITORY,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            stdin=subprocess.DEVNULL,
        )

    def succeed(self, *arguments: str) -> str:
        """Run a verb that has to succeed and return its output."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, *arguments: str, program: str | None = None) -> subprocess.Popen[str]:
        """Begin a verb; `program` is text that runs instead of the module. The caller waits for it."""
        how = ["-c", program] if program else ["-m", "hostops"]
        return subprocess.Popen(
            [*self._prefix, sys.executable, *how, *arguments],
            cwd=REPOSITORY,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            stdin=subprocess.DEVNULL,
        )

    def die_at(self, part: str, *arguments: str) -> None:
        """Run a verb that is killed right after a line with `part`, however slow its reader may be."""
        process = self.start(part, *arguments, program=DYING)
        output, _ = process.communicate(timeout=TIMEOUT)
        assert process.returncode == -signal.SIGKILL, output


DYING = """
import builtins, os, signal, sys
from hostops import command_ends
part = sys.argv[1]
def dying(say):
    def say_and_die(*words, **options):
        say(*words, **options)
        if any(part in str(word) for word in words):
            os.kill(os.getpid(), signal.SIGKILL)
    return say_and_die
builtins.print, command_ends.tell = dying(print), dying(command_ends.tell)
from hostops.cli import main
sys.exit(main(sys.argv[2:]))
"""


def read_until(process: subprocess.Popen[str], part: str) -> str:
    """Read a process's output up to a line that contains `part`, and return that line."""
    assert process.stdout is not None
    seen = []
    # Reading has no timeout, so the process is ended instead.
    watchdog = threading.Timer(TIMEOUT, process.kill)
    watchdog.start()
    try:
        for line in process.stdout:
            if part in line:
                return line
            seen.append(line)
    finally:
        watchdog.cancel()
        watchdog.join()
    process.communicate()
    raise AssertionError(f"The process ended before it printed {part!r}, but had: {''.join(seen)}")


def game_processes(root: Path) -> list[int]:
    """Return the processes of game servers that run below `root`, judging by their open files.

    The init of a box lets no account except root inspect it, so it is found by its run's record.
    """
    found: set[int] = set()
    for lock in (root / "instances").glob("*/run.lock"):
        status = lock.stat()
        found.update(one.pid for one in living_processes() if locks.has_open(one.pid, status))
        run = runs.read_run(instance_of(root, lock.parent.name))
        if run is not None and run.is_main_process_alive:
            found.add(run.pid)
    # An operation that runs in this very process may have the lock open at the moment.
    return sorted(found - {os.getpid()})


def game_pid(root: Path, name: str = "alpha") -> int:
    """Return the process that is the game itself: the one that the init of its box has started."""
    run = runs.read_run(instance_of(root, name))
    assert run is not None
    (pid,) = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    return int(pid)


def without_box(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make hosts find that no game can be boxed here."""
    monkeypatch.setattr(Starter, "_find_box", lambda *_: False)


def installers(root: Path) -> list[int]:
    """Return the processes of SteamCMD that work below `root`."""
    marker = str(root / "staging").encode()
    found = []
    for process in living_processes():
        try:
            arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if any(argument.startswith(marker) for argument in arguments):
            found.append(process.pid)
    return found


def instance_of(root: Path, name: str = "alpha") -> InstanceLayout:
    """Return the layout of an instance."""
    return HostLayout(root).instance(name)


def kill(numbers: Collection[int]) -> None:
    """Kill processes, some of which may just be ending: the init of a box takes others with it."""
    for process in living_processes():
        if process.pid in numbers:
            send_signal(process, signal.SIGKILL)


def kill_games(root: Path) -> None:
    """Kill the game servers that run below `root`, as a crash would end them."""
    kill(game_processes(root))


def end_everything(root: Path) -> None:
    """End what a test left running below its root, and wait until it is gone."""
    if DRIVER == "systemd":
        for verb in ("stop", "reset-failed"):
            subprocess.run(["systemctl", "--user", verb, "saferoom-game@*"], check=True)

    def is_quiet() -> bool:
        numbers = {*game_processes(root), *installers(root)}
        kill(numbers)
        return not numbers

    wait_until(is_quiet, 10, "something still runs below the root of a test")


def latest_run(root: Path, name: str = "alpha") -> runs.Run:
    """Return the last run of an instance, which must have one."""
    run = runs.read_run(instance_of(root, name))
    assert run is not None, f"{name} never ran"
    return run


def ignored_signals(status: str) -> set[int]:
    """Return the signals that a process ignores, from the text of its `/proc/<pid>/status`.

    Without the two that belong to the C library: programs can set neither, and glibc's posix_spawn, which
    `subprocess` uses since Python 3.13, starts every process with one of them (SIGCANCEL) ignored.
    """
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:"))
    return {number for number in signal.valid_signals() if int(mask, 16) & 1 << (number - 1)}
