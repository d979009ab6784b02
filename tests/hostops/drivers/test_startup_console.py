"""The output of a starting game, read as the engine writes it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hostops.drivers.startup_console import (
    FailedMap,
    StartupConsole,
    find_ending,
    find_wanted_maps,
    to_map_name,
)
from hostops.instances.runs import Run
from hostops.layout import HostLayout

NO_SUCH_MAP = "CModelLoader::Map_IsValid:  No such map 'maps/c5m1_waterfont.bsp'"
NO_FILE = "cannot open shared object file: No such file or directory"
FAILED = "map load failed: c5m1_waterfont not found or invalid"


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    """Return the output file of alpha's first run."""
    path = HostLayout(tmp_path).instance("alpha").console_log_path(1)
    path.parent.mkdir(parents=True)
    path.touch()
    return path


@pytest.fixture
def console(tmp_path: Path, log_path: Path) -> Iterator[StartupConsole]:
    """Return the console that reads it."""
    run = Run(1, 1, 1, "boot", 1.0, "100", 27015)
    console = StartupConsole(HostLayout(tmp_path).instance("alpha"), run)
    yield console
    console.close()


def say(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_a_map_that_cannot_be_loaded_is_told_in_the_engines_words_with_its_reason(
    console: StartupConsole, log_path: Path
) -> None:
    # A line may arrive in several pieces, with a check in between.
    say(log_path, f"Console initialized.\n{NO_SUCH_MAP}\nmap load fai")
    console.read()
    assert console.failed_maps == []
    say(log_path, f"led: c5m1_waterfont not found or invalid\nmaxplayers set to 8\n{FAILED}\n")
    console.read()
    first = FailedMap("c5m1_waterfont", (NO_SUCH_MAP, FAILED))
    assert console.failed_maps == [first, FailedMap("c5m1_waterfont", (FAILED,))]
    assert console.find_failed_map(["C5M1_Waterfont.bsp"]) == first
    assert console.find_failed_map(["c5m1_waterfront"]) is None
    assert not console.has_loaded


@pytest.mark.parametrize(
    "line",
    [
        "Connection to Steam servers successful.",
        'L 11/26/2026 - 07:12:11: Started map "c1m1_hotel" (CRC "-1")',
        "Server is hibernating",
    ],
)
def test_what_is_printed_only_with_a_map_says_that_it_is_loaded(
    console: StartupConsole, log_path: Path, line: str
) -> None:
    say(log_path, line)
    console.read()
    assert not console.has_loaded, "the line is not whole"
    say(log_path, "\n")
    console.read()
    assert console.has_loaded


def test_a_line_without_an_end_is_not_kept_and_hides_nothing(
    console: StartupConsole, log_path: Path
) -> None:
    say(log_path, "x" * 100_000)
    for _ in range(3):
        console.read()
    assert log_path.stat().st_size - console._offset <= 4096
    say(log_path, f"\n{FAILED}\n")
    console.read()
    assert [one.name for one in console.failed_maps] == ["c5m1_waterfont"]


@pytest.mark.parametrize(
    ("argv", "maps"),
    [
        (["./srcds_linux", "+map", "c1m1_hotel", "versus"], ["c1m1_hotel"]),
        (["./srcds_linux", "+map c5m1_waterfront versus"], ["c5m1_waterfront"]),
        (["./srcds_linux", "+MAP", '"a b"', "+map"], ["a"]),
        (["./srcds_linux", "+mapcyclefile", "x"], []),
    ],
)
def test_the_maps_that_are_asked_for_are_found_in_the_joined_line(
    argv: list[str], maps: list[str]
) -> None:
    assert find_wanted_maps(argv) == maps


def test_a_maps_name_is_compared_as_the_engine_does() -> None:
    assert to_map_name("maps/C1M1_Hotel.BSP") == "c1m1_hotel"


@pytest.mark.parametrize(
    ("line", "cure"),
    [
        (
            f"./srcds_linux: error while loading shared libraries: libstdc++.so.6: {NO_FILE}",
            "lib32stdc++6",
        ),
        (f"Failed to open dedicated.so (dedicated.so: {NO_FILE})", "Install the game again"),
        (f"Failed to open dedicated.so (bin/dedicated.so: {NO_FILE})", "Install the game again"),
        (f"Failed to open dedicated.so (libgcc_s.so.1: {NO_FILE})", "lib32gcc-s1"),
        ("bin/engine.so: version `GLIBC_2.34' not found (required by x)", "lib32gcc-s1"),
        (
            "Setup file 'gameinfo.txt' doesn't exist in subdirectory 'left4dead2'.",
            "Install the game",
        ),
        ("Couldn't allocate any server IP port", "another port"),
    ],
)
def test_the_line_that_tells_why_the_engine_ended_is_found_with_a_cure(
    line: str, cure: str
) -> None:
    found = find_ending(["Console initialized.", line, "Shutting down."])
    assert found is not None
    assert found[0] == line
    assert cure in found[1]


def test_a_plugin_that_misses_a_library_is_no_reason_for_an_end() -> None:
    lines = (
        'Unable to load plugin "addons/x.so": libfoo.so: cannot open shared object file',
        "addons/metamod/bin/linux64/server.so: wrong ELF class: ELFCLASS64",
        "[SM] Unable to load extension: /lib/libc.so.6: version `GLIBC_2.38' not found",
        "[META] Failed to load plugin x: libm.so.6: wrong ELF class: ELFCLASS64",
    )
    assert find_ending(lines) is None
    end = "bin/engine_srv.so: wrong ELF class: ELFCLASS64"
    found = find_ending([end, *lines])
    assert found is not None
    assert found[0] == end
