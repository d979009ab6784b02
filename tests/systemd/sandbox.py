"""A machine with a real systemd, in namespaces of its own, thrown away afterwards.

It sees this machine's files copy-on-write, has its own processes, network, mounts and control groups, and a
user `saferoom` whose manager lingers. Needs root. What must survive a boot is in /srv/saferoom.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.waiting import wait_until

USER = "saferoom"
UID = 64023
STATE_DIR = Path("/srv/saferoom")
REPOSITORY = Path(__file__).resolve().parents[2]
SYSTEMD_PATH = Path("/lib/systemd/systemd")
LONG_BEFORE_A_RESTART = ("RestartSec=600", "RestartSteps=0")
"""Settings that keep a crashed server down for as long as a test takes."""
_BOOT_SECONDS = 60.0
_CGROUPS = Path("/sys/fs/cgroup")


def find_systemd() -> str | None:
    """Return what a sandbox can be made with here, or None."""
    programs = ("unshare", "nsenter", "setpriv", "dbus-daemon", "useradd", "ip", "pkaction")
    if (
        os.geteuid() != 0
        or not SYSTEMD_PATH.exists()
        or not all(shutil.which(name) for name in programs)
        or _cgroup2() is None
    ):
        return None
    # A container's root may not mount.
    can_mount = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True
    )
    return str(SYSTEMD_PATH) if can_mount.returncode == 0 else None


class Sandbox:
    """A booted machine; a context manager. `state_dir` is its /srv/saferoom, and survives it.

    With `has_own_boot_id` it was booted just now, and a later boot differs from an earlier one to who reads
    /proc and the clock of the boot; a unit that gets a
    /proc of its own from systemd sees the real machine's all the same.
    """

    def __init__(self, state_dir: Path, *, has_own_boot_id: bool = False) -> None:
        self._state_dir = state_dir
        self._boot_id = str(uuid.uuid4()) if has_own_boot_id else ""
        self._reachable = [sys.base_prefix, str(REPOSITORY), sys.prefix]
        self._reachable.append(str(Path(sys.prefix).resolve()))
        self.name = f"saferoom-tests-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._work_dir = Path("/dev/shm", self.name)
        self._groups: list[Path] = []
        self._leader: subprocess.Popen[bytes] | None = None
        self._init = 0

    def __enter__(self) -> Self:
        try:
            self._boot()
        except BaseException:
            self.power_off()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.power_off()

    def run(
        self,
        *argv: str,
        user: str = USER,
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside to its end, as `saferoom` with access to its manager, or as `root`."""
        return subprocess.run(
            self.command(*argv, user=user, env=env),
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    def command(
        self, *argv: str, user: str = USER, env: Mapping[str, str] | None = None
    ) -> list[str]:
        """Return the command that runs a command inside, from outside, as `run` does."""
        return self._inside(argv, user, env or {})

    def succeed(self, *argv: str, user: str = USER, env: Mapping[str, str] | None = None) -> str:
        """Run a command that must succeed, and return its output."""
        done = self.run(*argv, user=user, env=env)
        assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def set_for_servers(self, *settings: str) -> None:
        """Set this in the `[Service]` section of every server's unit from now on, and nothing else."""
        folder = f"{STATE_DIR}/home/.config/systemd/user/saferoom-game@.service.d"
        self.succeed("rm", "-rf", folder)
        if settings:
            text = "\n".join(("[Service]", *settings, ""))
            write = 'mkdir -p "$1" && printf %s "$2" > "$1/tests.conf"'
            self.succeed("sh", "-c", write, "sh", folder, text)
        self.succeed("systemctl", "--user", "daemon-reload")

    def shut_down(self) -> None:
        """Shut the machine down as `poweroff` does, so that every unit is stopped in order."""
        assert self._leader is not None
        os.kill(self._init, signal.SIGRTMIN + 4)  # systemd(1): what starts poweroff.target
        self._leader.wait(_BOOT_SECONDS)

    def power_off(self) -> None:
        """Pull the plug: end every process at once and remove the machine."""
        if self._init:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._init, signal.SIGKILL)
        if self._leader is not None:
            self._leader.kill()
            self._leader.wait()
        for group in self._groups:
            wait_until(lambda group=group: _remove_group(group), 10, f"{group} is not empty")  # type: ignore[misc]
        self._groups.clear()
        if self._work_dir.exists():
            shutil.rmtree(self._work_dir)

    def _boot(self) -> None:
        self._work_dir.mkdir(mode=0o700)
        self._make_groups()
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--uts", "--ipc"]
        command += ["--pid", "--net", "--cgroup", "--fork", "--kill-child=KILL"]
        if self._boot_id:  # Another boot, and a recent one.
            # Only by whole seconds: just before the next one, something done a moment ago would belong to
            # this boot.
            wait_until(lambda: time.clock_gettime(time.CLOCK_BOOTTIME) % 1 < 0.05, 2, "a second")
            up_seconds = int(time.clock_gettime(time.CLOCK_BOOTTIME))
            command += ["--time", "--boottime", str(-up_seconds)]
        command += ["--propagation"]
        command += ["private", str(Path(__file__).with_name("boot.sh")), str(self._work_dir)]
        command += [*self._boot_arguments(), self._boot_id, *self._reachable]
        log_path = self._work_dir.with_suffix(".log")
        try:
            with log_path.open("wb") as log:
                # It joins its control groups before it makes the namespace that hides all others.
                self._leader = subprocess.Popen(
                    ["/bin/sh", "-c", self._join_groups(), "sh", *command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            self._init = wait_until(
                self._find_init, _BOOT_SECONDS, f"no systemd: {log_path.read_text()}"
            )
        finally:
            said = log_path.read_text()
            log_path.unlink()
        wait_until(self._is_up, _BOOT_SECONDS, f"systemd is not up: {said}")

    def _boot_arguments(self) -> list[str]:
        """Return boot.sh's arguments about what persists."""
        return [str(self._state_dir), str(UID)]

    def _join_groups(self) -> str:
        joins = " && ".join(f"echo $$ > {group}/cgroup.procs" for group in self._groups)
        return f'{joins} && exec "$@"'

    def _make_groups(self) -> None:
        cgroup2 = _cgroup2()
        assert cgroup2 is not None
        groups = [cgroup2 / self.name]
        if cgroup2 != _CGROUPS:
            for line in Path("/proc/self/cgroup").read_text().splitlines():
                _, controllers, path = line.split(":", 2)
                if controllers:
                    hierarchy = _CGROUPS / controllers.removeprefix("name=")
                    groups.append(hierarchy / path.strip("/") / self.name)
        for group in groups:
            group.mkdir()
            self._groups.append(group)
            for name in ("cpuset.cpus", "cpuset.mems"):  # Without these it accepts no process.
                if (group / name).exists():
                    (group / name).write_text((group.parent / name).read_text())

    def _find_init(self) -> int:
        """Return the process that became systemd, or 0."""
        assert self._leader is not None
        assert self._leader.poll() is None, "the sandbox ended while it was made"
        pid = self._leader.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(FileNotFoundError):
                if Path(f"/proc/{child}/exe").readlink().name == "systemd":
                    return int(child)
        return 0

    def _is_up(self) -> bool:
        root = Path(f"/proc/{self._init}/root")
        if not (root / f"run/user/{UID}/systemd/private").exists():
            return False
        states = self.run("systemctl", "is-system-running", user="root").stdout
        mine = self.run("systemctl", "--user", "is-system-running").stdout
        return states.strip() in ("running", "degraded") and mine.strip() == "running"

    def _inside(self, argv: Sequence[str], user: str, env: Mapping[str, str]) -> list[str]:
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        switch = []
        if user != "root":
            switch = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
            environment |= {
                "HOME": str(STATE_DIR / "home"),
                "USER": user,
                "XDG_RUNTIME_DIR": f"/run/user/{UID}",
            }
        environment |= env
        return [
            *["nsenter", "--target", str(self._init), "--all", f"--wdns={REPOSITORY}", "--"],
            *["env", "-i", *(f"{name}={value}" for name, value in environment.items())],
            *switch,
            *argv,
        ]


def _cgroup2() -> Path | None:
    for folder in (_CGROUPS, _CGROUPS / "unified"):
        if (folder / "cgroup.procs").exists():
            return folder
    return None


def _remove_group(group: Path) -> bool:
    """Remove a control group with those below it; False while it contains a process."""
    for folder, _, _ in os.walk(group, topdown=False):
        try:
            Path(folder).rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True
