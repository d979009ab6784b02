"""What ends a server or frees space works where the disk has room for nothing: a game can fill it."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from hostops.callbacks import Callbacks
from hostops.errors import HostError
from hostops.host import Host
from hostops.instances import runs
from hostops.linux import locks
from hostops.specs import InstanceSpec, InstanceState
from tests.hostops.hosts import Output, game_processes, instance_of, kill_games
from tests.waiting import wait_until

Fill = Callable[[], AbstractContextManager[None]]


@pytest.fixture(params=["blocks", "files"])
def full_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Fill:
    """Return a block in which this process finds no free block on any disk, or cannot even make a file."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    make_folder, open_file = os.mkdir, os.open

    def make_no_folder(path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        make_folder(path, mode, dir_fd=dir_fd)
        os.rmdir(path, dir_fd=dir_fd)
        refuse()

    def open_only(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_EXCL:
            # Raises FileExistsError where there is one.
            os.close(open_file(path, flags, mode, dir_fd=dir_fd))
            os.unlink(path, dir_fd=dir_fd)
            refuse()
        return open_file(path, flags & ~os.O_CREAT, mode, dir_fd=dir_fd)

    @contextmanager
    def fill() -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(os, "mkdir", make_no_folder)
            patch.setattr(os, "pwrite", refuse)
            patch.setattr(tempfile, "mkstemp", refuse)
            if request.param == "files":
                patch.setattr(os, "open", open_only)
            yield

    return fill


def test_a_server_is_stopped(
    host: Host, root: Path, alpha: Path, full_disk: Fill, request: pytest.FixtureRequest
) -> None:
    host.start("alpha")
    output = Output()
    with full_disk():
        host.stop("alpha", on_line=output.on_line)
        assert not game_processes(root)
        status = host.status("alpha")
    # An empty file can be made, and says that this was no crash; if not even that, somebody is told.
    is_noted = request.node.callspec.params["full_disk"] == "blocks"
    assert status.state is (InstanceState.STOPPED if is_noted else InstanceState.CRASHED)
    assert ("will be taken for a crash" in output.errors()) is not is_noted
    host.start("alpha")  # Nor does the next run count it as a crash.
    assert (host.status("alpha").crashed_runs == ()) is is_noted


def test_a_crashed_server_is_stopped(host: Host, root: Path, alpha: Path, full_disk: Fill) -> None:
    host.start("alpha")
    kill_games(root)
    wait_until(lambda: not game_processes(root), 5, "the game has not ended")
    output = Output()
    with full_disk():
        host.stop("alpha", on_line=output.on_line)
    assert "stop it once more" in output.errors()
    host.stop("alpha")
    assert host.status("alpha").state is InstanceState.STOPPED


def test_a_server_is_reset(host: Host, root: Path, alpha: Path, full_disk: Fill) -> None:
    host.start("alpha")
    (alpha / "upper" / "flood").write_text("fills the disk")
    with full_disk():
        host.reset("alpha")
        assert not list(root.glob("instances/.deleting*"))
        assert not game_processes(root)
    host.start("alpha")
    assert not (alpha / "upper" / "flood").exists()


def test_a_server_is_deleted(host: Host, root: Path, alpha: Path, full_disk: Fill) -> None:
    host.start("alpha")
    with full_disk():
        host.delete("alpha")
    assert not list((root / "instances").iterdir())
    assert not game_processes(root)


def test_versions_that_nobody_needs_are_removed(host: Host, root: Path, full_disk: Fill) -> None:
    (root / "versions").mkdir()
    host.prune_content()
    with full_disk():
        assert host.prune_content() is not None


def test_an_operation_that_needs_room_says_so(
    host: Host, alpha: Path, spec: InstanceSpec, full_disk: Fill
) -> None:
    with full_disk(), pytest.raises(HostError, match="Reset or delete servers"):
        host.initialize(spec)


def test_the_facts_of_a_host_say_so_too(host: Host, full_disk: Fill) -> None:
    """They try a mount, below a folder that is made for it."""
    host._machine._forced_layering = None
    with full_disk(), pytest.raises(HostError, match="Reset or delete servers"):
        host.facts()


def test_states_are_told_though_an_answer_cannot_be_recorded(
    host: Host, alpha: Path, full_disk: Fill
) -> None:
    host.start("alpha")
    run = runs.read_run(instance_of(host._layout.root))
    assert run is not None
    with full_disk():
        status = host.status("alpha")
        host._status_reader._note_answer(status, does_answer=True)


def test_a_lock_that_commands_inherit_is_not_held_without_a_name(
    tmp_path: Path, full_disk: Fill
) -> None:
    """Others would take the command of a nameless holder for an orphan, and end it."""
    (path := tmp_path / "host.lock").touch()
    with (
        full_disk(),
        pytest.raises(OSError, match="No space"),
        locks.hold(path, "install", Callbacks()),
    ):
        pass
