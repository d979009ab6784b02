"""The chaos run in its short form; `script/chaos` is the long one."""

import os
import signal
import subprocess
import sys

import pytest

from tests.endtoend.panel import PROJECT_DIR

pytestmark = [pytest.mark.endtoend, pytest.mark.timeout(240)]


def run_chaos(*arguments: str) -> None:
    """Run it in a separate process, and show its report if it is not clean."""
    command = [sys.executable, "-m", "tests.fire.chaos", "--faults-per-minute", "60", *arguments]
    ours = ("DATABASE_URL", "HOST_NAME", "HOST_ROOT", "DJANGO_SETTINGS_MODULE")
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    with subprocess.Popen(
        command,
        cwd=PROJECT_DIR,
        env=inherited,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as chaos:
        try:
            report, errors = chaos.communicate(timeout=150)
        except subprocess.TimeoutExpired:
            # It then ends its workers, its games and its databases.
            chaos.send_signal(signal.SIGINT)
            report, errors = chaos.communicate(timeout=60)
            report += "\nIt was interrupted: it took longer than 150 s."
        finally:
            chaos.kill()
    print(report)
    assert chaos.returncode == 0, report + errors


def test_no_job_is_lost_doubled_or_stuck_on_sqlite() -> None:
    run_chaos("--jobs", "250")


@pytest.mark.postgres
def test_no_job_is_lost_doubled_or_stuck_on_postgresql_with_two_hosts() -> None:
    run_chaos("--jobs", "200", "--engine", "postgresql", "--hosts", "2", "--workers", "4")
