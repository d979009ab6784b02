"""Finds out which walls of the box stand on this machine by starting a program in one.

    python -I -S probe.py FOLDER     (FOLDER/game and FOLDER/home exist): one wall per line, as JSON

A separate process, because a process that enters a box cannot leave it.
"""

import json
import os
import sys

# Run by path and isolated, so the package is not on its search path.
if not __package__:
    sys.path.append(__file__.rsplit("/", 3)[0])

from hostops.box import landlock, seccomp
from hostops.box.init import become_init
from hostops.box.root import Root, enter_root, leave_mounts
from hostops.box.wall import OWN_ROOT, Wall
from hostops.linux.namespaces import LaunchError, drop_privileges, enter_user_namespace

_PROGRAM = "/bin/true"


def walls_here() -> tuple[Wall, ...]:
    """Return the walls of the box. Those that do not stand here come with the reason and the cure.

    Starts a program in a box, which takes a few hundredths of a second. If no box is possible at all, the
    result is just its own root, as a wall that does not stand.
    """
    # Imported here, because the launcher imports this package and does not need these.
    import tempfile
    from pathlib import Path

    from hostops.errors import CommandError
    from hostops.linux.process import minimal_environment, run

    said: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory(prefix="saferoom-box-") as folder:
        for name in ("game", "home"):
            Path(folder, name).mkdir()
        try:
            run(
                [sys.executable, "-I", "-S", __file__, folder],
                environment=minimal_environment(Path(folder)),
                on_line=lambda stream, line: said.append((stream, line)),
            )
        except CommandError:
            reason = " ".join(line for stream, line in said if stream == "stderr")
            return (
                Wall(
                    OWN_ROOT,
                    False,
                    reason or "The probe ended without a word.",
                    "The box needs Linux 5.12 or newer and user namespaces for this account.",
                ),
            )
    return tuple(Wall(*json.loads(line)) for stream, line in said if stream == "stdout")


def has_box(walls: tuple[Wall, ...]) -> bool:
    """Return whether a game can be boxed at all with these walls: its own root stands."""
    return any(wall.name == OWN_ROOT and wall.stands for wall in walls)


def main(arguments: list[str]) -> int:
    """Start a program in a box below the folder and return its exit status."""
    if len(arguments) != 1:
        print("usage: probe.py FOLDER", file=sys.stderr)
        return 2
    launcher = os.fork()
    if launcher == 0:
        _start(arguments[0])
    code = 0
    # Reap the launcher, and the init, which is also a child of this process.
    while True:
        try:
            _, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return code
        code = code or abs(os.waitstatus_to_exitcode(status))


def _start(folder: str) -> None:
    root = Root(f"{folder}/game", f"{folder}/home")
    try:
        enter_user_namespace()
        init = become_init(lambda _: None)
        try:
            walls = [init.wall, leave_mounts(), *enter_root(root), landlock.look(), seccomp.look()]
            drop_privileges()
            for wall in walls:
                print(json.dumps(wall.values), flush=True)
            init.run(root, [_PROGRAM], {})
        except LaunchError as error:
            init.give_up(error.exit_code)
            raise
    except LaunchError as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(error.exit_code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
