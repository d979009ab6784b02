"""The small program that mounts an instance's files and then becomes its game server.

    python -I -S launcher.py ROOT NAME       start instance NAME as its launch.json says
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
# ruff: noqa: PTH104, PTH112, PTH116, PTH123, PTH208

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import signal
import sys
import time
from typing import Any, NoReturn

# Run by its path and isolated, it does not have the package on its search path.
sys.path.append(__file__.rsplit("/", 2)[0])

from hostops.identity import read_boot_id, read_own_stat

EXIT_FAILED = 71
EXIT_BUSY = 75
LOCK_SECONDS = 2.0
"""How long to try for run.lock: whoever looks whether a server runs holds it for an instant."""

# linux/sched.h, linux/mount.h, linux/prctl.h, linux/capability.h
_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_MS_NOSUID = 0x2
_MS_NODEV = 0x4
_MS_REC = 0x4000
_MS_PRIVATE = 0x40000
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522
_CAPABILITIES = 64
_MAX_OPTION_BYTES = 4095  # mount(2) takes one page, with the NUL

_libc = ctypes.CDLL(None, use_errno=True)


class LaunchError(Exception):
    """The launch failed; the text is for people."""

    def __init__(self, text: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def main(arguments: list[str]) -> int:
    """Carry out the command line; return the exit code of the caller's process."""
    if arguments[:1] == ["--probe"] and len(arguments) == 2:
        return _probe(arguments[1])
    if len(arguments) != 2:
        print("usage: launcher.py ROOT NAME | --probe DIR", file=sys.stderr)
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
        _enter_namespaces()
        mount_overlay(["lower"], "upper", "work", "merged")
        with open("merged/file", "a", encoding="ascii") as file:
            file.write("written through the overlay\n")
        _drop_privileges()
    except (LaunchError, OSError) as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    return 0


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
        },
    )
    _reset_signals()
    if plan["layering"] == "overlay":
        _enter_namespaces()
        merged = f"{instance}/merged"
        mount_overlay(plan["lower"], f"{instance}/upper", f"{instance}/work", merged)
        os.chdir(merged)
    else:
        os.chdir(f"{instance}/tree")
    _drop_privileges()
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


def _enter_namespaces() -> None:
    """Move to a user namespace where we are who we were, and to a mount namespace that is ours alone."""
    uid, gid = os.geteuid(), os.getegid()
    what = "making a user and a mount namespace"
    try:
        _call(what, _libc.unshare, _CLONE_NEWUSER | _CLONE_NEWNS)
    except LaunchError as error:
        if ctypes.get_errno() != errno.ENOSPC:
            raise
        # "No space left on device", says the kernel, and means the number of namespaces.
        raise LaunchError(f"{what[0].upper()}{what[1:]} failed: no more are allowed.") from error
    for path, text in (
        ("/proc/self/setgroups", "deny"),
        ("/proc/self/uid_map", f"{uid} {uid} 1"),
        ("/proc/self/gid_map", f"{gid} {gid} 1"),
    ):
        try:
            with open(path, "w", encoding="ascii") as file:
                file.write(text)
        except OSError as error:
            raise LaunchError(f"Writing {path} failed: {error.strerror}.") from error
    _call("making mounts private", _libc.mount, b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)


def mount_overlay(lower: list[str], upper: str, work: str, merged: str) -> None:
    """Mount an overlay, the first of `lower` on top. Paths are relative to the working directory.

    That keeps the options short, and free of the colons and commas that a root's path may have.
    """
    options = (
        f"lowerdir={':'.join(lower)},upperdir={upper},workdir={work},userxattr,index=off".encode()
    )
    if len(options) > _MAX_OPTION_BYTES:
        raise LaunchError(
            f"The names of the {len(lower)} layers take {len(options)} bytes, and the kernel takes "
            f"{_MAX_OPTION_BYTES}: use fewer overlays, or shorter names."
        )
    for folder in (*lower, upper, work, merged):
        if not os.path.isdir(folder):
            raise LaunchError(f"The folder {folder} is missing.")
    flags = _MS_NOSUID | _MS_NODEV
    _call(
        "mounting the overlay", _libc.mount, b"overlay", merged.encode(), b"overlay", flags, options
    )


def _drop_privileges() -> None:
    """Give up every capability, for good: also what the owner of a user namespace would get by exec."""
    for capability in range(_CAPABILITIES):
        if _libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) == 1 and (
            _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0
        ):
            if ctypes.get_errno() != errno.EPERM:
                raise LaunchError(f"Dropping capability {capability} failed.")
            break  # Without CAP_SETPCAP there is none to lose, and the next lines let none come.
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _call("dropping capabilities", _libc.capset, header, (ctypes.c_uint32 * 6)())
    _call("forbidding new privileges", _libc.prctl, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _keep_only(descriptors: set[int]) -> None:
    """Let exec close every other descriptor."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in descriptors:
            with contextlib.suppress(OSError):  # the one that listdir itself used
                os.set_inheritable(int(name), False)


def _call(what: str, function: Any, *arguments: Any) -> None:
    """Call a function of the C library and raise LaunchError if it fails."""
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        name = errno.errorcode.get(number, str(number))
        raise LaunchError(f"{what[0].upper()}{what[1:]} failed: {os.strerror(number)} ({name}).")


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
