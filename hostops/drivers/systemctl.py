"""Runs `systemctl` for one of the two managers and parses its output: one method for each command in use."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from hostops.errors import CommandError, HostError
from hostops.linux.process import run

Runner = Callable[[Sequence[str]], str]
"""Runs a command and returns its stdout; raises CommandError with its stderr if it fails."""

_PROPERTIES = (
    "Id",
    "LoadState",
    "FragmentPath",
    "DropInPaths",
    "ActiveState",
    "SubState",
    "Result",
    "ExecMainCode",
    "ExecMainStatus",
    "MemoryCurrent",
    "CPUUsageNSec",
)
_UNSET = 2**64 - 1  # how systemd writes an unset counter, besides "[not set]" and ""
_NO_MANAGER = re.compile(r"Failed to connect to (the )?(user |system )?(scope )?bus", re.IGNORECASE)


class Manager(StrEnum):
    """Which manager has the units: this account's own, or the system's."""

    USER = "user"
    SYSTEM = "system"


@dataclass(frozen=True)
class Unit:
    """systemd's facts about one unit, in its own words; unknown words are kept as they are.

    `exit_code_kind` is `exited`, `killed` or `dumped`, or empty if the main process has not ended yet;
    `exit_status` is the exit code or the signal's number.
    """

    id: str
    load_state: str
    active_state: str
    sub_state: str
    result: str
    fragment_path: str = ""
    drop_in_paths: tuple[str, ...] = ()
    exit_code_kind: str = ""
    exit_status: int = 0
    memory_bytes: int | None = None
    cpu_seconds: float | None = None


class Systemctl:
    """`systemctl` of one manager. `run` executes its commands."""

    def __init__(self, manager: Manager, run: Runner | None = None) -> None:
        self.manager = manager
        self._run = run or _run_command

    def start(self, unit: str) -> None:
        """Start a unit; return when its program is executed. Raises CommandError if it could not be."""
        self._call("start", unit)

    def begin_stop(self, unit: str) -> None:
        """Ask for a unit to be stopped, without waiting for it."""
        self._call("stop", "--no-block", unit)

    def stop(self, unit: str) -> None:
        """Stop a unit, or call off its restart; return when no process of it is left."""
        self._call("stop", unit)

    def reset_failed(self, unit: str) -> None:
        """Forget that a unit failed, and how often it was started recently."""
        try:
            self._call("reset-failed", unit)
        except CommandError as error:
            if "not loaded" not in error.stderr:  # then there is nothing to forget
                raise

    def set_properties(self, unit: str, properties: Sequence[str]) -> None:
        """Set properties of a unit until the next boot; works while it runs."""
        self._call("set-property", "--runtime", unit, *properties)

    def daemon_reload(self) -> None:
        """Have unit files read again. Running units keep running."""
        self._call("daemon-reload")

    def show(self, *patterns: str) -> dict[str, Unit]:
        """Return the units by id. A pattern finds only loaded units; a name is always found."""
        return parse_show(
            self._call("show", f"--property={','.join(_PROPERTIES)}", "--", *patterns)
        )

    def version(self) -> int:
        """Return systemd's version."""
        # "systemd 252 (252.38-1~deb12u1)", "systemd 255 (255)", then a line of features.
        output = self._run(["systemctl", "--version"])
        match = re.match(r"systemd (\d+)", output)
        if match is None:
            raise HostError(f"systemctl --version does not tell its version, but: {output[:80]!r}.")
        return int(match[1])

    def _call(self, *arguments: str) -> str:
        argv = ["systemctl", f"--{self.manager}", "--no-ask-password", "--no-pager", *arguments]
        try:
            return self._run(argv)
        except CommandError as error:
            if _NO_MANAGER.search(error.stderr):
                raise HostError(self._explain_absence(error.stderr)) from error
            raise

    def _explain_absence(self, said: str) -> str:
        if self.manager is Manager.SYSTEM:
            return f"systemd does not answer: {said.strip()}. Is it this machine's init?"
        return (
            f"The user manager of user {os.geteuid()} does not answer: {said.strip()}. Let it run also while "
            "nobody is logged in: `loginctl enable-linger` with the user's name, as root."
        )


def parse_show(output: str) -> dict[str, Unit]:
    """Parse the output of `systemctl show`: one line NAME=VALUE per property, an empty line between units.

    A value may contain equals signs. A counter is a number, `[not set]`, empty or 2^64-1. A property that this
    systemd does not know has no line.
    """
    units = {}
    for block in output.strip().split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if not values.get("Id"):
            continue
        cpu_nanoseconds = _read_counter(values.get("CPUUsageNSec", ""))
        units[values["Id"]] = Unit(
            id=values["Id"],
            load_state=values.get("LoadState", ""),
            active_state=values.get("ActiveState", ""),
            sub_state=values.get("SubState", ""),
            result=values.get("Result", ""),
            fragment_path=values.get("FragmentPath", ""),
            drop_in_paths=tuple(values.get("DropInPaths", "").split()),
            # The numbers of waitid(2): CLD_EXITED, CLD_KILLED, CLD_DUMPED.
            exit_code_kind={"1": "exited", "2": "killed", "3": "dumped"}.get(
                values.get("ExecMainCode", ""), ""
            ),
            exit_status=_read_counter(values.get("ExecMainStatus", "")) or 0,
            memory_bytes=_read_counter(values.get("MemoryCurrent", "")),
            cpu_seconds=None if cpu_nanoseconds is None else cpu_nanoseconds / 1e9,
        )
    return units


def _read_counter(text: str) -> int | None:
    if not text.isdecimal() or int(text) == _UNSET:
        return None
    return int(text)


def _run_command(argv: Sequence[str]) -> str:
    said: dict[str, list[str]] = {"stdout": [], "stderr": []}
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        # Where this account's manager listens; a system service does not get this variable.
        "XDG_RUNTIME_DIR": os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.geteuid()}"),
    }
    try:
        run(
            argv,
            environment=environment,
            on_line=lambda stream, line: said[stream].append(line),
            # It starts other programs only to ask for a password or to page, and is told not to.
            leaves_group_empty=True,
        )
    except CommandError as error:
        errors = "\n".join(said["stderr"])
        raise CommandError(
            f"{error} {errors}".strip(), error.cmd, error.returncode, stderr=errors
        ) from error
    return "\n".join(said["stdout"]) + "\n"
