"""Servers that run but do not answer queries: the job fails and says why, and the game keeps running."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobs.models import Job, JobState
from jobs.queue.requests import enqueue
from jobs.watch.host_watch import HostWatch
from jobs.worker.worker_process import worker_loop
from servers.models import ActualState, Host, Overlay, Server
from tests.hostops.hosts import instance_of, latest_run, write_control
from tests.ports import find_free_port

pytestmark = pytest.mark.django_db(transaction=True)


def run(operation: str, server: Server | None = None) -> Job:
    """Carry a job out and return it."""
    job = enqueue(operation, server=server, requested_by=None)
    worker_loop(until_empty=True)
    return Job.objects.get(pk=job.pk)


@pytest.fixture(autouse=True)
def quick_minute(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the minute that a start waits, once the game has its map."""

    def monotonic() -> float:
        consoles = [instance_of(root).console_log_path(number) for number in (1, 2)]
        loaded = sum(path.exists() and "LAN server" in path.read_text() for path in consoles)
        return time.monotonic() + 60 * loaded

    clock = SimpleNamespace(**{**vars(time), "monotonic": monotonic})
    monkeypatch.setattr("hostops.drivers.start_wait.time", clock)


def test_a_silent_server_stays_up_and_its_job_says_what_was_looked_at(
    root: Path, host: Host, server: Server
) -> None:
    """Case 21: sv_lan 1 and an address without an answer; then the same from elsewhere, and query limits."""
    write_control(root, srcds={"fail": "silent-on-loopback"})
    Server.objects.update(port=find_free_port(), config="sv_lan 1\n")
    server.refresh_from_db()
    assert run("install").state == JobState.SUCCEEDED
    job = run("start", server)
    assert (job.state, job.exit_code) == (JobState.FAILED, 1)
    assert "runs, but does not answer queries" in job.error
    assert "sv_lan 1 is set in" in job.error
    HostWatch(host).store_states()
    server.refresh_from_db()
    assert server.actual_state == ActualState.RUNNING
    assert server.state_note == "does not answer queries"
    assert run("stop", server).state == JobState.SUCCEEDED

    # The cvar comes from an overlay, and a limit keeps the server silent.
    folder = root / "overlays" / "lan" / "left4dead2" / "cfg"
    folder.mkdir(parents=True)
    (folder / "server.cfg").write_text("sv_lan 1\n")
    server.blueprint.set_overlays([Overlay.objects.create(name="lan", is_host_folder=True)])
    server.blueprint.arguments = "+map c1m1_hotel +sv_max_queries_sec 0"
    server.blueprint.save()
    Server.objects.update(config="")
    server.refresh_from_db()
    write_control(root)
    job = run("start", server)
    assert (job.state, job.exit_code) == (JobState.FAILED, 1)
    assert "sv_max_queries_sec 0 is set in" in job.error
    assert "sv_lan 1 is set in" in job.error
    assert latest_run(root).run == 2
