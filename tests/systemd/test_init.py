"""The init of a game's PID namespace as the main process of a unit, under a real user manager."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd.sandbox import REPOSITORY, STATE_DIR, UID, Sandbox
from tests.waiting import wait_until

pytestmark = pytest.mark.systemd
UNIT = "saferoom-boxed"
LAUNCHER = REPOSITORY / "tests/hostops/box/small_launcher.py"

# It leaves a process behind that is no longer connected with it, and ends as it is told.
GAME = """#!/bin/sh
setsid sh -c ': left-behind; exec >/dev/null 2>&1 </dev/null; while :; do sleep 1; done' &
echo up
while read line; do echo "read: $line"; case $line in exit*) exit ${line#exit };; esac; done
"""


@pytest.fixture
def instance(state_dir: Path) -> Path:
    """Return an instance with a copied tree, below /srv/saferoom of the sandbox."""
    instance = state_dir / "boxed/instances/alpha"
    for folder in ("tree", "home", "console"):
        (instance / folder).mkdir(parents=True, exist_ok=True)
    (instance / "console/1.log").unlink(missing_ok=True)
    game = instance / "tree/game"
    game.write_text(GAME)
    game.chmod(0o755)
    if not (instance / "console.in").exists():
        os.mkfifo(instance / "console.in")
    inside = str(STATE_DIR / "boxed/instances/alpha")
    plan = {
        "root": str(STATE_DIR / "boxed"),
        "name": "alpha",
        "lower": [],
        "argv": ["./game"],
        "environment": {"HOME": f"{inside}/home", "PATH": "/usr/bin:/bin"},
        "box": {
            "game_dir": f"{inside}/tree",
            "home_dir": f"{inside}/home",
            "read_only": [],
            "hidden": [str(STATE_DIR)],
        },
    }
    (instance / "plan.json").write_text(json.dumps(plan))
    for folder, _, names in os.walk(state_dir / "boxed"):
        for path in (folder, *(f"{folder}/{name}" for name in names)):
            os.chown(path, UID, UID)
    return instance


def start(sandbox: Sandbox, namespaces: str, *options: str) -> None:
    """Start the unit as the template would, and return when systemd says that it is up."""
    plan = STATE_DIR / "boxed/instances/alpha/plan.json"
    properties = ["Type=notify", "NotifyAccess=all", "KillMode=mixed", "KillSignal=SIGINT"]
    properties += ["TimeoutStopSec=20", "NoNewPrivileges=yes", f"RestrictNamespaces={namespaces}"]
    properties += ["SuccessExitStatus=130", *options]
    sandbox.succeed(
        *("systemd-run", "--user", f"--unit={UNIT}"),
        *(f"--property={text}" for text in properties),
        *(sys.executable, "-I", "-S", str(LAUNCHER), "--foreground", str(plan)),
    )


def show(sandbox: Sandbox, *names: str) -> dict[str, str]:
    """Return properties of the unit."""
    said = sandbox.succeed("systemctl", "--user", "show", f"-p{','.join(names)}", UNIT)
    return dict(line.split("=", 1) for line in said.splitlines())


def left_behind(sandbox: Sandbox) -> str:
    """Return the processes that the game left."""
    return sandbox.run("pgrep", "-f", ": left-behind").stdout


def status_of(sandbox: Sandbox, pid: str) -> dict[str, str]:
    """Return the kernel's status of a process in the sandbox."""
    said = sandbox.succeed("cat", f"/proc/{pid}/status", user="root")
    return dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)


@pytest.fixture
def ended(sandbox: Sandbox) -> Iterator[None]:
    """End the unit after the test."""
    yield
    for verb in ("stop", "reset-failed"):
        sandbox.run("systemctl", "--user", verb, UNIT)


@pytest.mark.usefixtures("ended")
def test_the_init_is_the_units_main_process_and_stop_ends_all(
    sandbox: Sandbox, instance: Path
) -> None:
    start(sandbox, "user mnt pid ipc")
    log = instance / "console/1.log"
    wait_until(lambda: "up" in log.read_text(), 10, "the game is up")
    shown = show(sandbox, "ActiveState", "MainPID")
    assert shown["ActiveState"] == "active"
    numbers = status_of(sandbox, shown["MainPID"])["NSpid"].split()
    assert numbers[-1] == "1"
    assert json.loads((instance / "run.json").read_text())["pid"] == int(shown["MainPID"])
    # It has its name only once its program runs.
    wait_until(lambda: left_behind(sandbox), 10, "the game left no child behind")
    sandbox.succeed("systemctl", "--user", "stop", UNIT)
    assert left_behind(sandbox) == ""
    shown = show(sandbox, "ActiveState", "Result")
    assert shown == {"ActiveState": "inactive", "Result": "success"}


@pytest.mark.usefixtures("ended")
def test_the_games_exit_status_is_the_units(sandbox: Sandbox, instance: Path) -> None:
    start(sandbox, "user mnt pid ipc", "RemainAfterExit=no")
    wait_until(lambda: "up" in (instance / "console/1.log").read_text(), 10, "the game is up")
    with (instance / "console.in").open("w") as fifo:
        fifo.write("exit 9\n")
    wait_until(lambda: show(sandbox, "ActiveState")["ActiveState"] == "failed", 10, "it ended")
    assert show(sandbox, "Result", "ExecMainStatus") == {
        "Result": "exit-code",
        "ExecMainStatus": "9",
    }
    assert left_behind(sandbox) == ""


@pytest.mark.usefixtures("ended")
def test_a_unit_of_before_runs_the_game_without_a_pid_namespace(
    sandbox: Sandbox, instance: Path
) -> None:
    start(sandbox, "user mnt")
    wait_until(lambda: "up" in (instance / "console/1.log").read_text(), 10, "the game is up")
    shown = show(sandbox, "ActiveState", "MainPID")
    assert shown["ActiveState"] == "active"
    status = status_of(sandbox, shown["MainPID"])
    assert status["Name"] == "game"
    walls = json.loads((instance / "run.json").read_text())["walls"]
    assert [name for name, stands, *_ in walls if not stands] == [
        "Own processes",
        "Own shared memory and message queues",
        "Other processes out of sight",
    ]
