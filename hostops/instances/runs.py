"""The facts about an instance's last run, and the state that follows from them.

The launcher writes `run.json` at every start, with a number that only grows. `ready.json` names the run that
answered, `stop.json` the run that was asked to end, and `silent.json` the run that somebody waited for in
vain. So leftovers of an earlier run are never taken for a later one's, and every process sees the same state.

Where overlays cannot be mounted, the game may be able to write these files: see `records`.
"""

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from hostops.box.wall import OWN_PROCESSES, Wall
from hostops.callbacks import Callbacks
from hostops.instances import records
from hostops.instances.console_files import describe_fullness, last_line
from hostops.launching import EXIT_BUSY, MOUNT_NAME, RUN_VARIABLE
from hostops.layout import InstanceLayout
from hostops.linux import process_identity, untrusted
from hostops.linux.files import tolerate_no_space, write_atomically
from hostops.linux.locks import has_open, is_locked
from hostops.linux.namespaces import EXIT_FAILED
from hostops.linux.proc_stat import read_boot_id
from hostops.linux.process_identity import ProcessStat
from hostops.linux.untrusted import UntrustedFileError
from hostops.specs import (
    SILENT_NOTE,
    CrashedRun,
    InstanceState,
    InstanceStatus,
    RunEnding,
    RunFacts,
)

_MOST_LISTED = 50  # as many as the launcher keeps
_MAX_WHY_CHARS = 2000

_UNKNOWN_END = "unknown"

LAUNCH_FAILURES = (EXIT_FAILED, EXIT_BUSY)
"""The launcher's exit codes when the game did not start."""


@dataclass(frozen=True)
class Run:
    """One start of a server, as its launcher recorded it."""

    run: int
    pid: int
    start_ticks: int
    boot_id: str
    started_at: float
    release: str
    port: int
    restarted_at: Sequence[float] = ()
    """When it was automatically restarted after crashes since somebody last started it; only the last few."""
    restarts: int = 0
    """How many restarts there were in all."""
    crashed: Sequence[tuple[int, str]] = ()
    """The most recent earlier runs that ended on their own, with systemd's words about the end, if any."""
    address: str = ""
    """The only address that it listens on; empty if it listens on all."""
    walls: Sequence[tuple[str, bool, str, str]] = ()
    """The walls of its box (`hostops.box.wall.Wall`); none if it has no box."""
    nonce: str = ""
    """Identifies the run in its environment; empty if an earlier version started it."""
    mount_namespace: int = 0
    """The inode of the mount namespace that the launcher created for it; 0 if it created none."""

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> "Run":
        """Return the run in a record; raises one of `records.MALFORMED`.

        Additions of other versions of this program are ignored: servers outlive an upgrade.
        """
        return cls(
            run=records.whole_number(document["run"], 1),
            pid=records.whole_number(document["pid"], 1),
            start_ticks=records.whole_number(document["start_ticks"], high=2**63 - 1),
            boot_id=records.short_text(document["boot_id"], 64),
            started_at=records.seconds(document["started_at"]),
            release=records.short_text(document["release"], 32),
            port=records.whole_number(document["port"], 1, 65535),
            restarted_at=[
                records.seconds(at) for at in document.get("restarted_at", [])[-_MOST_LISTED:]
            ],
            restarts=records.whole_number(document.get("restarts", 0)),
            crashed=[
                (records.whole_number(number), records.short_text(end, 200))
                for number, end in document.get("crashed", [])[-_MOST_LISTED:]
            ],
            address=records.short_text(document.get("address", ""), 64),
            walls=[_parse_wall(wall) for wall in document.get("walls", [])[:_MOST_LISTED]],
            nonce=records.short_text(document.get("nonce", ""), 64),
            mount_namespace=records.whole_number(
                document.get("mount_namespace", 0), high=2**63 - 1
            ),
        )

    @property
    def is_of_this_boot(self) -> bool:
        """Whether the host has not restarted since."""
        return self.boot_id == read_boot_id()

    @property
    def age_seconds(self) -> float:
        """How long ago it was launched, if the host has not restarted since. No set clock matters."""
        ticks_a_second = os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.start_ticks / ticks_a_second

    @property
    def is_main_process_alive(self) -> bool:
        """Whether exactly the process that was started is still running."""
        return self.is_of_this_boot and process_identity.is_alive(self.pid, self.start_ticks)

    @property
    def ends_with_main_process(self) -> bool:
        """Whether the kernel kills everything the run has started when its main process ends."""
        return any(name == OWN_PROCESSES and stands for name, stands, *_ in self.walls)


@dataclass(frozen=True)
class _Mark:
    run: int
    at: float
    had_crashed: bool = False
    why: str = ""

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> "_Mark":
        """Return the mark in a record; raises one of `records.MALFORMED`."""
        run, at = records.whole_number(document["run"]), records.seconds(document["at"])
        why = records.short_text(document.get("why", ""), _MAX_WHY_CHARS)
        return cls(run, at, document.get("had_crashed") is True, why)


@dataclass(frozen=True)
class End:
    """How and when a run ended: in the words of the game's init or systemd, empty if neither could say.

    `at` is seconds since the epoch. The end is final if nothing restarts the server after it.
    """

    run: int
    end: str
    at: float
    is_final: bool = False

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> "End":
        """Return the final end in a record; raises one of `records.MALFORMED`."""
        return cls(
            run=records.whole_number(document["run"], 1),
            end=records.short_text(document["end"], 200),
            at=records.seconds(document["at"]),
            is_final=True,
        )


Record = TypeVar("Record", Run, _Mark, End)


def read_run(instance: InstanceLayout) -> Run | None:
    """Return the last run; None if it never ran, or the file did not survive a power cut."""
    return _read_as(Run.parse, instance.run_path, instance)


def is_alive(instance: InstanceLayout) -> bool:
    """Whether the instance's last run is alive, even if it is only just being launched.

    The lock covers a launcher that has not recorded its run yet, and children that keep the lock. A game can
    release the lock, so a free lock proves nothing; `find_processes` finds what then outlives the main process.
    """
    run = read_run(instance)
    return (run is not None and run.is_main_process_alive) or is_launch_locked(instance)


def is_launch_locked(instance: InstanceLayout) -> bool:
    """Whether a launcher, or a process of the run, holds the run's lock."""
    return is_locked(instance.run_lock_path, instance.trusted_dir)


def find_processes(instance: InstanceLayout, run: Run | None) -> list[ProcessStat]:
    """Return the living processes of a run that are visible to us, including those that try to hide.

    A child can leave its session, its parent and the lock. It keeps the mount namespace that the launcher
    created or, if there is none, the environment of its start. Goes through all of /proc: 14 to 29 ms with
    2,000 processes.
    """
    if run is not None and not run.is_of_this_boot:
        run = None
    return list(_find_processes(instance, run))


def _find_processes(instance: InstanceLayout, run: Run | None) -> Iterator[ProcessStat]:
    try:
        lock = untrusted.read_status(instance.run_lock_path, instance.trusted_dir)
    except (FileNotFoundError, UntrustedFileError):
        lock = None
    own_namespace = process_identity.read_mount_namespace(os.getpid())
    for process in process_identity.living_processes():
        if process.pid == os.getpid():
            continue
        if run is None:
            if lock is not None and has_open(process.pid, lock):
                yield process
        elif process.start_ticks >= run.start_ticks and (
            (process.pid, process.start_ticks) == (run.pid, run.start_ticks)
            or (lock is not None and has_open(process.pid, lock))
            or _is_in_its_namespace(process, instance, run, own_namespace)
            or (run.nonce and f"{RUN_VARIABLE}={run.nonce}" in _environment(process))
        ):
            yield process


def _is_in_its_namespace(
    process: ProcessStat, instance: InstanceLayout, run: Run, own_namespace: int | None
) -> bool:
    """Whether a process is in the namespace that the run's launcher created.

    The number alone does not prove it: the kernel reuses it for another namespace once this one is gone.
    """
    if not run.mount_namespace or run.mount_namespace == own_namespace:
        return False
    if process_identity.read_mount_namespace(process.pid) != run.mount_namespace:
        return False
    mounts = process_identity.read_mounts(process.pid)
    if f"{MOUNT_NAME}{run.nonce} ".encode() in mounts:
        return True
    # An earlier version's launcher did not name its mount; another host may have a server of the same name.
    upper = f"instances/{instance.name}/upper,".encode()
    return MOUNT_NAME.encode() not in mounts and upper in mounts


def _environment(process: ProcessStat) -> Sequence[str]:
    return process_identity.read_environment(process.pid)


def mark_ready(instance: InstanceLayout, run: Run) -> None:
    """Record that this run answers."""
    # Not synced, because no run outlives a power cut.
    _write_mark(instance.ready_path, run, outlives_power_cut=False)
    if is_marked_silent(instance, run):
        untrusted.remove_file(instance.silent_path, instance.trusted_dir)


def mark_silent(instance: InstanceLayout, run: Run, why: str) -> None:
    """Record that this run is up but does not answer; `why` is what was found out about it, for people."""
    printable = "".join(one if one.isprintable() else "�" for one in why)
    why = printable[:_MAX_WHY_CHARS]
    _write_mark(instance.silent_path, run, why=why, outlives_power_cut=False)
    _write_mark(instance.ready_path, run, outlives_power_cut=False)


def is_marked_silent(instance: InstanceLayout, run: Run) -> bool:
    """Whether this run was given up on and has not answered since."""
    return _marked_run(instance.silent_path, instance) == run.run


def mark_stopping(instance: InstanceLayout, run: Run) -> None:
    """Record that this run is being asked to end, so that its end is no crash.

    On a full disk there is room for a file without content at most, or for nothing: `was_asked_to_stop` tells.
    """
    is_marked = was_asked_to_stop(instance, run)
    with tolerate_no_space():
        # A later run's mark replaces `stop.json`; the file beside the output stays as long as the output.
        stop_path = instance.console_stop_path(run.run)
        os.close(untrusted.create_file(stop_path, instance.trusted_dir, 0o640))
    if not is_marked:
        with tolerate_no_space():
            _write_mark(instance.stop_path, run)


def mark_known(instance: InstanceLayout, run: Run) -> None:
    """Record that somebody who asked a finished run to end knows about its end. A crash remains a crash.

    On a full disk nothing is recorded: `was_asked_to_stop` tells.
    """
    if not was_asked_to_stop(instance, run):
        with tolerate_no_space():
            _write_mark(instance.stop_path, run, had_crashed=run.is_of_this_boot)


def is_marked_ready(instance: InstanceLayout, run: Run) -> bool:
    """Whether this run was seen to answer."""
    return _marked_run(instance.ready_path, instance) == run.run


def was_asked_to_stop(instance: InstanceLayout, run: Run) -> bool:
    """Whether this run was asked to end."""
    return _read_stop(instance, run) is not None


def _read_stop(instance: InstanceLayout, run: Run) -> _Mark | None:
    """Return the mark of this run's being asked to end; None if it was not."""
    mark = _read_as(_Mark.parse, instance.stop_path, instance)
    if mark is not None and mark.run == run.run:
        return mark
    # Where the disk was full, only the file without content could be made.
    if untrusted.exists(instance.console_stop_path(run.run), instance.trusted_dir):
        return _Mark(run.run, at=0.0)
    return None


def read_status(instance: InstanceLayout) -> InstanceStatus:
    """Return the status according to the files and /proc. A run not marked as ready counts as starting."""
    name = instance.name
    if not untrusted.exists(instance.record_path, instance.trusted_dir):
        return InstanceStatus(name, InstanceState.ABSENT)
    run = read_run(instance)
    if run is not None and not run.is_main_process_alive and is_launch_locked(instance):
        run = read_run(instance)  # The lock's holder may have recorded the next run since.
    if run is None:
        return InstanceStatus(name, InstanceState.STOPPED)
    stop = _read_stop(instance, run)
    is_stopping = stop is not None
    had_crashed = stop is not None and stop.had_crashed
    status = InstanceStatus(
        name,
        InstanceState.STOPPED,
        run=run.run,
        restarts=run.restarts,
        crashed_runs=_crashed_runs(instance, run, had_crashed=had_crashed),
    )
    if not run.is_of_this_boot:
        detail = "" if is_stopping else "The host has restarted since it ran."
        return replace(status, detail=detail, ended_by_reboot=not is_stopping)
    main_process_alive = run.is_main_process_alive
    if main_process_alive or is_launch_locked(instance):
        if not main_process_alive and run.ends_with_main_process:
            # All that the run had started ended with it: a launcher has the lock, and will record the next run.
            return replace(status, state=InstanceState.STARTING)
        status = replace(status, pid=run.pid if main_process_alive else None)
        return _add_life(replace(status, is_stopping=is_stopping), instance, run)
    if is_stopping:
        return status
    return replace(
        status,
        state=InstanceState.CRASHED,
        detail=describe_end(instance, run),
        crashed_runs=(*status.crashed_runs, _read_crash(instance, run)),
    )


def _add_life(status: InstanceStatus, instance: InstanceLayout, run: Run) -> InstanceStatus:
    """Add what is known about a run that is alive. There is no `pid` if its main process has ended."""
    details = []
    if status.is_stopping:
        details.append("It has been asked to stop.")
    if status.pid is None:
        details.append("Its main process has ended, another process of it is left.")
    if run.walls and (full := describe_fullness(instance, run.run)):
        details.append(full)
    silence = _read_as(_Mark.parse, instance.silent_path, instance)
    is_silent = silence is not None and silence.run == run.run
    if silence is not None and is_silent:
        details.append(silence.why)
    is_ready = is_marked_ready(instance, run)
    return replace(
        status,
        state=InstanceState.RUNNING if is_ready else InstanceState.STARTING,
        started_at=run.started_at,
        release=run.release,
        port=run.port,
        address=run.address,
        detail=" ".join(details),
        note=SILENT_NOTE if is_silent and is_ready else "",
    )


def tell_walls(run: Run, callbacks: Callbacks) -> None:
    """Report which walls stand around a run, and why the others do not."""
    walls = [Wall(*wall) for wall in run.walls]
    if not walls:
        return
    standing = ", ".join(wall.name.lower() for wall in walls if wall.stands)
    callbacks.say(f"It runs in a box: {standing}.")
    for wall in walls:
        if not wall.stands:
            callbacks.warn(wall.sentence)


def read_facts(instance: InstanceLayout, number: int) -> RunFacts | None:
    """Return the facts about a run whose output is kept, without its signal; None if there are none.

    For a current run it costs two small files.
    """
    run = read_run(instance)
    if run is None or run.run != number:
        run = _read_as(Run.parse, instance.console_run_path(number), instance)
        # Its output is no longer kept, or another run has replaced it.
        is_going_on = False
    else:
        # A launcher that is about to record the next run may already hold the lock.
        is_going_on = run.is_main_process_alive or is_launch_locked(instance)
    if run is None:
        return None
    if is_going_on:
        return RunFacts(number, run.started_at, run.release)
    if was_asked_to_stop(instance, run):
        ending = RunEnding.STOPPED
    else:
        ending = RunEnding.CRASHED if run.is_of_this_boot else RunEnding.HOST_RESTARTED
    try:
        log_path = instance.console_log_path(number)
        last_output_at = records.seconds(
            untrusted.read_status(log_path, instance.trusted_dir).st_mtime
        )
    except (FileNotFoundError, UntrustedFileError, ValueError):
        last_output_at = None
    return RunFacts(number, run.started_at, run.release, ending, last_output_at)


def describe_end(instance: InstanceLayout, run: Run) -> str:
    """Say, for people, what is known about a run that ended on its own."""
    line = last_line(instance, run.run)
    last_words = f"Its last line was: {line[:300]}" if line else "It printed nothing."
    full = run.walls and describe_fullness(instance, run.run)
    return f"It ended without having been asked to. {full and f'{full} '}{last_words}"


def read_end(instance: InstanceLayout, run: Run) -> End | None:
    """Return how the last run, which is over, ended; None if nobody has recorded that."""
    final = _read_as(End.parse, instance.final_path, instance)
    if final is not None and final.run == run.run:
        return final
    try:
        text = untrusted.read_file(instance.end_path, instance.trusted_dir, 200).decode().strip()
        ended_at = untrusted.read_status(instance.end_path, instance.trusted_dir).st_mtime
        return (
            End(run.run, records.short_text(text, 200), records.seconds(ended_at)) if text else None
        )
    except (FileNotFoundError, UntrustedFileError, ValueError):
        return None


def note_end(instance: InstanceLayout, run: Run) -> End:
    """Return how the last run, which has crashed, ended; if unknown, it ended now.

    In that case the time is recorded for later readers. Raises OSError if it cannot be.
    """
    end = read_end(instance, run)
    if end is None:
        write_atomically(instance.end_path, _UNKNOWN_END)
        end = End(run.run, _UNKNOWN_END, time.time())
    return end


def call_off_restart(instance: InstanceLayout, run: Run) -> None:
    """Record that the server must not be restarted after the crash of this run, its last one.

    On a full disk nothing is recorded, and nothing could be restarted.
    """
    end = read_end(instance, run) or End(run.run, "", time.time())
    if not end.is_final:
        record = {"run": end.run, "end": end.end, "at": end.at}
        with tolerate_no_space():
            write_atomically(instance.final_path, json.dumps(record))


def has_crashed(instance: InstanceLayout, run: Run) -> bool:
    """Whether this run, the last one, ended without being asked to, and not by a restart of the host."""
    if not run.is_of_this_boot or was_asked_to_stop(instance, run):
        return False
    return not is_alive(instance)


def parse_end(run: int, text: str) -> CrashedRun:
    """Parse $SERVICE_RESULT, $EXIT_CODE and $EXIT_STATUS of systemd.exec(5).

    For example `signal killed SEGV`, `core-dump dumped ABRT`, `exit-code exited 7`, `oom-kill killed KILL`. Any
    other text, or one about the launcher and not the game, results in no details: a game without a box may have
    written it.
    """
    result, code, status, *_ = [*text.split(), "", "", ""]
    is_exit = code == "exited" and re.fullmatch("[0-9]{1,3}", status)
    if is_exit and (name := signal_of(int(status))):
        return CrashedRun(run, exit_signal=name, is_out_of_memory=result == "oom-kill")
    if is_exit and int(status) not in LAUNCH_FAILURES:
        return CrashedRun(run, exit_code=int(status), is_out_of_memory=result == "oom-kill")
    if code in ("killed", "dumped") and re.fullmatch("[A-Z0-9+-]{1,12}", status):
        return CrashedRun(run, exit_signal=f"SIG{status}", is_out_of_memory=result == "oom-kill")
    return CrashedRun(run)


def _read_crash(instance: InstanceLayout, run: Run) -> CrashedRun:
    end = read_end(instance, run)
    return parse_end(run.run, end.end if end else "")


def signal_of(exit_status: int) -> str:
    """Return the name of the signal in an exit status, such as SIGSEGV; empty for any other status.

    The init of a game's PID namespace exits with 128 plus the number of the signal that ended the game, as a
    shell does.
    """
    try:
        return signal.Signals(exit_status - 128).name
    except ValueError:
        return ""


def _parse_wall(wall: Sequence[Any]) -> tuple[str, bool, str, str]:
    name, stands, why_not, cure = wall
    texts = [records.short_text(text, 1000) for text in (name, why_not, cure)]
    return texts[0], stands is True, texts[1], texts[2]


def _crashed_runs(
    instance: InstanceLayout, run: Run, *, had_crashed: bool
) -> tuple[CrashedRun, ...]:
    """Return the crashed runs that are certainly over: those before `run`, and itself if its end is known."""
    crashed = [parse_end(number, end) for number, end in run.crashed]
    if had_crashed:
        crashed.append(_read_crash(instance, run))
    return tuple(crashed)


def _write_mark(
    path: Path,
    run: Run,
    *,
    had_crashed: bool = False,
    why: str = "",
    outlives_power_cut: bool = True,
) -> None:
    mark = _Mark(run.run, time.time(), had_crashed, why)
    write_atomically(path, json.dumps(asdict(mark)), outlives_power_cut=outlives_power_cut)


def _marked_run(path: Path, instance: InstanceLayout) -> int | None:
    mark = _read_as(_Mark.parse, path, instance)
    return mark.run if mark else None


def _read_as(
    parse: Callable[[Mapping[str, Any]], Record], path: Path, instance: InstanceLayout
) -> Record | None:
    """Return a file's parsed record; None if it is missing, emptied by a power cut, or not ours."""
    document = records.read_document(path, instance.trusted_dir)
    if document is None:
        return None
    try:
        return parse(document)
    except records.MALFORMED:
        return None
