"""Whole servers with the simulated game: what a start does with an overlay's own config."""

from pathlib import Path

import pytest

from jobs.models import Job, JobState
from jobs.queue.requests import enqueue
from jobs.worker.worker_process import worker_loop
from servers.models import Overlay, Server
from tests.hostops.hosts import instance_of, latest_run
from tests.ports import find_free_port


@pytest.mark.django_db(transaction=True)
def test_configs_of_overlays_and_of_the_blueprint_all_apply_in_order(
    root: Path, server: Server
) -> None:
    """Case 19, with two overlays: the upper one after the lower, the blueprint's last; and a map in one."""
    for name, text in {
        "rules": "sv_consistency 0\nsv_gravity 700\nsv_tags rules\nexec more.cfg\nsm_cvar x 1\n",
        "maps": "sv_gravity 600\nsv_region 3\n",
    }.items():
        folder = root / "overlays" / name / "left4dead2" / "cfg"
        folder.mkdir(parents=True)
        (folder / "server.cfg").write_text(text)
    (root / "overlays" / "rules" / "left4dead2" / "cfg" / "more.cfg").write_text(
        "sv_accelerate 6\nmap c5m1_waterfont\n"
    )
    overlays = [
        Overlay.objects.create(name=name, is_host_folder=True) for name in ("rules", "maps")
    ]
    server.blueprint.set_overlays(overlays)
    server.blueprint.config = 'hostname "Our night"\nsv_tags night\n'
    server.blueprint.save()
    Server.objects.update(port=find_free_port())
    server.refresh_from_db()
    enqueue("install", server=None, requested_by=None)
    enqueue("start", server=server, requested_by=None)
    worker_loop(until_empty=True)
    for job in Job.objects.all():
        assert job.state == JobState.SUCCEEDED, job.error
    console = instance_of(root).console_log_path(latest_run(root).run).read_text()
    set_to = [line.partition(": ")[2] for line in console.splitlines() if "Server cvar" in line]
    assert set_to == [
        'Server cvar "sv_gravity" = "600"',
        'Server cvar "sv_consistency" = "0"',
        'Server cvar "sv_gravity" = "700"',
        'Server cvar "sv_tags" = "rules"',
        'Server cvar "sv_accelerate" = "6"',
        'Server cvar "sv_tags" = "night"',
    ]
    assert 'Unknown command "sm_cvar"' in console
    # A missing map that a config loads is reported before and after, as a missing +map is.
    log = "\n".join(row.line for row in Job.objects.get(operation="start").logs.all())
    where = "Line 2 of cfg/more.cfg of overlay rules"
    assert f"{where} changes the map to c5m1_waterfont." in log
    assert f"{where} loads the map c5m1_waterfont, which is no map of the game" in log
    assert "cannot. It printed: CModelLoader::Map_IsValid:  No such map" in log
    assert log.count("earest") == 2
