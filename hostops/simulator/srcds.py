"""A stand-in for `srcds_linux`, the engine of the game.

It is started in the folder of an installed game and behaves as Left 4 Dead 2's server does towards those
who run one: its console, its files, its queries, RCON, and its ways to end. It simulates no game.
"""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # started by its path: `-I` keeps the project off the module search path
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hostops.simulator.arguments import parse_arguments
from hostops.simulator.control import ControlError, Section, open_section
from hostops.simulator.game_server import GameServer

EXIT_BAD_CONTROL = 2
EXIT_NO_LIBRARY = 1

LIBRARY_NAME = "dedicated.so"

FAILURES = frozenset(
    {
        "port-taken",
        "crash-at-start",
        "never-ready",
        "crash-after:",
        "hang-on-quit",
        "ignore-sigint",
        "no-query-answer",
        "flood",
        "flood-lines",
    }
)


class Settings:
    """What the control file says about the game server on `port`."""

    def __init__(self, section: Section, port: int) -> None:
        self.start_seconds = section.number("start_seconds", 1.0)
        ports = section.integers("ports")
        fail_times = section.optional_integer("fail_times")
        names = section.failure_names(FAILURES)
        section.refuse_the_rest()
        failures = {names} if isinstance(names, str) else {name for name in names if name}
        if ports and port not in ports:
            failures = set()
        if failures and fail_times is not None and section.count_run(f"srcds-{port}") >= fail_times:
            failures = set()
        self.crash_after_seconds: float | None = None
        for name in failures:
            stem, _, seconds = name.partition(":")
            if stem == "crash-after":
                try:
                    self.crash_after_seconds = float(seconds)
                except ValueError:
                    raise ControlError(
                        f"{section.path}: srcds.fail is {name!r}, but needs seconds after the colon."
                    ) from None
        self.failures = frozenset(failures)


def main(argv: Sequence[str]) -> int:
    """Run a game server with the command line `argv`, program included; return its exit code."""
    # As in any C program: a lost reader ends it.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    folder = Path.cwd()
    if not _finds_libraries(folder):
        print(
            f"Failed to open {LIBRARY_NAME} ({LIBRARY_NAME}: cannot open shared object file: "
            "No such file or directory)",
            file=sys.stderr,
        )
        return EXIT_NO_LIBRARY
    arguments = parse_arguments(argv, folder)
    try:
        settings = Settings(open_section("srcds"), arguments.port)
    except ControlError as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_CONTROL
    server = GameServer(folder, arguments, settings.failures)
    return server.run(settings.start_seconds, settings.crash_after_seconds)


def _finds_libraries(folder: Path) -> bool:
    """Whether the engine would find its own libraries, as the dynamic loader looks for them (ld.so(8))."""
    search_path = os.environ.get("LD_LIBRARY_PATH", "")
    places = search_path.replace(";", ":").split(":") if search_path else []
    return any((folder / place / LIBRARY_NAME).is_file() for place in places)


if __name__ == "__main__":
    sys.exit(main(["./srcds_linux", *sys.argv[1:]]))
