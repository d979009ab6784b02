"""The command line of the game's own program, and what a launch plan of an earlier version comes to.

The launcher imports this at every start of a server, so it imports next to nothing itself.
"""

from collections.abc import Iterable, Sequence

PROGRAM = "./srcds_linux"
"""The engine, in the folder of a game.

Valve's `srcds_run` is never executed: it is a shell script that splits its arguments once more and evaluates
two of them, and all that it would do for us is to set LIBRARY_PATH and to execute this.
"""

LIBRARY_PATH = ".:bin"
"""LD_LIBRARY_PATH, without which the engine does not find its own libraries."""

PLAN_VERSION = 2
"""The version of `launch.json`. In every version `release` and `port` mean the same.

Version 1, which does not say so, is of the releases that executed `srcds_run`.
"""

DEFAULT_MAP = "c1m1_hotel"
"""What a server loads whose launch arguments name no map."""

# What the releases of version 1 put in front of the launch arguments, and whether a value follows.
_LED_BY = {
    "-game": True,
    "-console": False,
    "-norestart": False,
    "-strictportbind": False,
    "-port": True,
}


def make_command(port: int, bind_address: str, arguments: Sequence[str]) -> list[str]:
    """Return the engine's argv; an empty `bind_address` leaves the choice to it.

    `arguments` have been judged (`hostops.launch_arguments`): nothing is checked here.
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
    """Return the engine's argv for a plan of version 1, and what was left out of it, a sentence each.

    Its arguments were made for `srcds_run`, by rules that let a shell command through, so they are judged anew.
    """
    # Needed after an upgrade only, and 3 ms on top of a start-up of 38.
    from hostops.launch_arguments import drop_faulty

    arguments, faults = drop_faulty(_without_lead(old_argv))
    return make_command(port, "", arguments), [
        f"A launch argument from before the upgrade is left out. {fault}" for fault in faults
    ]


def _names_map(arguments: Iterable[str]) -> bool:
    # Also one that was quoted together with its value: `"+map c5m1_waterfront versus"`.
    return any(argument.lower().split()[:1] == ["+map"] for argument in arguments)


def _without_lead(old_argv: Sequence[str]) -> Sequence[str]:
    """Return what an argv of version 1 has after the program and the options that Saferoom set itself."""
    position = 1
    while position < len(old_argv) and old_argv[position] in _LED_BY:
        position += 2 if _LED_BY[old_argv[position]] else 1
    return old_argv[position:]
