"""Servers that cannot start: the job names the cause within seconds, and running servers keep running."""

from pathlib import Path

import a2s as others_a2s
import pytest

from hostops.instances.console_files import send_line
from jobs.models import Job, JobState
from jobs.queue.requests import enqueue
from jobs.worker.worker_process import worker_loop
from servers.models import Overlay, Server
from tests.hostops.hosts import instance_of, latest_run
from tests.ports import find_free_port
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def run(operation: str, server: Server | None = None) -> Job:
    """Carry a job out and return it."""
    job = enqueue(operation, server=server, requested_by=None)
    worker_loop(until_empty=True)
    return Job.objects.get(pk=job.pk)


@pytest.fixture
def running(root: Path, server: Server) -> Server:
    """Return a server of Alice's that runs."""
    Server.objects.update(port=find_free_port())
    server.refresh_from_db()
    assert run("install").state == JobState.SUCCEEDED
    job = run("start", server)
    assert job.state == JobState.SUCCEEDED, job.error
    return server


def players_of(server: Server) -> list[str]:
    """Return the names of the players."""
    return [player.name for player in others_a2s.players(("127.0.0.1", server.port), 5)]


def add_overlay(root: Path, name: str, *files: str) -> None:
    """Put an overlay with these files on the host."""
    for file in files:
        path = root / "overlays" / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('"Plugin"\n{\n\t"file"\t"addons/metamod/bin/server"\n}\n')


def test_no_broken_blueprint_ends_what_runs(root: Path, running: Server) -> None:
    """Cases 18 and 20, and their relatives, while two people play."""
    for player in ("Ann", "Ben"):
        send_line(instance_of(root), f"sim_join {player}")
    wait_until(lambda: len(players_of(running)) == 2, 10, "nobody has joined")
    first = latest_run(root)
    blueprint = running.blueprint
    for arguments, said in {
        "+map c4m1_miltown_a": ("c4m1_miltown_a", "c4m1_milltown_a"),
        '"+map c2m1_higway versus"': ("c2m1_higway", "c2m1_highway"),
        "+map maps/c2m1_highway": ("maps/c2m1_highway", "Write +map c2m1_highway."),
    }.items():
        blueprint.arguments = arguments
        blueprint.save()
        job = run("restart", running)
        assert job.state == JobState.FAILED, arguments
        assert all(word in job.error for word in said), job.error
    blueprint.arguments = "+map C5M1_Waterfront"
    blueprint.save()
    for name, files, word in (
        ("flat", ("addons/metamod.vdf", "cfg/server.cfg"), "left4dead2/"),
        ("deep", ("pack-main/left4dead2/addons/metamod.vdf",), "one folder too deep"),
        ("case", ("Left4Dead2/addons/metamod.vdf",), "Left4Dead2"),
    ):
        add_overlay(root, name, *files)
        blueprint.set_overlays([Overlay.objects.create(name=name, is_host_folder=True)])
        job = run("restart", running)
        assert job.state == JobState.FAILED, name
        assert name in job.error, job.error
        assert word in job.error, job.error
    blueprint.set_overlays([])
    for path, text in (
        ("cfg/server.cfg", "exec more\n"),
        ("cfg/more.cfg", "exec server\n"),
    ):
        file = root / "overlays" / "circle" / "left4dead2" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    blueprint.set_overlays([Overlay.objects.create(name="circle", is_host_folder=True)])
    assert "execute each other in a circle" in run("restart", running).error
    Overlay.objects.create(name="gone", is_host_folder=True)
    blueprint.set_overlays(Overlay.objects.filter(name="gone"))
    assert "needs the overlay gone, which is not on this host" in run("restart", running).error
    assert latest_run(root) == first
    assert sorted(players_of(running)) == ["Ann", "Ben"], "somebody was thrown out"
    blueprint.set_overlays([])
    job = run("restart", running)
    assert job.state == JobState.SUCCEEDED, job.error
    assert latest_run(root) != first
