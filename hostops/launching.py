"""Mounts an instance's files, enters the box, and becomes its game server: what `launcher.py` does.

It leaves its caller's session, takes the instance's run.lock, writes run.json, mounts the overlay in its own
namespaces, enters the box (`hostops.box`), and executes the engine there, `./srcds_linux`. The init of a PID
namespace holds the lock; to the host it is the run, and everything the game starts ends with it. Nothing is
mounted on the host, and nothing needs to be cleaned up.

A restart after a crash counts against the budget of `hostops.crash_budget`. A restart beyond the budget is
refused here, no matter who asks for it, with the exit code after which systemd does not try again.

A plan from an earlier version is not executed as it is: the engine's arguments are rebuilt from it. That
happens without the worker, because systemd may restart a server before the panel has written another plan.

The caller's process ends with exit code 0 once the game's program has replaced the launcher. Otherwise it
prints what failed, and the console log, if there is one by then, also has that. This uses only the standard
library, and little of it, because it runs at every start of a server.
"""

from __future__ import annotations

# Without pathlib, whose import would take a quarter of the start-up time:
# ruff: noqa: PTH102, PTH108, PTH110, PTH116, PTH123, PTH208
import errno
import fcntl
import os
import stat
import sys
import time

from hostops.box import landlock, seccomp
from hostops.box.game import name_cure
from hostops.box.init import Init, become_init, connect_to_systemd
from hostops.box.root import Root, enter_root, leave_mounts
from hostops.crash_budget import RESTART_BUDGET, RESTART_WINDOW_SECONDS, is_failure, is_spent
from hostops.engine_command import LIBRARY_PATH, PLAN_VERSION, PROGRAM, remake_command
from hostops.linux.light import dump_json, load_json, suppress
from hostops.linux.namespaces import (
    EXIT_FAILED,
    LaunchError,
    drop_privileges,
    enter_namespaces,
    enter_user_namespace,
    make_read_only,
    mount_layers,
    mount_overlay,
)
from hostops.linux.proc_stat import read_boot_id, read_own_fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import Any, NoReturn
else:
    import _signal as signal  # `signal` makes enums of its numbers, which takes 2 ms

EXIT_BUSY = 75
RUN_VARIABLE = "SAFEROOM_RUN"
"""The variable that identifies the run in the environment of its processes, by the nonce in run.json."""
MOUNT_NAME = "saferoom-run-"
"""The name of a run's mount in /proc/PID/mounts begins with this, followed by the nonce in run.json."""
_KEPT_RESTARTS = 50
_MAX_RECORD_CHARS = 1024**2
_OOM_SCORE = 300  # thousandths of the memory that are added to a game's apparent size
_MAX_OOM_SCORE = 1000
LOCK_SECONDS = 2.0
"""How long to try for run.lock: a process that checks whether the server runs holds it for an instant."""


def main(arguments: list[str]) -> int:
    """Execute the command line; return the exit code of the caller's process."""
    if arguments[:1] == ["--probe"] and len(arguments) == 2:
        return _probe(arguments[1])
    if arguments[:1] == ["--try"] and len(arguments) >= 4:
        return _try_layers(arguments[1], arguments[2:])
    if arguments[:1] == ["--foreground"] and len(arguments) == 3:
        root, name = arguments[1:]
        _launch(root, name, _open_report(root, name), is_unit=True)
    if len(arguments) != 2:
        print(
            "usage: launcher.py [--foreground] ROOT NAME | --probe DIR | --try ROOT LAYER LAYER...",
            file=sys.stderr,
        )
        return 2
    root, name = arguments
    report_read, report_write = os.pipe()
    if os.fork() == 0:
        os.close(report_read)
        _launch(root, name, report_write, is_unit=False)
    os.close(report_write)
    # The pipe closes silently when the game's program takes over, which does not inherit its end.
    with open(report_read, encoding="utf-8") as report:
        text = report.read()
    if not text:
        return 0
    # The report ends a moment before the processes that could write to it, and until they are gone the failed
    # launch looks like a run. The init is a child of this process, too.
    with suppress(ChildProcessError):
        while True:
            os.wait()
    code, _, message = text.partition(" ")
    print(message, file=sys.stderr)
    return int(code)


def _probe(folder: str) -> int:
    try:
        os.chdir(folder)
        enter_namespaces()
        mount_overlay(["lower"], "upper", "work", "merged")
        with open("merged/file", "a", encoding="utf-8") as file:
            file.write("written through the overlay\n")
        drop_privileges()
    except (LaunchError, OSError) as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    return 0


def _try_layers(root: str, layers: list[str]) -> int:
    """Mount the layers, read-only, where only this process sees them."""
    try:
        os.chdir(root)
        enter_namespaces()
        mount_layers(layers, "instances")
    except (LaunchError, OSError) as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    return 0


def _open_report(root: str, name: str) -> int:
    """Return where the driver waiting for this launch reads; /dev/null if systemd restarts by itself."""
    try:
        return os.open(
            f"{root}/instances/{name}/launch.report", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
        )
    except OSError:  # it does not exist, or nobody reads it
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


class _Attempt:
    """What a launch that fails has to give back."""

    lock: int | None = None
    init: Init | None = None


def _launch(root: str, name: str, report: int, *, is_unit: bool) -> NoReturn:
    """Become the game server; on failure write `CODE MESSAGE` to `report` and exit."""
    attempt = _Attempt()
    try:
        _become_game(root, name, is_unit, attempt)
    except LaunchError as error:
        message, code = str(error), error.exit_code
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller has to know
        message, code = f"Starting {name} failed: {error!r}.", EXIT_FAILED
    os.write(report, f"{code} {message}".encode())
    # Its stderr is the console log, if it got that far.
    with suppress(OSError):
        os.write(2, f"{message}\n".encode())
    # The caller may look at the lock as soon as the report ends, and the init and the launcher outside it hold
    # the lock until they are gone.
    if attempt.lock is not None:
        fcntl.flock(attempt.lock, fcntl.LOCK_UN)
    # This comes last: the launcher outside then exits, and systemd ends this process.
    if attempt.init is not None:
        attempt.init.give_up(code)
    os._exit(code)


def _become_game(root: str, name: str, is_unit: bool, attempt: _Attempt) -> NoReturn:
    # Connected before the root changes; does nothing if no unit is listening.
    tell_systemd = connect_to_systemd()
    if os.getsid(0) != os.getpid():  # otherwise systemd has made a session already
        os.setsid()
    os.umask(0o027)
    _yield_memory()
    os.chdir(root)
    instance = f"instances/{name}"
    plan = _read_json(f"{instance}/launch.json")
    attempt.lock = lock = _take_run_lock(f"{instance}/run.lock", name)
    history = _look_back(instance, plan, name)
    run = _next_run(f"{instance}/console")
    _open_console(instance, run)
    argv = _read_command(plan, name)
    environment = {**plan["environment"], "LD_LIBRARY_PATH": LIBRARY_PATH}
    # A plan from an earlier version does not mention a box, but its server gets one anyway.
    if plan.get("is_boxed", plan["layering"] == "overlay"):
        box = _plan_box(root, instance, plan)
        environment["HOME"] = box.home_dir
        enter_user_namespace()
        # A unit from an earlier version does not listen, and would lose track of its main process.
        is_deaf = is_unit and "NOTIFY_SOCKET" not in os.environ
        refusal = "the unit is of an earlier version" if is_deaf else ""
        attempt.init = init = become_init(tell_systemd, refusal=refusal)
        if init.wall.stands:
            os.setsid()
        # Not earlier: the host knows the run by the init's process ID.
        record = _write_run(instance, plan, run, history)
        end = _open_end(instance)
        walls = [init.wall, leave_mounts()]
        if plan["layering"] == "overlay":
            _mount(instance, plan, record["nonce"])
        # It identifies a child that left its session and closed everything. The record is always complete.
        record["mount_namespace"] = os.stat("/proc/self/ns/mnt").st_ino
        environment[RUN_VARIABLE] = record["nonce"]
        folder = os.open(instance, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        walls += [*enter_root(box), landlock.look(), seccomp.look()]
        _write_json("run.json", {**record, "walls": [wall.values for wall in walls]}, folder)
        drop_privileges()
        init.run(box, argv, environment, keep={lock}, end=end)
    record = _write_run(instance, plan, run, history)
    environment[RUN_VARIABLE] = record["nonce"]
    _reset_signals()
    _enter_without_box(instance, plan, record)
    drop_privileges()
    _keep_only({0, 1, 2, lock})
    tell_systemd(os.getpid())
    try:
        os.execve(PROGRAM, argv, environment)  # noqa: S606 - this is what it is for
    except OSError as error:
        raise LaunchError(
            f"{PROGRAM} of release {plan['release']} could not be executed: {error.strerror}. "
            f"{name_cure(PROGRAM, error)}"
        ) from error


def _enter_without_box(instance: str, plan: dict[str, Any], record: dict[str, Any]) -> None:
    """Enter the instance's files, where the game runs without a box of its own."""
    if plan["layering"] == "overlay":
        enter_namespaces()
        namespace = os.stat("/proc/self/ns/mnt").st_ino
        _write_json(f"{instance}/run.json", {**record, "mount_namespace": namespace})
        _mount(instance, plan, record["nonce"])
        # We rely on its records and its console log, so the game must not change them.
        make_read_only(instance)
        os.chdir(f"{instance}/merged")
    else:
        os.chdir(f"{instance}/tree")


def _yield_memory() -> None:
    """Make the kernel kill the game before the panel when memory runs out (oom_score_adj of proc(5)).

    It is inherited, and no game can undo it, because its /proc is read-only. If ours is too, nothing happens.
    """
    try:
        with open("/proc/self/oom_score_adj", "r+", encoding="utf-8") as file:
            score = min(int(file.read()) + _OOM_SCORE, _MAX_OOM_SCORE)
            file.seek(0)
            file.write(str(score))
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise


def _plan_box(root: str, instance: str, plan: dict[str, Any]) -> Root:
    """Return the contents of a game's box. Creates the folder that is its HOME."""
    home = f"{root}/{instance}/home"
    with suppress(FileExistsError):
        os.mkdir(home, 0o750)
    steamclient = f"{root}/home/.steam/sdk32/steamclient.so"
    control_file = plan["environment"].get("SAFEROOM_SIMULATOR")
    shown: tuple[str, ...] = ()
    if control_file is not None:
        # The simulated game is a program for this same Python, and a file tells it how to behave.
        prefix = sys.executable.rsplit("/", 2)[0]
        shown = (prefix, sys.prefix, sys.base_prefix, __file__.rsplit("/", 1)[0])
        if os.path.exists(control_file):
            shown = (*shown, control_file)
    return Root(
        game_dir=f"{root}/{instance}/{'merged' if plan['layering'] == 'overlay' else 'tree'}",
        home_dir=home,
        read_only=shown,
        # Settings and the database may lie beside the code, and that below /usr, which is visible.
        hidden=(root, __file__.rsplit("/", 2)[0]),
        steamclient="" if shown or not os.path.exists(steamclient) else steamclient,
    )


def _mount(instance: str, plan: dict[str, Any], nonce: str) -> None:
    """Mount the layers of a plan at the instance's `merged`, under a name unique to this run."""
    folders = (f"{instance}/upper", f"{instance}/work", f"{instance}/merged")
    mount_overlay(plan["lower"], *folders, name=f"{MOUNT_NAME}{nonce}")


def _write_run(
    instance: str, plan: dict[str, Any], run: int, history: dict[str, Any]
) -> dict[str, Any]:
    """Record which process is the run, and return the record."""
    fields = read_own_fields()
    record = {
        "run": run,
        "pid": int(fields[0]),
        "start_ticks": int(fields[20]),
        "boot_id": read_boot_id(),
        "started_at": time.time(),
        "release": plan["release"],
        "port": plan["port"],
        "address": plan.get("address", ""),
        "nonce": os.urandom(16).hex(),
        **history,
    }
    _write_json(f"{instance}/run.json", record)
    # It was about the previous run, and is removed only after the new run is recorded.
    with suppress(FileNotFoundError):
        os.unlink(f"{instance}/end")
    # The next run replaces run.json; the copy under this name stays as long as the run's output.
    os.link(f"{instance}/run.json", f"{instance}/console/{run}.json")
    return record


def _read_command(plan: dict[str, Any], name: str) -> list[str]:
    """Return the engine's argv. Arguments left out of an earlier version's plan are listed on the console."""
    argv: list[str] = plan["argv"]
    version = plan.get("version", 1)
    if version > PLAN_VERSION:
        raise LaunchError(
            f"{name} was last started by a newer version of Saferoom, whose launch plan this one cannot read "
            f"(version {version}, it reads {PLAN_VERSION}): start {name} once more."
        )
    if version < PLAN_VERSION:
        argv, left_out = remake_command(argv, plan["port"])
        for text in left_out:
            os.write(2, f"{text}\n".encode(errors="replace"))
    return argv


def _take_run_lock(path: str, name: str) -> int:
    """Return the descriptor of the lock. The game inherits it, so the lock lasts as long as the run."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise LaunchError(f"{name} runs already, or is being changed.", EXIT_BUSY) from None
            time.sleep(0.01)
    # The instance may have been deleted and created again since the file was opened.
    mine = os.fstat(descriptor)
    try:
        there = os.stat(path)
    except FileNotFoundError:
        raise LaunchError(f"{name} has just been deleted.", EXIT_BUSY) from None
    if (mine.st_dev, mine.st_ino) != (there.st_dev, there.st_ino):
        raise LaunchError(f"{name} has just been deleted and made again.", EXIT_BUSY)
    os.set_inheritable(descriptor, True)
    return descriptor


def _next_run(console_dir: str) -> int:
    # Ignores anything else that the game may have put there: no run number has ten digits.
    stems = [name[:-4] for name in os.listdir(console_dir) if len(name) < 14]
    numbers = (int(stem) for stem in stems if stem.isascii() and stem.isdecimal())
    return max(numbers, default=0) + 1


def _open_end(instance: str) -> int:
    """Return a descriptor of the file that will say how the run ended; it is empty until then."""
    return os.open(
        f"{instance}/end",
        os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
        0o640,
    )


_CROOKED = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError),
    *(ArithmeticError, RecursionError),
)
"""Exceptions from reading a record that is missing, truncated or not ours."""


def _look_back(instance: str, plan: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what the previous runs mean for this one: its restarts, and which runs ended on their own.

    It is a restart if the plan is the previous run's, as when systemd starts it alone, or if the plan says so.
    Raises LaunchError if the restart budget is spent.
    """
    launch = os.stat(f"{instance}/launch.json").st_mtime_ns
    restarted_at: list[float] = []
    restarts = 0
    crashed: list[Any] = []
    spent_by: tuple[int, str, float] | None = None
    # Suppressed, because it may never have run, a power cut may have emptied the file, or the game written it.
    with suppress(*_CROOKED):
        last_run = _read_json(f"{instance}/run.json")
        # Everything is parsed before any of it is used: a game without a box may have written it.
        last_number, last_restarts = int(last_run["run"]), int(last_run.get("restarts", 0))
        last_restarted_at = [float(at) for at in last_run.get("restarted_at", [])]
        last_crashed = [[int(run), str(how)] for run, how in last_run.get("crashed", [])]
        has_crashed = _has_crashed(instance, last_run)
        end, ended_at = _read_end(instance, last_number)
        crashed = [*last_crashed, [last_number, end]] if has_crashed else last_crashed
        if launch == last_run.get("launch") or plan.get("restarts_run") == last_number:
            restarted_at, restarts = last_restarted_at, last_restarts
            # A restart by `systemctl` is no crash: systemd calls that end a success.
            if has_crashed and is_failure(end):
                if is_spent(restarted_at, ended_at):
                    spent_by = last_number, end, ended_at
                restarted_at = [*restarted_at, time.time()]
                restarts += 1
    if spent_by:
        _give_up(instance, *spent_by, name)
    return {
        "launch": launch,
        "restarted_at": restarted_at[-_KEPT_RESTARTS:],
        "restarts": restarts,
        "crashed": crashed[-_KEPT_RESTARTS:],
    }


def _give_up(instance: str, run: int, end: str, ended_at: float, name: str) -> NoReturn:
    """Refuse the launch. Save how the last run ended: systemd will overwrite it with this launch's end.

    The launch is refused on a full disk too, where that cannot be saved.
    """
    with suppress(OSError):
        _write_json(f"{instance}/final.json", {"run": run, "end": end, "at": ended_at})
    raise LaunchError(
        f"{name} has crashed again after {RESTART_BUDGET} restarts within "
        f"{RESTART_WINDOW_SECONDS // 60} minutes: it stays down until somebody starts it."
    )


def _has_crashed(instance: str, last_run: dict[str, Any]) -> bool:
    """Whether the previous run, which is over, ended on its own while this host was up."""
    if last_run["boot_id"] != read_boot_id():
        return False
    # On a full disk only this file could be made of the two.
    if os.path.lexists(f"{instance}/console/{int(last_run['run'])}.stop"):
        return False
    try:
        stop = _read_json(f"{instance}/stop.json")
        return bool(stop.get("run") != last_run["run"] or stop.get("had_crashed"))
    except (OSError, ValueError, AttributeError):
        return True


def _read_end(instance: str, run: int) -> tuple[str, float]:
    """Return how the last run ended, empty if unknown, and when (seconds since the epoch)."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        final = _read_json(f"{instance}/final.json")
        if final["run"] == run:
            return str(final["end"]), float(final["at"])
    try:
        ended_at = os.stat(f"{instance}/end", follow_symlinks=False).st_mtime
        if end := _read_record(f"{instance}/end").strip():
            return end, ended_at
    except (OSError, ValueError):
        pass  # An earlier version wrote it only under systemd.
    return "", time.time()


def _open_console(instance: str, run: int) -> None:
    """Put the FIFO at stdin and the run's log at stdout and stderr."""
    fifo = f"{instance}/console.in"
    with suppress(FileNotFoundError):
        # The game has an open descriptor of it, and can use that to take all rights away from its owner.
        # Without a box it can put anything there.
        if os.lstat(fifo).st_mode != stat.S_IFIFO | 0o600:
            os.unlink(fifo)
    with suppress(FileExistsError):
        os.mkfifo(fifo, 0o600)
    # Also open for writing, so that the game never sees an end of file when a writer leaves.
    _move_descriptor(os.open(fifo, os.O_RDWR | os.O_NOFOLLOW), 0)
    log = os.open(
        f"{instance}/console/{run}.log", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600
    )
    os.dup2(log, 2)
    _move_descriptor(log, 1)


def _move_descriptor(source: int, target: int) -> None:
    os.dup2(source, target)
    if source != target:
        os.close(source)


def _reset_signals() -> None:
    """Undo settings of Python, and of a shell's `&` or `nohup`, that a new program would inherit."""
    for number in signal.valid_signals():
        with suppress(OSError):  # SIGKILL, SIGSTOP
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _keep_only(descriptors: set[int]) -> None:
    """Make exec close every other descriptor."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in descriptors:
            with suppress(OSError):  # the one that listdir itself used
                os.set_inheritable(int(name), False)


def _read_json(path: str) -> dict[str, Any]:
    document: dict[str, Any] = load_json(_read_record(path))
    return document


def _read_record(path: str) -> str:
    """Return a file's content; OSError if it is no file: the game may have put a FIFO or a link there."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, encoding="utf-8") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "is no file", path)
        return file.read(_MAX_RECORD_CHARS)


def _write_json(path: str, document: dict[str, Any], folder: int | None = None) -> None:
    """Replace a file by a rename; below an open folder if one is given.

    After a power cut the boot id in it is outdated, so it need not be synced.
    """
    descriptor = os.open(
        f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640, dir_fd=folder
    )
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(dump_json(document))
    os.rename(f"{path}.new", path, src_dir_fd=folder, dst_dir_fd=folder)
