"""Jobs and the watcher over a real host with the simulated game: updates, rollback, crashes, reboots."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as configured

from hostops.crash_budget import RESTART_BUDGET
from hostops.drivers import process_driver
from hostops.linux.proc_stat import read_boot_id
from hostops.query.a2s import query_info
from hostops.specs import CancelToken
from jobs import operations
from jobs.models import Job, JobState
from jobs.pages.server_strips import ENDED_STAGES
from jobs.queue.requests import enqueue
from jobs.watch.host_watch import HostWatch
from jobs.watch.overlay_watch import OverlayWatch
from jobs.worker.worker_process import worker_loop
from servers.config.waiting_changes import find_waiting, find_way_back
from servers.models import (
    ActualState,
    Blueprint,
    Crash,
    DesiredState,
    Host,
    Overlay,
    Run,
    RunPart,
    Server,
)
from tests.hostops.hosts import (
    BUILD_ID,
    LATER_BUILD_ID,
    end_everything,
    instance_of,
    latest_run,
    write_control,
)
from tests.ports import find_free_port
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def root(settings: Any, tmp_path: Path, server: Server) -> Iterator[Path]:
    """Return the root of a real host, on which Alice's server runs."""
    root = tmp_path / "host"
    root.mkdir()
    settings.HOST_ROOT = root
    write_control(root)
    Server.objects.update(port=find_free_port())
    run("install")
    run("start", server)
    yield root
    end_everything(root)


@pytest.fixture
def watch(root: Path, host: Host) -> HostWatch:
    """Return what watches that host, and has looked once."""
    watch = HostWatch(host)
    watch.store_states()
    return watch


def run(operation: str, server: Server | None = None, build_id: str = "") -> Job:
    enqueue(operation, server=server, requested_by=None, build_id=build_id)
    return run_next()


def run_next() -> Job:
    worker_loop(until_empty=True)
    job = Job.objects.finished().order_by("finished_at").last()
    assert job is not None
    assert job.state == JobState.SUCCEEDED, (job.error, [line.line for line in job.logs.all()])
    return job


def test_nothing_that_cannot_start_takes_down_a_server_with_people_on(
    root: Path, server: Server, settings: Any
) -> None:
    blueprint, layer, port = server.blueprint, operations.get_host("local"), latest_run(root).port
    for name in ("Zoey", "Francis"):
        layer.send_command("alpha", f"sim_join {name}")

    def count_people() -> int:
        return query_info("127.0.0.1", port, timeout_seconds=5).players

    wait_until(lambda: count_people() == 2, 10, "two people are not on")
    begun = latest_run(root)
    (root / "overlays" / "pack").mkdir()
    (root / "overlays" / "link").symlink_to("pack")
    for name in ("pack", "link"):
        Overlay.objects.create(name=name, is_host_folder=True)

    def expect_failure(cause: str) -> None:
        enqueue("restart", server=server, requested_by=None)
        worker_loop(until_empty=True)
        job = Job.objects.latest("pk")
        assert (job.state, job.exit_code) == (JobState.FAILED, 1), cause
        assert cause in job.error
        server.refresh_from_db()
        assert server.actual_state == ActualState.RUNNING
        assert server.last_error == f"Restart: {job.error}"
        assert latest_run(root) == begun
        assert latest_run(root).is_main_process_alive
        assert count_people() == 2

    # `tests/cases/test_starts.py` has more overlays, and maps, that cannot be used.
    blueprint.set_overlays(Overlay.objects.all())
    expect_failure("Look whether one of their folders is a link to another.")
    blueprint.set_overlays([])
    for column, text, cause in (
        ("arguments", "+map c5m1_waterfont", "The nearest is c5m1_waterfront."),
        ("arguments", "-binary /bin/echo", "“-binary” cannot be used"),
        ("config", "hostport 27016", "sets hostport, which it cannot"),
    ):
        whole = getattr(blueprint, column)
        Blueprint.objects.update(**{column: text})
        expect_failure(cause)
        Blueprint.objects.update(**{column: whole})
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        # RCON's port counts too, and is not free just because nobody listens on it yet.
        taken.bind(("", 0))
        Server.objects.update(port=taken.getsockname()[1])
        expect_failure("(TCP) of alpha is in use by another program")
    Server.objects.update(port=port)
    settings.HOST_MIN_FREE_BYTES = 2**62
    expect_failure("are to stay free (HOST_MIN_FREE_BYTES)")
    settings.HOST_MIN_FREE_BYTES = 0

    names = [stage.name for stage in run("restart", server).stages.all()]
    assert latest_run(root).run == begun.run + 1
    # Pages learn from this when the server became empty.
    ended, started = names.index("Stopping"), names.index("Starting")
    assert tuple(names[ended : started + 1]) == ENDED_STAGES


def installed(host: Host) -> list[tuple[str, bool]]:
    return [(release.build_id, release.is_current) for release in host.releases.all()]


def test_an_update_beside_a_running_server_and_the_way_back(
    root: Path, watch: HostWatch, host: Host, server: Server
) -> None:
    write_control(root, steamcmd={"build_id": LATER_BUILD_ID})
    host.refresh_from_db()
    assert (host.build_id, host.available_build_id) == (BUILD_ID, "")
    run("check")
    host.refresh_from_db()
    assert (host.build_id, host.available_build_id) == (BUILD_ID, LATER_BUILD_ID)
    run("install")
    assert installed(host) == [(LATER_BUILD_ID, True), (BUILD_ID, False)]
    watch.store_states()
    server.refresh_from_db()
    assert (server.actual_state, server.running_build_id) == (ActualState.RUNNING, BUILD_ID)
    run("restart", server)
    watch.store_states()
    server.refresh_from_db()
    assert server.running_build_id == LATER_BUILD_ID

    job = run("rollback", build_id=BUILD_ID)
    last_line = job.logs.order_by("seq").last()
    assert last_line is not None
    assert f"Build {BUILD_ID} is current now" in last_line.line
    assert installed(host) == [(LATER_BUILD_ID, False), (BUILD_ID, True)]
    host.refresh_from_db()
    assert host.build_id == BUILD_ID
    run("restart", server)
    watch.store_states()
    server.refresh_from_db()
    assert server.running_build_id == BUILD_ID


def test_a_server_waits_for_its_restart_and_can_be_started_as_it_was(
    root: Path, host: Host, server: Server
) -> None:
    assert waiting_of(server) == ()
    Server.objects.update(config='hostname "Our night"\n')
    assert waiting_of(server) == (RunPart.CONFIG,)
    run("start", server)  # It runs already, with what it was started with.
    assert waiting_of(server) == (RunPart.CONFIG,)
    file = root / "overlays" / "pack" / "left4dead2" / "cfg" / "server.cfg"
    file.parent.mkdir(parents=True)
    file.write_text("sv_tags one\n")
    server.blueprint.set_overlays([Overlay.objects.create(name="pack", is_host_folder=True)])
    run("restart", server)
    assert waiting_of(server) == ()
    watch = OverlayWatch(host, CancelToken())
    watch.look()
    assert waiting_of(server) == ()
    file.write_text("sv_tags another\n")
    watch.look()
    assert waiting_of(server) == (RunPart.FILES,)
    good = Run.objects.latest("pk")
    assert (good.build_id, good.port, good.has_answered) == (
        BUILD_ID,
        Server.objects.get().port,
        True,
    )

    run("stop", server)
    server.blueprint.set_overlays([Overlay.objects.create(name="nowhere", is_host_folder=True)])
    enqueue("start", server=server, requested_by=None)
    worker_loop(until_empty=True)
    assert Job.objects.latest("pk").state == JobState.FAILED
    assert find_way_back(Server.objects.get()) == good
    enqueue("start", server=server, requested_by=None, run=good)
    run_next()
    assert Server.objects.get().actual_state == ActualState.RUNNING
    assert Run.objects.latest("pk").as_it_was_at == good.started_at
    # The files are taken as they are now.
    assert waiting_of(server) == (RunPart.OVERLAYS,)


def waiting_of(server: Server) -> tuple[RunPart, ...]:
    server = Server.objects.get(pk=server.pk)
    return find_waiting([server]).get(server.pk, ())


def test_the_config_that_was_written_is_on_the_servers_row(root: Path, server: Server) -> None:
    folder = root / "overlays" / "pack" / "left4dead2" / "cfg"
    folder.mkdir(parents=True)
    (folder / "server.cfg").write_bytes(b"sv_tags caf\xe9 // a comment\nhostport 27016\n")
    server.blueprint.set_overlays([Overlay.objects.create(name="pack", is_host_folder=True)])
    Server.objects.update(config='hostname "Our night"\n')
    job = run("initialize", server)
    server.refresh_from_db()
    assert [part["path"] for part in server.config_chain] == [
        "cfg/server.cfg",
        "cfg/saferoom/10-pack.cfg",
        "cfg/saferoom/90-config.cfg",
    ]
    pack = server.config_chain[1]
    assert pack["text"] == "sv_tags caf\N{REPLACEMENT CHARACTER}\n"
    assert "sets hostport, which it cannot" in pack["warnings"][1]
    assert pack["warnings"][1] in [line.line for line in job.logs.all()]


def test_a_reset_leaves_a_stopped_server(root: Path, watch: HostWatch, server: Server) -> None:
    written = instance_of(root).upper_dir / "left4dead2" / "written"
    written.parent.mkdir(parents=True, exist_ok=True)
    written.touch()
    run("reset", server)
    server.refresh_from_db()
    assert (server.actual_state, server.desired_state) == (
        ActualState.STOPPED,
        DesiredState.STOPPED,
    )
    assert not written.exists()


def test_a_crash_is_kept_with_the_last_words_of_the_game(root: Path, watch: HostWatch) -> None:
    os.kill(latest_run(root).pid, signal.SIGSEGV)
    layer = operations.get_host("local")
    wait_until(lambda: layer.status("alpha").state == "crashed", 10, "it does not crash")
    watch.store_states()
    server = Server.objects.get()
    assert server.actual_state == ActualState.CRASHED
    assert server.last_error.startswith("Crashed (SIGSEGV). Its last line was: ")
    crash = Crash.objects.get()
    assert crash.last_lines.splitlines()[-1].strip() in crash.detail
    assert "simulator" in crash.last_lines


def test_what_crashes_is_started_again_by_jobs_until_the_budget_is_spent(
    root: Path, watch: HostWatch, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_driver, "pause_before", lambda _restart: 0.0)
    crash(root)
    watch.store_states()
    job = run_next()
    assert (job.operation, job.requested_by) == ("start", None)
    server.refresh_from_db()
    assert (server.actual_state, server.restarts) == (ActualState.RUNNING, 1)

    record = json.loads(instance_of(root).run_path.read_text())
    record["restarted_at"] *= RESTART_BUDGET
    instance_of(root).run_path.write_text(json.dumps(record))
    crash(root)
    watch.store_states()
    server.refresh_from_db()
    assert (server.actual_state, server.state_note) == (ActualState.CRASHED, "gave up")
    assert "gave up after 5 restarts within 10 minutes" in server.state_detail
    assert not Job.objects.active().exists()

    enqueue("start", server=server, requested_by=server.owner)
    run_next()
    server.refresh_from_db()
    assert (server.actual_state, server.restarts) == (ActualState.RUNNING, 0)


def crash(root: Path) -> None:
    os.kill(latest_run(root).pid, signal.SIGSEGV)
    layer = operations.get_host("local")
    wait_until(lambda: layer.status("alpha").state == "crashed", 10, "it does not crash")


# The database makes no difference between them.
@pytest.mark.parametrize(
    "operation",
    ["start", "stop", "restart", "reset"] if configured.IS_SQLITE else ["restart"],
)
def test_a_crash_just_before_a_job_is_not_missed(
    root: Path, watch: HostWatch, server: Server, operation: str
) -> None:
    layer = operations.get_host("local")
    wait_until(
        lambda: "VAC secure mode is activated" in instance_of(root).console_log_path(1).read_text(),
        10,
        "it is not up",
    )
    os.kill(latest_run(root).pid, signal.SIGSEGV)
    wait_until(lambda: layer.status("alpha").state == "crashed", 10, "it does not crash")
    assert run(operation, server).state == JobState.SUCCEEDED
    watch.store_states()
    watch.store_states()
    assert "VAC secure mode is activated" in Crash.objects.get().last_lines


def test_after_a_reboot_the_server_is_started_again(
    root: Path, watch: HostWatch, server: Server
) -> None:
    Job.objects.all().delete()  # They were from an earlier boot.
    end_everything(root)
    path = instance_of(root).run_path
    path.write_text(path.read_text().replace(read_boot_id(), "an earlier boot"))
    watch.store_states()
    server.refresh_from_db()
    assert server.actual_state == ActualState.STOPPED
    job = run_next()
    assert (job.operation, job.requested_by) == ("start", None)
    assert "Saferoom starts it again" in job.logs.earliest("seq").line
    server.refresh_from_db()
    assert server.actual_state == ActualState.RUNNING
    watch.store_states()
    assert Job.objects.count() == 1
    assert not Crash.objects.exists()


def test_a_start_after_a_reboot_that_fails_is_left_to_people(
    root: Path, watch: HostWatch, server: Server
) -> None:
    Job.objects.all().delete()
    end_everything(root)
    path = instance_of(root).run_path
    path.write_text(path.read_text().replace(read_boot_id(), "an earlier boot"))
    (
        root / "current"
    ).unlink()  # It fails before anything is launched, so the old run stays the last one.
    watch.store_states()
    worker_loop(until_empty=True)
    watch.store_states()
    assert Job.objects.get().state == JobState.FAILED
    server.refresh_from_db()
    assert "run install first" in server.last_error


def test_the_last_lines_of_a_server_that_is_deleted_are_kept(
    root: Path, server: Server, watch: HostWatch
) -> None:
    instance = instance_of(root, server.name)
    printed = instance.console_log_path(1).read_text().splitlines()
    run("delete", server)
    lines = list(server.console_lines.values_list("line", flat=True))
    assert lines[: len(printed)] == printed
    assert len(lines) > len(printed), "what it printed while it was stopped is missing"
    only = server.console_runs.get()
    assert (only.ending, only.build_id, only.first_seq) == ("stopped", BUILD_ID, 1)
    run("start", server)
    watch.consoles.copy()
    assert [each.number for each in server.console_runs.all()] == [1, 1]
