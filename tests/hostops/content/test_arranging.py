"""What people bring is laid out as the game expects if that is unambiguous, and reported otherwise."""

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostops.content import shapes
from hostops.content.arranging import arrange
from hostops.content.fingerprints import list_files
from hostops.specs import ContentSeverity


@pytest.mark.parametrize(
    ("came", "goes", "said"),
    [
        # As it should be.
        (
            ["left4dead2/addons/a.vpk", "left4dead2/cfg/server.cfg", "README.md"],
            ["left4dead2/addons/a.vpk", "left4dead2/cfg/server.cfg", "README.md"],
            [],
        ),
        (["update/maps/a.bsp"], ["update/maps/a.bsp"], []),
        # One folder too deep, and deeper.
        (
            ["MyPack-main/left4dead2/addons/a.vpk", "MyPack-main/README.md"],
            ["left4dead2/addons/a.vpk", "README.md"],
            ["root_too_deep"],
        ),
        (["a/b/left4dead2/cfg/a.cfg"], ["left4dead2/cfg/a.cfg"], ["root_too_deep"]),
        (
            ["Pack/left4dead2/cfg/a.cfg", "read me first.txt"],
            ["left4dead2/cfg/a.cfg", "read me first.txt"],
            ["root_too_deep"],
        ),
        # Without the game's folder.
        (
            ["addons/a.vpk", "cfg/server.cfg", "motd.txt"],
            ["left4dead2/addons/a.vpk", "left4dead2/cfg/server.cfg", "left4dead2/motd.txt"],
            ["no_game_folder"],
        ),
        (
            ["Pack-main/addons/a.vpk", "Pack-main/docs/cfg/example.cfg"],
            ["left4dead2/addons/a.vpk", "left4dead2/docs/cfg/example.cfg"],
            ["beside", "root_too_deep", "no_game_folder"],
        ),
        (
            ["left4dead2/cfg/a.cfg", "addons/a.vpk", "optional/left4dead2/cfg/a.cfg", "docs/a.png"],
            ["left4dead2/cfg/a.cfg", "addons/a.vpk", "optional/left4dead2/cfg/a.cfg", "docs/a.png"],
            ["beside"],
        ),
        (
            ["sourcemod/plugins/a.smx", "metamod/sourcemod.vdf"],
            [
                "left4dead2/addons/sourcemod/plugins/a.smx",
                "left4dead2/addons/metamod/sourcemod.vdf",
            ],
            ["no_game_folder"],
        ),
        (
            ["sourcemod/plugins/a.smx", "cfg/a.cfg"],
            ["left4dead2/addons/sourcemod/plugins/a.smx", "left4dead2/cfg/a.cfg"],
            ["no_game_folder", "moved"],
        ),
        (
            ["plugins/a.smx", "scripting/a.sp", "gamedata/a.txt"],
            [
                "left4dead2/addons/sourcemod/plugins/a.smx",
                "left4dead2/addons/sourcemod/scripting/a.sp",
                "left4dead2/addons/sourcemod/gamedata/a.txt",
            ],
            ["no_game_folder"],
        ),
        (
            ["plugins/a.smx", "translations/a.phrases.txt", "cfg/sourcemod/a.cfg"],
            [
                "left4dead2/addons/sourcemod/plugins/a.smx",
                "left4dead2/addons/sourcemod/translations/a.phrases.txt",
                "left4dead2/cfg/sourcemod/a.cfg",
            ],
            ["no_game_folder", "moved"],
        ),
        (
            ["maps/a.bsp", "maps/a.nav"],
            ["left4dead2/maps/a.bsp", "left4dead2/maps/a.nav"],
            ["no_game_folder"],
        ),
        # In other letter case.
        (
            ["Left4Dead2/Addons/SourceMod/Plugins/A.smx"],
            ["left4dead2/addons/sourcemod/plugins/A.smx"],
            ["wrong_case"] * 4,
        ),
        (["CFG/Server.cfg"], ["left4dead2/cfg/Server.cfg"], ["no_game_folder", "wrong_case"]),
        # In the wrong folder of the game.
        (["left4dead2/left4dead2/cfg/a.cfg"], ["left4dead2/cfg/a.cfg"], ["root_too_high"]),
        (["left4dead2/addons/left4dead2/cfg/a.cfg"], ["left4dead2/cfg/a.cfg"], ["moved"]),
        (
            ["left4dead2/sourcemod/configs/a.cfg"],
            ["left4dead2/addons/sourcemod/configs/a.cfg"],
            ["moved"],
        ),
        (
            ["left4dead2/a.vpk", "left4dead2/pak01_dir.vpk"],
            ["left4dead2/addons/a.vpk", "left4dead2/pak01_dir.vpk"],
            ["moved"],
        ),
        # A single file.
        (["a.vpk"], ["left4dead2/addons/a.vpk"], ["moved"]),
        (
            ["My Map/a.VPK", "My Map/readme.txt"],
            ["left4dead2/addons/a.VPK", "My Map/readme.txt"],
            ["moved"],
        ),
        (["a.smx"], ["left4dead2/addons/sourcemod/plugins/a.smx"], ["moved"]),
        (["a.cfg"], ["left4dead2/cfg/a.cfg"], ["moved"]),
        (["a.bsp", "a.nav"], ["left4dead2/maps/a.bsp", "left4dead2/maps/a.nav"], ["moved"]),
        (
            ["a.smx", "a.so"],
            ["left4dead2/addons/sourcemod/plugins/a.smx", "a.so"],
            ["not_placed", "moved"],
        ),
    ],
)
def test_what_has_one_meaning_is_put_right_and_told(
    came: list[str], goes: list[str], said: list[str]
) -> None:
    arrangement = arrange(came)
    assert arrangement.places == dict(zip(came, goes, strict=True))
    assert [note.code for note in arrangement.notes] == said
    assert not arrangement.refusals


@pytest.mark.parametrize(
    ("came", "said", "names"),
    [
        (["A/addons/a.vpk", "B/addons/a.vpk"], "several_roots", ["A", "B"]),
        (["A/left4dead2/cfg/a.cfg", "B/left4dead2/cfg/b.cfg"], "several_roots", ["A", "B"]),
        (["easy/a.cfg", "hard/a.cfg"], "same_place", ["left4dead2/cfg/a.cfg"]),
        (["easy/a.cfg", "hard/A.cfg"], "same_place", ["hard/A.cfg"]),
        (["Addons/a.vpk", "addons/a.vpk"], "same_place", ["left4dead2/addons/a.vpk"]),
        (["left4dead2/cfg/a.cfg", "left4dead2/cfg/a.cfg/b"], "same_place", ["a folder"]),
        (["a.so", "readme.txt"], "nothing_for_the_game", ["left4dead2/addons/"]),
        (["readme.txt"], "nothing_for_the_game", []),
        ([".git/HEAD", "__MACOSX/._a.vpk", ".DS_Store"], "no_files", []),
        ([], "no_files", []),
    ],
)
def test_what_has_several_meanings_is_told_and_not_guessed(
    came: list[str], said: str, names: list[str]
) -> None:
    arrangement = arrange(came)
    assert arrangement.places == {}
    assert said in {note.code for note in arrangement.refusals}
    texts = " ".join(note.text for note in arrangement.refusals)
    assert all(name in texts for name in names), texts


@pytest.mark.parametrize("form", ["{}/addons/a.vpk", "{}/a.vpk", "addons/{}.vpk", "{}.so"])
def test_fifty_thousand_files_are_arranged_in_a_moment(form: str) -> None:
    began = time.process_time()
    arrangement = arrange([form.format(number) for number in range(50_000)])
    assert time.process_time() - began < 5  # A nested loop would take minutes.
    assert len(arrangement.notes) < 20
    assert all(len(note.text) < 1_000 for note in arrangement.notes)


def test_what_systems_keep_for_themselves_is_left_out_and_told() -> None:
    litter = [
        "Pack/.git/HEAD",
        "Pack/.gitignore",
        "__MACOSX/Pack/addons/._a.vpk",
        "Pack/addons/.DS_Store",
        "Pack/addons/Thumbs.db",
        "Pack/desktop.ini",
    ]
    arrangement = arrange([*litter, "Pack/addons/a.vpk"])
    assert arrangement.places == {"Pack/addons/a.vpk": "left4dead2/addons/a.vpk"}
    assert arrangement.notes[0].text.startswith("6 files were left out")


def test_a_moved_file_is_told_with_its_name_made_safe() -> None:
    (note,) = arrange(["evil\x1b[2J.vpk"]).notes
    assert note.text.isprintable()


NAMES = st.sampled_from(
    [
        *(
            "left4dead2",
            "Left4Dead2",
            "addons",
            "Addons",
            "cfg",
            "maps",
            "sourcemod",
            "SourceMod",
            "plugins",
        ),
        *(
            "metamod",
            "update",
            "bin",
            "hl2",
            "docs",
            "Pack",
            "left4dead2_dlc1",
            ".git",
            "a.vpk",
            "a.cfg",
        ),
        *("a.smx", "a.bsp", "a.so", "readme.txt", "pak01_dir.vpk", "server.cfg"),
    ]
)


@settings(max_examples=200, deadline=None, database=None)
@given(st.lists(st.lists(NAMES, min_size=1, max_size=5).map("/".join), max_size=6, unique=True))
def test_every_file_is_placed_once_or_told_of(paths: list[str]) -> None:
    arrangement = arrange(paths)
    places = list(arrangement.places.values())
    assert len({place.casefold() for place in places}) == len(places)
    left = set(paths) - set(arrangement.places)
    assert not left or arrangement.notes
    for path, place in arrangement.places.items():
        assert place.rpartition("/")[2] == path.rpartition("/")[2]
    if arrangement.refusals:
        assert not places


@pytest.mark.parametrize(
    "came",
    [
        ["Pack/left4dead2/addons/a.vpk"],
        ["Addons/SourceMod/plugins/a.smx", "a.vpk"],
        ["left4dead2/left4dead2/addons/a.vpk", "left4dead2/server.cfg"],
        ["sourcemod/plugins/a.smx"],
        ["a.vpk"],
    ],
)
def test_nothing_is_said_of_the_shape_of_what_was_put_right(
    tmp_path: Path, came: list[str]
) -> None:
    for place in arrange(came).places.values():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(b"")
    found = shapes.find_faults(tmp_path, list_files(tmp_path))
    assert [one for one in found if one.severity is not ContentSeverity.NOTED] == []
