"""The whole way that a person takes: `script/server`, a click, a job, the host, the rows, the stream."""

import os
import signal

import pytest

from hostops.linux.process_identity import read_stat
from jobs.queue.transitions import WORKER_STOPPED
from tests.endtoend.panel import Panel, wait_for_line
from tests.waiting import wait_until

pytestmark = pytest.mark.endtoend


def console_of(panel: Panel) -> list[str]:
    return [line for (line,) in panel.query("SELECT line FROM servers_consoleline ORDER BY seq")]


def notes_of(panel: Panel) -> list[str]:
    return [line for line in panel.output if line.startswith("Note: ")]


def server_states(panel: Panel) -> tuple[str, str, str]:
    ((desired, actual, last_error),) = panel.query(
        "SELECT desired_state, actual_state, last_error FROM servers_server"
    )
    return desired, actual, last_error


def process_ids_below(panel: Panel) -> set[int]:
    """Return the processes of the panel's sessions, found by their environment."""
    mark = f"VAR_DIR={panel.var_dir}".encode()
    found = set()
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdecimal() and read_stat(int(name)):
            try:
                with open(f"/proc/{name}/environ", "rb") as file:  # noqa: PTH123
                    is_ours = mark in file.read().split(b"\0")
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if is_ours:
                found.add(int(name))
    return found


def test_from_install_to_delete(bare_panel: Panel) -> None:
    panel = bare_panel
    install = panel.install()
    events = list(panel.client.events(f"/jobs/{install}/events"))
    assert events[-1][0] == "end"
    assert any("fully installed" in data for name, data in events if name == "stdout")
    panel.succeed(install)

    panel.make_server("alpha")
    panel.succeed(panel.operate("alpha", "start"))
    assert server_states(panel) == ("running", "running", "")
    assert panel.host_state("alpha") == "running"
    wait_until(
        lambda: any("Connection to Steam servers successful" in line for line in console_of(panel)),
        10,
        "the console's ready line has no row",
    )
    events_of_console = panel.client.events("/servers/alpha/console/events")
    assert next(events_of_console)[0] == "message"
    page = panel.client.get("/servers/alpha/").text
    assert "simulated" in page.lower()
    assert "Connection to Steam servers successful" in page

    panel.succeed(panel.operate("alpha", "stop"))
    assert server_states(panel) == ("stopped", "stopped", "")
    assert panel.host_state("alpha") == "stopped"

    panel.succeed(panel.operate("alpha", "delete"))
    assert server_states(panel) == ("stopped", "absent", "")
    assert not (panel.host_root / "instances" / "alpha").exists()
    assert panel.client.get("/servers/alpha/").status == 200

    log = panel.client.get(f"/jobs/{install}/log.txt").text.splitlines()
    assert len(log) == len(panel.log(install))
    assert panel.client.get("/healthz").status == 200


def test_an_install_that_fails_is_cancelled_or_loses_its_worker_can_be_retried(
    panel: Panel,
) -> None:
    panel.set_simulator(steamcmd={"seconds": 0, "fail": ["disk-full-0x202"]})
    failed = panel.install()
    job = panel.wait_for_state(failed, "failed", "succeeded")
    assert (job["state"], job["exit_code"]) == ("failed", 8)
    assert "disk" in job["error"].lower()
    assert job["error"] in panel.client.get(f"/jobs/{failed}/").text.replace("&#x27;", "'")

    panel.set_simulator(steamcmd={"seconds": 30})
    cancelled = panel.client.post(f"/jobs/{failed}/retry").job_id
    wait_for_line(panel, cancelled, "progress")
    panel.client.post(f"/jobs/{cancelled}/cancel")
    panel.wait_for_state(cancelled, "cancelled")

    killed = panel.client.post(f"/jobs/{cancelled}/retry").job_id
    wait_for_line(panel, killed, "progress")
    panel.kill_worker()
    job = panel.wait_for_state(killed, "failed")
    assert job["error"] == WORKER_STOPPED
    assert panel.log(killed)[-1] == WORKER_STOPPED
    assert not (panel.host_root / "current").exists()

    panel.set_simulator(steamcmd={"seconds": 0})
    panel.succeed(panel.client.post(f"/jobs/{killed}/retry").job_id)
    assert (panel.host_root / "current" / "srcds_run").exists()
    assert not panel.query("SELECT id FROM jobs_job WHERE state IN ('queued', 'running')")


def test_a_game_outlives_its_worker_and_its_panel_and_nothing_else_does(panel: Panel) -> None:
    panel.succeed(panel.install())
    panel.make_server("alpha")
    panel.set_simulator(steamcmd={"seconds": 0}, srcds={"start_seconds": 8})
    start = panel.operate("alpha", "start")
    wait_until(lambda: panel.host_state("alpha") == "starting", 20, "the game does not start")
    panel.kill_worker()
    assert panel.wait_for_state(start, "failed")["error"] == WORKER_STOPPED
    assert not panel.query("SELECT id FROM jobs_job WHERE state = 'running'")

    # The game kept running by itself; the panel and the host say the same about it.
    wait_until(
        lambda: server_states(panel)[1] == "running" == panel.host_state("alpha"),
        30,
        "the panel and the host do not agree",
    )
    panel.succeed(panel.client.post(f"/jobs/{start}/retry").job_id)
    assert server_states(panel) == ("running", "running", "")

    assert len(process_ids_below(panel)) >= 4
    assert panel.stop() == 0
    assert process_ids_below(panel) == set()
    assert panel.host_state("alpha") == "running"

    panel.start()
    assert not any("password" in line for line in panel.output)
    panel.client.sign_in()
    wait_until(lambda: server_states(panel)[1] == "running", 20, "the server was not found again")
    panel.succeed(panel.operate("alpha", "stop"))

    # A host without a worker, here because the name has changed, keeps no other from starting.
    assert panel.stop() == 0
    panel.more_settings["HOST_NAME"] = "other"
    panel.start()
    (note,) = wait_until(lambda: notes_of(panel), 10, "it says nothing of the other host")
    assert note.startswith("Note: Host local: its worker was last heard from ")
    assert note.endswith(" ago. Its servers cannot be started or stopped.")
    health = panel.health()
    assert health["status"] == "unhealthy"
    assert [worker["host"] for worker in health["workers"]] == ["other"]

    assert len(process_ids_below(panel)) >= 4
    os.kill(panel.pid, signal.SIGKILL)
    wait_until(lambda: process_ids_below(panel) == set(), 30, "processes are left")
