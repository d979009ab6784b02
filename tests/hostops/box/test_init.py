"""The small init: it passes on input, signals and the exit status, and nothing outlives it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostops.box.init import _describe_end
from tests.hostops.box.boxes import Case, HostileHost
from tests.waiting import wait_until

pytestmark = pytest.mark.box


@pytest.fixture
def host() -> Iterator[HostileHost]:
    """Return a host for the runs of one test."""
    with HostileHost(is_root=False) as host:
        yield host


def test_an_end_by_a_signal_has_the_name_that_systemd_uses() -> None:
    for number in signal.valid_signals():
        try:
            name = signal.Signals(number).name.removeprefix("SIG")
        except ValueError:
            name = str(int(number))
        assert _describe_end(int(number)) == f"signal killed {name}"
        # Bit 7 of a wait(2) status says that the core was dumped.
        assert _describe_end(number | 0x80) == f"core-dump dumped {name}"


def test_input_reaches_the_game_and_its_exit_status_the_parent(host: HostileHost) -> None:
    with host.run(Case()) as game:
        assert game.report
        game.type("hello")
        game.type("exit 7")
        assert game.wait() == 7
        assert game.console.endswith("read: hello\nread: exit 7\n")


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_death_by_a_signal_is_told_as_a_shell_does(host: HostileHost, number: int) -> None:
    with host.run(Case()) as game:
        assert game.report
        game.type(f"die {number}")
        assert game.wait() == 128 + number


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_init_is_the_games(host: HostileHost, number: int) -> None:
    with host.run(Case()) as game:
        assert game.report
        os.kill(game.pid, number)
        # Python turns SIGINT into an exception, which ends the program by the signal.
        assert game.wait() == 128 + number


def test_nothing_outlives_it(host: HostileHost) -> None:
    with host.run(Case()) as game:
        assert game.report
        wait_until(game.children_left, 10, "the game left a child behind")
        game.type("exit 0")
        assert game.wait() == 0
        assert game.children_left() == []


def test_all_die_with_the_init(host: HostileHost) -> None:
    with host.run(Case()) as game:
        assert game.report
        wait_until(game.children_left, 10, "the game left a child behind")
        os.kill(game.pid, signal.SIGKILL)
        game.wait()
        assert game.children_left() == []


def test_orphans_are_reaped(host: HostileHost) -> None:
    with host.run(Case()) as game:
        assert game.report
        # What left_child() forked first has ended, and its parent, the game, reaps nobody else's child.
        wait_until(game.children_left, 10, "the game left a child behind")
        for child in game.children_left():
            os.kill(child, signal.SIGKILL)
        wait_until(lambda: not _children_of(game.pid, "Z"), 10, "the init has a zombie")
        assert _children_of(game.pid, "SR")


def test_without_a_pid_namespace_what_it_left_behind_stays(host: HostileHost) -> None:
    """As that wall's sentence says."""
    with host.run(Case(has_pid_namespace=False)) as game:
        assert game.report
        game.type("exit 3")
        assert game.wait() == 3
        assert game.children_left()


def test_the_runs_lock_is_out_of_the_games_reach(host: HostileHost) -> None:
    with host.run(Case()) as game:
        assert game.report
        locks = [path for path in Path(f"/proc/{game.pid}/fd").iterdir() if _leads_to_lock(path)]
        assert len(locks) == 1


def test_a_program_that_cannot_be_executed_is_told_and_ends_the_launcher(host: HostileHost) -> None:
    with host.run(Case(), argv=["./nothing"]) as game:
        assert (
            game.said
            == "./nothing could not be executed: No such file or directory. Install the game again.\n"
        )
        assert game.wait() == 71


def test_a_root_that_cannot_be_made_is_told(host: HostileHost) -> None:
    with host.run(Case(), lower=["overlays/gone"]) as game:
        assert game.said == "The folder overlays/gone is missing.\n"
        assert game.wait() == 71


def _leads_to_lock(path: Path) -> bool:
    return path.readlink().name == "run.lock"


def _children_of(pid: int, states: str) -> list[int]:
    """Return the direct children in one of these states."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid and fields[0] in states:
            found.append(int(path.parent.name))
    return found
