"""Operations wait for each other, say for whom, and end what a dead one left behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from hostops.callbacks import Callbacks
from hostops.errors import OperationCancelled
from hostops.linux import locks
from hostops.linux.proc_stat import read_boot_id
from hostops.linux.process_identity import ProcessStat, living_processes, read_own_stat
from hostops.specs import CancelToken
from tests.hostops.hosts import REPOSITORY, Output, read_until
from tests.waiting import wait_until

HOLD_AND_RUN = """
import sys
from pathlib import Path
from hostops.callbacks import Callbacks
from hostops.linux.locks import hold
from hostops.linux.process import run
program = "import os, signal; os.write(1, b'child %d\\\\n' % os.getpid()); signal.pause()"
with hold(Path(sys.argv[1]), "install", Callbacks()) as lock:
    run([sys.executable, "-S", "-c", program], environment={}, pass_fds=(lock,),
        on_line=lambda _, line: print(line, flush=True))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "locks" / "host.lock"


def start_holder(path: Path) -> tuple[subprocess.Popen[str], int]:
    """Start a process that holds the lock while a command of its runs; return it and the command's number."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_AND_RUN, str(path)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    return holder, int(read_until(holder, "child").split()[1])


def is_alive(pid: int) -> bool:
    return pid in {process.pid for process in living_processes()}


def test_a_second_one_waits_and_says_for_whom(path: Path) -> None:
    output = Output()
    entered = threading.Event()

    def contend() -> None:
        with locks.hold(path, "start alpha", Callbacks(output.on_line)):
            entered.set()

    thread = threading.Thread(target=contend)
    with locks.hold(path, "install", Callbacks()):
        thread.start()
        wait_until(lambda: output.lines, 5, "the second one said that it waits")
        assert not entered.is_set()
    thread.join()
    assert entered.is_set()
    assert output.lines == [
        ("stdout", f"start alpha: waiting for install (process {os.getpid()}).")
    ]


def test_shared_holders_do_not_keep_each_other_out_but_an_exclusive_one(path: Path) -> None:
    output = Output()
    cancel = CancelToken()
    output.when("waiting", cancel.cancel)
    with (
        locks.hold(path, "start alpha", Callbacks(), shared=True),
        locks.hold(path.parent / "instances" / "alpha.lock", "start alpha", Callbacks()),
        locks.hold(path, "start bravo", Callbacks(), shared=True),
        pytest.raises(OperationCancelled),
        locks.hold(path, "install", Callbacks(output.on_line, cancel=cancel)),
    ):
        pass
    assert output.text == f"install: waiting for start alpha (process {os.getpid()})."


def test_a_command_keeps_the_lock_of_its_dead_starter_until_somebody_comes_and_ends_it(
    path: Path,
) -> None:
    holder, child = start_holder(path)
    holder.kill()
    holder.communicate()
    assert is_alive(child)
    assert locks.is_locked(path)

    output = Output()
    with locks.hold(path, "start alpha", Callbacks(output.on_line), shared=True):
        assert not is_alive(child)
    assert f"Process {child}" in output.errors()
    assert f"left behind when install (process {holder.pid}) died" in output.errors()


def test_a_command_of_a_living_starter_is_left_alone(path: Path) -> None:
    holder, child = start_holder(path)
    output = Output()
    cancel = CancelToken()
    output.when("waiting", cancel.cancel)
    with (
        pytest.raises(OperationCancelled),
        locks.hold(path, "start alpha", Callbacks(output.on_line, cancel=cancel)),
    ):
        pass
    assert is_alive(child)
    os.kill(child, signal.SIGKILL)
    holder.communicate()


def test_a_living_holder_that_has_not_named_itself_yet_is_left_alone(path: Path) -> None:
    output = Output()
    cancel = CancelToken()
    output.when("waiting", cancel.cancel)
    with locks.hold(path, "install", Callbacks()):
        # As if a dead process's name were still there.
        path.write_text(
            '{"pid": 1, "start_ticks": 1, "boot_id": "an earlier one", "purpose": "install"}'
        )
        with (
            pytest.raises(OperationCancelled),
            locks.hold(path, "start alpha", Callbacks(output.on_line, cancel=cancel)),
        ):
            pass
    assert output.text == "start alpha: waiting for another operation on this host."


def test_whoever_took_the_lock_while_orphans_were_looked_for_is_left_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder, child = start_holder(path)
    holder.kill()
    holder.communicate()
    me = read_own_stat()

    def look_too_late() -> Iterator[ProcessStat]:
        # The orphan is gone, and this process holds the lock: anything that has it open is its command.
        newcomer = locks.Holder(me.pid, me.start_ticks, read_boot_id(), "install")
        path.write_text(json.dumps(asdict(newcomer)))
        return living_processes()

    monkeypatch.setattr("hostops.linux.process_identity.living_processes", look_too_late)
    output = Output()
    cancel = CancelToken()
    output.when("waiting", cancel.cancel)
    try:
        with (
            pytest.raises(OperationCancelled),
            locks.hold(path, "start alpha", Callbacks(output.on_line, cancel=cancel)),
        ):
            pass
        assert is_alive(child)
        assert output.text == f"start alpha: waiting for install (process {me.pid})."
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_process_that_got_an_orphans_number_is_not_ended(path: Path) -> None:
    holder, child = start_holder(path)
    try:
        (stat,) = [process for process in living_processes() if process.pid == child]
        gone = stat._replace(start_ticks=stat.start_ticks - 1)
        locks._end_orphans(path, [gone], Callbacks())
        assert is_alive(child)
        locks._end_orphans(path, [stat], Callbacks())
        assert not is_alive(child)
    finally:
        holder.kill()
        holder.communicate()
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def test_a_holder_is_named_only_while_it_holds(path: Path) -> None:
    with locks.hold(path, "install", Callbacks()):
        holder = locks.read_holder(path)
        assert holder is not None
        assert (holder.pid, holder.purpose) == (os.getpid(), "install")
        assert holder.is_alive
    assert locks.read_holder(path) is None


def test_a_process_number_that_is_used_again_is_another_process() -> None:
    me = read_own_stat()
    assert not locks.Holder(me.pid, me.start_ticks - 1, read_boot_id(), "install").is_alive
    assert not locks.Holder(me.pid, me.start_ticks, "another boot", "install").is_alive


def test_an_operation_that_fails_frees_its_lock(path: Path) -> None:
    with pytest.raises(RuntimeError), locks.hold(path, "install", Callbacks()):
        raise RuntimeError
    assert not locks.is_locked(path)
    assert locks.read_holder(path) is None
