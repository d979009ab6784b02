"""A host with everything that a game must not reach, and games started on it, boxed and unboxed."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from hostops.linux.process_identity import read_stat
from tests.waiting import wait_until

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
THROW_AWAY_UID = 64031
SECRET = "SECRET"

# What the account runs beside the game: a worker, say, and a database's socket.
VICTIM = """
import ctypes, os, socket, sys, time
path, abstract, queue, key = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
servers = []
for address in (path, "\\0" + abstract):
    server = socket.socket(socket.AF_UNIX)
    server.bind(address)
    server.listen()
    servers.append(server)
if libc.mq_open(queue.encode(), os.O_RDWR | os.O_CREAT, 0o600, None) < 0:
    raise SystemExit("mq_open")
if libc.shmget(int(key), 4096, 0o600 | 0o1000) < 0:
    raise SystemExit("shmget")
print("ready", flush=True)
time.sleep(3600)
"""
UNLINK = """
import ctypes, sys
libc = ctypes.CDLL(None)
libc.mq_unlink(sys.argv[1].encode())
libc.shmctl(libc.shmget(int(sys.argv[2]), 0, 0), 0, None)
"""


def find_python() -> str:
    """Return a Python that every account may run."""
    for name in (sys.executable, shutil.which("python3", path="/usr/local/bin:/usr/bin")):
        if name is None:
            continue
        path = Path(name).resolve()
        if all(parent.stat().st_mode & 0o001 for parent in path.parents):
            return str(path)
    raise AssertionError("No Python 3 that other accounts may run: apt install python3")


@dataclass(frozen=True)
class Case:
    """How a game is started: by which account, with which layers, in which box."""

    is_boxed: bool = True
    layering: str = "overlay"
    is_root: bool = False
    has_pid_namespace: bool = True
    has_covered_proc: bool = False
    has_second_walls: bool = True

    def __str__(self) -> str:
        account = "root" if self.is_root else "account"
        box = ("boxed" if self.has_pid_namespace else "boxed-no-pid") if self.is_boxed else "before"
        proc = "-covered-proc" if self.has_covered_proc else ""
        second = "" if self.has_second_walls else "-first-walls-only"
        return f"{box}-{self.layering}-{account}{proc}{second}"


@dataclass
class HostileHost:
    """The folders of a host, a program of the same account, and the targets given to the game."""

    is_root: bool
    dir: Path = field(init=False)
    targets: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.uid = 0 if self.is_root or os.geteuid() != 0 else THROW_AWAY_UID
        if os.geteuid() != 0:
            self.uid = os.geteuid()
        self.name = f"saferoom-box-{uuid.uuid4().hex[:12]}"
        self.dir = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir="/var/tmp"))
        self.root = self.dir / "srv" / "host"
        self.shm_path = Path("/dev/shm", self.name)
        self.lock_path = Path("/run/lock", self.name)
        self.python = find_python()
        self.key = uuid.uuid4().int % 0x7FFFFFFF
        self.queue = f"/{self.name}"

    def __enter__(self) -> Self:
        self.dir.chmod(0o755)
        files = {
            "srv/panel/db.sqlite3": SECRET,
            "srv/panel/.env": SECRET,
            "code/.env": SECRET,
            "code/app.py": "code",
            "srv/host/releases/1/left4dead2/of-the-release": "release",
            "srv/host/overlays/one/left4dead2/of-the-overlay": "overlay",
            "srv/host/instances/bravo/upper/secret": SECRET,
            "srv/host/instances/bravo/console/1.log": SECRET,
            "srv/host/home/.steam/sdk32/steamclient.so": "library",
            "srv/host/home/Steam/config/secret": SECRET,
            "srv/host/simulator.json": "{}",
            "people/anna/.ssh/id": SECRET,
        }
        for name, text in files.items():
            path = self.dir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for path in (self.shm_path, self.lock_path):
            path.write_text(SECRET)
            path.chmod(0o666)
        (self.dir / "run").mkdir()
        self._give_away(self.dir)
        socket_path = str(self.dir / "run" / "socket")
        self._victim = subprocess.Popen(
            [
                *(self.python, "-I", "-S", "-c", VICTIM),
                *(socket_path, self.name, self.queue, str(self.key)),
            ],
            env={"SECRET": SECRET},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **self._account(),
        )
        assert self._victim.stdout is not None
        assert self._victim.stdout.readline() == "ready\n"
        self.targets = {
            "victim": self._victim.pid,
            "queue": self.queue,
            "shm_key": self.key,
            "connect": {"database socket": socket_path, "abstract socket": f"\0{self.name}"},
        }
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(
            [self.python, "-I", "-S", "-c", UNLINK, self.queue, str(self.key)],
            check=True,
            **self._account(),
        )
        self._victim.kill()
        self._victim.communicate()
        self.shm_path.unlink()
        self.lock_path.unlink()
        subprocess.run(["chmod", "-R", "u+rwX", self.dir], check=True)
        shutil.rmtree(self.dir)

    @property
    def is_victim_alive(self) -> bool:
        """Whether the program of the same account still runs."""
        return self._victim.poll() is None

    @contextlib.contextmanager
    def run(self, case: Case, **changes: object) -> Iterator["Game"]:
        """Start a game and end it afterwards, whatever happened to it."""
        game = Game(self, case, f"alpha-{case}", changes)
        try:
            game.start()
            yield game
        finally:
            game.end()

    def _account(self) -> dict[str, Any]:
        if os.geteuid() != 0 or self.is_root:
            return {}
        return {"user": self.uid, "group": self.uid, "extra_groups": []}

    def _give_away(self, folder: Path) -> None:
        if os.geteuid() == 0 and not self.is_root:
            subprocess.run(["chown", "-R", f"{self.uid}:{self.uid}", folder], check=True)


class Game:
    """An instance and its run by the small launcher."""

    def __init__(
        self, host: HostileHost, case: Case, name: str, changes: dict[str, object]
    ) -> None:
        self.host = host
        self.case = case
        self.instance_dir = host.root / "instances" / name
        self.game_dir = self.instance_dir / ("merged" if case.layering == "overlay" else "tree")
        self.written_dir = self.instance_dir / ("upper" if case.layering == "overlay" else "tree")
        self.child = f"left-behind-{uuid.uuid4().hex}"
        self.said = ""
        self._name = name
        self._changes = changes
        self._process: subprocess.Popen[str] | None = None

    def start(self, *, is_new: bool = True) -> None:
        """Make the instance, start the game and wait until its launcher reports that it runs."""
        if self.host.uid == 0:
            assert self.case.is_boxed, "as root and without a box it would change this machine"
        for folder in ("upper", "work", "merged", "tree", "home", "console"):
            (self.instance_dir / folder).mkdir(parents=True, exist_ok=not is_new)
        os.mkfifo(self.instance_dir / "console.in")
        (self.instance_dir / "instance.json").write_text("{}")
        if self.case.layering == "copy":
            shutil.copytree(self.host.root / "releases/1", self.game_dir, dirs_exist_ok=True)
        self._write_targets()
        plan_path = self.instance_dir / "plan.json"
        plan_path.write_text(json.dumps(self._plan()))
        self.host._give_away(self.instance_dir)
        command = [self.host.python, "-I", "-S", str(HERE / "small_launcher.py"), str(plan_path)]
        account = self.host._account()
        if self.case.has_covered_proc:
            # As in a container or a hardened unit: root has covered a part of /proc.
            cover = "mount --bind /proc/sys /proc/sys && exec "
            switch = f"setpriv --reuid={self.host.uid} --regid={self.host.uid} --clear-groups "
            command = ["unshare", "--mount", "sh", "-c", f'{cover}{switch}"$@"', "sh", *command]
            account = {}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"]},
            **account,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "started\n":
            self.said = self._process.communicate()[1]

    def _plan(self) -> dict[str, Any]:
        instance, root = self.instance_dir, self.host.root
        layers = [f"instances/{self._name}/generated", "overlays/one", "releases/1"]
        (instance / "generated").mkdir()
        return {
            "root": str(root),
            "name": self._name,
            "lower": layers if self.case.layering == "overlay" else [],
            "argv": [self.host.python, "-I", "-S", str(HERE / "intruder.py"), "targets.json"],
            "environment": {"HOME": str(instance / "home"), "PATH": "/usr/bin:/bin"},
            "without_pid_namespace": not self.case.has_pid_namespace,
            "without_second_walls": not self.case.has_second_walls,
            "box": {
                "game_dir": str(self.game_dir),
                "home_dir": str(instance / "home"),
                "read_only": [
                    str(HERE),
                    str(REPOSITORY / "hostops"),
                    str(Path(self.host.python).parents[1]),
                    str(root / "simulator.json"),
                ],
                "hidden": [str(root)],
                "steamclient": str(root / "home/.steam/sdk32/steamclient.so"),
            }
            if self.case.is_boxed
            else None,
            **self._changes,
        }

    def _write_targets(self) -> None:
        base, root, instance = self.host.dir, self.host.root, self.instance_dir
        groups = "/sys/fs/cgroup/cgroup.procs"
        targets = {
            **self.host.targets,
            "child": self.child,
            "is_boxed": self.case.is_boxed,
            "init": 0,
            "read": {
                "database": f"{base}/srv/panel/db.sqlite3",
                "settings": f"{base}/srv/panel/.env",
                "code's settings": f"{base}/code/.env",
                "other instance": f"{root}/instances/bravo/upper/secret",
                "SteamCMD's home": f"{root}/home/Steam/config/secret",
                "a person's home": f"{base}/people/anna/.ssh/id",
                "host's shm": str(self.host.shm_path),
                "host's lock": str(self.host.lock_path),
                "release past the overlay": f"{root}/releases/1/left4dead2/of-the-release",
                "machine-id": "/etc/machine-id",
                "own plan": f"{instance}/plan.json",
                "the host by its own root": f"/proc/self/root{base}/srv/panel/.env",
                "the host by parents": f"{'../' * 40}{base}/srv/panel/.env".replace("//", "/"),
            },
            "write": {
                "release": f"{root}/releases/1/left4dead2/of-the-release",
                "overlay": f"{root}/overlays/one/left4dead2/of-the-overlay",
                "code": f"{base}/code/app.py",
                "other console": f"{root}/instances/bravo/console/1.log",
                "own record": f"{instance}/instance.json",
                "own run": f"{instance}/run.json",
                "own console": f"{instance}/console/2.log",
                "past the overlay": f"{instance}/upper/past",
                "usr": "/usr/intruder",
                "etc": "/etc/intruder",
                "root": "/intruder",
                "dev": "/dev/intruder",
                "simulator's control": f"{root}/simulator.json",
                "kernel setting": "/proc/sys/kernel/core_pattern",
                "control group": groups,
                "steamclient": f"{instance}/home/.steam/sdk32/steamclient.so",
            },
            "change": {
                "host's shm": str(self.host.shm_path),
                "host's lock": str(self.host.lock_path),
            },
            "list": {
                "run": "/run",
                "run/user": "/run/user",
                "home": "/home",
                "root's home": "/root",
                "var": "/var/lib",
                "sys": "/sys",
                "instances": f"{root}/instances/bravo",
                "mqueue": "/dev/mqueue",
                "private keys": "/etc/ssl/private",
                "parents": "../" * 40 + "var/lib",
            },
            "link to write": {"record": f"{instance}/instance.json"},
            "hard link": {"console": f"{instance}/console/1.log"},
        }
        (self.written_dir / "targets.json").write_text(json.dumps(targets))

    @property
    def report(self) -> dict[str, Any]:
        """Return the game's report, once it is written."""
        path = self.written_dir / "report.json"
        try:
            wait_until(
                lambda: path.exists() or not self.is_running, 30, "the game tried everything"
            )
            document: dict[str, Any] = json.loads(path.read_text())
        except (AssertionError, OSError) as error:
            raise AssertionError(f"{error}\n{self.said}\n{self.console}") from error
        wait_until(lambda: "up" in self.console.splitlines(), 10, "the game is up")
        return document

    @property
    def console(self) -> str:
        """Return what the game printed."""
        path = self.instance_dir / "console/1.log"
        return path.read_text() if path.exists() else ""

    @property
    def record(self) -> dict[str, Any]:
        """Return the launcher's record."""
        document: dict[str, Any] = json.loads((self.instance_dir / "run.json").read_text())
        return document

    @property
    def pid(self) -> int:
        """Return the id of the run's main process: the init, where there is one."""
        return int(self.record["pid"])

    @property
    def is_running(self) -> bool:
        """Whether the launcher, which waits for the game, still does."""
        return self._process is not None and self._process.poll() is None

    def type(self, line: str) -> None:
        """Write a line to the console."""
        with (self.instance_dir / "console.in").open("w") as fifo:
            fifo.write(f"{line}\n")

    def wait(self) -> int:
        """Return the exit status, once it has ended."""
        assert self._process is not None
        return self._process.wait(20)

    def children_left(self) -> list[int]:
        """Return the processes that the game left behind."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if self.child.encode() in path.read_bytes():
                    found.append(int(path.parent.name))
        return found

    def end(self) -> None:
        """End it and what it left, and wait until all of it is gone."""
        record = self.instance_dir / "run.json"
        # It stays empty where the game could not be started.
        if record.exists() and record.read_text() and read_stat(self.pid) is not None:
            assert self.pid > 1, (
                "that is the number in its own namespace, and here the machine's init"
            )
            os.kill(self.pid, signal.SIGKILL)
        if (self.written_dir / "report.json").exists() and not (
            self.case.is_boxed and self.case.has_pid_namespace
        ):
            # Nothing else ends it, and it has its name only once its program runs.
            wait_until(self.children_left, 10, "the game left a child behind")
        for child in self.children_left():
            with contextlib.suppress(ProcessLookupError):  # The init has just taken it along.
                os.kill(child, signal.SIGKILL)
        if self._process is not None:
            self._process.wait(20)
            assert self._process.stderr is not None
            self.said += "" if self._process.stderr.closed else self._process.stderr.read()
            for stream in (self._process.stdout, self._process.stderr):
                assert stream is not None
                stream.close()
