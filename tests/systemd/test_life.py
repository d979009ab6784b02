"""From the first install until nothing is left: two servers, a worker killed again and again, two reboots."""

import subprocess
from pathlib import Path

import pytest

from tests.systemd.conftest import make_state_dir
from tests.systemd.deployment import WORKER, make_deployed_state_dir, run_with_settings, set_up
from tests.systemd.sandbox import STATE_DIR, Sandbox
from tests.systemd.test_units import assert_nothing_is_left

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(600)]


def test_servers_live_through_updates_crashes_kills_and_reboots(tmp_path: Path) -> None:
    state_dir = make_deployed_state_dir(tmp_path / "state")
    console = state_dir / "host/instances/alpha/console"
    for phase in ("live", "come-back", "end"):
        with Sandbox(state_dir, has_own_boot_id=True) as sandbox:
            machine = set_up(sandbox, state_dir)
            if phase == "live":
                machine.systemctl("start", WORKER)
            run_with_settings(machine, "-m", "tests.systemd.life", phase, timeout=170)
            if phase == "live":
                last_run = max(int(path.stem) for path in console.glob("*.log"))
                sandbox.shut_down()  # Gently: the game is asked to quit.
                assert 'server_message: "quit"' in (console / f"{last_run}.log").read_text()
            elif phase == "end":
                assert_nothing_is_left(machine)
        # And now the plug is pulled.
    assert {path.name for path in (state_dir / "host").iterdir()} >= {"releases", "current"}
    assert str(STATE_DIR) not in Path("/proc/self/mounts").read_text()


def test_the_sandbox_leaves_nothing_behind(tmp_path: Path) -> None:
    with Sandbox(make_state_dir(tmp_path / "state")) as sandbox:
        name = sandbox.name
    groups = Path("/sys/fs/cgroup").rglob(f"*{name}*")
    assert not list(groups)
    assert not Path("/dev/shm", name).exists()
    processes = subprocess.run(["pgrep", "-f", name], capture_output=True, text=True)
    assert processes.stdout == ""
    assert name not in Path("/proc/self/mounts").read_text()
