"""What the previous release left on a host works: running servers stay up, its files are understood."""

import signal
from pathlib import Path

import pytest

from hostops.drivers.process_driver import launch
from hostops.host import Host
from hostops.query import a2s
from hostops.specs import ConsolePosition, InstanceSpec, InstanceState
from tests.hostops import old_release
from tests.hostops.hosts import DRIVER, Output, instance_of, latest_run
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(DRIVER != "process", reason="tests/systemd/test_upgrade.py")


@pytest.fixture
def upgraded(host: Host, root: Path, alpha: Path, spec: InstanceSpec) -> Host:
    """Return the host, with alpha as the previous release made it."""
    instance = instance_of(root)
    old_release.write_record(instance, spec.port)
    old_release.write_plan(instance, spec.port, root)
    return host


def forbid_srcds_run(root: Path) -> None:
    """Let Valve's script leave a mark instead of starting anything."""
    (root / "current" / "srcds_run").write_text("#!/bin/sh\ntouch was-executed\nexit 1\n")


def test_a_server_that_runs_stays_up_and_is_seen_and_stopped(
    upgraded: Host, root: Path, alpha: Path, spec: InstanceSpec
) -> None:
    game = old_release.start(root, spec.port)
    try:
        forbid_srcds_run(root)
        status = upgraded.status("alpha")
        assert (status.state, status.pid) == (InstanceState.RUNNING, game.pid)
        upgraded.initialize(spec)
        output = Output()
        upgraded.start("alpha", on_line=output.on_line)
        assert output.text == "alpha runs already."
        assert upgraded.status("alpha").pid == game.pid
        upgraded.send_command("alpha", "say still here")
        wait_until(lambda: "Console: still here" in console(upgraded), 5, "its console is read")
        assert a2s.query_info("127.0.0.1", spec.port, 5).map == "c5m2_park"
        upgraded.stop("alpha")
        assert upgraded.status("alpha").state is InstanceState.STOPPED
    finally:
        game.kill()
        game.wait()
    upgraded.start("alpha")
    assert upgraded.status("alpha").state is InstanceState.RUNNING
    assert not list(root.rglob("was-executed"))


def test_an_old_plan_that_is_launched_again_runs_the_engine(
    upgraded: Host, root: Path, alpha: Path, spec: InstanceSpec
) -> None:
    game = old_release.start(root, spec.port)
    game.send_signal(signal.SIGSEGV)
    game.wait()
    forbid_srcds_run(root)
    launch(instance_of(root), {})
    info = wait_until(lambda: query(spec.port), 20, "it does not answer")
    assert info is not None
    assert (info.map, info.keywords) == ("c5m2_park", "two words,versus,secure")
    assert "is left out. “-binary” cannot be used" in console(upgraded)
    assert latest_run(root).restarts == 1
    assert [run for run, _ in latest_run(root).crashed] == [1]
    assert not list(root.rglob("was-executed"))


def console(host: Host) -> str:
    return "\n".join(line for _, line in host.read_console("alpha", ConsolePosition()).lines)


def query(port: int) -> a2s.ServerInfo | None:
    try:
        return a2s.query_info("127.0.0.1", port, 0.5)
    except a2s.QueryError:
        return None
