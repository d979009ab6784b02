"""The systemd drivers: each server is an instance of one template unit, in the account's own manager or
the system's.

systemd restarts crashed servers and enforces the limits. The units run the same launcher as every driver, so
runs, console, lock and the restart budget (`hostops.crash_budget`) are the same too. The units are not enabled:
after a reboot the worker starts whatever should run, in the same way under every driver.
"""

import getpass
import os
import select
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from hostops.callbacks import Callbacks
from hostops.crash_budget import RESTART_BUDGET, count_restarts, is_failure
from hostops.drivers import outlook, process_driver, unit_files
from hostops.drivers.systemctl import Manager, Systemctl, Unit
from hostops.drivers.unit_files import TEMPLATE_NAME, unit_name
from hostops.errors import CommandError, HostError
from hostops.instances import runs
from hostops.layout import HostLayout, InstanceLayout
from hostops.linux.files import make_dir, remove_tree, write_atomically
from hostops.specs import (
    LIMIT_NAMES,
    CrashedRun,
    Finding,
    InstanceState,
    InstanceStatus,
    Limits,
    Severity,
)

_LAUNCH_SECONDS = 10.0
_POLL_SECONDS = 0.05
_DROP_IN_NAME = "50-limits.conf"
_GONE_STATES = ("inactive", "failed")
_CONTROLLERS = dict(zip(LIMIT_NAMES, ("memory", "pids", "cpu"), strict=True))
"""The kernel's controller for each limit."""


class UnitDriver:
    """Runs servers as units of one manager (see `Driver`).

    In the account's own manager the driver maintains the unit files itself. In the system's manager they
    belong to root: an admin installs the template, and limits are set for one boot at a time.
    """

    def __init__(
        self, layout: HostLayout, systemctl: Systemctl, *, is_simulated: bool = False
    ) -> None:
        self._layout = layout
        self._systemctl = systemctl
        self._is_simulated = is_simulated
        self._is_users = systemctl.manager is Manager.USER
        self._version: int | None = None
        # In the account's own manager the unit's sandbox uses the same namespaces as the box.
        self.boxes_by_itself = not self._is_users

    def require_ready(self, instance: InstanceLayout) -> None:
        """Check that the manager answers, and that the template unit exists or may be written."""
        unit = unit_name(instance.name)
        is_missing = self._show(unit).load_state == "not-found"
        if self._is_users:
            self._require_own_template(_read(self._units_dir / TEMPLATE_NAME), own_unit=unit)
        elif is_missing:
            raise HostError(
                f"{instance.name} cannot be started: the system's manager has no {TEMPLATE_NAME}. "
                f"As an admin: {self._template_command}"
            )

    def launch(
        self,
        instance: InstanceLayout,
        limits: Limits,
        environment: Mapping[str, str],  # noqa: ARG002 - the plan has the game's
        callbacks: Callbacks,  # noqa: ARG002 - there is nothing to report
    ) -> None:
        """Start the unit with its full restart budget."""
        unit = unit_name(instance.name)
        self._write_unit_files(instance, limits)
        self._systemctl.reset_failed(unit)
        if not self._is_users:
            self._set_limits(unit, limits)
        report = _open_report(instance)
        try:
            self._start(instance, unit, report)
        except HostError:
            self.settle(instance)
            raise
        finally:
            os.close(report)
            instance.launch_report_path.unlink(missing_ok=True)

    def end(self, instance: InstanceLayout, timeout_seconds: float, callbacks: Callbacks) -> None:
        """Have systemd stop the unit, and speed it up. systemd continues even if nobody waits any longer."""

        def ask(instance: InstanceLayout) -> bool:
            unit = unit_name(instance.name)
            if self._show(unit).active_state in _GONE_STATES:  # Another driver started the server.
                return process_driver.ask_to_quit(instance)
            self._systemctl.begin_stop(unit)
            return True

        process_driver.end(instance, timeout_seconds, callbacks, ask)
        self.settle(instance)

    def settle(self, instance: InstanceLayout) -> None:
        """Call off a restart that systemd has scheduled, and forget the failure."""
        unit = unit_name(instance.name)
        if self._show(unit).active_state != "inactive":
            self._systemctl.stop(unit)
            self._systemctl.reset_failed(unit)

    def forget(self, instance: InstanceLayout) -> None:
        """Remove the server's drop-in."""
        self.settle(instance)
        if self._is_users and self._drop_in_dir(instance).is_dir():
            remove_tree(self._drop_in_dir(instance))
            self._systemctl.daemon_reload()

    def complete(
        self, statuses: Mapping[str, InstanceStatus], *, with_usage: bool = True
    ) -> dict[str, InstanceStatus]:
        """Add restarts, the end of a crashed unit, memory and CPU time, with one call for all servers.

        Without usage, systemd is asked only if a server has crashed: everything else is in our own files, and
        fifty servers cost systemd a tenth of a second.
        """
        asked = [
            unit_name(name)
            for name, status in statuses.items()
            if with_usage or status.state is InstanceState.CRASHED
        ]
        units = (
            self._systemctl.show(asked[0] if len(asked) == 1 else unit_name("*")) if asked else {}
        )
        return {
            name: self._complete_one(status, units.get(unit_name(name)))
            for name, status in statuses.items()
        }

    def limits_without_effect(self) -> tuple[str, ...]:
        """Return the limits whose controllers are not delegated to this manager."""
        missing = _missing_controllers(self._systemctl.manager)
        return tuple(limit for limit, controller in _CONTROLLERS.items() if controller in missing)

    def examine(self) -> Iterator[Finding]:
        """Check the manager, the template unit and which limits it can enforce."""
        try:
            units = self._systemctl.show(unit_name("any"))
            version = self._find_version()
        except (HostError, OSError) as error:
            yield Finding("systemd", False, str(error), "Or set HOST_DRIVER to process.")
            return
        yield Finding(
            "systemd",
            True,
            f"systemd {version} answers; servers are units of the {self._systemctl.manager} manager.",
        )
        if self._is_users:
            yield _examine_linger()
        else:
            yield self._examine_template(units[unit_name("any")])
        yield _examine_controllers(self._systemctl.manager)

    # How

    def _start(self, instance: InstanceLayout, unit: str, report: int) -> None:
        try:
            self._systemctl.start(unit)
        except CommandError as error:
            said = _read_report(report).partition(" ")[2]
            raise CommandError(
                f"{instance.name} could not be started. {said or error}",
                error.cmd,
                error.returncode,
                stderr=error.stderr,
            ) from error
        deadline = time.monotonic() + _LAUNCH_SECONDS
        reports = select.poll()
        reports.register(report, select.POLLIN)
        # The FIFO hangs up when the game's program takes over, and not before the launcher has opened it.
        is_gone = False
        while not reports.poll(_POLL_SECONDS * 1000):
            if is_gone or time.monotonic() > deadline:
                raise HostError(
                    f"{instance.name} could not be started: its launcher did not come so far as to say why. "
                    f"Look at `journalctl --{self._systemctl.manager} -u {unit}`."
                )
            # Poll once more: what the launcher reported before it ended can still be read.
            is_gone = self._show(unit).active_state in _GONE_STATES
        code, _, said = _read_report(report).partition(" ")
        if code:
            raise CommandError(
                f"{instance.name} could not be started. {said}", ["launcher.py", unit], int(code)
            )

    def _set_limits(self, unit: str, limits: Limits) -> None:
        """Set the limits of a system unit, or clear them if it may have had some before."""
        was_limited = any("/system.control/" in path for path in self._show(unit).drop_in_paths)
        if was_limited or not limits.is_empty:
            self._systemctl.set_properties(unit, unit_files.all_limit_properties(limits))

    def _show(self, unit: str) -> Unit:
        return self._systemctl.show(unit)[unit]

    def _find_version(self) -> int:
        if self._version is None:
            self._version = self._systemctl.version()
        return self._version

    def _complete_one(self, status: InstanceStatus, unit: Unit | None) -> InstanceStatus:
        if unit is not None:
            status = replace(status, memory_bytes=unit.memory_bytes, cpu_seconds=unit.cpu_seconds)
        is_restarting = status.state is InstanceState.STARTING and status.restarts
        if not is_restarting and status.state is not InstanceState.CRASHED:
            return status
        instance = self._layout.instance(status.name)
        run = runs.read_run(instance)
        if run is None:
            return status
        if status.state is InstanceState.STARTING:
            return outlook.tell_restart(status, run, time.time())
        if unit is None:
            return status
        end = runs.read_end(instance, run)
        crash = status.crashed_runs[-1]
        # If a launch was refused, the unit knows how the launch ended, and the record how the run did.
        if end is None or not end.is_final:
            crash = _complete_crash(crash, unit)
        status = replace(
            status,
            crashed_runs=(*status.crashed_runs[:-1], crash),
            exit_code=crash.exit_code,
            exit_signal=crash.exit_signal,
        )
        # Counted as of the crash, not as of now: a reader tomorrow must get the same answer.
        restarts = count_restarts(run.restarted_at, end.at if end else run.started_at)
        is_over = _is_given_up(unit) or (end is not None and is_failure(end.end))
        if is_over and restarts == RESTART_BUDGET:
            return outlook.tell_giving_up(status, restarts)
        if unit.active_state not in _GONE_STATES:
            return outlook.tell_crash(status, outlook.restarting(restarts + 1))
        return outlook.tell_crash(status, "gave up" if _is_given_up(unit) else "")

    # The account's own unit files

    @property
    def _units_dir(self) -> Path:
        home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        return Path(home) / "systemd" / "user"

    def _drop_in_dir(self, instance: InstanceLayout) -> Path:
        return self._units_dir / f"{unit_name(instance.name)}.d"

    def _write_unit_files(self, instance: InstanceLayout, limits: Limits) -> None:
        """Update the template and the server's drop-in, if they belong to this account."""
        if not self._is_users:
            return
        template = unit_files.template(self._layout, Manager.USER, version=self._find_version())
        template_path = self._units_dir / TEMPLATE_NAME
        drop_in_path = self._drop_in_dir(instance) / _DROP_IN_NAME
        has_changed = False
        if _read(template_path) != template:
            self._require_own_template(_read(template_path))
            make_dir(self._units_dir)
            write_atomically(template_path, template, mode=0o644)
            has_changed = True
        wanted = "" if limits.is_empty else unit_files.limits_drop_in(limits)
        if _read(drop_in_path) != wanted:
            if wanted:
                make_dir(drop_in_path.parent)
                write_atomically(drop_in_path, wanted, mode=0o644)
            else:
                remove_tree(drop_in_path.parent)
            has_changed = True
        if has_changed or self._show(unit_name(instance.name)).load_state == "not-found":
            self._systemctl.daemon_reload()

    def _require_own_template(self, template: str, own_unit: str = "") -> None:
        """Refuse to replace the template while servers of another root are running.

        `own_unit` is a unit that will have ended by then.
        """
        mine = f" {self._layout.root}. "
        if not template or mine in template.partition("\n")[0]:
            return
        if others := [
            unit.id
            for unit in self._systemctl.show(unit_name("*")).values()
            if unit.active_state not in _GONE_STATES and unit.id != own_unit
        ]:
            raise HostError(
                f"This account's {TEMPLATE_NAME} is that of another HOST_ROOT, of which {', '.join(others)} "
                "runs. One account serves one HOST_ROOT: stop those, or use another account."
            )

    # For the doctor

    @property
    def _template_command(self) -> str:
        return (
            f"python -m hostops --root {self._layout.root} --driver systemd-system unit "
            f"| sudo tee /etc/systemd/system/{TEMPLATE_NAME} && sudo systemctl daemon-reload"
        )

    def _examine_template(self, unit: Unit) -> Finding:
        command = self._template_command
        wanted = unit_files.template(
            self._layout,
            Manager.SYSTEM,
            version=self._find_version(),
            user=getpass.getuser(),
            is_simulated=self._is_simulated,
        )
        if not unit.fragment_path:
            return Finding("Template unit", False, f"There is no {TEMPLATE_NAME}.", command)
        if _read(Path(unit.fragment_path)) != wanted:
            return Finding(
                "Template unit",
                False,
                f"{unit.fragment_path} is not what this version and HOST_ROOT need.",
                command,
            )
        return Finding("Template unit", True, f"{unit.fragment_path} is as it should be.")


def _examine_linger() -> Finding:
    user = getpass.getuser()
    has_linger = Path("/var/lib/systemd/linger", user).exists()
    return Finding(
        "Linger",
        has_linger,
        f"The units of {user} {'run' if has_linger else 'end'} when nobody is logged in.",
        "" if has_linger else f"As root: loginctl enable-linger {user}",
    )


def _missing_controllers(manager: Manager) -> list[str]:
    """Return the controllers that the manager's own control group does not have."""
    folder = Path("/sys/fs/cgroup")
    there: set[str] = set()
    if manager is Manager.USER:
        folder = folder / "user.slice" / f"user-{os.geteuid()}.slice"
        folder = folder / f"user@{os.geteuid()}.service"
    else:
        there = {path.name for path in folder.glob("*/")}  # v1 controllers have folders.
    there |= set(_read(folder / "cgroup.controllers").split())
    return sorted(set(_CONTROLLERS.values()) - there)


def _examine_controllers(manager: Manager) -> Finding:
    """Check which resources can be limited.

    A server works without its limits, so a missing controller stops nothing.
    """
    cure = "Boot with control groups v2."
    if manager is Manager.USER:
        cure += " Put deploy/systemd/delegate.conf into /etc/systemd/system/user@.service.d/."
    missing = _missing_controllers(manager)
    if not missing:
        return Finding("Limits", True, "Memory, tasks and CPU weight of servers can be limited.")
    return Finding(
        "Limits",
        False,
        f"Limits of {', '.join(missing)} would have no effect here.",
        cure,
        if_not=Severity.WARNING,
    )


def _open_report(instance: InstanceLayout) -> int:
    """Return the reading end of a new FIFO that the launcher writes to."""
    instance.launch_report_path.unlink(missing_ok=True)
    os.mkfifo(instance.launch_report_path, 0o600)
    return os.open(instance.launch_report_path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _read_report(report: int) -> str:
    try:
        return os.read(report, 65536).decode(errors="replace")
    except BlockingIOError:  # opened, but nothing was written
        return ""


def _is_given_up(unit: Unit) -> bool:
    """Whether systemd would restart the unit if it had not done so too often.

    Result= does not say so: it keeps the value of the last end, and is `start-limit-hit` if there was none.
    """
    is_launch_failure = unit.exit_code_kind == "exited" and unit.exit_status in runs.LAUNCH_FAILURES
    is_failure = unit.result in ("signal", "core-dump", "exit-code", "oom-kill", "start-limit-hit")
    return unit.active_state == "failed" and is_failure and not is_launch_failure


def _complete_crash(crash: CrashedRun, unit: Unit) -> CrashedRun:
    """Add how the unit's last run ended, according to systemd."""
    is_out_of_memory = unit.result == "oom-kill"
    if unit.exit_code_kind == "exited":
        name = runs.signal_of(unit.exit_status)
        if not name:
            return replace(crash, exit_code=unit.exit_status, is_out_of_memory=is_out_of_memory)
    elif unit.exit_code_kind:
        name = _signal_name(unit.exit_status)
    else:
        return crash
    return replace(crash, exit_signal=name, is_out_of_memory=is_out_of_memory)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return ""
