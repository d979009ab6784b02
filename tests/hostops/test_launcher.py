"""The launcher mounts, gives up what it may do, and becomes the game; the probe says what it cannot."""

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from hostops.drivers.process_driver import launch
from hostops.errors import HostError
from hostops.instances import layers
from hostops.instances.runs import read_run
from hostops.launcher import EXIT_BUSY
from hostops.layout import HostLayout, InstanceLayout
from hostops.linux.locks import is_locked
from hostops.linux.namespaces import LaunchError, mount_overlay
from tests.hostops.hosts import end_everything, game_processes
from tests.waiting import wait_until

# What the "game" writes down about itself, before it waits for its end.
GAME = """#!/bin/sh
cat /proc/self/status > seen-status
env > seen-env
ls -l /proc/$$/fd > seen-fds
cat left4dead2/who > seen-who
echo "$@" > seen-arguments
echo up
while read line; do echo "read: $line"; [ "$line" = quit ] && exit 0; done
"""


@pytest.fixture
def instance(tmp_path: Path) -> InstanceLayout:
    """Return an instance of two overlays over a release, below a root with an awkward name."""
    layout = HostLayout(tmp_path / "a:strange,root\\ name")
    instance = layout.instance("alpha")
    for folder in (
        instance.upper_dir,
        instance.work_dir,
        instance.merged_dir,
        instance.console_dir,
        layout.releases_dir / "1" / "left4dead2",
        layout.overlays_dir / "top" / "left4dead2",
        layout.overlays_dir / "bottom" / "left4dead2",
    ):
        folder.mkdir(parents=True)
    program = layout.releases_dir / "1" / "srcds_run"
    program.write_text(GAME)
    program.chmod(0o755)
    for layer in (
        layout.releases_dir / "1",
        layout.overlays_dir / "bottom",
        layout.overlays_dir / "top",
    ):
        (layer / "left4dead2" / "who").write_text(layer.name)
    write_plan(instance)
    return instance


def write_plan(instance: InstanceLayout, **changes: object) -> None:
    plan = {
        "layering": "overlay",
        "lower": ["overlays/top", "overlays/bottom", "releases/1"],
        "release": "1",
        "port": 27015,
        "argv": ["./srcds_run", "-port", "27015"],
        "environment": {"PATH": os.environ["PATH"], "HOME": "/home/game"},
        **changes,
    }
    instance.launch_path.write_text(json.dumps(plan))


def start(instance: InstanceLayout) -> str:
    """Launch, and return what the run had printed when it was up."""
    launch(instance, {"PATH": os.environ["PATH"]})
    log_path = instance.console_log_path(1)
    return (
        wait_until(
            # As a line: what the shell says of what it may not write has it too, in "upper".
            lambda: "up" in log_path.read_text().splitlines() and log_path.read_text(),
            10,
            "the game printed up",
        )
        or ""
    )


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path) -> object:
    yield
    for root in tmp_path.iterdir():
        if (root / "instances").is_dir():
            end_everything(root)


def test_the_game_sees_the_layers_in_order_and_writes_to_its_own(instance: InstanceLayout) -> None:
    start(instance)
    upper = instance.upper_dir
    assert (upper / "seen-who").read_text() == "top"
    assert (upper / "seen-arguments").read_text() == "-port 27015\n"
    assert not (instance.root / "releases" / "1" / "seen-who").exists()
    # Mounted for the game alone.
    assert not list(instance.merged_dir.iterdir())
    assert str(instance.merged_dir) not in Path("/proc/self/mounts").read_text()


def test_the_game_has_no_capability_and_can_get_none(instance: InstanceLayout) -> None:
    start(instance)
    status = dict(
        line.split(":\t", 1)
        for line in (instance.upper_dir / "seen-status").read_text().splitlines()
    )
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {
        "0" * 16
    }
    assert status["NoNewPrivs"] == "1"
    assert status["Uid"].split() == [str(os.getuid())] * 4
    assert status["SigIgn"] == status["SigBlk"] == "0" * 16


def test_the_game_cannot_change_what_is_kept_about_it(instance: InstanceLayout) -> None:
    program = instance.root / "releases" / "1" / "srcds_run"
    tries = "run.json launch.json console/1.log console/2.log upper/past-the-overlay work/x"
    program.write_text(
        f"#!/bin/sh\nfor path in {tries}; do echo changed > ../$path && echo changed $path; done\n"
        "rm ../run.json && echo removed\necho mine > own && echo up\nread line\n"
    )
    said = start(instance)
    assert "changed" not in said.replace("cannot create", "")
    assert "removed" not in said
    assert read_run(instance)
    assert (instance.upper_dir / "own").read_text() == "mine\n"


def test_the_game_gets_its_environment_and_descriptors_and_no_others(
    instance: InstanceLayout,
) -> None:
    start(instance)
    environment = dict(
        line.split("=", 1) for line in (instance.upper_dir / "seen-env").read_text().splitlines()
    )
    # The shell itself adds the other two.
    assert environment.keys() - {"PWD", "OLDPWD", "_", "SHLVL"} == {"PATH", "HOME"}
    descriptors = (instance.upper_dir / "seen-fds").read_text()
    targets = sorted(line.split(" -> ")[1] for line in descriptors.splitlines() if " -> " in line)
    # Not those that the shell itself has open: its script, and the file that this list went to.
    own = [target for target in targets if not target.endswith(("/srcds_run", "/seen-fds"))]
    directory = str(instance.dir)
    assert own == sorted(
        [
            f"{directory}/console.in",
            f"{directory}/console/1.log",
            f"{directory}/console/1.log",
            f"{directory}/run.lock",
        ]
    )


def test_the_run_is_written_down_and_its_lock_is_the_games(instance: InstanceLayout) -> None:
    start(instance)
    run = read_run(instance)
    assert run is not None
    assert (run.run, run.release, run.port) == (1, "1", 27015)
    assert run.is_main_process_alive
    assert os.getsid(run.pid) == run.pid
    assert is_locked(instance.run_lock_path)
    assert run.pid in game_processes(instance.root)
    assert stat.S_IMODE(instance.console_log_path(1).stat().st_mode) == 0o600


def test_a_second_launch_is_refused_and_changes_nothing(instance: InstanceLayout) -> None:
    start(instance)
    before = instance.run_path.read_text()
    with pytest.raises(HostError, match="alpha runs already, or is being changed") as caught:
        launch(instance, {"PATH": os.environ["PATH"]})
    assert getattr(caught.value, "returncode", None) == EXIT_BUSY
    assert instance.run_path.read_text() == before
    assert not instance.console_log_path(2).exists()


def test_commands_reach_the_game_and_a_writer_that_goes_does_not_end_it(
    instance: InstanceLayout,
) -> None:
    start(instance)
    for command in ("status", "quit"):
        with instance.console_input_path.open("w") as fifo:
            fifo.write(f"{command}\n")
    wait_until(lambda: not is_locked(instance.run_lock_path), 10, "the game ended")
    assert instance.console_log_path(1).read_text().endswith("read: status\nread: quit\n")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lower": ["overlays/gone", "releases/1"]}, "The folder overlays/gone is missing."),
        (
            {"argv": ["./no_program"]},
            r"./no_program of release 1 could not be executed: No such file",
        ),
        ({"layering": "copy"}, "Starting alpha failed: FileNotFoundError"),
    ],
)
def test_a_launch_that_fails_says_why_to_its_caller_and_in_the_console(
    instance: InstanceLayout, changes: dict[str, object], message: str
) -> None:
    write_plan(instance, **changes)
    with pytest.raises(HostError, match=message):
        launch(instance, {"PATH": os.environ["PATH"]})
    assert message.replace("\\", "").split(":")[0] in instance.console_log_path(1).read_text()
    assert not is_locked(instance.run_lock_path)


def test_too_many_layers_are_refused_with_the_kernels_limit() -> None:
    lower = [f"overlays/{number:032}" for number in range(100)]
    with pytest.raises(
        LaunchError, match=r"The names of the 100 layers take 4\d+ bytes.* takes 4095"
    ):
        mount_overlay(lower, "upper", "work", "merged")


def test_the_probe_finds_that_this_machine_can_mount(tmp_path: Path) -> None:
    assert layers.probe(tmp_path) == layers.Layering("overlay")
    assert not list(tmp_path.iterdir())


def test_the_probe_tells_the_reason_and_a_cure_where_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = (
        sys.executable,
        "-c",
        "raise SystemExit('Making a user and a mount namespace failed: Operation not permitted.')",
    )
    monkeypatch.setattr(layers, "LAUNCHER_COMMAND", refusing)
    layering = layers.probe(tmp_path)
    assert not layering.is_overlay
    assert layering.detail.startswith("Making a user and a mount namespace failed")
    assert "user namespaces" in layering.cure
