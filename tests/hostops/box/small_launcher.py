"""The least that a launcher has to do to start a game in the box, or without one for comparison.

    python -I -S small_launcher.py PLAN.json
    python -I -S small_launcher.py --foreground PLAN.json      as a unit's main process

Starts the game and stays its parent, as systemd does: prints `started PID` when the game's program runs, and
ends with its exit status. What failed is on stderr.
"""

# ruff: noqa: PTH123, S606

import ctypes
import errno
import json
import os
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

sys.path.append(__file__.rsplit("/", 4)[0])

from hostops.box import landlock, seccomp
from hostops.box.init import become_init, connect_to_systemd
from hostops.box.root import Root, enter_root, leave_mounts
from hostops.box.wall import Wall
from hostops.linux.namespaces import (
    LaunchError,
    drop_privileges,
    enter_namespaces,
    enter_user_namespace,
    libc,
    make_read_only,
    mount_overlay,
)
from hostops.linux.process_identity import read_own_stat


def open_console(plan: dict[str, Any]) -> None:
    """Connect the FIFO to stdin, and the log to stdout and stderr."""
    instance = f"{plan['root']}/instances/{plan['name']}"
    os.dup2(os.open(f"{instance}/console.in", os.O_RDWR), 0)
    log = os.open(f"{instance}/console/1.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)


def write_run(plan: dict[str, Any], walls: list[Wall], began: float) -> None:
    """Record the running process, and its walls."""
    with open(f"{plan['root']}/instances/{plan['name']}/run.json", "w") as file:
        json.dump(
            {
                "pid": read_own_stat().pid,
                "session": os.getsid(0) == os.getpid(),
                "walls": [wall.values for wall in walls],
                "milliseconds": (time.perf_counter() - began) * 1000,
            },
            file,
        )


def start_unboxed(plan: dict[str, Any]) -> None:
    """Become the game as the launcher did before there was a box."""
    os.chdir(plan["root"])
    instance = f"instances/{plan['name']}"
    write_run(plan, [], time.perf_counter())
    if plan["lower"]:
        enter_namespaces()
        mount_overlay(plan["lower"], f"{instance}/upper", f"{instance}/work", f"{instance}/merged")
        make_read_only(instance)
        os.chdir(f"{instance}/merged")
    else:
        os.chdir(f"{instance}/tree")
    drop_privileges()
    os.execve(plan["argv"][0], plan["argv"], plan["environment"])


def start_boxed(plan: dict[str, Any], report: int, on_started: Callable[[int], None]) -> None:
    """Become the game in the box."""
    if plan.get("without_pid_namespace"):
        refuse_namespaces()
    if plan.get("without_second_walls"):
        # Kernels that lack them.
        landlock.restrict_files = restrict_nothing
        seccomp.refuse_calls = refuse_nothing
    began = time.perf_counter()
    fields: dict[str, Any] = dict(plan["box"])
    for name in ("read_only", "hidden"):
        fields[name] = tuple(fields[name])
    root = Root(**fields)
    run = os.open(f"{plan['root']}/instances/{plan['name']}/run.json", os.O_WRONLY | os.O_CREAT)
    lock = os.open(f"{plan['root']}/instances/{plan['name']}/run.lock", os.O_WRONLY | os.O_CREAT)
    enter_user_namespace()
    init = become_init(on_started)
    try:
        if init.wall.stands:
            os.setsid()
        pid, has_session = read_own_stat().pid, os.getsid(0) == os.getpid()
        walls = [init.wall, leave_mounts()]
        os.chdir(plan["root"])
        if plan["lower"]:
            instance = f"instances/{plan['name']}"
            mount_overlay(
                plan["lower"], f"{instance}/upper", f"{instance}/work", f"{instance}/merged"
            )
        walls += [*enter_root(root), landlock.look(), seccomp.look()]
        drop_privileges()
        document = {
            "pid": pid,
            "session": has_session,
            "walls": [wall.values for wall in walls],
            "milliseconds": (time.perf_counter() - began) * 1000,
        }
        os.write(run, json.dumps(document).encode())
        init.run(root, plan["argv"], plan["environment"], keep={lock})
    except LaunchError as error:
        os.write(report, str(error).encode())
        init.give_up(error.exit_code)
        os._exit(error.exit_code)


def restrict_nothing(root: Root) -> None:
    """Stand in for a kernel without Landlock."""


def refuse_nothing(alone_with: int | None = None, more: object = None) -> None:
    """Stand in for a kernel without seccomp."""


def refuse_namespaces() -> None:
    """Refuse PID and IPC namespaces with a filter, as RestrictNamespaces=user mnt does in a unit."""
    instructions = [
        (0x20, 0, 0, 0),  # load the call's number
        (0x15, 0, 3, 272),  # unshare?
        (0x20, 0, 0, 16),  # load its flags
        (0x45, 0, 1, 0x20000000 | 0x08000000),  # NEWPID or NEWIPC?
        (0x06, 0, 0, 0x00050000 | errno.EPERM),
        (0x06, 0, 0, 0x7FFF0000),  # allow
    ]
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(
        struct.pack("=HxxxxxxQ", len(instructions), ctypes.addressof(buffer))
    )
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
        raise OSError(ctypes.get_errno(), "the filter")


def main() -> int:
    """Start what the plan says and return its exit status."""
    with open(sys.argv[-1]) as file:
        plan = json.load(file)
    if sys.argv[1] == "--foreground":
        open_console(plan)
        start_boxed(plan, 2, connect_to_systemd())
    reader, report = os.pipe()
    launcher = os.fork()
    if launcher == 0:
        try:
            os.setsid()
            os.umask(0o027)
            open_console(plan)
            if plan["box"] is None:
                start_unboxed(plan)
            start_boxed(plan, report, lambda _: None)
        except BaseException as error:  # noqa: BLE001 - the test has to hear of it
            os.write(report, repr(error).encode())
            os._exit(70)
    os.close(report)
    with open(reader) as pipe:
        failure = pipe.read()
    if failure:
        print(failure, file=sys.stderr)
    else:
        print("started", flush=True)
    code = 0
    while True:
        try:
            _, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return code
        ended = os.waitstatus_to_exitcode(status)
        code = (ended if ended >= 0 else 128 - ended) or code


if __name__ == "__main__":
    sys.exit(main())
