"""Runs the simulator's programs as processes, for the tests that need them."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from hostops.simulator import steamcmd
from tests.waiting import wait_until

STEAMCMD = Path(steamcmd.__file__).resolve()
READY_LINE = "Connection to Steam servers successful."
TIMEOUT = 20.0


class SteamCmd:
    """Runs the simulated SteamCMD, with a home and a control file of its own."""

    def __init__(self, directory: Path) -> None:
        self.install_dir = directory / "game"
        self.control_path = directory / "simulator.json"
        home = directory / "home"
        home.mkdir(exist_ok=True)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "SAFEROOM_SIMULATOR": str(self.control_path),
        }
        self.control()

    def control(self, **settings: object) -> None:
        """Write the control file: nothing takes time unless `seconds` is given."""
        self.control_path.write_text(json.dumps({"steamcmd": {"seconds": 0, **settings}}))

    def argv(self, *commands: str) -> list[str]:
        """Return the command line for these commands."""
        return [sys.executable, "-I", str(STEAMCMD), *" ".join(commands).split()]

    def update(self, platform: str = "linux", *, validate: bool = False) -> list[str]:
        """Return the command line of one `app_update` for `platform`."""
        return self.argv(
            f"+@sSteamCmdForcePlatformType {platform}",
            f"+force_install_dir {self.install_dir}",
            "+login anonymous",
            f"+app_update 222860{' validate' * validate}",
            "+quit",
        )

    def run(self, argv: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a command line to its end."""
        return subprocess.run(
            argv,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            stdin=subprocess.DEVNULL,
        )

    def install(self) -> None:
        """Install the game: for Windows first, then for Linux."""
        for platform in ("windows", "linux"):
            ended = self.run(self.update(platform))
            assert ended.returncode == 0, ended.stdout + ended.stderr


class Spawned:
    """A running process whose output is read line by line as it arrives."""

    def __init__(
        self, argv: list[str], cwd: Path, environment: dict[str, str], stdin: int = subprocess.PIPE
    ) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def send(self, text: str) -> None:
        """Type a line into its console."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode("utf-8", "surrogateescape") + b"\n")
        self.process.stdin.flush()

    def wait_for(self, text: str, *, count: int = 1) -> str:
        """Wait until `count` lines contain `text`; return the last of them."""

        def found() -> str | None:
            matching = [line for line in list(self.lines) if text in line]
            return matching[count - 1] if len(matching) >= count else None

        try:
            return str(wait_until(found, TIMEOUT, f"no line with {text!r}"))
        except AssertionError as error:
            raise AssertionError(f"{error}\n" + "\n".join(self.lines)) from None

    def ask(self, command: str, end: str) -> list[str]:
        """Type a command and return its lines, up to the line `end`."""
        start = len(self.lines)
        self.send(command)
        self.wait_for_line(end, start)
        return self.lines[start:]

    def wait_for_line(self, line: str, start: int) -> None:
        """Wait until `line` is among the lines after the first `start`."""
        wait_until(lambda: line in self.lines[start:], TIMEOUT, f"no line {line!r} in {self.lines}")

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end and for the last of its output; return the exit code."""
        code = self.process.wait(TIMEOUT)
        self._reader.join(TIMEOUT)
        return code

    def close(self) -> None:
        """Kill it, with everything it has started, and close its pipes."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for raw in self.process.stdout:
            self.lines.append(raw.decode("utf-8", "replace").rstrip("\n"))


class GameServers:
    """Starts simulated game servers from one installed game; `close()` ends them all."""

    def __init__(self, game_dir: Path, directory: Path) -> None:
        self.game_dir = game_dir
        self.control_path = directory / "simulator.json"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "SAFEROOM_SIMULATOR": str(self.control_path),
            "LD_LIBRARY_PATH": ".:bin",
        }
        self._spawned: list[Spawned] = []
        self.control()

    def control(self, **settings: object) -> None:
        """Write the control file: a server starts at once unless `start_seconds` is given."""
        self.control_path.write_text(json.dumps({"srcds": {"start_seconds": 0, **settings}}))

    def config(self, text: str | bytes, name: str = "server.cfg") -> None:
        """Write a cfg file."""
        content = text.encode("ascii") if isinstance(text, str) else text
        (self.game_dir / "left4dead2" / "cfg" / name).write_bytes(content)

    def spawn(self, port: int, *arguments: str, stdin: int = subprocess.PIPE) -> Spawned:
        """Start `srcds_linux` without waiting for anything."""
        argv = ["./srcds_linux", "-game", "left4dead2", "-console", "-port", str(port), *arguments]
        return self.run(argv, stdin=stdin)

    def run(self, argv: list[str], *, stdin: int = subprocess.PIPE) -> Spawned:
        """Start a program of the game without waiting for anything."""
        spawned = Spawned(argv, self.game_dir, self.environment, stdin)
        self._spawned.append(spawned)
        return spawned

    def start(self, port: int, *arguments: str) -> Spawned:
        """Start `srcds_linux` and wait until it is ready."""
        spawned = self.spawn(port, "-strictportbind", *arguments)
        spawned.wait_for(READY_LINE)
        return spawned

    def close(self) -> None:
        """End all servers that still run."""
        for spawned in self._spawned:
            spawned.close()
