"""The hardened way: servers are units of the system's manager, permitted by a polkit rule; limits apply."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostops.specs import InstanceState
from tests.hostops import old_release
from tests.hostops.hosts import instance_of
from tests.systemd.conftest import ROOT, Machine, unit_of
from tests.systemd.sandbox import REPOSITORY, UID, USER
from tests.systemd.test_upgrade import old_system_template
from tests.waiting import wait_until

pytestmark = pytest.mark.systemd
RULES = REPOSITORY / "deploy/systemd/system/50-saferoom.rules"
TEMPLATE_PATH = "/etc/systemd/system/saferoom-game@.service"
REFUSED = "Interactive authentication required"


@pytest.fixture(scope="module")
def set_up(installed: Machine, state_dir: Path) -> Iterator[Machine]:
    """Return the machine set up as docs/deploy.md says."""
    sandbox = installed.sandbox
    machine = Machine(sandbox, state_dir, "systemd-system")
    text = sandbox.succeed(
        *(sys.executable, "-m", "hostops", "unit", "--user", USER),
        user="root",
        env=machine.environment,
    )
    for path, content in (
        (TEMPLATE_PATH, text),
        (f"/etc/polkit-1/rules.d/{RULES.name}", RULES.read_text()),
    ):
        sandbox.succeed("sh", "-c", 'printf %s "$1" > "$2"', "sh", content, path, user="root")
    sandbox.succeed("systemctl", "daemon-reload", user="root")
    sandbox.succeed("systemctl", "start", "polkit", user="root")
    yield machine
    machine.close()


@pytest.fixture
def alpha(set_up: Machine) -> Iterator[Machine]:
    """Return the machine with an initialized server called alpha."""
    set_up.cli("initialize", "alpha", "--port", "27015")
    yield set_up
    set_up.clean_up()


def test_the_life_of_a_server(alpha: Machine) -> None:
    alpha.cli("start", "alpha")
    status = alpha.status()
    assert status["state"] == InstanceState.RUNNING
    assert alpha.show("alpha", "User") == USER
    assert alpha.show("alpha", "MainPID") == str(status["pid"])
    alpha.send("sim_crash")
    assert str(alpha.wait_for(InstanceState.CRASHED)["detail"]).startswith(
        "Crashed (SIGSEGV), restarting (1 of 5)."
    )
    alpha.cli("delete", "alpha")
    assert (
        alpha.systemctl("list-units", "--all", "--plain", "--no-legend", "saferoom-*.service") == ""
    )


def test_nothing_executes_valves_script(alpha: Machine) -> None:
    script = next((alpha.root / "releases").iterdir()) / "srcds_run"
    text = script.read_text()
    script.write_text("#!/bin/sh\ntouch was-executed\nexit 1\n")
    try:
        for verb in ("start", "restart", "stop"):
            alpha.cli(verb, "alpha")
        assert not list(alpha.root.rglob("was-executed"))
    finally:
        script.write_text(text)


def test_a_server_of_the_release_before_stays_up_and_is_restarted_by_todays_launcher(
    alpha: Machine,
) -> None:
    instance = instance_of(alpha.root)
    old_release.write_record(instance, 27015)
    old_release.write_plan(instance, 27015, ROOT)
    os.chown(instance.launch_path, UID, UID)
    todays = alpha.sandbox.succeed("cat", TEMPLATE_PATH)
    write_template(alpha, old_system_template().replace("RestartSec=5", "RestartSec=50ms"))
    try:
        alpha.systemctl("start", unit_of("alpha"))
        pid = alpha.wait_for(InstanceState.RUNNING)["pid"]
        alpha.send("sim_crash")
        wait_until(lambda: alpha.status()["restarts"] == 1, 20, "it is not restarted")
        status = alpha.wait_for(InstanceState.RUNNING)
        assert status["pid"] != pid
        assert status["crashed_runs"] == [
            {"run": 1, "exit_signal": "SIGSEGV", "exit_code": None, "is_out_of_memory": False}
        ]
        argv = alpha.sandbox.succeed("cat", f"/proc/{status['pid']}/cmdline").split("\0")
        assert argv[argv.index("-port") :] == [
            *("-port", "27015", "+map", "c5m2_park versus", "+sv_tags", "two words", ""),
        ]
    finally:
        write_template(alpha, todays)
    assert alpha.status()["pid"] == status["pid"]
    alpha.cli("initialize", "alpha", "--port", "27015")
    alpha.cli("restart", "alpha")
    assert alpha.status()["state"] == InstanceState.RUNNING


def write_template(machine: Machine, text: str) -> None:
    """Replace the existing template unit."""
    script = 'printf %s "$1" > "$2" && systemctl daemon-reload'
    machine.sandbox.succeed("sh", "-c", script, "sh", text, TEMPLATE_PATH, user="root")


def test_memory_and_cpu_time_are_told(alpha: Machine) -> None:
    alpha.cli("start", "alpha")
    status = alpha.status()
    assert isinstance(status["memory_bytes"], int)
    assert status["memory_bytes"] > 1_000_000
    # Where v1's cpu and cpuacct are mounted separately, systemd 252 counts no CPU time.
    if not any(Path("/sys/fs/cgroup", name).is_dir() for name in ("cpu", "cpuacct")):
        assert isinstance(status["cpu_seconds"], float)


def test_a_server_that_takes_too_much_memory_is_ended(alpha: Machine) -> None:
    alpha.cli("initialize", "alpha", "--port", "27015", "--memory", "64")
    program = next((alpha.root / "releases").iterdir()) / "srcds_linux"
    text = program.read_text()
    hog = "import time; hog = bytearray(256 * 1024 * 1024); print('got it', flush=True); time.sleep(99)"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S -c "{hog}"\n')
    try:
        alpha.sandbox.run(
            *(sys.executable, "-m", "hostops", "start", "alpha"), env=alpha.environment
        )
        said = alpha.cli("logs", "alpha")
        status = alpha.status()
    finally:
        program.write_text(text)
    assert "got it" not in said
    assert status["state"] == InstanceState.CRASHED
    crashed_runs = status["crashed_runs"]
    assert isinstance(crashed_runs, list)
    assert crashed_runs[-1]["exit_signal"] == "SIGKILL"  # the kernel's, reported by systemd


def test_a_server_cannot_have_more_tasks_than_it_may(alpha: Machine) -> None:
    alpha.cli("initialize", "alpha", "--port", "27015", "--tasks", "8")
    seen = alpha.in_the_box("for i in 1 2 3 4 5 6 7 8 9; do sleep 0.2 & done; wait; echo ALL")
    assert "fork" in seen


def test_limits_that_were_taken_back_do_not_act(alpha: Machine) -> None:
    alpha.cli("initialize", "alpha", "--port", "27015", "--memory", "100", "--cpu-weight", "7")
    alpha.cli("start", "alpha")
    assert alpha.show("alpha", "MemoryMax") == str(100 * 1024**2)
    alpha.cli("initialize", "alpha", "--port", "27015")
    alpha.cli("restart", "alpha")
    assert alpha.show("alpha", "MemoryMax") == "infinity"
    assert alpha.show("alpha", "CPUWeight") == "[not set]"


def test_the_rule_allows_our_units_and_nothing_else(alpha: Machine) -> None:
    for arguments in (
        ["start", "dbus.service"],
        ["start", unit_of("alpha"), "cron.service"],
        ["restart", unit_of("alpha")],
        ["kill", unit_of("alpha")],
        ["start", "saferoom-game@..-x.service"],
        ["start", "saferoom-game@.service"],
        ["start", "saferoom-games@alpha.service"],
        ["enable", unit_of("alpha")],
        ["mask", "--runtime", unit_of("alpha")],
        ["daemon-reload"],
        ["set-property", "--runtime", "dbus.service", "TasksMax=1"],
    ):
        done = alpha.sandbox.run("systemctl", "--no-ask-password", *arguments)
        assert done.returncode != 0, arguments
        assert re.search(f"{REFUSED}|Access denied|missing the instance name", done.stderr), (
            arguments
        )
    done = alpha.sandbox.run("systemd-run", "--no-ask-password", "true")
    assert REFUSED in done.stderr


def test_the_box_is_as_tight(alpha: Machine) -> None:
    (alpha.root.parent / "secret").write_text("SECRET")
    seen = alpha.in_the_box(
        "cat /srv/saferoom/secret; echo x > /etc/evil && echo WRITTEN; echo x > /srv/saferoom/host/evil && "
        "echo WRITTEN; systemctl stop saferoom-game@bravo && echo ESCAPED; grep Cap /proc/self/status"
    )
    assert "SECRET" not in seen
    assert "WRITTEN" not in seen
    assert "ESCAPED" not in seen
    assert re.findall(r"Cap\w+:\t(\w+)", seen) == ["0" * 16] * 5
    said = alpha.sandbox.succeed("systemd-analyze", "--no-pager", "security", unit_of("alpha"))
    match = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert match is not None
    assert float(match[1]) <= 2.4, said


def test_the_doctor_knows_the_template_that_it_needs(alpha: Machine) -> None:
    doctor = (sys.executable, "-m", "hostops", "doctor")
    said = alpha.sandbox.run(*doctor, env=alpha.environment).stdout
    assert f"ok   Template unit: {TEMPLATE_PATH} is as it should be." in said
    alpha.sandbox.succeed("sh", "-c", f"echo '# mine' >> {TEMPLATE_PATH}", user="root")
    alpha.sandbox.succeed("systemctl", "daemon-reload", user="root")
    said = alpha.sandbox.run(*doctor, env=alpha.environment).stdout
    assert f"BAD  Template unit: {TEMPLATE_PATH} is not what" in said
    alpha.sandbox.succeed("sed", "-i", "$d", TEMPLATE_PATH, user="root")
    alpha.sandbox.succeed("systemctl", "daemon-reload", user="root")


def test_it_is_ended_at_once_when_nobody_reads_its_console(alpha: Machine) -> None:
    alpha.cli("start", "alpha")
    pid = alpha.status()["pid"]
    alpha.systemctl("stop", unit_of("alpha"))
    wait_until(
        lambda: alpha.sandbox.run("test", "-d", f"/proc/{pid}").returncode == 1, 5, "it is gone"
    )
