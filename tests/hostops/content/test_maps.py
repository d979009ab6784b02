"""A game's maps are those of its folders and packs, and it is known whether there may be others."""

import os
from pathlib import Path

import pytest

from hostops.content import maps, packs
from hostops.content.maps import Maps, read_maps
from hostops.content.search_paths import LookBudget, find_roots, look_at_layer
from tests.hostops.content.vpk_files import make_pack

GAMEINFO = """\
"GameInfo"
{
    FileSystem
    {
        SearchPaths // the first on top
        {
            Game    |gameinfo_path|.
            Game    "my_maps"
            Game    |all_source_engine_paths|hl2
        }
    }
}
"""


def put(path: Path, content: bytes = b"VBSP") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def release(tmp_path: Path) -> Path:
    folder = tmp_path / "release"
    put(folder / "left4dead2/maps/c1m1_hotel.bsp")
    put(folder / "left4dead2/maps/c1m1_hotel.nav")
    put(folder / "left4dead2_dlc1/maps/c6m1_riverbank.bsp")
    put(folder / "update/pak01_dir.vpk", make_pack({"maps/C14m1_Junkyard.bsp": b"VBSP"}))
    return folder


def test_maps_of_folders_dlcs_and_packs_are_found_in_lower_case(
    release: Path, tmp_path: Path
) -> None:
    overlay = tmp_path / "overlay"
    put(overlay / "left4dead2/maps/Dead_Before_Dawn.BSP")
    put(overlay / "left4dead2/addons/my campaign.vpk", make_pack({"maps/own_1.bsp": b"", "a": b""}))
    put(overlay / "left4dead2/addons/unpacked/maps/own_2.bsp")
    put(overlay / "left4dead2/addons/unpacked/addoninfo.txt")
    put(overlay / "left4dead2/addons/sourcemod/maps/none.bsp")
    put(overlay / "maps/none.bsp")
    maps = read_maps([overlay, release])
    assert maps.is_complete, maps.obstacles
    assert maps.names == {
        "c1m1_hotel",
        "c6m1_riverbank",
        "c14m1_junkyard",
        "dead_before_dawn",
        "own_1",
        "own_2",
    }
    assert "C1M1_Hotel" in maps


def test_a_search_path_that_a_gameinfo_adds_is_searched_too(release: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay"
    put(overlay / "left4dead2/gameinfo.txt", GAMEINFO.encode())
    put(overlay / "my_maps/maps/hidden.bsp")
    maps = read_maps([overlay, release])
    assert {"hidden", "c6m1_riverbank"} <= maps.names
    assert maps.is_complete
    put(overlay / "left4dead2/gameinfo.txt", GAMEINFO.replace("my_maps", "../elsewhere").encode())
    (obstacle,) = read_maps([overlay, release]).obstacles
    assert "../elsewhere" in obstacle


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("left4dead2/addons/cut.vpk", make_pack({"maps/a.bsp": b""})[:20], "cut short"),
        ("left4dead2/addons/page.vpk", b"<!DOCTYPE html><title>Sign in</title>", "is no VPK"),
        ("left4dead2/addons/empty.vpk", b"", "has only 0 bytes"),
        ("left4dead2/Maps/a.bsp", b"", "should be called left4dead2/maps"),
    ],
)
def test_what_cannot_be_read_leaves_it_open_whether_a_map_is_there(
    release: Path, tmp_path: Path, path: str, content: bytes, said: str
) -> None:
    put(tmp_path / "overlay" / path, content)
    maps = read_maps([tmp_path / "overlay", release])
    assert not maps.is_complete
    assert said in maps.obstacles[0]
    assert "c1m1_hotel" in maps


def test_a_link_is_not_followed_and_leaves_it_open(release: Path, tmp_path: Path) -> None:
    secret = put(tmp_path / "elsewhere/maps.vpk", make_pack({"maps/secret.bsp": b""}))
    overlay = tmp_path / "overlay/left4dead2"
    (overlay / "addons").mkdir(parents=True)
    (overlay / "addons/maps.vpk").symlink_to(secret)
    (overlay / "maps").symlink_to(release / "left4dead2/maps")
    maps = read_maps([tmp_path / "overlay"])
    assert (maps.names, len(maps.obstacles)) == (frozenset(), 2)


def test_an_unchanged_pack_is_read_once_and_a_changed_one_again(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache_dir = tmp_path / "content"
    assert "c14m1_junkyard" in read_maps([release], cache_dir=cache_dir)
    reader = packs.READER_PATH
    monkeypatch.setattr(packs, "READER_PATH", tmp_path / "no reader")
    assert "c14m1_junkyard" in read_maps([release], cache_dir=cache_dir)
    monkeypatch.setattr(packs, "READER_PATH", reader)
    pack = release / "update/pak01_dir.vpk"
    times = pack.stat()
    put(pack, make_pack({"maps/C14m2_Junkyard.bsp": b"VBSP"}))
    os.utime(pack, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    assert read_maps([release], cache_dir=cache_dir).names >= {"c14m2_junkyard"}


def test_nothing_is_kept_of_a_folder_that_a_game_can_write_to(tmp_path: Path) -> None:
    upper, cache_dir = tmp_path / "upper", tmp_path / "content"
    pack = put(upper / "left4dead2/addons/own.vpk", make_pack({"maps/first.bsp": b""}))
    times = pack.stat()
    for name in ("first", "other"):
        put(pack, make_pack({f"maps/{name}.bsp": b""}))
        os.utime(pack, ns=(times.st_atime_ns, times.st_mtime_ns))
        maps = read_maps([], written_by_games=[upper], cache_dir=cache_dir)
        assert maps.names == {name}
    assert not cache_dir.exists()


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("c5m1_waterfont", "c5m1_waterfront"),
        ("C5M1_WATERFRONT", "c5m1_waterfront"),
        ("c5m1", None),
        ("", None),
        ("x" * 100_000, None),
    ],
)
def test_the_nearest_map_is_named_if_there_is_one(asked: str, meant: str | None) -> None:
    assert Maps(frozenset({"c5m1_waterfront", "c1m1_hotel"})).nearest(asked) == meant


def test_what_is_looked_at_in_all_layers_together_is_bounded_and_the_rest_leaves_it_open(
    tmp_path: Path,
) -> None:
    for number in range(60):
        put(tmp_path / f"left4dead2/addons/{number}/addoninfo.txt")
        put(tmp_path / f"left4dead2/addons/{number}/maps/deep/map_{number}.bsp")
    assert len(look_at_layer(tmp_path).maps) == 60
    files = look_at_layer(tmp_path, budget=LookBudget(80))
    assert 0 < len(files.maps) < 60
    assert len(files.obstacles) < 30
    assert (
        "maps cannot be read: all that was looked at before it has 80 files" in files.obstacles[0]
    )
    assert files.obstacles[-1].endswith(" more obstacles are alike.")


def test_a_gameinfo_with_very_many_search_paths_is_followed_in_part(tmp_path: Path) -> None:
    paths = "".join(f'Game "path_{number}"\n' for number in range(1_000))
    put(tmp_path / "left4dead2/gameinfo.txt", f"SearchPaths\n{{\n{paths}}}\n".encode())
    roots, obstacles = find_roots([tmp_path])
    assert ("path_0" in roots, "path_999" in roots, "left4dead2" in roots) == (True, False, True)
    assert (len(roots) < 100, len(obstacles) < 100) == (True, True)
    assert obstacles[-1].endswith(" more obstacles are alike.")


def test_of_more_maps_than_anybody_has_it_is_left_open_whether_others_are_there(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maps, "MAX_NAMES", 1)
    put(tmp_path / "overlay/left4dead2/maps/own_1.bsp")
    put(tmp_path / "overlay/left4dead2/maps/own_2.bsp")
    found = read_maps([tmp_path / "overlay", release])
    assert (len(found.names), found.is_complete) == (2, False)
