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
EXIT_NO_LIBRARY = 255
"""`main()` of the real one returns -1."""
EXIT_NOT_LOADED = 127

LIBRARY_NAME = "dedicated.so"

FAILURES = frozenset(
    {
        "port-taken",
        "crash-at-start",
        "never-ready",
        "crash-after:",
        "exit-early:",
        "hang-on-quit",
        "map-falls-back",
        "ignore-sigint",
        "missing-library",
        "no-query-answer",
        "silent-on-loopback",
        "flood",
        "flood-lines",
    }
)


class Settings:
    """What the control file says about the game server on `port`."""

    def __init__(self, section: Section, port: int) -> None:
        self.start_seconds = section.number("start_seconds", 1.0)
        self.load_seconds = section.number("load_seconds", 0.0)
        self.missing_natives = frozenset(section.texts("missing_natives"))
        ports = section.integers("ports")
        fail_times = section.optional_integer("fail_times")
        names = section.failure_names(FAILURES)
        section.refuse_the_rest()
        failures = {names} if isinstance(names, str) else {name for name in names if name}
        if ports and port not in ports:
            failures = set()
        if failures and fail_times is not None and section.count_run(f"srcds-{port}") >= fail_times:
            failures = set()
        seconds = _number_of("crash-after", "seconds", failures, section.path)
        self.crash_after_seconds = seconds
        code = _number_of("exit-early", "an exit code", failures, section.path)
        self.early_exit_code = None if code is None else int(code)
        self.failures = frozenset(failures)


def _number_of(stem: str, what: str, failures: set[str], path: Path | None) -> float | None:
    """Return the number that stands behind the failure `stem:`; None if that is not among them."""
    for name in failures:
        if name.startswith(f"{stem}:"):
            try:
                return float(name.partition(":")[2])
            except ValueError:
                raise ControlError(
                    f"{path}: srcds.fail is {name!r}, but needs {what} after the colon."
                ) from None
    return None


def main(argv: Sequence[str]) -> int:
    """Run a game server with the command line `argv`, program included; return its exit code."""
    # As in any C program: a lost reader ends it.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    folder = Path.cwd()
    arguments = parse_arguments(argv, folder)
    try:
        settings = Settings(open_section("srcds"), arguments.port)
    except ControlError as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_CONTROL
    if "missing-library" in settings.failures:
        # The dynamic loader's words (ld.so(8)); main() is not reached.
        print(
            f"{argv[0]}: error while loading shared libraries: libstdc++.so.6: "
            "cannot open shared object file: No such file or directory",
            file=sys.stderr,
        )
        return EXIT_NOT_LOADED
    if not _finds_libraries(folder):
        print(
            f"Failed to open {LIBRARY_NAME} ({LIBRARY_NAME}: cannot open shared object file: "
            "No such file or directory)"
        )
        return EXIT_NO_LIBRARY
    server = GameServer(
        folder,
        arguments,
        settings.failures,
        settings.load_seconds,
        settings.early_exit_code,
        settings.missing_natives,
    )
    return server.run(settings.start_seconds, settings.crash_after_seconds)


def _finds_libraries(folder: Path) -> bool:
    """Whether the engine would find its own libraries, as the dynamic loader looks for them (ld.so(8))."""
    search_path = os.environ.get("LD_LIBRARY_PATH", "")
    places = search_path.replace(";", ":").split(":") if search_path else []
    return any((folder / place / LIBRARY_NAME).is_file() for place in places)


if __name__ == "__main__":
    sys.exit(main(["./srcds_linux", *sys.argv[1:]]))
