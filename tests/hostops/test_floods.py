"""A game that prints as fast as it can holds up nothing: not its start, its end, or reading its console."""

import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from hostops.drivers import port_holders, start_wait
from hostops.drivers.startup_console import StartupConsole
from hostops.errors import HostError, OperationCancelled
from hostops.host import Host
from hostops.instances import console_files, runs
from hostops.linux.process_identity import ProcessStat, living_processes, read_command, read_stat
from hostops.specs import CancelToken, ConsolePosition, InstanceSpec, InstanceState
from tests.hostops.hosts import (
    CLI,
    DRIVER,
    Output,
    game_pid,
    game_processes,
    instance_of,
    kill_games,
    without_box,
    write_control,
)
from tests.waiting import wait_until

MIB = 1024**2

# What is printed, and how files are layered, is the same for every driver. These tests run once more with
# another driver, with each kind of end once: the driver's own part is how a game is started, asked to end,
# and killed.
IS_DRIVERS_TURN = DRIVER != "process"
FLOODS = ["flood-lines"] if IS_DRIVERS_TURN else ["flood", "flood-lines"]
of_consoles = pytest.mark.skipif(IS_DRIVERS_TURN, reason="only the console's file matters")


def ends(*names: str) -> list[tuple[str, str]]:
    """Return ways to end a game and to layer its files: all combinations, or each end with one layering."""
    layerings = ("overlay", "copy")
    if IS_DRIVERS_TURN:
        return [(name, layerings[index % 2]) for index, name in enumerate(names)]
    return [(name, layering) for name in names for layering in layerings]


@pytest.fixture(params=FLOODS)
def flooding(request: pytest.FixtureRequest, root: Path, alpha: Path) -> Path:
    """Let the game flood its console from the start, and never answer."""
    write_control(root, srcds={"fail": request.param})
    return root


def make_host(root: Path, start_timeout_seconds: float) -> Host:
    return Host(
        root,
        driver=DRIVER,
        game_source="simulator",
        start_timeout_seconds=start_timeout_seconds,
        stop_timeout_seconds=2,
    )


def console_size(root: Path) -> int:
    path = instance_of(root).console_log_path(1)
    return path.stat().st_size if path.exists() else 0


def disk_bytes(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_a_cancel_ends_the_start_of_a_game_that_floods(flooding: Path) -> None:
    output, cancel = Output(), CancelToken()
    asked_at = 0.0

    def cancel_in_the_flood() -> None:
        nonlocal asked_at
        wait_until(lambda: console_size(flooding) > 16 * MIB, 30, "it does not flood")
        asked_at = time.monotonic()
        cancel.cancel()

    canceller = threading.Thread(target=cancel_in_the_flood)
    canceller.start()
    with pytest.raises(OperationCancelled):
        make_host(flooding, 120).start(
            "alpha", on_line=output.on_line, on_stage=output.on_stage, cancel=cancel
        )
    canceller.join()
    seconds = time.monotonic() - asked_at
    # A cancel is noticed at once; the rest of this is the end of the game (quit gets a second).
    assert seconds < 20, "the cancel was not heard in the flood"
    assert not game_processes(flooding)


def test_the_deadline_of_a_start_holds_in_a_flood_and_its_last_words_are_few(
    flooding: Path,
) -> None:
    output = Output()

    def see_flood() -> None:
        """Wait for the flood: on a busy machine the game may print nothing for longer than the start takes."""
        wait_until(lambda: console_size(flooding) > MIB, 30, "it does not flood")

    output.when("Waiting for", see_flood)
    began_at = time.monotonic()
    with pytest.raises(HostError, match=r"did not answer within 1\.5 s"):
        make_host(flooding, 1.5).start("alpha", **output.callbacks)  # type: ignore[arg-type]
    assert time.monotonic() - began_at < 30
    assert not game_processes(flooding)
    errors = output.errors().splitlines()
    heading = errors.index("The last 50 lines of the console of alpha:")
    words = errors[heading + 1 : heading + 51]
    # All of the flood; it may have been cut off in the middle of a line.
    assert all(max(words, key=len).startswith(word) for word in words)
    # What is passed on while it ends is bounded as well.
    assert sum(len(line) + 1 for _, line in output.lines) < MIB


def test_what_a_game_prints_while_it_starts_is_not_the_starts_to_say(
    host: Host, alpha: Path
) -> None:
    output = Output()
    host.start("alpha", on_line=output.on_line)
    printed = {line for _, line in host.read_console("alpha", ConsolePosition()).lines}
    assert len(printed) > 5
    assert not printed & {line for _, line in output.lines}


def test_a_game_that_floods_is_stopped(flooding: Path) -> None:
    host = make_host(flooding, 0.1)
    instance = instance_of(flooding)
    output = Output()

    def start() -> None:
        with pytest.raises(HostError):
            make_host(flooding, 60).start("alpha")

    launched = threading.Thread(target=start)
    launched.start()
    wait_until(lambda: console_size(flooding) > 4 * MIB, 30, "it does not flood")
    kill_games(flooding)
    launched.join(60)
    host.stop("alpha", on_line=output.on_line)
    assert host.status("alpha").state in (InstanceState.STOPPED, InstanceState.CRASHED)
    assert not runs.is_alive(instance)


def test_a_game_that_comes_to_the_limit_of_a_file_lives_and_its_state_says_so(
    flooding: Path,
) -> None:
    if DRIVER != "process":
        pytest.skip(
            "a unit is not this test's child, which is how the game gets a small limit here"
        )
    cli = CLI(flooding, prefix=("prlimit", f"--fsize={4 * MIB}"))
    starting = cli.start("start", "alpha")

    def detail() -> str:
        alpha = json.loads(cli.succeed("status", "--json")).get("alpha", {})
        return str(alpha["detail"]) if alpha.get("state") == "starting" else ""

    said = wait_until(
        lambda: "It has printed" in (text := detail()) and text, 30, "nothing is said"
    )
    assert str(said).startswith("It has printed 4 MiB, the most that one run can")
    assert console_size(flooding) == 4 * MIB
    kill_games(flooding)
    words, _ = starting.communicate(timeout=60)
    assert "It has printed 4 MiB" in words


def write_flood(instance_dir: Path, size: int, line: bytes = b"x" * 99 + b"\n") -> Path:
    path = instance_dir / "console" / "1.log"
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(line * (MIB // len(line)))
    return path


@of_consoles
@pytest.mark.parametrize("line", [b"\n", b"x\n", b"x" * 99 + b"\n", b"x" * MIB])
def test_a_piece_of_a_console_is_bounded_in_bytes_and_lines(
    host: Host, alpha: Path, line: bytes
) -> None:
    write_flood(alpha, 4 * MIB, line)
    chunk = host.read_console("alpha", ConsolePosition())
    assert 0 < len(chunk.lines) <= console_files.MAX_CHUNK_LINES
    assert sum(len(text) for _, text in chunk.lines) <= 262_144
    assert 0 < chunk.position.offset <= 262_144


@of_consoles
def test_the_look_for_the_ready_line_is_bounded(host: Host, alpha: Path) -> None:
    path = write_flood(alpha, 16 * MIB)
    with path.open("ab") as file:
        file.write(b"Connection to Steam servers successful.\n")
    run = runs.Run(1, 1, 1, "x", 1.0, "1", 27015)
    console = StartupConsole(instance_of(alpha.parents[1]), run)
    looks = 0
    while not console.has_loaded:
        console.read()
        looks += 1
    console.close()
    assert 4 <= looks <= 6  # 4 MiB each


@of_consoles
def test_a_console_is_trimmed_and_its_reader_is_told(host: Host, alpha: Path) -> None:
    path = write_flood(alpha, 32 * MIB)
    assert host.trim_consoles(64 * MIB) == {"alpha": path.stat().st_size}
    assert disk_bytes(path) >= 32 * MIB * 0.99
    position = host.read_console("alpha", ConsolePosition()).position
    host.trim_consoles(16 * MIB)
    assert disk_bytes(path) <= console_files.KEPT_BYTES + 2 * MIB
    lines = [text for _, text in host.read_console("alpha", position).lines]
    assert lines[0].endswith(" bytes are not kept on the host any more]")
    assert set(lines[1:]) == {"x" * 99}


@of_consoles
def test_a_flooding_game_takes_no_more_of_the_disk_than_it_may(
    flooding: Path, record_property: Callable[[str, object], None]
) -> None:
    host = make_host(flooding, 60)
    cancel = CancelToken()

    def start() -> None:
        with pytest.raises(OperationCancelled):
            host.start("alpha", cancel=cancel)

    starting = threading.Thread(target=start)
    starting.start()
    try:
        wait_until(lambda: console_size(flooding) > MIB, 30, "it does not flood")
        path = instance_of(flooding).console_log_path(1)
        most = 0

        def has_printed_much() -> bool:
            nonlocal most
            host.trim_consoles(16 * MIB)
            most = max(most, disk_bytes(path))
            return path.stat().st_size > 256 * MIB

        wait_until(has_printed_much, 60, "it does not print enough")
    finally:
        cancel.cancel()
        starting.join(60)
    record_property("most_bytes", most)
    assert most < 200 * MIB, "the console was not trimmed"


@pytest.fixture
def is_not_looked_at(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let doubles of the game do without a port: they count as having answered once they say they are up."""

    def is_up(wait: start_wait._RunWait) -> bool:
        path = instance_of(root).console_log_path(wait.run.run)
        return path.exists() and "Connection to Steam servers successful." in path.read_text()

    monkeypatch.setattr(port_holders, "require_own_port", lambda *_: True)
    monkeypatch.setattr(start_wait._RunWait, "has_answer", is_up)


SURVIVOR = """#!/bin/sh
setsid sh -c 'exec 0</dev/null 1>/dev/null 2>/dev/null 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-
  exec {program} 4242' &
echo Connection to Steam servers successful.
read line
"""


@pytest.mark.usefixtures("is_not_looked_at")
@pytest.mark.parametrize(
    ("end", "layering"), ends("stop", "delete", "reset", "crash and start", "crash and stop")
)
def test_a_child_that_hides_and_outlives_the_game_is_found_and_ended(
    root: Path, spec: InstanceSpec, end: str, layering: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it has no box; in one nothing outlives the init."""
    without_box(monkeypatch)
    host = Host(
        root, driver=DRIVER, game_source="simulator", stop_timeout_seconds=2, layering=layering
    )
    host.initialize(spec)
    # Where it has a mount namespace of its own, it may clear its environment too.
    clearing = "env -i " if layering == "overlay" else ""
    (root / "current" / "srcds_linux").write_text(SURVIVOR.format(program=f"{clearing}/bin/sleep"))
    host.start("alpha")
    instance = instance_of(root)
    last_run = runs.read_run(instance)
    assert last_run is not None

    def find_child() -> ProcessStat | None:
        found = runs.find_processes(instance, last_run)
        # The shell that becomes it has its name in its own command.
        return next(
            (one for one in found if read_command(one.pid).startswith("/bin/sleep 4242")), None
        )

    child = wait_until(find_child, 10, "it has no child")
    assert child is not None
    # It may have been listed before it left the session, and have named itself since.
    left = read_stat(child.pid)
    assert left is not None
    assert left.session != last_run.pid
    assert child.pid not in game_processes(root), "it has kept the lock"
    if end.startswith("crash"):
        os.kill(last_run.pid, signal.SIGKILL)
        wait_until(lambda: not runs.is_alive(instance), 10, "the game lives")
    output = Output()
    getattr(host, end.rpartition(" ")[2])("alpha", on_line=output.on_line)
    assert read_stat(child.pid) is None
    if DRIVER == "process":  # systemd ends it by itself, with the control group
        assert "alpha has left processes behind, which are ended: " in output.errors()
    if end == "crash and start":
        host.stop("alpha")  # It has another child now.


@pytest.mark.usefixtures("is_not_looked_at")
@pytest.mark.parametrize(("end", "layering"), ends("stop", "crash"))
def test_in_its_box_a_child_ends_with_the_game(
    root: Path, spec: InstanceSpec, end: str, layering: str
) -> None:
    host = Host(
        root, driver=DRIVER, game_source="simulator", stop_timeout_seconds=2, layering=layering
    )
    host.initialize(spec)
    # Another copy of this test on the machine has a child of its own.
    command = f"/bin/sleep 4242.{uuid.uuid4().int}"
    (root / "current" / "srcds_linux").write_text(
        SURVIVOR.format(program="env -i /bin/sleep").replace("/bin/sleep 4242", command)
    )
    host.start("alpha")

    def find_child() -> ProcessStat | None:
        return next(
            (one for one in living_processes() if read_command(one.pid).startswith(command)), None
        )

    child = wait_until(find_child, 10, "it has no child")
    assert child is not None
    if end == "crash":
        os.kill(game_pid(root), signal.SIGKILL)
    else:
        host.stop("alpha")
    wait_until(lambda: read_stat(child.pid) is None, 10, "the child lives")
    host.stop("alpha")


@pytest.mark.usefixtures("is_not_looked_at")
def test_in_its_box_a_game_does_not_have_the_lock_to_let_go_of(
    host: Host, root: Path, alpha: Path
) -> None:
    (root / "current" / "srcds_linux").write_text(
        "#!/bin/sh\nfor fd in 3 4 5 6 7 8 9; do flock -u $fd 2>/dev/null && echo let go; done\n"
        "echo Connection to Steam servers successful.\nwhile read line; do :; done\n"
    )
    host.start("alpha")
    assert runs.is_launch_locked(instance_of(root))
    assert "let go" not in instance_of(root).console_log_path(1).read_text()
    host.stop("alpha")


@pytest.mark.usefixtures("is_not_looked_at")
def test_a_game_that_lets_go_of_its_lock_still_counts_as_running_and_is_ended(
    host: Host, root: Path, alpha: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_box(monkeypatch)
    program = root / "current" / "srcds_linux"
    program.write_text(
        "#!/bin/sh\nfor fd in 3 4 5 6 7 8 9; do flock -u $fd 2>/dev/null; done\n"
        "echo Connection to Steam servers successful.\nwhile read line; do :; done\n"
    )
    host.start("alpha")
    instance = instance_of(root)
    assert not runs.is_launch_locked(instance)
    assert host.status("alpha").state is InstanceState.RUNNING
    last_run = runs.read_run(instance)
    assert last_run is not None
    host.stop("alpha")
    assert not last_run.is_main_process_alive
    assert host.status("alpha").state is InstanceState.STOPPED
