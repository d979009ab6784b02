"""What a manifest says about its files, and which files are seeds."""

import pytest

from hostops import manifests
from hostops.manifests import (
    ManifestError,
    ManifestFile,
    is_seed_path,
    read_known_files,
    read_manifest,
    require_files,
    require_paths,
    require_readable_paths,
    write_manifest,
)

HASH = "a" * 64


@pytest.mark.parametrize("is_executable", [False, True])
@pytest.mark.parametrize("is_seed", [None, False, True])
def test_what_is_said_of_a_file_is_read_as_it_was_written(
    is_executable: bool, is_seed: bool | None
) -> None:
    file = ManifestFile("left4dead2/a", HASH, 1, is_executable, is_seed)
    data = write_manifest([file])
    assert read_manifest(data) == (file,)
    assert tuple(read_known_files(data.split(b"\n")[1:-1])) == (file,)


def test_files_of_which_nothing_is_said_are_written_as_they_always_were() -> None:
    files = [ManifestFile("a", HASH, 1), ManifestFile("b", HASH, 2, is_executable=True)]
    written = f'saferoom content 1\n["a","{HASH}",1,""]\n["b","{HASH}",2,"x"]\n'
    assert write_manifest(files).decode() == written


@pytest.mark.parametrize("flags", ["sx", "ms", "xx", "S", " "])
def test_flags_that_no_version_has_are_refused(flags: str) -> None:
    with pytest.raises(ManifestError, match="which no version has"):
        read_manifest(f'saferoom content 1\n["a","{HASH}",1,"{flags}"]\n'.encode())


@pytest.mark.parametrize(
    ("path", "is_seed"),
    [
        ("left4dead2/cfg/sourcemod/a.cfg", True),
        ("left4dead2/CFG/a.cfg", True),
        ("left4dead2/motd.txt", True),
        ("left4dead2/addons/sourcemod/configs/admins.cfg", True),
        ("left4dead2/addons/sourcemod/data/a.txt", True),
        ("left4dead2/addons/sourcemod/plugins/a.smx", False),
        ("left4dead2/addons/sourcemod/gamedata/a.txt", False),
        ("left4dead2/addons/city.vpk", False),
        ("left4dead2/scripts/vscripts/a.nut", False),
        ("cfg/a.cfg", False),
    ],
)
def test_what_people_and_plugins_change_on_a_server_is_a_seed(path: str, is_seed: bool) -> None:
    assert is_seed_path(path) is is_seed
    assert ManifestFile(path, HASH, 1).servers_keep_theirs is is_seed
    assert ManifestFile(path, HASH, 1, is_seed=not is_seed).servers_keep_theirs is not is_seed


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("left4dead2/cfg/\u202egfc.cfg", "invisible"),
        ("left4dead2/a\u200b.cfg", "invisible"),
        ("left4dead2/a\u00ad.cfg", "invisible"),
        ("left4dead2/a\ue000.cfg", "invisible"),
        ("left4dead2/a\U000e0041.cfg", "invisible"),
        ("x/" * 33 + "a.cfg", "more than 32 folders deep"),
        ("left4dead2/gr\u0075\u0308n.cfg", "look the same"),
    ],
)
def test_a_new_path_that_people_cannot_read_is_refused_and_an_old_one_is_not(
    path: str, words: str
) -> None:
    others = ["left4dead2/gr\u00fcn.cfg"]
    with pytest.raises(ManifestError, match=words):
        require_readable_paths([path], others)
    require_paths([path, *others])
    require_readable_paths([], [path, *others])


def test_paths_as_people_write_them_are_taken() -> None:
    paths = ["left4dead2/größe.cfg", "left4dead2/中文.vpk", "x/" * 32 + "a", "a b/c (1).txt"]
    require_readable_paths(paths, paths)


def test_files_in_too_many_folders_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder takes room that nobody counts."""
    monkeypatch.setattr(manifests, "MAX_FILES", 10)
    files = [ManifestFile(f"{number}/a/b/c", "0" * 64, 1) for number in range(3)]
    require_files(files)
    with pytest.raises(ManifestError, match="in more than 10 folders"):
        require_files([*files, ManifestFile("3/a/b/c", "0" * 64, 1)])
