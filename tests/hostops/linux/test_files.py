"""Files are replaced, copied and removed so that half a file is never mistaken for a whole one."""

import os
from pathlib import Path

import pytest

from hostops.errors import OperationCancelled
from hostops.linux import files
from hostops.specs import CancelToken


def test_a_file_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.json"
    files.write_atomically(path, "old")
    assert path.stat().st_mode & 0o777 == 0o600

    def fail(_descriptor: int) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        files.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".run.json-abcd").touch()
    (tmp_path / "run.json").touch()
    files.remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_link_is_removed_and_not_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "outside" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "outside")
    files.remove_tree(tmp_path / "link")
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]


def test_folders_that_nobody_may_enter_are_removed(tmp_path: Path) -> None:
    closed = tmp_path / "tree" / "work" / "work"
    (closed / "inner").mkdir(parents=True)
    closed.chmod(0)
    files.remove_tree(tmp_path / "tree")
    files.remove_tree(tmp_path / "tree")  # It may be missing.
    assert not list(tmp_path.iterdir())


def test_a_copy_keeps_modes_times_and_links_and_shares_nothing(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "folder" / "empty").mkdir(parents=True)
    (source / "program").write_text("program")
    (source / "program").chmod(0o755)
    os.utime(source / "program", ns=(1, 10**18 + 1))
    (source / "folder" / "link").symlink_to("../program")
    percents: list[int] = []
    files.copy_tree(source, tmp_path / "target", CancelToken(), percents.append)

    copied = (tmp_path / "target" / "program").stat()
    assert (copied.st_mode & 0o777, copied.st_mtime_ns, copied.st_nlink) == (0o755, 10**18 + 1, 1)
    assert (tmp_path / "target" / "folder" / "link").readlink() == Path("../program")
    assert (tmp_path / "target" / "folder" / "empty").is_dir()
    assert percents[-1] == 100


def test_an_interrupted_copy_goes_on_where_it_was(tmp_path: Path) -> None:
    source, target, cancel = tmp_path / "source", tmp_path / "target", CancelToken()
    source.mkdir()
    for number in range(10):
        (source / f"file-{number}").write_text("x" * 100)

    def cancel_half_way(percent: int) -> None:
        if percent == 50:
            cancel.cancel()

    with pytest.raises(OperationCancelled):
        files.copy_tree(source, target, cancel, cancel_half_way)
    first = {path: path.stat().st_ino for path in target.iterdir()}
    assert len(first) == 5
    files.copy_tree(source, target, CancelToken(), lambda _percent: None)
    assert len(list(target.iterdir())) == 10
    assert {path: path.stat().st_ino for path in first} == first


def test_half_a_file_never_stands_under_its_name(tmp_path: Path) -> None:
    cancel = CancelToken()
    cancel.cancel()
    (tmp_path / "source").write_text("x")
    with pytest.raises(OperationCancelled):
        files.copy_file(tmp_path / "source", tmp_path / "target", cancel)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_link_is_switched_also_over_what_a_crash_left(tmp_path: Path) -> None:
    link = tmp_path / "current"
    (tmp_path / ".current.new").symlink_to("releases/0")
    files.switch_symlink(link, "releases/1")
    files.switch_symlink(link, "releases/2")
    assert link.readlink() == Path("releases/2")
    assert list(tmp_path.iterdir()) == [link]
