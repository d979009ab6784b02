"""A host that goes down, gently or not, and comes back: what ran is known, and can be started again."""

import subprocess
from pathlib import Path

import pytest

from hostops.specs import InstanceState
from tests.systemd.conftest import Machine, make_state_dir
from tests.systemd.sandbox import Sandbox

pytestmark = pytest.mark.systemd


@pytest.mark.parametrize("is_gentle", [True, False], ids=["shut-down", "power-cut"])
def test_what_ran_is_known_after_a_reboot(tmp_path: Path, is_gentle: bool) -> None:
    state_dir = make_state_dir(tmp_path / "state")
    with Sandbox(state_dir, has_own_boot_id=True) as sandbox:
        machine = Machine(sandbox, state_dir)
        machine.cli("install")
        for port, name in enumerate(("alpha", "bravo"), start=27015):
            machine.cli("initialize", name, "--port", str(port))
            machine.cli("start", name)
        machine.cli("stop", "bravo")
        if is_gentle:
            sandbox.shut_down()
    console = (state_dir / "host/instances/alpha/console/1.log").read_text()
    assert ('server_message: "quit"' in console) == is_gentle

    with Sandbox(state_dir, has_own_boot_id=True) as sandbox:
        machine = Machine(sandbox, state_dir)
        alpha, bravo = machine.status("alpha"), machine.status("bravo")
        assert (alpha["state"], alpha["ended_by_reboot"]) == (InstanceState.STOPPED, True)
        assert (bravo["state"], bravo["ended_by_reboot"]) == (InstanceState.STOPPED, False)
        machine.cli("start", "alpha")
        assert machine.status("alpha")["state"] == InstanceState.RUNNING
        machine.clean_up()


def test_the_sandbox_leaves_nothing_behind(tmp_path: Path) -> None:
    with Sandbox(make_state_dir(tmp_path / "state")) as sandbox:
        name = sandbox.name
    groups = Path("/sys/fs/cgroup").rglob(f"*{name}*")
    assert not list(groups)
    assert not Path("/dev/shm", name).exists()
    processes = subprocess.run(["pgrep", "-f", name], capture_output=True, text=True)
    assert processes.stdout == ""
    assert name not in Path("/proc/self/mounts").read_text()
