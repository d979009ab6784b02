"""What a game wrote is opened only as what it should be, only inside its folder, and without waiting."""

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hostops.errors import HostError
from hostops.linux import files, untrusted
from hostops.linux.untrusted import UntrustedFileError
from hostops.specs import CancelToken
from tests.hostops.hosts import REPOSITORY

SECRET = b"of somebody else"


@pytest.fixture(params=["openat2", "one component after the other"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    way = {
        "openat2": untrusted._open_at_once,
        "one component after the other": untrusted._open_step_by_step,
    }
    monkeypatch.setattr(untrusted, "_open_beneath", way[request.param])


@pytest.fixture
def top(tmp_path: Path) -> Path:
    top = tmp_path / "instances"
    (top / "alpha" / "console").mkdir(parents=True)
    (tmp_path / "outside" / "console").mkdir(parents=True)
    for path in (tmp_path / "outside" / "1.log", tmp_path / "outside" / "console" / "1.log"):
        path.write_bytes(SECRET)
    return top


def link_to_file(target: Path) -> None:
    target.symlink_to(target.parents[3] / "outside" / "1.log")


def relative_link(target: Path) -> None:
    target.symlink_to("../../../outside/1.log")


def link_within(target: Path) -> None:
    (target.parent / "2.log").write_bytes(b"its own")
    target.symlink_to("2.log")


def link_to_itself(target: Path) -> None:
    target.symlink_to(target.name)


def magic_link(target: Path) -> None:
    target.symlink_to("/proc/self/fd/0")


def linked_folder(target: Path) -> None:
    target.parent.rmdir()
    target.parent.symlink_to(target.parents[3] / "outside" / "console")


def linked_folder_further_up(target: Path) -> None:
    target.parent.rmdir()
    target.parents[1].rmdir()
    target.parents[1].symlink_to(target.parents[3] / "outside")


def file_for_folder(target: Path) -> None:
    target.parent.rmdir()
    target.parent.write_bytes(b"")


def fifo(target: Path) -> None:
    os.mkfifo(target)


def folder(target: Path) -> None:
    target.mkdir()


def listening_socket(target: Path) -> None:
    # Bound by a relative name: a path has at most a hundred bytes.
    subprocess.run(
        [sys.executable, "-c", "import socket; socket.socket(1).bind('s')"],
        cwd=target.parent,
        check=True,
    )
    (target.parent / "s").rename(target)


def device(target: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a device; the others are tried in its place")
    os.mknod(target, stat.S_IFCHR | 0o600, os.makedev(1, 3))


def too_large(target: Path) -> None:
    with target.open("wb") as file:
        file.truncate(2**40)


ATTACKS = [
    link_to_file,
    relative_link,
    link_within,
    link_to_itself,
    magic_link,
    linked_folder,
    linked_folder_further_up,
    file_for_folder,
    fifo,
    folder,
    listening_socket,
    device,
    too_large,
]


@pytest.mark.usefixtures("_way")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_it_refuses_what_is_not_a_file_of_ours(top: Path, attack: Callable[[Path], None]) -> None:
    target = top / "alpha" / "console" / "1.log"
    attack(target)
    with pytest.raises(UntrustedFileError):
        untrusted.read_file(target, top, 1000)


def test_nobody_is_told_to_remove_what_another_account_keeps_to_itself(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_pinned: str, _flags: int) -> int:  # To root, nothing is closed.
        raise PermissionError(errno.EACCES, "Permission denied")

    folder = os.open(top, os.O_RDONLY)
    try:
        # Only for this: pytest opens `top` to remove it, since Python 3.13.
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", refuse)
            with pytest.raises(UntrustedFileError) as caught:
                untrusted.open_folder_at(folder, "alpha")
    finally:
        os.close(folder)
    assert str(caught.value) == "alpha may not be opened. Give it to the account that runs this."


@pytest.mark.usefixtures("_way")
@pytest.mark.parametrize(
    "path", ["../outside/1.log", "alpha/../../outside/1.log", "alpha//x", "", "."]
)
def test_it_refuses_a_path_that_leaves_its_folder(top: Path, path: str) -> None:
    folder = os.open(top, os.O_RDONLY)
    try:
        with pytest.raises(UntrustedFileError, match="is not a path within a folder"):
            untrusted.pin(folder, path)
    finally:
        os.close(folder)


@pytest.mark.usefixtures("_way")
def test_it_reads_a_file_and_tells_a_missing_one(top: Path) -> None:
    target = top / "alpha" / "console" / "1.log"
    with pytest.raises(FileNotFoundError):
        untrusted.read_file(target, top)
    target.write_bytes(b"ours")
    assert untrusted.read_file(target, top) == b"ours"
    longest = target.with_name("x" * 255)
    longest.write_bytes(b"long")
    assert untrusted.read_file(longest, top) == b"long"
    with pytest.raises(UntrustedFileError, match="too long"):
        untrusted.read_file(target.with_name("x" * 256), top)


@pytest.mark.timeout(20)
def test_it_does_not_wait_for_a_program_that_holds_a_lease(top: Path) -> None:
    target = top / "alpha" / "console" / "1.log"
    target.write_bytes(b"ours")
    program = (
        "import fcntl, os, signal, sys; file = os.open(sys.argv[1], os.O_RDWR);"
        "signal.signal(signal.SIGIO, signal.SIG_IGN);"
        "fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK); print('held', flush=True); signal.pause()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, target], stdout=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(UntrustedFileError, match="is held by a program"):
                untrusted.read_file(target, top)
        finally:
            holder.kill()


def test_where_the_kernel_has_no_openat2_it_goes_on_without(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_folder: int, _parts: list[str]) -> int:
        raise OSError(errno.ENOSYS, "no such call")

    monkeypatch.setattr(untrusted, "_open_at_once", refuse)
    monkeypatch.setattr(untrusted, "_open_beneath", refuse)
    (top / "alpha" / "file").write_bytes(b"ours")
    assert untrusted.read_file(top / "alpha" / "file", top) == b"ours"


def test_a_file_is_made_only_in_its_own_folder(top: Path, tmp_path: Path) -> None:
    os.close(untrusted.create_file(top / "alpha" / "run.lock", top))
    assert (top / "alpha" / "run.lock").stat().st_mode & 0o777 == 0o600
    (top / "alpha" / "link").symlink_to(tmp_path / "made")
    with pytest.raises(UntrustedFileError, match="link is a symbolic link"):
        untrusted.create_file(top / "alpha" / "link", top)
    assert not (tmp_path / "made").exists()
    (top / "beta").symlink_to(tmp_path / "outside")
    with pytest.raises(UntrustedFileError):
        untrusted.require_folder(top / "beta", top)
    with pytest.raises(UntrustedFileError):
        untrusted.create_file(top / "beta" / "run.lock", top)
    assert not (tmp_path / "outside" / "run.lock").exists()


def test_a_folder_of_too_many_files_is_not_gone_through(top: Path) -> None:
    for number in range(20):
        (top / "alpha" / "console" / str(number)).touch()
    with untrusted.open_folder(top, top) as opened:
        assert len(list(untrusted.walk(opened, max_entries=22))) == 20
        with pytest.raises(UntrustedFileError, match="holds more than"):
            list(untrusted.walk(opened, max_entries=21))


def test_a_walk_follows_no_link_and_opens_what_is_closed(top: Path, tmp_path: Path) -> None:
    (top / "alpha" / "link").symlink_to(tmp_path / "outside")
    (top / "alpha" / "closed").mkdir()
    (top / "alpha" / "closed" / "file").touch()
    (top / "alpha" / "closed").chmod(0)
    with untrusted.open_folder(top, top) as opened:
        found = [path for path, _ in untrusted.walk(opened, opens_up=True)]
    assert found == ["alpha/link", "alpha/closed/file"]


def test_what_is_moved_aside_keeps_apart_and_within_a_names_length(top: Path) -> None:
    name = "ä" * 127
    with untrusted.open_folder(top / "alpha", top) as opened:
        saved = []
        for number in range(3):
            (top / "alpha" / name).write_text(str(number))
            saved.append(untrusted.save_aside(opened, name, "20261126"))
    assert [(top / "alpha" / each).read_text() for each in saved] == ["0", "1", "2"]


DEEP = 1050
"""Nested folders: a longer path than is allowed, and deeper than Python recurses."""


@pytest.fixture
def deep_tree(tmp_path: Path) -> Iterator[Path]:
    tree = tmp_path / "tree"
    tree.mkdir()
    current = os.open(tree, os.O_RDONLY)
    for level in range(DEEP):
        os.mkdir("deep", 0o700, dir_fd=current)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=current))
        inner = os.open("deep", os.O_RDONLY, dir_fd=current)
        if level % 2:
            os.fchmod(current, 0)
        os.close(current)
        current = inner
    os.close(current)
    yield tree
    files.remove_tree(tree)


def test_a_tree_of_any_depth_is_removed(deep_tree: Path, tmp_path: Path) -> None:
    (deep_tree / "link").symlink_to(tmp_path)
    (deep_tree / ".1").write_text("a name that is taken")
    (deep_tree / ".2").mkdir()
    files.remove_tree(deep_tree)
    assert list(tmp_path.iterdir()) == []


def test_a_walk_through_a_tree_that_is_too_deep_ends_with_a_reason(tmp_path: Path) -> None:
    """Twenty names of the greatest length make a longer path than the kernel accepts."""
    opened = current = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(20):
            os.mkdir("x" * 255, 0o700, dir_fd=current)
            inner = os.open("x" * 255, os.O_RDONLY, dir_fd=current)
            if current != opened:
                os.close(current)
            current = inner
        os.close(current)
        with pytest.raises(UntrustedFileError, match="too long"):
            list(untrusted.walk(opened, opens_up=True))
    finally:
        os.close(opened)
        files.remove_tree(tmp_path / ("x" * 255))


def test_a_folder_that_fills_again_while_it_is_removed_is_removed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    (tree / "inner").mkdir(parents=True)
    rmdir, left = os.rmdir, [1, 2, 3, 4]

    def fill_and_remove(name: str, *, dir_fd: int) -> None:
        if left:
            os.close(os.open(f"{name}/{left.pop()}", os.O_CREAT, dir_fd=dir_fd))
        rmdir(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "rmdir", fill_and_remove)
    files.remove_tree(tree)
    assert not left
    assert not tree.exists()


def test_a_folder_that_never_gets_empty_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tree").mkdir()

    def fill(name: str, *, dir_fd: int) -> None:
        os.close(os.open(f"{name}/file", os.O_CREAT, dir_fd=dir_fd))
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))

    monkeypatch.setattr(os, "rmdir", fill)
    with pytest.raises(UntrustedFileError, match="a program goes on writing there"):
        files.remove_tree(tmp_path / "tree")


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR])
def test_a_file_that_its_game_has_closed_to_its_owner_is_opened(top: Path, flags: int) -> None:
    path = top / "alpha" / "console" / "1.log"
    path.write_text("console")
    path.chmod(0)
    os.close(untrusted.open_file(path, top, flags))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_may_be_opened_keeps_its_mode(top: Path) -> None:
    path = top / "alpha" / "read-only"
    path.write_text("config")
    path.chmod(0o444)
    assert untrusted.read_file(path, top) == b"config"
    assert stat.S_IMODE(path.stat().st_mode) == 0o444


@pytest.mark.parametrize("kind", [fifo, listening_socket, folder], ids=lambda kind: kind.__name__)
def test_only_files_and_links_are_copied(tmp_path: Path, kind: Callable[[Path], None]) -> None:
    kind(tmp_path / "source")
    with pytest.raises(UntrustedFileError, match="where a file belongs"):
        files.copy_file(tmp_path / "source", tmp_path / "target", CancelToken())
    assert not (tmp_path / "target").exists()


def test_a_name_of_the_greatest_length_is_copied(tmp_path: Path) -> None:
    (tmp_path / ("x" * 255)).write_text("content")
    files.copy_file(tmp_path / ("x" * 255), tmp_path / ("y" * 255), CancelToken())
    assert (tmp_path / ("y" * 255)).read_text() == "content"


@pytest.fixture
def _copies_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_share_blocks", lambda *_: False)


@pytest.mark.usefixtures("_copies_blocks")
def test_a_hole_larger_than_the_disk_is_copied_as_a_hole(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.write(b"the beginning")
        file.seek(2**42)
        file.write(b"the middle")
        file.truncate(2**43)
    files.copy_file(source, target, CancelToken())
    assert target.stat().st_size == 2**43
    assert target.stat().st_blocks <= source.stat().st_blocks
    with target.open("rb") as file:
        assert file.read(14) == b"the beginning\0"
        file.seek(2**42)
        assert file.read(11) == b"the middle\0"


@pytest.mark.usefixtures("_copies_blocks")
def test_a_file_that_takes_more_than_is_free_is_not_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").write_bytes(b"x" * 65536)
    full = os.statvfs_result((4096, 4096, 100, 8, 8, 100, 50, 50, 0, 255))
    monkeypatch.setattr(os, "fstatvfs", lambda _: full)
    with pytest.raises(HostError, match="more than are free"):
        files.copy_file(tmp_path / "source", tmp_path / "target", CancelToken())
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.skipif(os.geteuid() != 0, reason="is an unprivileged user already")
def test_all_of_this_holds_for_an_unprivileged_user_too(tmp_path: Path) -> None:
    """Root gets through where others do not, such as folders of mode 000: here it has no capability."""
    done = subprocess.run(
        [
            *("setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable),
            *("-m", "pytest", "-q", "-p", "no:cacheprovider"),
            # In the folder of all runs it would clear away what others left, while they do the same.
            f"--basetemp={tmp_path / 'inner'}",
            *("-k", "not unprivileged and not device", __file__),
        ],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
