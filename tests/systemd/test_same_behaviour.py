"""What holds for servers as processes also holds for servers as units: the same tests, on a real systemd."""

import sys

import pytest

from tests.systemd.sandbox import LONG_BEFORE_A_RESTART, STATE_DIR, Sandbox

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(1200)]

TESTS = (
    "tests/hostops/test_host.py",
    # The command line is killed at one of its steps after another.
    *(f"tests/hostops/test_crashes.py::test_{verb}" for verb in ("start", "stop", "delete")),
    "tests/hostops/test_cancels.py::test_verbs_of_a_server",
    # Above all, whatever outlives a game ends with its control group.
    "tests/hostops/test_floods.py",
)


def test_the_tests_of_the_process_driver_pass(sandbox: Sandbox) -> None:
    # A crashed server stays down until the test has seen it, however long that takes.
    sandbox.set_for_servers(*LONG_BEFORE_A_RESTART)
    done = sandbox.run(
        sys.executable,
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={STATE_DIR}/pytest"),
        *TESTS,
        env={"SAFEROOM_TEST_DRIVER": "systemd", "SAFEROOM_TEST_STRIDE": "7"},
        timeout=1180,
    )
    sandbox.set_for_servers()
    assert done.returncode == 0, done.stdout + done.stderr
    left = sandbox.succeed(
        "systemctl", "--user", "list-units", "--all", "--plain", "--no-legend", "saferoom-game@*"
    )
    assert left == ""
