"""The small program that mounts an instance's files and then becomes its game server.

    python -I -S launcher.py ROOT NAME       start instance NAME as its launch.json says
    python -I -S launcher.py --foreground ROOT NAME
                                             the same, in this very process: for systemd
    python -I -S launcher.py --probe DIR     try a mount of DIR/lower and DIR/upper, and say what
    fails

It leaves its caller's session, takes the instance's run.lock, which the game and its children keep
open for as long as one of them lives, writes run.json, makes a user and a mount namespace of its
own, mounts the overlay there, gives up every capability and executes `./srcds_run`. Nothing is
mounted on the host and nothing has to be cleaned up: the mount goes when the game does.

The caller's process ends with exit code 0 once the game's program has replaced the launcher;
otherwise it prints what failed, which is in the console log as well once there is one. Standard
library only, and little of it: this runs at every start of a server.
"""

# Without pathlib, whose import would take a quarter of the start-up time:
# ruff: noqa: PTH104, PTH108, PTH116, PTH123, PTH208

import contextlib
import fcntl
import json
import os
import signal
import sys
import time
from typing import Any, NoReturn

# Run by its path and isolated, it does not have the package on its search path.
sys.path.append(__file__.rsplit("/", 2)[0])

from hostops.linux.namespaces import (
    EXIT_FAILED,
    LaunchError,
    drop_privileges,
    enter_namespaces,
    make_read_only,
    mount_overlay,
)
from hostops.linux.process_identity import read_boot_id, read_own_stat

EXIT_BUSY = 75
_KEPT_RESTARTS = 50
LOCK_SECONDS = 2.0
"""How long to try for run.lock: whoever looks whether a server runs holds it for an instant."""


def main(arguments: list[str]) -> int:
    """Carry out the command line; return the exit code of the caller's process."""
    if arguments[:1] == ["--probe"] and len(arguments) == 2:
        return _probe(arguments[1])
    if arguments[:1] == ["--foreground"] and len(arguments) == 3:
        root, name = arguments[1:]
        _launch(root, name, _open_report(root, name))
    if len(arguments) != 2:
        print("usage: launcher.py [--foreground] ROOT NAME | --probe DIR", file=sys.stderr)
        return 2
    root, name = arguments
    report_read, report_write = os.pipe()
    if os.fork() == 0:
        os.close(report_read)
        _launch(root, name, report_write)
    os.close(report_write)
    # The pipe closes without a word when the game's program takes over: its end is not inherited.
    with open(report_read, encoding="utf-8") as report:
        text = report.read()
    if not text:
        return 0
    code, _, message = text.partition(" ")
    print(message, file=sys.stderr)
    return int(code)


def _probe(folder: str) -> int:
    try:
        os.chdir(folder)
        enter_namespaces()
        mount_overlay(["lower"], "upper", "work", "merged")
        with open("merged/file", "a", encoding="ascii") as file:
            file.write("written through the overlay\n")
        drop_privileges()
    except (LaunchError, OSError) as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    return 0


def _open_report(root: str, name: str) -> int:
    """Return what the driver that waits for this launch reads; /dev/null when systemd restarts on its own."""
    try:
        return os.open(
            f"{root}/instances/{name}/launch.report", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
        )
    except OSError:  # none there, or nobody reads it
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


def _launch(root: str, name: str, report: int) -> NoReturn:
    """Become the game server; on failure write `CODE MESSAGE` to `report` and exit."""
    try:
        _become_game(root, name)
    except LaunchError as error:
        message, code = str(error), error.exit_code
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller has to hear of it
        message, code = f"Starting {name} failed: {error!r}.", EXIT_FAILED
    os.write(report, f"{code} {message}".encode())
    # Its stderr is the console log, if it came that far.
    with contextlib.suppress(OSError):
        os.write(2, f"{message}\n".encode())
    os._exit(code)


def _become_game(root: str, name: str) -> NoReturn:
    if os.getsid(0) != os.getpid():  # systemd has made a session already
        os.setsid()
    os.umask(0o027)
    os.chdir(root)
    instance = f"instances/{name}"
    plan = _read_json(f"{instance}/launch.json")
    lock = _take_run_lock(f"{instance}/run.lock", name)
    run = _next_run(f"{instance}/console")
    _open_console(instance, run)
    process = read_own_stat()
    _write_json(
        f"{instance}/run.json",
        {
            "run": run,
            "pid": process.pid,
            "start_ticks": process.start_ticks,
            "boot_id": read_boot_id(),
            "started_at": time.time(),
            "release": plan["release"],
            "port": plan["port"],
            **_look_back(instance),
        },
    )
    # It was about the run before. Removed only now that it is written down.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{instance}/end")
    # The next run replaces run.json; under this name it stays as long as the run's output.
    os.link(f"{instance}/run.json", f"{instance}/console/{run}.json")
    _reset_signals()
    if plan["layering"] == "overlay":
        enter_namespaces()
        merged = f"{instance}/merged"
        mount_overlay(plan["lower"], f"{instance}/upper", f"{instance}/work", merged)
        # Its records and its console log are for us to believe: the game is not to change them.
        make_read_only(instance)
        os.chdir(merged)
    else:
        os.chdir(f"{instance}/tree")
    drop_privileges()
    _keep_only({0, 1, 2, lock})
    argv: list[str] = plan["argv"]
    try:
        os.execve(argv[0], argv, plan["environment"])  # noqa: S606 - this is what it is for
    except OSError as error:
        raise LaunchError(
            f"{argv[0]} of release {plan['release']} could not be executed: {error.strerror}. "
            "Install the game again."
        ) from error


def _take_run_lock(path: str, name: str) -> int:
    """Return the descriptor of the lock. It is inherited by the game: its lock lasts as long as the run."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise LaunchError(f"{name} runs already, or is being changed.", EXIT_BUSY) from None
            time.sleep(0.01)
    # The instance may have been deleted, and made again, since the file was opened.
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
    numbers = (int(name[:-4]) for name in os.listdir(console_dir) if name[:-4].isdecimal())
    return max(numbers, default=0) + 1


def _look_back(instance: str) -> dict[str, Any]:
    """Return what the runs before mean for this one: its restarts, and which of them ended on their own.

    A start by systemd alone has the plan of the run before; one that was asked for makes a new plan.
    """
    launch = os.stat(f"{instance}/launch.json").st_mtime_ns
    restarted_at: list[float] = []
    restarts = 0
    crashed: list[Any] = []
    with contextlib.suppress(OSError, ValueError):  # it never ran, or a power cut emptied the file
        last_run = _read_json(f"{instance}/run.json")
        crashed = last_run.get("crashed", [])
        if _has_crashed(instance, last_run):
            crashed = [*crashed, [last_run["run"], _read_end(instance)]]
        if last_run.get("launch") == launch:
            restarted_at = [*last_run["restarted_at"], time.time()]
            restarts = last_run.get("restarts", 0) + 1
    return {
        "launch": launch,
        "restarted_at": restarted_at[-_KEPT_RESTARTS:],
        "restarts": restarts,
        "crashed": crashed[-_KEPT_RESTARTS:],
    }


def _has_crashed(instance: str, last_run: dict[str, Any]) -> bool:
    """Whether the run before, which is over, ended on its own while this host was up."""
    if last_run["boot_id"] != read_boot_id():
        return False
    try:
        stop = _read_json(f"{instance}/stop.json")
    except (OSError, ValueError):
        return True
    return bool(stop.get("run") != last_run["run"] or stop.get("had_crashed"))


def _read_end(instance: str) -> str:
    try:
        with open(f"{instance}/end", encoding="utf-8") as file:
            return file.read().strip()
    except (OSError, ValueError):  # it did not run under systemd
        return ""


def _open_console(instance: str, run: int) -> None:
    """Put the FIFO at stdin and the run's log at stdout and stderr."""
    fifo = f"{instance}/console.in"
    with contextlib.suppress(FileExistsError):
        os.mkfifo(fifo, 0o600)
    # Open for writing as well: so the game never reads an end of file when a writer goes.
    _move_descriptor(os.open(fifo, os.O_RDWR), 0)
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
    """Undo what Python and a shell's `&` or `nohup` set, which a new program would keep."""
    for number in signal.valid_signals():
        with contextlib.suppress(OSError):  # SIGKILL, SIGSTOP
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _keep_only(descriptors: set[int]) -> None:
    """Let exec close every other descriptor."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in descriptors:
            with contextlib.suppress(OSError):  # the one that listdir itself used
                os.set_inheritable(int(name), False)


def _read_json(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        document: dict[str, Any] = json.load(file)
    return document


def _write_json(path: str, document: dict[str, Any]) -> None:
    """Replace a file by a rename. After a power cut its boot id is an old one, so it need not be synced."""
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(document, file)
    os.rename(f"{path}.new", path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
