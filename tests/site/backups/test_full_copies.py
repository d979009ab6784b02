"""Where overlays cannot be mounted, a backup has what servers wrote to their copies of the game, no more."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from hostops.host import Host
from hostops.instances import disk_usage, tree_manifests
from hostops.layout import HostLayout, InstanceLayout
from hostops.linux import untrusted
from hostops.linux.untrusted import UntrustedFileError
from hostops.specs import InstanceSpec
from l4d2site.backups import archives, host_files
from l4d2site.backups.archives import HOST
from tests.hostops.hosts import end_everything, write_control
from tests.ports import find_free_port

UPPER = f"{HOST}instances/alpha/upper"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a server's copy of a game of two files, to which it has written nothing yet."""
    tree = tmp_path / "host/instances/alpha/tree"
    (tree / "cfg").mkdir(parents=True)
    (tree / "srcds_run").write_text("of the game")
    (tree / "cfg/valve.cfg").write_text("of the game")
    list_as_ours(tree)
    return tree


def list_as_ours(tree: Path) -> None:
    """Write a manifest after which all files of the copy are ours."""
    versions = {
        path.relative_to(tree).as_posix(): [(path.stat().st_size, path.stat().st_mtime_ns)]
        for path in tree.rglob("*")
        if path.is_file()
    }
    tree.with_suffix(".json").write_text(json.dumps(versions))


def back_up(root: Path, said: list[str] | None = None) -> archives.Written:
    """Write the files of a host to an archive beside it, and verify that."""
    path = root.with_name("archive")
    with archives.Writer(path, "") as writer:
        for place in host_files.places(HostLayout(root)):
            writer.add_tree(root, place, (said if said is not None else []).append)
    archives.verify(path, "")
    return writer.written


def names(written: archives.Written) -> set[str]:
    """Return the archive's members of the server, relative to its upper layer, with no folder."""
    return {
        name.removeprefix(f"{UPPER}/")
        for name, digest in written.digests.items()
        if digest and name.startswith(f"{UPPER}/")
    }


def put_back(root: Path) -> None:
    """Lose the files of a host's servers, and put those of the archive back."""
    (root / "instances").rename(root.with_name("lost"))
    with archives.members(root.with_name("archive"), "") as found:
        for info, content in found:
            if info.name.startswith(HOST):
                info.name = info.name.removeprefix(HOST)
                host_files.put(root, info, content)


def test_what_the_server_wrote_and_changed_is_in_it_and_what_is_ours_is_not(tree: Path) -> None:
    (tree / "cfg/valve.cfg").write_text("changed by the server")
    (tree / "logs").mkdir()
    (tree / "logs/1.log").write_text("mine")
    (tree / "link").symlink_to("/etc/passwd")
    os.mkfifo(tree / "pipe")
    written = back_up(tree.parents[2])
    assert names(written) == {"cfg/valve.cfg", "logs/1.log"}
    assert f"{UPPER}/link" in written.digests
    assert written.skipped == ["instances/alpha/tree/pipe is neither a file, a folder nor a link."]
    assert not written.incomplete


def test_a_file_that_a_start_is_just_copying_is_not_in_it(tree: Path) -> None:
    """A start that was killed leaves it there."""
    for path in (".srcds_run.copying", "cfg/.valve.cfg.copying"):
        (tree / path).write_text("half of th")
    # Not what the host layer would call a copy of its own files.
    for path in ("cfg/.srcds_run.copying", "cfg/.mine.copying", "cfg/valve.cfg.copying"):
        (tree / path).write_text("mine")
    written = back_up(tree.parents[2])
    assert names(written) == {
        "cfg/.srcds_run.copying",
        "cfg/.mine.copying",
        "cfg/valve.cfg.copying",
    }
    assert not written.incomplete


def test_a_game_cannot_hide_a_large_file_by_the_name_of_an_unfinished_copy(tree: Path) -> None:
    (tree / ".srcds_run.copying").write_text("of the game, and more")
    assert names(back_up(tree.parents[2])) == {".srcds_run.copying"}
    instance = InstanceLayout(tree.parents[2], "alpha")
    assert disk_usage.own_bytes(instance) >= len("of the game, and more")


def test_what_is_in_both_is_taken_from_the_copy_and_each_path_once(tree: Path) -> None:
    """As a host does once it can mount overlays: see `fold_tree`."""
    upper = tree.with_name("upper")
    for path in ("file", "in/both/older", "folder/inside/deep", "only/before"):
        (upper / path).parent.mkdir(parents=True, exist_ok=True)
        (upper / path).write_text("before")
    (upper / "above").write_text("before")
    (upper / "in").chmod(0o700)
    (upper / "empty").mkdir()
    for path in ("file", "in/both/newer", "folder", "above/it"):
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text("now")
    root = tree.parents[2]
    back_up(root)
    with archives.members(root.with_name("archive"), "") as found:
        members = [info.name for info, _content in found]
    assert len(members) == len({*members})
    put_back(root)
    back = root / "instances/alpha/upper"
    assert {
        str(path.relative_to(back)): path.is_dir() or path.read_text() for path in back.rglob("*")
    } == {
        "file": "now",
        "in": True,
        "in/both": True,
        "in/both/older": "before",
        "in/both/newer": "now",
        "folder": "now",
        "only": True,
        "only/before": "before",
        "above": True,
        "above/it": "now",
        "empty": True,
    }
    assert (back / "in").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("content", ["[]", "", '{"srcds_run": 1}', None])
def test_if_nobody_knows_what_is_ours_nothing_is_left_out(
    tree: Path, content: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = tree.with_suffix(".json")
    if content is None:
        monkeypatch.setattr(tree_manifests, "_MAX_MANIFEST_BYTES", 10)
    else:
        manifest.write_text(content)
    (tree / "mine").write_text("mine")
    said: list[str] = []
    written = back_up(tree.parents[2], said)
    assert names(written) == {"mine", "srcds_run", "cfg/valve.cfg"}
    [text] = said
    assert text.startswith("tree.json does not tell which files of alpha are ours (")
    assert text.endswith(
        ": the backup has its whole copy of the game. Restart the server to have them listed again."
    )
    assert not written.incomplete


def test_without_a_manifest_all_of_the_copy_is_the_servers(tree: Path) -> None:
    """A start makes the copy from the upper layer before it writes the manifest."""
    tree.with_suffix(".json").unlink()
    said: list[str] = []
    assert names(back_up(tree.parents[2], said)) == {"srcds_run", "cfg/valve.cfg"}
    assert not said


def test_what_a_start_copies_meanwhile_is_ours(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lists a version before it copies it."""
    (tree / "a").write_text("mine")
    stat_at = untrusted.stat_at

    def stat_late(folder: int, name: str) -> os.stat_result:
        if name == "srcds_run":
            (tree / "srcds_run").write_text("of a later game")
            (tree / "a").rename(tree / "away")
            list_as_ours(tree)
        return stat_at(folder, name)

    monkeypatch.setattr(untrusted, "stat_at", stat_late)
    assert names(back_up(tree.parents[2])) == {"a"}


def test_a_game_that_changes_the_manifest_all_the_time_does_not_hold_up_a_backup(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        (tree / f"mine-{number}").write_text("mine")
    read = Mock(wraps=tree_manifests.read_manifest)

    def read_and_change(*arguments: object) -> object:
        known = read(*arguments)
        os.utime(tree.with_suffix(".json"), ns=(read.call_count, read.call_count))
        return known

    monkeypatch.setattr(tree_manifests, "read_manifest", read_and_change)
    assert len(names(back_up(tree.parents[2]))) == 20
    assert read.call_count == tree_manifests._MOST_READS


def test_that_a_file_is_the_servers_own_is_told_without_opening_anything(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be many of them, and the worker measures them beside other work."""
    own_files = tree_manifests.OwnFiles(InstanceLayout(tree.parents[2], "alpha"), Mock())
    status = tree.stat()
    assert own_files.is_own("mine", status)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", Mock(side_effect=AssertionError))
        assert all(own_files.is_own(f"mine-{number}", status) for number in range(20))


def test_what_cannot_be_opened_is_told_with_its_place_in_the_copy(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "mine").write_text("mine")
    (tree / "theirs").write_text("mine")
    open_at = untrusted.open_at

    def open_or_refuse(folder: int, name: str, *options: int) -> int:
        if name in ("mine", "theirs"):
            raise UntrustedFileError("Not now.")
        return open_at(folder, name, *options)

    monkeypatch.setattr(untrusted, "open_at", open_or_refuse)
    text = "instances/alpha/tree/mine cannot be opened: Not now. And 1 more in instances/alpha."
    assert back_up(tree.parents[2]).incomplete == [text]


def test_a_copy_that_is_a_link_is_not_followed_but_told(tree: Path) -> None:
    tree.rename(tree.parents[3] / "elsewhere")
    tree.symlink_to(tree.parents[3] / "elsewhere")
    tree.with_suffix(".json").unlink()
    written = back_up(tree.parents[2])
    assert not written.digests
    [text] = written.incomplete
    assert text.startswith("instances/alpha/tree cannot be opened: alpha/tree is a symbolic link")


def test_an_overlay_may_have_the_names_of_a_server_and_of_its_copy(tree: Path) -> None:
    (tree / "mine").write_text("mine")
    root = tree.parents[2]
    (root / "overlays/alpha/tree").mkdir(parents=True)
    (root / "overlays/alpha/tree/a.cfg").write_text("an overlay's")
    digests = back_up(root).digests
    overlays = {name for name in digests if name.startswith(f"{HOST}overlays/")}
    assert overlays == {f"{HOST}overlays/alpha{path}" for path in ("", "/tree", "/tree/a.cfg")}


def test_what_a_start_moves_to_the_upper_layer_meanwhile_is_in_it_once(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host can mount overlays now."""
    (tree / "mine").write_text("mine")
    upper = tree.with_name("upper")
    upper.mkdir()
    read = host_files._read

    def read_and_move(*arguments: Any) -> Iterator[Any]:
        yield from read(*arguments)
        if (tree / "mine").exists():
            (tree / "mine").rename(upper / "mine")

    monkeypatch.setattr(host_files, "_read", read_and_move)
    assert names(back_up(tree.parents[2])) == {"mine"}
    assert (upper / "mine").exists()
    put_back(tree.parents[2])  # It refuses a file that is there already.


def test_a_link_that_becomes_a_file_meanwhile_is_taken_as_gone(tree: Path) -> None:
    (tree / "link").symlink_to("there")
    status = (tree / "link").lstat()
    folder = os.open(tree, os.O_RDONLY)
    try:
        with pytest.raises(FileNotFoundError):
            host_files._entry(folder, "srcds_run", "name", status)
    finally:
        os.close(folder)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """Return the root of a host with nothing on it."""
    root = tmp_path / "host"
    root.mkdir()
    write_control(root)
    yield root
    end_everything(root)


def test_a_server_finds_what_it_wrote_on_another_machine(root: Path) -> None:
    host = Host(root, game_source="simulator", stop_timeout_seconds=2, layering="copy")
    host.install_runtime()
    spec = InstanceSpec("alpha", find_free_port(), config='hostname "Alpha"\n')
    host.initialize(spec)
    host.start("alpha")
    tree = root / "instances/alpha/tree"
    (tree / "left4dead2/cfg/mine.cfg").write_text("written to the copy\n")
    written = back_up(root)  # While it runs.
    assert "left4dead2/cfg/mine.cfg" in names(written)
    assert not {"srcds_run", "left4dead2/cfg/server.cfg"} & names(written)
    host.stop("alpha")

    put_back(root)
    assert not tree.exists()
    host.initialize(spec)
    host.start("alpha")
    assert (tree / "left4dead2/cfg/mine.cfg").read_text() == "written to the copy\n"
    assert (tree / "srcds_run").is_file()
    host.stop("alpha")
