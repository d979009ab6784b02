"""Servers live as units of the account's own manager: from the first start until nothing is left."""

import sys
from collections.abc import Iterator

import pytest

from hostops.specs import InstanceState
from tests.hostops.hosts import write_control
from tests.hostops.query.test_a2s import INFO
from tests.systemd.conftest import Machine, unit_of
from tests.systemd.sandbox import LONG_BEFORE_A_RESTART, UID
from tests.waiting import wait_until

pytestmark = pytest.mark.systemd
_, STOPPED, STARTING, RUNNING, CRASHED = InstanceState


@pytest.fixture
def hurried(alpha: Machine) -> Iterator[Machine]:
    """Return the machine with alpha, where systemd waits neither before a restart nor long for an end."""
    alpha.sandbox.set_for_servers("RestartSec=50ms", "TimeoutStopSec=1")
    yield alpha
    alpha.sandbox.set_for_servers()


@pytest.fixture
def patient(alpha: Machine) -> Iterator[Machine]:
    """Return the machine with alpha, where a due restart stays due for as long as a test takes."""
    alpha.sandbox.set_for_servers(*LONG_BEFORE_A_RESTART)
    yield alpha
    alpha.sandbox.set_for_servers()


def assert_nothing_is_left(machine: Machine) -> None:
    assert not list((machine.root / "instances").iterdir())
    assert (
        machine.systemctl("list-units", "--all", "--plain", "--no-legend", "saferoom-*.service")
        == ""
    )
    units = machine.root.parent / "home" / ".config" / "systemd" / "user"
    assert [path.name for path in units.iterdir()] == ["saferoom-game@.service"]
    assert machine.sandbox.run("pgrep", "-u", str(UID), "-f", "srcds").returncode == 1
    mounts = machine.sandbox.succeed("cat", "/proc/1/mounts", user="root")
    assert "instances" not in mounts


def test_the_life_of_a_server(alpha: Machine) -> None:
    said = alpha.cli(
        "initialize", "alpha", "--port", "27015", "--memory", "512", "--tasks", "99"
    ) + alpha.cli("start", "alpha")
    assert "alpha answers on port 27015." in said
    status = alpha.status()
    assert (status["state"], status["restarts"], status["detail"]) == (RUNNING, 0, "")
    assert alpha.show("alpha", "MainPID") == str(status["pid"])
    assert alpha.show("alpha", "MemoryMax") == str(512 * 1024**2)
    assert alpha.show("alpha", "TasksMax") == "99"
    alpha.cli("restart", "alpha")
    assert alpha.status()["pid"] != status["pid"]
    alpha.cli("stop", "alpha")
    assert alpha.status()["state"] == STOPPED
    alpha.cli("delete", "alpha")
    assert_nothing_is_left(alpha)


def test_a_server_without_limits_again_has_none(alpha: Machine) -> None:
    alpha.cli("initialize", "alpha", "--port", "27015", "--cpu-weight", "20")
    alpha.cli("start", "alpha")
    assert alpha.show("alpha", "CPUWeight") == "20"
    alpha.cli("initialize", "alpha", "--port", "27015")
    alpha.cli("restart", "alpha")
    assert alpha.show("alpha", "CPUWeight") == "[not set]"


def test_what_crashes_is_restarted_and_in_the_end_given_up(hurried: Machine) -> None:
    hurried.cli("start", "alpha")
    pid = hurried.status()["pid"]
    hurried.send("sim_crash")
    status = wait_until(
        lambda: (now := hurried.status())["pid"] not in (pid, None) and now, 10, "it is restarted"
    )
    assert isinstance(status, dict)
    assert status["restarts"] == 1
    assert "Restarting after a crash (1 of 5)." in str(status["detail"])

    # It makes systemd forget how often it has started the unit, but the budget is not systemd's.
    hurried.systemctl("daemon-reload")
    write_control(hurried.root, srcds={"fail": "crash-at-start"})
    hurried.send("sim_crash")
    given_up = wait_until(
        lambda: "gave up" in str((now := hurried.status())["detail"]) and now, 30, "it gives up"
    )
    assert isinstance(given_up, dict)
    assert given_up["state"] == CRASHED
    assert (given_up["exit_signal"], given_up["restarts"]) == ("SIGSEGV", 5)
    assert str(given_up["detail"]).startswith(
        "Crashed (SIGSEGV), gave up after 5 restarts within 10 minutes. Look at why"
    )
    runs = len(list((hurried.root / "instances" / "alpha" / "console").glob("*.log")))
    assert runs == 1 + 5

    # A start by a person gives it the whole budget.
    write_control(hurried.root)
    hurried.cli("start", "alpha")
    assert (hurried.status()["state"], hurried.status()["restarts"]) == (RUNNING, 0)
    hurried.cli("delete", "alpha")


def test_an_end_by_a_signal_is_known_exactly(hurried: Machine) -> None:
    hurried.cli("start", "alpha")
    hurried.send("sim_crash ABRT")
    crashed = wait_until(lambda: hurried.status()["crashed_runs"], 10, "the crash is known")
    assert isinstance(crashed, list)
    assert (crashed[0]["run"], crashed[0]["exit_signal"], crashed[0]["exit_code"]) == (
        *(1, "SIGABRT", None),
    )


_GAME_THAT_ENDS_BY_ITSELF = """\
#!{python}
import socket, sys, threading
port = int(sys.argv[sys.argv.index("-port") + 1])
held = socket.socket(type=socket.SOCK_DGRAM), socket.socket()
for one in held:
    one.bind(("0.0.0.0", port))
held[1].listen()
def answer():
    while True:
        _, peer = held[0].recvfrom(2048)
        held[0].sendto({info!r}, peer)
threading.Thread(target=answer, daemon=True).start()
print("Connection to Steam servers successful.", flush=True)
sys.stdin.readline()
sys.exit(7)
"""
"""Holds its port and answers queries, and ends with code 7 when it gets a line."""


def test_an_end_by_an_exit_code_is_known_exactly(hurried: Machine) -> None:
    program = next((hurried.root / "releases").iterdir()) / "srcds_linux"
    text = program.read_text()
    program.write_text(
        _GAME_THAT_ENDS_BY_ITSELF.format(python=sys.executable, info=b"\xff\xff\xff\xffI" + INFO)
    )
    try:
        hurried.cli("start", "alpha")
        # systemd watches the init of the game's PID namespace, whose only child is the game.
        pid = hurried.show("alpha", "MainPID")
        (game,) = hurried.sandbox.succeed("cat", f"/proc/{pid}/task/{pid}/children").split()
        assert "./srcds_linux" in hurried.sandbox.succeed("cat", f"/proc/{game}/cmdline")
        hurried.send("go")
        wait_until(lambda: hurried.status()["restarts"] == 1, 10, "it is restarted")
        crashed = hurried.status()["crashed_runs"]
    finally:
        program.write_text(text)
    assert crashed == [{"run": 1, "exit_signal": None, "exit_code": 7, "is_out_of_memory": False}]


def test_the_console_goes_on_over_a_restart_by_systemd(hurried: Machine) -> None:
    hurried.cli("start", "alpha")
    hurried.send("sim_crash")
    wait_until(lambda: hurried.status()["restarts"] == 1, 10, "it is restarted")
    wait_until(
        lambda: hurried.cli("logs", "alpha").count("Connection to Steam servers successful.") == 2,
        10,
        "both runs' lines are there",
    )
    assert hurried.cli("logs", "alpha").count("crashing by SIGSEGV") == 1


def test_a_stop_calls_off_the_restart_that_is_due(patient: Machine) -> None:
    patient.cli("start", "alpha")
    patient.send("sim_crash")
    status = patient.wait_for(CRASHED)
    assert status["exit_signal"] == "SIGSEGV"
    assert str(status["detail"]).startswith("Crashed (SIGSEGV), restarting (1 of 5).")
    # What the game's init leaves behind is seen before systemd has noticed its end.
    wait_until(lambda: patient.show("alpha", "SubState") == "auto-restart", 10, "no restart is due")
    patient.cli("stop", "alpha")
    assert patient.show("alpha", "ActiveState") == "inactive"
    assert patient.status()["state"] == STOPPED


def test_a_start_takes_the_place_of_the_restart_that_is_due(patient: Machine) -> None:
    patient.cli("start", "alpha")
    patient.send("sim_crash")
    patient.wait_for(CRASHED)
    patient.cli("start", "alpha")
    assert (patient.status()["state"], patient.status()["restarts"]) == (RUNNING, 0)


def test_a_launch_that_fails_is_told_in_the_launchers_words_and_not_repeated(
    alpha: Machine,
) -> None:
    program = next((alpha.root / "releases").iterdir()) / "srcds_linux"
    text = program.read_text()
    program.write_text("#!/no/such/interpreter\n")
    try:
        with pytest.raises(AssertionError, match="could not be executed: No such file"):
            alpha.cli("start", "alpha")
    finally:
        program.write_text(text)
    assert alpha.show("alpha", "ActiveState") == "inactive"
    assert alpha.status()["state"] == CRASHED


def test_stopping_by_hand_asks_the_game_first(alpha: Machine) -> None:
    alpha.cli("start", "alpha")
    alpha.systemctl("stop", unit_of("alpha"))
    assert 'server_message: "quit"' in alpha.cli("logs", "alpha")


def test_a_game_that_hangs_is_ended_by_systemd_if_nobody_waits(hurried: Machine) -> None:
    write_control(hurried.root, srcds={"fail": ["hang-on-quit"]})
    hurried.cli("start", "alpha")
    hurried.systemctl("stop", unit_of("alpha"))  # quit, then SIGINT
    assert 'server_message: "quit"' in hurried.cli("logs", "alpha")
    assert hurried.sandbox.run("pgrep", "-u", str(UID), "-f", "srcds").returncode == 1


def test_a_server_that_another_driver_started_is_stopped_as_well(alpha: Machine) -> None:
    alpha.sandbox.succeed(
        *(sys.executable, "-m", "hostops", "start", "alpha"),
        env={**alpha.environment, "HOST_DRIVER": "process"},
    )
    assert alpha.status()["state"] == RUNNING
    alpha.cli("stop", "alpha")
    assert alpha.status()["state"] == STOPPED


def test_the_doctor_finds_the_manager(alpha: Machine) -> None:
    said = alpha.sandbox.run(
        sys.executable, "-m", "hostops", "doctor", env=alpha.environment
    ).stdout
    assert "ok   systemd: systemd 2" in said
    assert "ok   Linger: " in said


def test_without_a_manager_the_cure_is_told(alpha: Machine) -> None:
    done = alpha.sandbox.run(
        *(sys.executable, "-m", "hostops", "start", "alpha"),
        env={**alpha.environment, "XDG_RUNTIME_DIR": "/nowhere"},
    )
    assert done.returncode == 1
    assert "loginctl enable-linger" in done.stderr
