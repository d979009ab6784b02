"""The `process` driver: starts a server through the launcher and ends it. Every driver asks a server to end
in the same order.

The game is a separate process that outlives its starter. Its record says whether it is alive; its children are
found as `runs.find_processes` does.
"""

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from hostops.callbacks import Callbacks
from hostops.crash_budget import RESTART_BUDGET, count_restarts, is_failure, pause_before
from hostops.drivers import outlook
from hostops.errors import CommandError, HostError
from hostops.instances import console_files, runs
from hostops.instances.layers import LAUNCHER_COMMAND
from hostops.launching import LOCK_SECONDS
from hostops.layout import HostLayout, InstanceLayout
from hostops.linux.process import run
from hostops.linux.process_identity import (
    ProcessStat,
    is_alive,
    read_command,
    send_signal,
    wait_for_end,
)
from hostops.specs import (
    LIMIT_NAMES,
    CancelToken,
    DueRestart,
    Finding,
    InstanceState,
    InstanceStatus,
    Limits,
    Severity,
)

_POLL_SECONDS = 0.03
_KILL_SECONDS = 15.0  # A process flooding a busy disk ends only after its last write.
_KILL_POLL_SECONDS = 0.03  # between two searches for processes forked in the meantime
_MOST_NAMED = 5


class ProcessDriver:
    """Runs servers as processes of this account, without a manager that restarts them (see `Driver`).

    Restarts are left to the process that watches the host: `complete` says when.
    """

    boxes_by_itself = False

    def __init__(self, layout: HostLayout) -> None:
        self._layout = layout

    def require_ready(self, instance: InstanceLayout) -> None:
        """Do nothing: a process can be started anywhere."""

    def launch(
        self,
        instance: InstanceLayout,
        limits: Limits,
        environment: Mapping[str, str],
        callbacks: Callbacks,
    ) -> None:
        """Start the server. Its limits only cause a warning."""
        if not limits.is_empty:
            callbacks.warn(
                f"{instance.name} has limits, which only the systemd driver can enforce: it runs without them."
            )
        try:
            launch(instance, environment)
        except HostError:
            self.settle(instance)  # A launch that failed fails again.
            raise

    def end(self, instance: InstanceLayout, timeout_seconds: float, callbacks: Callbacks) -> None:
        """End the server."""
        end(instance, timeout_seconds, callbacks)

    def settle(self, instance: InstanceLayout) -> None:
        """Call off the pending restart after a crash."""
        last_run = runs.read_run(instance)
        if last_run is not None and runs.has_crashed(instance, last_run):
            runs.call_off_restart(instance, last_run)

    def forget(self, instance: InstanceLayout) -> None:
        """Do nothing: everything is in the instance's folder."""

    def complete(
        self,
        statuses: Mapping[str, InstanceStatus],
        *,
        with_usage: bool = True,  # noqa: ARG002 - nothing measures it
    ) -> dict[str, InstanceStatus]:
        """Add what follows a crash; if a crash's time is unknown, record when it was noticed."""
        return {name: self._complete_one(status) for name, status in statuses.items()}

    def _complete_one(self, status: InstanceStatus) -> InstanceStatus:
        is_restarting = status.state is InstanceState.STARTING and status.restarts
        if not is_restarting and status.state is not InstanceState.CRASHED:
            return status
        instance = self._layout.instance(status.name)
        last_run = runs.read_run(instance)
        if last_run is None or last_run.run != status.run:  # It was started in the meantime.
            return status
        if is_restarting:
            return outlook.tell_restart(status, last_run, time.time())
        crash = status.crashed_runs[-1]
        status = replace(status, exit_code=crash.exit_code, exit_signal=crash.exit_signal)
        try:
            ended = runs.note_end(instance, last_run)
        except (
            OSError
        ):  # It was deleted in the meantime, or the disk is full: then it cannot start either.
            return outlook.tell_crash(status)
        restarts = count_restarts(last_run.restarted_at, ended.at)
        if is_failure(ended.end) and restarts == RESTART_BUDGET:
            return outlook.tell_giving_up(status, restarts)
        if ended.is_final or not is_failure(ended.end):
            return outlook.tell_crash(status)
        due_at, now = ended.at + pause_before(restarts + 1), time.time()
        if ended.at > now:  # The clock was set back, so the time waited is unknown.
            due_at = now
        due = DueRestart(restarts + 1, RESTART_BUDGET, crashed_at=ended.at, due_at=due_at)
        return replace(outlook.tell_crash(status), due_restart=due)

    def limits_without_effect(self) -> tuple[str, ...]:
        """Return all of them: nothing limits a plain process."""
        return LIMIT_NAMES

    def examine(self) -> Iterator[Finding]:
        """Report only that limits are not enforced: a process can be started anywhere."""
        yield Finding(
            "Limits",
            False,
            "The process driver runs servers without their limits of memory, tasks and CPU weight.",
            "To enforce them, stop all servers and the worker, set HOST_DRIVER=systemd in the worker's "
            "settings, and start it again as a service of systemd.",
            if_not=Severity.WARNING,
        )


def launch(instance: InstanceLayout, environment: Mapping[str, str]) -> None:
    """Start what `launch.json` says; return once the game's program is executed.

    Cannot be cancelled: it takes a few hundredths of a second, and stopping halfway would leave a server
    that nobody knows about. Raises HostError, with the launcher's own words, if it failed.
    """
    said: list[str] = []
    try:
        run(
            [*LAUNCHER_COMMAND, str(instance.root), instance.name],
            environment=environment,
            on_line=lambda _, line: said.append(line),
            # Its child enters a new session before doing anything else.
            leaves_group_empty=True,
        )
    except CommandError as error:
        raise CommandError(
            f"{instance.name} could not be started. {' '.join(said)}", error.cmd, error.returncode
        ) from error


def end(
    instance: InstanceLayout,
    timeout_seconds: float,
    callbacks: Callbacks,
    ask: Callable[[InstanceLayout], bool] | None = None,
) -> None:
    """End the instance's run with `quit`, then SIGINT, then SIGKILL; return once no process is left.

    `ask` asks it to quit and returns whether it could; by default through its console. `quit` and SIGINT get
    half the time each. First the request is recorded. A cancel ends the waiting, but not what was already
    sent. Raises HostError if a process survives even SIGKILL.
    """
    last_run = _wait_for_record(instance)
    if last_run is not None:
        runs.mark_stopping(instance, last_run)
        if not runs.was_asked_to_stop(instance, last_run):
            callbacks.warn(
                f"The disk is full, so it is not noted that {instance.name} is asked to stop: its end will be "
                "taken for a crash."
            )
    tail = console_files.ConsoleTail(instance, console_files.end_of_console(instance), callbacks)
    has_ended = False
    if (ask or ask_to_quit)(instance):
        has_ended = _wait_for_end(instance, timeout_seconds / 2, tail, callbacks.cancel)
        if not has_ended:
            callbacks.warn(f"{instance.name} does not react to quit: sending SIGINT.")
    if not has_ended:
        _signal_all(instance, last_run, signal.SIGINT)
        has_ended = _wait_for_end(instance, timeout_seconds / 2, tail, callbacks.cancel)
    if not has_ended:
        callbacks.warn(f"{instance.name} does not react to SIGINT either: sending SIGKILL.")
        _kill(instance, last_run)
        tail.pump(is_alive=False)
    end_survivors(instance, callbacks)


def end_survivors(instance: InstanceLayout, callbacks: Callbacks) -> None:
    """Send SIGKILL to whatever outlived the main process of the last run: nobody else would."""
    last_run = runs.read_run(instance)
    if last_run and last_run.ends_with_main_process and not last_run.is_main_process_alive:
        return  # Searching all of /proc takes a tenth of a start.
    survivors = runs.find_processes(instance, last_run)
    if not survivors:
        return
    commands = [f"{one.pid} ({read_command(one.pid)[:80]})" for one in survivors[:_MOST_NAMED]]
    rest = len(survivors) - len(commands)
    callbacks.warn(
        f"{instance.name} has left processes behind, which are ended: {', '.join(commands)}"
        f"{f' and {rest} more' if rest else ''}."
    )
    _kill(instance, last_run)


def _kill(instance: InstanceLayout, last_run: runs.Run | None) -> None:
    """Send SIGKILL to all processes of a run until none is left, or raise HostError."""
    deadline = time.monotonic() + _KILL_SECONDS
    left: set[ProcessStat] = set()
    while True:
        # A dying process loses its namespaces and the lock, by which it is found, before it is gone.
        left |= set(_signal_all(instance, last_run, signal.SIGKILL))
        left = {one for one in left if is_alive(one.pid, one.start_ticks)}
        if not left and not runs.is_alive(instance):
            return
        if time.monotonic() > deadline:
            numbers = (
                ", ".join(str(pid) for pid in sorted(one.pid for one in left)) or "of another user"
            )
            raise HostError(
                f"{instance.name} does not end, not even by SIGKILL (process {numbers}): it waits for a disk "
                "or network file system, or belongs to another user. Check the host's disks and who started it."
            )
        time.sleep(_KILL_POLL_SECONDS)


def _wait_for_record(instance: InstanceLayout) -> runs.Run | None:
    """Return the last run. If a launcher holds the lock but has not recorded its run yet, wait for that."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        last_run = runs.read_run(instance)
        if (
            (last_run is not None and last_run.is_main_process_alive)
            or not runs.is_launch_locked(instance)
            or time.monotonic() > deadline
        ):
            return last_run
        time.sleep(_POLL_SECONDS)


def ask_to_quit(instance: InstanceLayout) -> bool:
    """Write `quit` to the server's console; return False if it cannot read that now."""
    try:
        console_files.send_line(instance, "quit")
    except HostError:  # It hangs, or does not read yet: a signal is next.
        return False
    return True


def _wait_for_end(
    instance: InstanceLayout, seconds: float, tail: console_files.ConsoleTail, cancel: CancelToken
) -> bool:
    """Wait until the run is over, passing its last lines on; return whether it ended in time."""
    deadline = time.monotonic() + seconds
    while True:
        is_alive = runs.is_alive(instance)
        tail.pump(is_alive=is_alive)
        if not is_alive:
            return True
        if time.monotonic() > deadline:
            return False
        cancel.raise_if_cancelled()
        last_run = runs.read_run(instance)
        if last_run is not None and last_run.is_main_process_alive:
            wait_for_end(last_run.pid, last_run.start_ticks, _POLL_SECONDS)
        else:  # Nothing signals the end of its last child.
            cancel.wait(_POLL_SECONDS)


def _signal_all(
    instance: InstanceLayout, last_run: runs.Run | None, signal_number: int
) -> list[ProcessStat]:
    """Signal every process of the run, and return those that existed."""
    found = runs.find_processes(instance, last_run)
    return [process for process in found if send_signal(process, signal_number)]
