"""What is remembered of a run is what its files would say."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from hostops.instances import runs, status_memory
from hostops.instances.status_memory import StatusMemory
from hostops.layout import HostLayout, InstanceLayout
from hostops.linux.files import write_atomically
from hostops.linux.proc_stat import read_boot_id
from hostops.linux.process_identity import read_own_stat
from hostops.specs import InstanceState


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the instances whose files are read, as they are read."""
    looks: list[str] = []
    read_status = runs.read_status

    def note(instance: InstanceLayout) -> Any:
        looks.append(instance.name)
        return read_status(instance)

    monkeypatch.setattr(runs, "read_status", note)
    return looks


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InstanceLayout:
    """Return an instance whose game is this process, and which answers."""
    monkeypatch.setattr(status_memory, "SETTLED_SECONDS", 0.0)
    instance = HostLayout(tmp_path).instance("alpha")
    instance.console_dir.mkdir(parents=True)
    instance.record_path.write_text("{}")
    own = read_own_stat()
    record = {
        "run": 1,
        "pid": own.pid,
        "start_ticks": own.start_ticks,
        "boot_id": read_boot_id(),
        "started_at": 1_767_000_000.5,
        "release": "7",
        "port": 27015,
    }
    write_atomically(instance.run_path, json.dumps(record))
    run = runs.read_run(instance)
    assert run is not None
    runs.mark_ready(instance, run)
    return instance


def test_a_run_that_goes_on_is_looked_at_once(instance: InstanceLayout, looks: list[str]) -> None:
    memory = StatusMemory()
    first = memory.read_status(instance)
    assert (first.state, first.pid) == (InstanceState.RUNNING, os.getpid())
    assert [memory.read_status(instance) for _ in range(3)] == [first] * 3
    assert looks == ["alpha"]


@pytest.mark.parametrize("change", ["asked to stop", "silent", "not ready", "another run", "gone"])
def test_each_change_of_its_records_is_seen_at_once(instance: InstanceLayout, change: str) -> None:
    memory = StatusMemory()
    before = memory.read_status(instance)
    run = runs.read_run(instance)
    assert run is not None
    if change == "asked to stop":
        runs.mark_stopping(instance, run)
    elif change == "silent":
        runs.mark_silent(instance, run, "It does not answer.")
    elif change == "not ready":
        instance.ready_path.unlink()
    elif change == "another run":
        record = json.loads(instance.run_path.read_text()) | {"run": 2}
        write_atomically(instance.run_path, json.dumps(record))
    else:
        instance.record_path.unlink()
    after = memory.read_status(instance)
    assert after == runs.read_status(instance)
    assert after != before


def test_the_end_of_its_process_is_seen_at_once(
    instance: InstanceLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = StatusMemory()
    assert memory.read_status(instance).state is InstanceState.RUNNING
    monkeypatch.setattr(status_memory, "is_alive", lambda *_: False)
    record = json.loads(instance.run_path.read_text()) | {"start_ticks": 1}
    # In place, as nothing does: the folder's times stay the same.
    instance.run_path.write_text(json.dumps(record))
    assert memory.read_status(instance).state is InstanceState.CRASHED


def test_a_folder_that_has_just_changed_is_read_again(
    instance: InstanceLayout, looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_memory, "SETTLED_SECONDS", 60.0)
    memory = StatusMemory()
    memory.read_status(instance)
    memory.read_status(instance)
    assert looks == ["alpha"] * 2


def test_nothing_is_remembered_for_long(
    instance: InstanceLayout, looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_memory, "LONGEST_SECONDS", 0.0)
    memory = StatusMemory()
    memory.read_status(instance)
    memory.read_status(instance)
    assert looks == ["alpha"] * 2
