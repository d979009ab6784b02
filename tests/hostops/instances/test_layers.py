"""Generated layers are named by their content, and what hides them in the upper layer is moved aside."""

import os
import stat
from pathlib import Path

import pytest

from hostops.callbacks import Callbacks
from hostops.instances.layers import generate_layer, list_generated, prune_layers, uncover
from tests.hostops.hosts import Output

CONFIG = "left4dead2/cfg/server.cfg"


def test_a_layer_is_made_once_and_named_by_its_content(tmp_path: Path) -> None:
    first = generate_layer(tmp_path, {CONFIG: b"hostname a\n"})
    made_at = (tmp_path / first / CONFIG).stat().st_mtime_ns
    assert generate_layer(tmp_path, {CONFIG: b"hostname a\n"}) == first
    assert (tmp_path / first / CONFIG).stat().st_mtime_ns == made_at
    second = generate_layer(tmp_path, {CONFIG: b"hostname b\n"})
    assert second != first
    assert list_generated(tmp_path / second) == [CONFIG]


def test_half_a_layer_is_made_again(tmp_path: Path) -> None:
    name = generate_layer(tmp_path / "other", {CONFIG: b"a\n"})
    (tmp_path / f".{name}.new" / "left4dead2").mkdir(parents=True)
    assert generate_layer(tmp_path, {CONFIG: b"a\n"}) == name
    assert (tmp_path / name / CONFIG).read_text() == "a\n"


def test_unused_layers_are_removed(tmp_path: Path) -> None:
    old = generate_layer(tmp_path, {CONFIG: b"a\n"})
    new = generate_layer(tmp_path, {CONFIG: b"b\n"})
    prune_layers(tmp_path, {new})
    assert [path.name for path in tmp_path.iterdir()] == [new]
    assert old != new


def test_the_servers_own_file_is_moved_aside_and_kept(tmp_path: Path) -> None:
    own = tmp_path / CONFIG
    own.parent.mkdir(parents=True)
    own.write_text("hostname mine\n")
    output = Output()
    uncover(tmp_path, [CONFIG], Callbacks(output.on_line))
    (saved,) = own.parent.iterdir()
    assert saved.name.startswith("server.cfg.saved-")
    assert saved.read_text() == "hostname mine\n"
    assert f"kept as {saved.name}" in output.errors()


def test_a_whiteout_of_ours_is_removed(tmp_path: Path) -> None:
    own = tmp_path / CONFIG
    own.parent.mkdir(parents=True)
    os.mknod(own, stat.S_IFCHR, 0)
    uncover(tmp_path, [CONFIG], Callbacks())
    assert not list(own.parent.iterdir())


def test_a_folder_that_hides_those_below_it_is_opened(tmp_path: Path) -> None:
    folder = (tmp_path / CONFIG).parent
    folder.mkdir(parents=True)
    (folder / "other.cfg").touch()
    os.setxattr(folder, "user.overlay.opaque", b"y")
    uncover(tmp_path, [CONFIG], Callbacks())
    assert not os.listxattr(folder)
    assert (folder / "other.cfg").exists()


@pytest.mark.parametrize("in_the_way", ["left4dead2", "left4dead2/cfg"])
def test_what_stands_in_the_place_of_a_folder_is_moved_aside(
    tmp_path: Path, in_the_way: str
) -> None:
    path = tmp_path / in_the_way
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("/etc")
    uncover(tmp_path, [CONFIG], Callbacks())
    assert not path.is_symlink()
    assert Path("/etc").is_dir()
