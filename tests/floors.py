"""The floors of the tests: what a machine needs in order to run them.

A floor that the machine cannot run is left out, and the summary says so and why. A floor that was asked for
by name, as in `script/test -m browser`, and every floor in CI, is run all the same, and fails.
"""

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from hostops.box.probe import walls_here
from tests.fire.networks import find_namespaces
from tests.fire.postgres import NoPostgresError, find_programs
from tests.systemd.sandbox import find_systemd


@dataclass(frozen=True)
class Floor:
    """One marker. `find` returns what the floor stands on, or None; `cure` says how to get it."""

    marker: str
    find: Callable[[], str | None]
    cure: str


def find_chromium() -> str | None:
    """Return the path of Chromium or Chrome."""
    return shutil.which("chromium") or shutil.which("google-chrome")


def find_page_browser() -> str | None:
    """Return the browser for the tests of pages: Chromium's engine without its windows, if it is installed.

    In Chromium itself a new context takes three times the work, most of it for a window that nobody sees.
    """
    return shutil.which("chromium-headless-shell") or find_chromium()


def find_nginx() -> str | None:
    """Return the path of nginx, which is not always on a user's path; its tests make a certificate too."""
    if not shutil.which("openssl"):
        return None
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def find_machines() -> str | None:
    """Return what makes machines and the database between them."""
    try:
        programs = find_programs()
    except NoPostgresError:
        return None
    found = find_namespaces() if shutil.which("nft") else None
    return f"{found} and {programs}" if found else None


def find_postgres() -> str | None:
    """Return the folder of PostgreSQL's server programs."""
    try:
        return str(find_programs())
    except NoPostgresError:
        return None


def find_box() -> str | None:
    """Return how many walls a box has here, if it can be had at all."""
    walls = walls_here()
    if not any(wall.name == "Own root" and wall.stands for wall in walls):
        return None
    return f"{sum(wall.stands for wall in walls)} of {len(walls)} walls"


def find_compiler32() -> str | None:
    """Return a compiler that can make 32-bit programs; these need no C library."""
    compiler = shutil.which("gcc")
    if compiler is None or os.uname().machine != "x86_64":
        return None
    command = [compiler, "-m32", "-x", "c", "-fsyntax-only", "-"]
    return compiler if subprocess.run(command, input=b"").returncode == 0 else None


FLOORS = [
    Floor("box", find_box, "allow user namespaces to this account, on Linux 5.12 or newer"),
    Floor("compiler32", find_compiler32, "install gcc on x86-64 (Debian: apt install gcc)"),
    Floor("postgres", find_postgres, "install postgresql (Debian: apt install postgresql)"),
    Floor(
        "machines",
        find_machines,
        "run as root, with iproute2, nftables and postgresql "
        "(Debian: apt install iproute2 nftables postgresql)",
    ),
    Floor(
        "nginx", find_nginx, "install nginx and openssl (Debian: apt install nginx-light openssl)"
    ),
    Floor("browser", find_chromium, "install chromium (Debian: apt install chromium)"),
    Floor(
        "systemd",
        find_systemd,
        "run as root, with systemd, dbus, polkit and iproute2 "
        "(Debian: apt install systemd dbus polkitd iproute2)",
    ),
]

TURNS = ["systemd", "endtoend", "machines", "browser"]
TURNS += [floor.marker for floor in FLOORS if floor.marker not in TURNS]
"""The order in which files begin, by the markers in them: those with the longest tests first."""


def is_asked_for(floor: Floor, config: pytest.Config) -> bool:
    """Return whether the floor must run, whatever the machine can do."""
    return floor.marker in config.getoption("markexpr") or bool(os.environ.get("CI"))


class FloorPlugin:
    """Leaves out what cannot run, and reports for each floor whether it ran.

    Tests that run in several processes are left out in each of them, and counted where their reports come
    together.
    """

    def __init__(self) -> None:
        self._ran: Counter[str] = Counter()

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Deselect the tests of floors that this machine lacks, and put the files of the others first.

        Tests that wait for real parts take longest: if they began last, one process would wait for another at
        the end.
        """
        markers = {item: {marker.name for marker in item.iter_markers()} for item in items}
        used = set().union(*markers.values())
        missing = {
            floor.marker
            for floor in FLOORS
            if floor.marker in used and floor.find() is None and not is_asked_for(floor, config)
        }
        if left_out := [item for item in items if markers[item] & missing]:
            items[:] = [item for item in items if not markers[item] & missing]
            config.hook.pytest_deselected(items=left_out)
        turns: dict[Path, int] = {}
        for item in items:
            its = (turn for turn, name in enumerate(TURNS) if name in markers[item])
            turns[item.path] = min(next(its, len(TURNS)), turns.get(item.path, len(TURNS)))
        items.sort(key=lambda item: turns[item.path])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count the tests of each floor."""
        if report.when == "call":
            self._ran.update(floor.marker for floor in FLOORS if floor.marker in report.keywords)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print a line for each floor that ran, or could not."""
        for floor in FLOORS:
            found = floor.find()
            if count := self._ran[floor.marker]:
                terminalreporter.write_line(f"floor {floor.marker}: {count} tests with {found}")
            elif found is None:
                terminalreporter.write_line(f"floor {floor.marker}: NOT run: {floor.cure}")
