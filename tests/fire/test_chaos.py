"""The chaos run in its short form; `script/chaos` is the long one."""

import os
import subprocess
import sys

import pytest

from tests.endtoend.panel import PROJECT_DIR

pytestmark = pytest.mark.endtoend


def run_chaos(*arguments: str) -> None:
    """Run it in a separate process, and show its report if it is not clean."""
    command = [sys.executable, "-m", "tests.fire.chaos", "--faults-per-minute", "60", *arguments]
    ours = ("DATABASE_URL", "HOST_NAME", "HOST_ROOT", "DJANGO_SETTINGS_MODULE")
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    done = subprocess.run(
        command, cwd=PROJECT_DIR, env=inherited, capture_output=True, text=True, timeout=150
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_job_is_lost_doubled_or_stuck_on_sqlite() -> None:
    run_chaos("--jobs", "250")


@pytest.mark.postgres
def test_no_job_is_lost_doubled_or_stuck_on_postgresql_with_two_hosts() -> None:
    run_chaos("--jobs", "200", "--engine", "postgresql", "--hosts", "2", "--workers", "4")
