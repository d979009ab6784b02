"""The command line of the game's own program, also for launch plans from earlier versions.

The launcher imports this module at every start of a server, so the module imports next to nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PROGRAM = "./srcds_linux"
"""The engine, in a game's folder.

Valve's `srcds_run` is never executed. It is a shell script that splits its arguments again and evaluates two of
them; all it would do for us is set LIBRARY_PATH and execute this program.
"""

LIBRARY_PATH = ".:bin"
"""The LD_LIBRARY_PATH that the engine needs to find its own libraries."""

PLAN_VERSION = 2
"""The version of `launch.json`. `release` and `port` mean the same in every version.

Version 1, which has no version number, is from the releases that executed `srcds_run`.
"""

DEFAULT_MAP = "c1m1_hotel"
"""The map of a server whose launch arguments name none."""

# The options that version 1 put before the launch arguments, and whether a value follows.
_LED_BY = {
    "-game": True,
    "-console": False,
    "-norestart": False,
    "-strictportbind": False,
    "-port": True,
}


def make_command(port: int, bind_address: str, arguments: Sequence[str]) -> list[str]:
    """Return the engine's argv; if `bind_address` is empty, the engine chooses.

    `arguments` were checked earlier (`hostops.launch_arguments`); nothing is checked here.
    """
    return [
        PROGRAM,
        *("-game", "left4dead2", "-console", "-strictportbind"),
        *("-port", str(port)),
        *(("-ip", bind_address) if bind_address else ()),
        *(() if _names_map(arguments) else ("+map", DEFAULT_MAP)),
        *arguments,
    ]


def remake_command(old_argv: Sequence[str], port: int) -> tuple[list[str], list[str]]:
    """Return the engine's argv for a version 1 plan, and one sentence for each argument that was left out.

    Its arguments were made for `srcds_run` by rules that let a shell command through, so check them again.
    """
    # Imported here: only needed after an upgrade, and it adds 3 ms to a start-up of 38.
    from hostops.launch_arguments import drop_faulty

    arguments, faults = drop_faulty(_without_lead(old_argv))
    return make_command(port, "", arguments), [
        f"A launch argument from before the upgrade is left out. {fault}" for fault in faults
    ]


def _names_map(arguments: Iterable[str]) -> bool:
    # Includes an option quoted together with its value: `"+map c5m1_waterfront versus"`.
    return any(argument.lower().split()[:1] == ["+map"] for argument in arguments)


def _without_lead(old_argv: Sequence[str]) -> Sequence[str]:
    """Return a version 1 argv without the program and the options that Saferoom put first."""
    position = 1
    while position < len(old_argv) and old_argv[position] in _LED_BY:
        position += 2 if _LED_BY[old_argv[position]] else 1
    return old_argv[position:]
