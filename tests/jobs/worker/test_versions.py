"""A server made of versions of an overlay, on a host that gets the panel's files only by HTTP."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from hostops.content import blob_fetching
from hostops.specs import ManifestFile
from jobs.models import Job, JobState
from jobs.queue.requests import enqueue
from jobs.worker.worker_process import worker_loop
from servers.config.waiting_changes import find_waiting
from servers.models import ActualState, Host, Overlay, OverlayVersion, Run, RunPart, Server
from servers.store import get_store, make_version
from tests.hostops.content.vpk_files import make_pack
from tests.hostops.hosts import end_everything, instance_of, latest_run, write_control
from tests.pages.webserver import WebServer
from tests.ports import find_free_port

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def panel(tmp_path: Path) -> Iterator[WebServer]:
    """Return the panel's web process, which has the store."""
    web = WebServer()
    web.start(CONTENT_ROOT=str(tmp_path / "content"))
    yield web
    web.stop()


@pytest.fixture
def root(settings: Any, tmp_path: Path, panel: WebServer, server: Server) -> Iterator[Path]:
    """Return the root of another host, with the game installed, and with a store that is not the panel's."""
    root = tmp_path / "west"
    root.mkdir()
    write_control(root)
    settings.HOST_ROOT = root
    settings.HOST_NAME = "west"
    settings.PANEL_URL = panel.url
    settings.CONTENT_ROOT = tmp_path / "nowhere"
    settings.CONTENT_ROOT.mkdir()  # Every installed machine has such a folder.
    Server.objects.update(port=find_free_port(), host=Host.objects.create(name="west"))
    server.refresh_from_db()
    run("install")
    yield root
    end_everything(root)


def bring_version(
    settings: Any, tmp_path: Path, overlay: Overlay, by: User, files: Mapping[str, bytes]
) -> OverlayVersion:
    """Make a version as the panel does, which alone has the store."""
    nowhere, settings.CONTENT_ROOT = settings.CONTENT_ROOT, tmp_path / "content"
    try:
        with get_store().incoming("test") as folder:
            entries, stored = [], []
            for number, (path, content) in enumerate(files.items()):
                sha256 = hashlib.sha256(content).hexdigest()
                (folder / str(number)).write_bytes(content)
                stored.append((folder / str(number), sha256))
                entries.append(ManifestFile(path, sha256, len(content)))
            return make_version(overlay, entries, stored=stored, by=by)
    finally:
        settings.CONTENT_ROOT = nowhere


def run(operation: str, server: Server | None = None, of_run: Run | None = None) -> Job:
    host = Host.objects.get(name="west")
    if server:
        enqueue(operation, server=server, requested_by=None, run=of_run)
    else:
        enqueue(operation, host=host, requested_by=None)
    worker_loop(until_empty=True)
    return Job.objects.latest("pk")


def assert_done(job: Job) -> str:
    lines = "\n".join(job.logs.values_list("line", flat=True))
    assert job.state == JobState.SUCCEEDED, f"{job.error}\n{lines}"
    return lines


def waiting_of(server: Server) -> tuple[RunPart, ...]:
    return find_waiting([Server.objects.get(pk=server.pk)]).get(server.pk, ())


def test_it_is_started_with_the_version_of_its_start_and_takes_another_at_a_restart(
    settings: Any,
    tmp_path: Path,
    root: Path,
    panel: WebServer,
    server: Server,
    alice: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    overlay = Overlay.objects.create(name="pack", owner=alice)
    packs = {"left4dead2/addons/city.vpk": make_pack({"maps/city_m1.bsp": b"a map"})}
    files = packs | {
        "left4dead2/cfg/server.cfg": b"sv_tags first\n",
        "left4dead2/big": b"1" * 5_000_000,
    }
    first = bring_version(settings, tmp_path, overlay, alice, files)
    server.blueprint.set_overlays([overlay])
    server.blueprint.arguments = "+map city_m1"
    server.blueprint.save(update_fields=["arguments"])

    lines = assert_done(run("start", server))
    assert "Pack, version 1 is laid out: 3 files." in lines
    begun = latest_run(root)
    assert begun.is_main_process_alive
    assert "city_m1" in instance_of(root).console_log_path(1).read_text()
    server.refresh_from_db()
    part = server.config_chain[1]
    assert (part["path"], part["source"], part["text"]) == (
        "cfg/saferoom/10-pack.cfg",
        "Overlay pack, version 1",
        "sv_tags first\n",
    )
    run_of_first = Run.objects.latest("pk")
    assert run_of_first.overlays == [[first.reference, first.digest[:32]]]
    assert waiting_of(server) == ()

    second = bring_version(
        settings,
        tmp_path,
        overlay,
        alice,
        files | {"left4dead2/cfg/server.cfg": b"sv_tags second\n"},
    )
    assert waiting_of(server) == (RunPart.OVERLAYS,)
    assert_done(run("restart", server))
    assert waiting_of(server) == ()
    layout = instance_of(root)
    versions = {path.name: path for path in (root / "versions/pack").iterdir()}
    assert versions.keys() == {first.digest, second.digest}
    big = [path / "left4dead2/big" for path in versions.values()]
    assert big[0].samefile(big[1])

    assert_done(run("stop", server))
    assert_done(run("start", server, run_of_first))
    assert waiting_of(server) == (RunPart.OVERLAYS,)
    assert first.digest in layout.launch_path.read_text()

    # What cannot be fetched is noticed before anything running is stopped.
    third = bring_version(settings, tmp_path, overlay, alice, {"left4dead2/cfg/other.cfg": b"\n"})
    panel.stop()
    monkeypatch.setattr(blob_fetching, "PAUSES_SECONDS", (0.0,))
    running = latest_run(root)
    job = run("restart", server)
    assert job.state == JobState.FAILED
    assert "alpha needs pack, version 3, which could not be fetched. The connection" in job.error
    assert not (root / "versions/pack" / third.digest).exists()
    server.refresh_from_db()
    assert (server.actual_state, latest_run(root)) == (ActualState.RUNNING, running)
