"""What the process driver says about a crash: when the watcher must start the server, and when nobody."""

import json
import os
import time
from pathlib import Path

import pytest

from hostops.callbacks import Callbacks
from hostops.crash_budget import PAUSE_SECONDS, RESTART_BUDGET, pause_before
from hostops.drivers import process_driver
from hostops.drivers.process_driver import ProcessDriver
from hostops.errors import HostError
from hostops.instances import runs
from hostops.layout import HostLayout, InstanceLayout
from hostops.linux.files import make_dir
from hostops.linux.proc_stat import read_boot_id
from hostops.specs import InstanceState, InstanceStatus, Limits


@pytest.fixture
def layout(tmp_path: Path) -> HostLayout:
    """Return the layout of a host with the instance alpha."""
    layout = HostLayout(tmp_path / "host")
    make_dir(layout.instance("alpha").console_dir)
    layout.instance("alpha").record_path.write_text("{}")
    return layout


@pytest.fixture
def instance(layout: HostLayout) -> InstanceLayout:
    """Return the layout of alpha, whose third run has crashed after two restarts, a minute ago."""
    instance = layout.instance("alpha")
    write_run(instance, restarts=2)
    write_end(instance, "signal killed SEGV", ago=60)
    return instance


def write_run(instance: InstanceLayout, restarts: int) -> None:
    now = time.time()
    record = {
        "run": 3,
        "pid": 2**22,
        "start_ticks": 1,
        "boot_id": read_boot_id(),
        "started_at": now - 70,
        "release": "1",
        "port": 27015,
        "restarted_at": [now - 70] * restarts,
        "restarts": restarts,
    }
    instance.run_path.write_text(json.dumps(record))


def write_end(instance: InstanceLayout, end: str, ago: float) -> float:
    instance.end_path.write_text(end)
    at = time.time() - ago
    os.utime(instance.end_path, (at, at))
    return at


def look(layout: HostLayout) -> InstanceStatus:
    status = runs.read_status(layout.instance("alpha"))
    return ProcessDriver(layout).complete({"alpha": status})["alpha"]


def test_a_restart_is_due_after_a_pause_from_the_crash_on(
    layout: HostLayout, instance: InstanceLayout
) -> None:
    crashed_at = write_end(instance, "signal killed SEGV", ago=1)
    status = look(layout)
    due = status.due_restart
    assert due is not None
    assert (due.number, due.budget) == (3, RESTART_BUDGET)
    assert due.crashed_at == pytest.approx(crashed_at)
    assert due.due_at == pytest.approx(crashed_at + pause_before(3))
    assert (status.state, status.note) == (InstanceState.CRASHED, "")
    assert status.detail.startswith("Crashed (SIGSEGV). It ended without")
    assert status.exit_signal == "SIGSEGV"


@pytest.mark.parametrize("end", [None, ""])
def test_a_crash_of_which_nobody_knows_more_counts_from_when_it_was_first_seen(
    layout: HostLayout, instance: InstanceLayout, end: str | None
) -> None:
    """A game without a PID namespace, or one whose init was killed."""
    write_run(instance, restarts=0)
    if end is None:
        instance.end_path.unlink()
    else:
        instance.end_path.write_text(end)
    before = time.time()
    first = look(layout).due_restart
    assert first is not None
    assert before - 1 < first.crashed_at < time.time() + 1
    assert first.due_at == pytest.approx(first.crashed_at + PAUSE_SECONDS)
    seen_at = write_end(instance, instance.end_path.read_text(), ago=30)
    later = look(layout).due_restart
    assert later is not None
    assert later.crashed_at == pytest.approx(seen_at)


def test_a_clock_that_was_set_back_does_not_put_it_off(
    layout: HostLayout, instance: InstanceLayout
) -> None:
    write_end(instance, "signal killed SEGV", ago=-3600)
    due = look(layout).due_restart
    assert due is not None
    assert due.due_at <= time.time()


def test_where_the_budget_is_spent_it_stays_down_also_tomorrow(
    layout: HostLayout, instance: InstanceLayout
) -> None:
    write_run(instance, restarts=RESTART_BUDGET)
    status = look(layout)
    assert (status.note, status.due_restart) == ("gave up", None)
    assert status.detail.startswith(
        "Crashed (SIGSEGV), gave up after 5 restarts within 10 minutes. "
        "Look at why, then start it: 5 restarts are allowed again. It ended"
    )
    record = json.loads(instance.run_path.read_text())
    day = 86_400
    record["restarted_at"] = [at - day for at in record["restarted_at"]]
    instance.run_path.write_text(json.dumps(record))
    write_end(instance, "signal killed SEGV", ago=60 + day)
    assert look(layout).note == "gave up"


@pytest.mark.parametrize("end", ["success exited 0", "signal killed INT"])
def test_a_game_that_quit_by_itself_stays_down(
    layout: HostLayout, instance: InstanceLayout, end: str
) -> None:
    write_run(instance, restarts=RESTART_BUDGET)
    write_end(instance, end, ago=1)
    assert (look(layout).due_restart, look(layout).note) == (None, "")


def test_settling_calls_off_the_restart_and_how_it_ended_stays_known(
    layout: HostLayout, instance: InstanceLayout
) -> None:
    ProcessDriver(layout).settle(instance)
    instance.end_path.unlink()
    status = look(layout)
    assert (status.due_restart, status.note, status.exit_signal) == (None, "", "SIGSEGV")


def test_a_launch_that_failed_is_not_repeated(
    layout: HostLayout, instance: InstanceLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise HostError("No.")

    monkeypatch.setattr(process_driver, "launch", fail)
    with pytest.raises(HostError, match="No"):
        ProcessDriver(layout).launch(instance, Limits(), {}, Callbacks())
    assert look(layout).due_restart is None


def test_what_was_asked_to_end_or_ended_with_the_host_is_no_crash(
    layout: HostLayout, instance: InstanceLayout
) -> None:
    run = runs.read_run(instance)
    assert run is not None
    runs.mark_stopping(instance, run)
    assert look(layout).due_restart is None
    instance.stop_path.unlink()
    instance.console_stop_path(run.run).unlink()
    assert look(layout).due_restart is not None
    record = json.loads(instance.run_path.read_text())
    instance.run_path.write_text(json.dumps({**record, "boot_id": "another"}))
    assert look(layout).due_restart is None


def test_an_instance_that_is_deleted_meanwhile_is_no_failure(
    layout: HostLayout, instance: InstanceLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def be_late(*_: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(runs, "note_end", be_late)
    assert look(layout).due_restart is None
