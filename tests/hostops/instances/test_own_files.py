"""A server's own files that hide managed files are moved aside, those that hide seeds stay; none is lost."""

import json
import os
import stat
from collections.abc import Collection
from pathlib import Path

import pytest

from hostops.callbacks import Callbacks
from hostops.instances.own_files import OverlayFiles, Whose, tell_of_kept
from hostops.layout import HostLayout
from tests.hostops.hosts import Output

VERSION = f"mods@1-{'a' * 64}"
OTHER = f"other@1-{'b' * 64}"
PLUGIN = "left4dead2/addons/sourcemod/plugins/a.smx"
CONFIG = "left4dead2/cfg/a.cfg"


@pytest.fixture
def layout(tmp_path: Path) -> HostLayout:
    layout = HostLayout(tmp_path)
    lay(layout, VERSION, PLUGIN, CONFIG)
    return layout


@pytest.fixture
def upper(tmp_path: Path) -> Path:
    upper = tmp_path / "instances" / "alpha" / "upper"
    upper.mkdir(parents=True)
    return upper


def lay(layout: HostLayout, overlay: str, *paths: str) -> None:
    for path in paths:
        write(layout.overlay_folder(overlay) / path, f"{overlay} has it")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def uncover(
    layout: HostLayout,
    upper: Path,
    *overlays: str,
    output: Output | None = None,
    ours: Collection[str] = (),
) -> list[str]:
    overlays = overlays or (VERSION,)
    callbacks = Callbacks((output or Output()).on_line)
    return OverlayFiles(layout, overlays, ours=ours).uncover(upper, callbacks)


def names_in(upper: Path) -> list[str]:
    return sorted(str(path.relative_to(upper)) for path in upper.rglob("*") if not path.is_dir())


def test_the_last_file_that_gave_way_is_kept_and_told(layout: HostLayout, upper: Path) -> None:
    output = Output()
    for text in ("first", "second"):
        write(upper / PLUGIN, text)
        assert uncover(layout, upper, output=output) == []
    assert names_in(upper) == [f"{PLUGIN}.own"]
    assert (upper / f"{PLUGIN}.own").read_text() == "second"
    assert f"had its own {PLUGIN};" in output.errors()
    assert "kept as a.smx.own" in output.errors()


def test_the_same_bytes_are_no_files_of_its_own(layout: HostLayout, upper: Path) -> None:
    output = Output()
    lay(layout, OTHER, "left4dead2/addons/b.vpk")
    write(upper / PLUGIN, f"{VERSION} has it")
    uncover(layout, upper, OTHER, VERSION, output=output)
    assert names_in(upper) == []
    assert output.errors() == ""


def test_it_keeps_no_folder_open(layout: HostLayout, upper: Path) -> None:
    write(upper / CONFIG, "mine")
    write(upper / PLUGIN, "mine")
    before = len(list(Path("/proc/self/fd").iterdir()))
    uncover(layout, upper)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_what_differs_in_one_byte_of_many_is_kept(layout: HostLayout, upper: Path) -> None:
    size = 3 * 1024**2
    write(layout.overlay_folder(VERSION) / PLUGIN, "x" * size)
    write(upper / PLUGIN, "x" * (size - 1) + "y")
    uncover(layout, upper)
    assert names_in(upper) == [f"{PLUGIN}.own"]


def test_a_seed_stays_and_is_told_once_it_is_there(layout: HostLayout, upper: Path) -> None:
    assert uncover(layout, upper) == []
    write(upper / CONFIG, "mine")
    assert uncover(layout, upper) == [CONFIG]
    assert names_in(upper) == [CONFIG]
    assert uncover(layout, upper, ours={CONFIG}) == []


def test_what_somebody_has_said_counts_more_than_the_place(layout: HostLayout, upper: Path) -> None:
    layout.choices_path(layout.overlay_folder(VERSION)).write_text(
        json.dumps({PLUGIN: True, CONFIG: False})
    )
    for path in (PLUGIN, CONFIG):
        write(upper / path, "mine")
    assert uncover(layout, upper) == [PLUGIN]
    assert names_in(upper) == [PLUGIN, f"{CONFIG}.own"]


def test_what_the_game_has_removed_comes_back_if_it_is_managed(
    layout: HostLayout, upper: Path
) -> None:
    for path in (PLUGIN, CONFIG):
        (upper / path).parent.mkdir(parents=True)
        os.mknod(upper / path, stat.S_IFCHR, 0)
    assert uncover(layout, upper) == [CONFIG]
    assert names_in(upper) == [CONFIG]


@pytest.mark.parametrize("in_the_way", ["left4dead2", "left4dead2/addons/sourcemod"])
def test_what_is_in_the_place_of_a_folder_gives_way_as_well(
    layout: HostLayout, upper: Path, in_the_way: str
) -> None:
    (upper / in_the_way).parent.mkdir(parents=True, exist_ok=True)
    (upper / in_the_way).symlink_to("/etc")
    uncover(layout, upper)
    assert not (upper / in_the_way).is_symlink()
    assert Path("/etc/passwd").exists()


def test_a_folder_that_the_game_has_made_hides_nothing(layout: HostLayout, upper: Path) -> None:
    folder = (upper / CONFIG).parent
    write(folder / "b.cfg", "mine")
    os.setxattr(folder, "user.overlay.opaque", b"y")
    assert uncover(layout, upper) == []
    assert not os.listxattr(folder)
    assert (folder / "b.cfg").exists()


def test_a_link_in_the_place_of_a_file_is_moved_and_never_followed(
    layout: HostLayout, upper: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_text(f"{VERSION} has it")
    (upper / PLUGIN).parent.mkdir(parents=True)
    (upper / PLUGIN).symlink_to(outside)
    uncover(layout, upper)
    assert (upper / f"{PLUGIN}.own").is_symlink()
    assert outside.read_text() == f"{VERSION} has it"


def test_the_topmost_overlay_that_has_a_file_decides(layout: HostLayout, upper: Path) -> None:
    lay(layout, OTHER, PLUGIN)
    layout.choices_path(layout.overlay_folder(OTHER)).write_text(json.dumps({PLUGIN: True}))
    write(upper / PLUGIN, "mine")
    assert uncover(layout, upper, OTHER, VERSION) == [PLUGIN]
    assert names_in(upper) == [PLUGIN]
    assert uncover(layout, upper, VERSION, OTHER) == []
    assert names_in(upper) == [f"{PLUGIN}.own"]


def test_nothing_gives_way_to_a_folder_that_is_kept_by_hand(
    layout: HostLayout, upper: Path
) -> None:
    lay(layout, "byhand", PLUGIN, "left4dead2/addons/b.vpk")
    for path in (PLUGIN, "left4dead2/addons/b.vpk"):
        write(upper / path, "mine")
    assert uncover(layout, upper, "byhand", VERSION) == []
    assert names_in(upper) == ["left4dead2/addons/b.vpk", PLUGIN]
    files = OverlayFiles(layout, ["byhand", VERSION])
    assert files.find_whose(PLUGIN) is Whose.OWN
    assert files.find_whose(CONFIG) is Whose.SEED
    assert files.find_whose("left4dead2/gameinfo.txt") is Whose.OWN


def test_of_many_seeds_some_are_named() -> None:
    output = Output()
    tell_of_kept([f"{number}.cfg" for number in range(9)], Callbacks(output.on_line))
    assert "0.cfg, 1.cfg, 2.cfg, 3.cfg, 4.cfg and 4 more." in output.text
    tell_of_kept([f"{number}.cfg" for number in range(5)], Callbacks(output.on_line))
    assert output.text.endswith("keeps it: 0.cfg, 1.cfg, 2.cfg, 3.cfg, 4.cfg.")
    tell_of_kept([], Callbacks(output.on_line))
    assert output.text.count("keeps it") == 2
