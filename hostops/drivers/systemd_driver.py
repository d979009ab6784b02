"""The systemd drivers: each server is an instance of one template unit, in the account's own manager or
the system's.

systemd restarts what crashes, holds the limits and keeps the counts. What runs is the same launcher as
everywhere, so runs, console and lock are the same too. The units are not enabled: after a reboot
the worker starts what should run, under every driver in the same way.
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
from hostops.drivers import process_driver, unit_files
from hostops.drivers.systemctl import Manager, Systemctl, Unit
from hostops.drivers.unit_files import (
    RESTART_BUDGET,
    RESTART_WINDOW_SECONDS,
    TEMPLATE_NAME,
    unit_name,
)
from hostops.errors import CommandError, HostError
from hostops.instances import runs
from hostops.layout import HostLayout, InstanceLayout
from hostops.linux.files import make_dir, remove_tree, write_atomically
from hostops.specs import LIMIT_NAMES, CrashedRun, Finding, InstanceState, InstanceStatus, Limits

_LAUNCH_SECONDS = 10.0
_POLL_SECONDS = 0.05
_DROP_IN_NAME = "50-limits.conf"
_GONE_STATES = ("inactive", "failed")
_CONTROLLERS = dict(zip(LIMIT_NAMES, ("memory", "pids", "cpu"), strict=True))
"""The kernel's controller behind each limit."""


class UnitDriver:
    """Runs servers as units of one manager (see `Driver`).

    In the account's own manager the driver keeps the unit files itself. In the system's they are
    root's: an admin puts the template there, and limits are set for one boot at a time.
    """

    def __init__(
        self, layout: HostLayout, systemctl: Systemctl, *, is_simulated: bool = False
    ) -> None:
        self._layout = layout
        self._systemctl = systemctl
        self._is_simulated = is_simulated
        self._is_users = systemctl.manager is Manager.USER
        self._version: int | None = None
        # In the account's own manager the sandbox of a unit takes the same namespaces as the box does.
        self.boxes_by_itself = not self._is_users

    def launch(
        self,
        instance: InstanceLayout,
        limits: Limits,
        environment: Mapping[str, str],  # noqa: ARG002 - the plan has the game's
        callbacks: Callbacks,  # noqa: ARG002 - there is nothing to tell
    ) -> None:
        """Start the unit, with its whole budget of restarts."""
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
        """Have systemd stop the unit, and hurry it; it goes on with that if nobody waits any more."""

        def ask(instance: InstanceLayout) -> bool:
            unit = unit_name(instance.name)
            if self._show(unit).active_state in _GONE_STATES:  # Another driver has started it.
                return process_driver.ask_to_quit(instance)
            self._systemctl.begin_stop(unit)
            return True

        process_driver.end(instance, timeout_seconds, callbacks, ask)
        self.settle(instance)

    def settle(self, instance: InstanceLayout) -> None:
        """Call off a restart that systemd has in mind, and forget the failure."""
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
        """Add restarts, the end of a crashed unit, memory and CPU time: one call for all.

        Without usage systemd is asked only if something has crashed: all else is in our own files, and
        fifty servers are a tenth of a second of its time.
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
        """Return the limits whose controllers this manager has not been given."""
        missing = _missing_controllers(self._systemctl.manager)
        return tuple(limit for limit, controller in _CONTROLLERS.items() if controller in missing)

    def examine(self) -> Iterator[Finding]:
        """Look at the manager, the template unit and what it can limit."""
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
        # It hangs up when the game's program takes over, and not before the launcher has opened it.
        is_gone = False
        while not reports.poll(_POLL_SECONDS * 1000):
            if is_gone or time.monotonic() > deadline:
                raise HostError(
                    f"{instance.name} could not be started: its launcher did not come so far as to say why. "
                    f"Look at `journalctl --{self._systemctl.manager} -u {unit}`."
                )
            # What it reported before it ended is there to be read once more.
            is_gone = self._show(unit).active_state in _GONE_STATES
        code, _, said = _read_report(report).partition(" ")
        if code:
            raise CommandError(
                f"{instance.name} could not be started. {said}", ["launcher.py", unit], int(code)
            )

    def _set_limits(self, unit: str, limits: Limits) -> None:
        """Set what the system's unit may take; also that it may take everything, where it might not before."""
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
        run = runs.read_run(self._layout.instance(status.name))
        if run is None:
            return status
        lately = _count_restarts(run, time.time())
        if status.state is InstanceState.STARTING and lately:
            note = f"restarting ({lately} of {RESTART_BUDGET})"
            status = replace(status, note=note)
            return _with_lead(status, f"Restarting after a crash ({lately} of {RESTART_BUDGET}).")
        if unit is None or status.state is not InstanceState.CRASHED:
            return status
        crash = _complete_crash(status.crashed_runs[-1], unit)
        how = f" ({crash.how})" if crash.how else ""
        status = replace(
            status,
            crashed_runs=(*status.crashed_runs[:-1], crash),
            exit_code=crash.exit_code,
            exit_signal=crash.exit_signal,
        )
        if unit.active_state not in _GONE_STATES:
            note = f"restarting ({min(lately + 1, RESTART_BUDGET)} of {RESTART_BUDGET})"
            return _with_lead(replace(status, note=note), f"Crashed{how}, {note}.")
        if _is_given_up(unit):
            minutes = RESTART_WINDOW_SECONDS // 60
            status = replace(status, note="gave up")
            # As it was when it gave up, not as it is now: that is long ago for who reads it tomorrow.
            tries = _count_restarts(run, run.started_at)
            lead = f"Crashed{how}, gave up after {tries} restarts within {minutes} minutes."
        else:
            lead = f"Crashed{how}."
        return _with_lead(status, lead)

    # The account's own unit files

    @property
    def _units_dir(self) -> Path:
        home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        return Path(home) / "systemd" / "user"

    def _drop_in_dir(self, instance: InstanceLayout) -> Path:
        return self._units_dir / f"{unit_name(instance.name)}.d"

    def _write_unit_files(self, instance: InstanceLayout, limits: Limits) -> None:
        """Make the template and the server's drop-in what they should be, if they are ours to make."""
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

    def _require_own_template(self, template: str) -> None:
        """Refuse to take the template away from the servers of another root that run."""
        mine = f" {self._layout.root}. "
        if not template or mine in template.partition("\n")[0]:
            return
        if others := [
            unit.id
            for unit in self._systemctl.show(unit_name("*")).values()
            if unit.active_state not in _GONE_STATES
        ]:
            raise HostError(
                f"This account's {TEMPLATE_NAME} is that of another HOST_ROOT, of which {', '.join(others)} "
                "runs. One account serves one HOST_ROOT: stop those, or use another account."
            )

    # For the doctor

    def _examine_template(self, unit: Unit) -> Finding:
        command = (
            f"python -m hostops --root {self._layout.root} --driver systemd-system unit "
            f"| sudo tee /etc/systemd/system/{TEMPLATE_NAME} && sudo systemctl daemon-reload"
        )
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
    """Return the controllers of the kernel that the manager's own control group may not pass on."""
    folder = Path("/sys/fs/cgroup")
    there: set[str] = set()
    if manager is Manager.USER:
        folder = folder / "user.slice" / f"user-{os.geteuid()}.slice"
        folder = folder / f"user@{os.geteuid()}.service"
    else:
        there = {path.name for path in folder.glob("*/")}  # The controllers of v1 have folders.
    there |= set(_read(folder / "cgroup.controllers").split())
    return sorted(set(_CONTROLLERS.values()) - there)


def _examine_controllers(manager: Manager) -> Finding:
    """Look which resources can be limited.

    A server works without its limits, so what is missing is nothing to stop at.
    """
    cure = "Boot with control groups v2."
    if manager is Manager.USER:
        cure += " Put deploy/systemd/delegate.conf into /etc/systemd/system/user@.service.d/."
    missing = _missing_controllers(manager)
    if not missing:
        return Finding("Limits", True, "Memory, tasks and CPU weight of servers can be limited.")
    return Finding(
        "Limits", True, f"Limits of {', '.join(missing)} would have no effect here.", cure
    )


def _open_report(instance: InstanceLayout) -> int:
    """Return the reading end of a new FIFO that the launcher writes to."""
    instance.launch_report_path.unlink(missing_ok=True)
    os.mkfifo(instance.launch_report_path, 0o600)
    return os.open(instance.launch_report_path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _read_report(report: int) -> str:
    try:
        return os.read(report, 65536).decode(errors="replace")
    except BlockingIOError:  # opened, and nothing written
        return ""


def _is_given_up(unit: Unit) -> bool:
    """Whether systemd would restart the unit, had it not done so too often.

    Its Result= does not say so: it stays that of the last end, and is `start-limit-hit` without one.
    """
    is_launch_failure = unit.exit_code_kind == "exited" and unit.exit_status in runs.LAUNCH_FAILURES
    is_failure = unit.result in ("signal", "core-dump", "exit-code", "oom-kill", "start-limit-hit")
    return unit.active_state == "failed" and is_failure and not is_launch_failure


def _count_restarts(run: runs.Run, until: float) -> int:
    """Return how often the run was restarted within what was the window of the budget at a moment."""
    return sum(at > until - RESTART_WINDOW_SECONDS for at in run.restarted_at)


def _complete_crash(crash: CrashedRun, unit: Unit) -> CrashedRun:
    """Add how the unit's last run ended, as systemd has it at hand."""
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


def _with_lead(status: InstanceStatus, lead: str) -> InstanceStatus:
    return replace(status, detail=f"{lead} {status.detail}".strip())


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
