"""Edits of single files: each is a version of its own, and none is lost to another one."""

from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User

from hostops.specs import ManifestFile
from servers.models import Overlay, OverlayVersion
from servers.store import (
    FileChangedError,
    VersionRefusedError,
    choose_seed,
    drop_files,
    edits,
    get_store,
    go_back,
    make_version,
    read_files,
    remove_file,
    rename_file,
    save_file,
)
from tests.overlays import bring

pytestmark = pytest.mark.django_db

A, B = "left4dead2/cfg/a.cfg", "left4dead2/cfg/b.cfg"


def hash_of(version: OverlayVersion, path: str) -> str:
    return {file.path: file.sha256 for file in read_files(version)}[path]


def test_a_change_goes_onto_what_others_have_changed_beside_it(
    overlay: Overlay, alice: User
) -> None:
    first = bring(overlay, alice, {A: "a", B: "b"})
    second = save_file(overlay, B, b"other b", opened=hash_of(first, B), by=alice)
    third = save_file(overlay, A, b"other a", opened=hash_of(first, A), by=alice, note="why")
    assert (third.number, third.note) == (3, "why")
    assert hash_of(third, B) == hash_of(second, B) != hash_of(first, B)


def test_whether_servers_keep_their_own_is_said_as_a_version_and_stays_said(
    overlay: Overlay, alice: User
) -> None:
    first = bring(overlay, alice, {A: "a", B: "b"})

    def choose(version: OverlayVersion, is_seed: bool) -> OverlayVersion:
        opened = hash_of(version, A)
        return choose_seed(overlay, A, is_seed=is_seed, opened=opened, by=alice)

    def say(version: OverlayVersion) -> dict[str, bool | None]:
        return {file.path: file.is_seed for file in read_files(version)}

    assert choose(first, True) == first  # Files at this path are seeds.
    second = choose(first, False)
    assert (second.note, say(second)) == (f"Servers use this {A}.", {A: False, B: None})
    third = save_file(overlay, A, b"new", opened=hash_of(second, A), by=alice)
    assert say(third) == {A: False, B: None}
    fourth = rename_file(overlay, A, f"{A}2", opened=hash_of(third, A), by=alice)
    assert say(fourth)[f"{A}2"] is False
    go_back(second, by=alice)
    fifth = choose(second, True)
    assert (fifth.digest, say(fifth)) == (first.digest, {A: None, B: None})
    with pytest.raises(FileChangedError):
        choose(third, False)


def test_what_is_said_of_native_code_needs_no_right_to_bring_it(
    overlay: Overlay, alice: User, dana: User
) -> None:
    path = "left4dead2/addons/sourcemod/plugins/a.smx"
    version = bring(overlay, dana, {path: "FFPS code"})
    assert version.has_native_code
    opened = hash_of(version, path)
    made = choose_seed(overlay, path, is_seed=True, opened=opened, by=alice)
    assert made.has_native_code
    assert made.number == 2


def test_a_version_that_comes_between_is_not_overwritten(
    overlay: Overlay, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bring(overlay, alice, {A: "a", B: "b"})

    def come_between(*arguments: object, **options: object) -> OverlayVersion:
        monkeypatch.setattr(edits, "make_version", make_version)
        save_file(overlay, B, b"between", opened=hash_of(first, B), by=alice)
        return make_version(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(edits, "make_version", come_between)
    third = save_file(overlay, A, b"mine", opened=hash_of(first, A), by=alice)
    files = {file.path: file.size for file in read_files(third)}
    assert files == {A: len("mine"), B: len("between")}


def test_a_file_that_has_changed_or_gone_since_is_not_overwritten(
    overlay: Overlay, alice: User
) -> None:
    first = bring(overlay, alice, {A: "a", B: "b"})
    opened = hash_of(first, A)
    save_file(overlay, A, b"theirs", opened=opened, by=alice)
    with pytest.raises(FileChangedError) as caught:
        save_file(overlay, A, b"mine", opened=opened, by=alice)
    assert caught.value.now is not None
    remove_file(overlay, A, opened=caught.value.now.sha256, by=alice)
    with pytest.raises(FileChangedError) as caught:
        rename_file(overlay, A, "left4dead2/c.cfg", opened=opened, by=alice)
    assert caught.value.now is None
    assert overlay.versions.count() == 3


@pytest.mark.parametrize(
    "path", ["left4dead2/cfg/B.cfg", f"{B}/below", "../up", "left4dead2/cfg", B]
)
def test_a_file_is_not_put_where_another_lies_or_none_may(
    overlay: Overlay, alice: User, path: str
) -> None:
    first = bring(overlay, alice, {A: "a", B: "b"})
    with pytest.raises(VersionRefusedError):
        rename_file(overlay, A, path, opened=hash_of(first, A), by=alice)
    with pytest.raises(VersionRefusedError):
        save_file(overlay, path, b"x", opened="", by=alice)


def test_what_the_disk_does_not_take_is_told(
    overlay: Overlay, alice: User, settings: LazySettings, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    settings.CONTENT_ROOT = tmp_path / "file" / "content"
    with pytest.raises(VersionRefusedError, match="could not store it: Not a directory"):
        save_file(overlay, A, b"a", opened="", by=alice)


def test_an_overlay_that_was_removed_takes_no_file(overlay: Overlay, alice: User) -> None:
    Overlay.objects.all().delete()
    with pytest.raises(VersionRefusedError, match="has just been removed"):
        save_file(overlay, A, b"a", opened="", by=alice)


def test_bringing_a_file_again_mends_a_damaged_one(overlay: Overlay, alice: User) -> None:
    first = bring(overlay, alice, {A: "a", B: "b"})
    path = get_store().path_of(hash_of(first, A))
    path.write_bytes(b"x")
    bring(overlay, alice, {A: "a"})
    assert path.read_bytes() == b"a"


def test_the_last_file_is_not_removed(overlay: Overlay, alice: User) -> None:
    first = bring(overlay, alice, {A: "a"})
    with pytest.raises(VersionRefusedError, match="at least one file"):
        remove_file(overlay, A, opened=hash_of(first, A), by=alice)


def test_what_was_found_in_a_pack_goes_with_it(overlay: Overlay, alice: User) -> None:
    one, two = "left4dead2/addons/one.vpk", "left4dead2/addons/two.vpk"

    def campaign(pack: str, level: str) -> dict[str, object]:
        modes = [{"name": "coop", "chapters": [{"map": level, "title": ""}]}]
        return {
            "name": level,
            "title": level,
            "path": f"{pack}/missions/x.txt",
            "modes": modes,
            "problem": "",
        }

    report = {
        "campaigns": [campaign(one, "m1"), campaign(two, "m2")],
        "maps": ["loose", "m1", "m2"],
        "findings": [{"code": "x", "severity": "noted", "text": "x", "path": one}],
    }
    files = {one: "1", two: "2", "left4dead2/maps/loose.bsp": "3"}
    first = bring(overlay, alice, files, report=report)
    moved = "left4dead2/addons/new.vpk"
    second = rename_file(overlay, one, moved, opened=hash_of(first, one), by=alice)
    assert [each["path"] for each in second.campaigns] == [
        f"{moved}/missions/x.txt",
        f"{two}/missions/x.txt",
    ]
    assert (second.maps, second.findings[0]["path"]) == (report["maps"], moved)
    third = remove_file(overlay, moved, opened=hash_of(first, one), by=alice)
    assert ([each["name"] for each in third.campaigns], third.maps) == (["m2"], ["loose", "m2"])
    assert third.findings == []


def test_going_back_makes_a_version_with_the_older_files_and_what_was_known_of_them(
    overlay: Overlay, alice: User
) -> None:
    first = bring(overlay, alice, {A: "a"}, report={"maps": ["m1"]}, origin="pack.zip")
    bring(overlay, alice, {A: "other"})
    third = go_back(first, by=alice)
    assert (third.number, third.note, third.origin) == (3, "as version 1", "pack.zip")
    assert (third.digest, third.maps) == (first.digest, ["m1"])
    assert go_back(first, by=alice) == third


def test_an_executable_file_stays_one(overlay: Overlay, alice: User) -> None:
    version = bring(overlay, alice, {A: "a"})
    [file] = read_files(version)
    second = make_version(
        overlay, [ManifestFile(A, file.sha256, file.size, is_executable=True)], by=alice
    )
    third = save_file(overlay, A, b"b", opened=hash_of(second, A), by=alice)
    assert read_files(third)[0].is_executable


def test_what_is_known_of_plugins_is_kept_as_long_as_they_are_loaded(
    overlay: Overlay, dana: User
) -> None:
    folder = "left4dead2/addons/sourcemod/plugins/"
    known: list[dict[str, Any]] = [
        {"path": path, "extensions": ["x.ext"], "libraries": [], "provides": []}
        for path in ("a.smx", "sub/b.smx", "c.smx")
    ]
    files = {folder + plugin["path"]: plugin["path"] for plugin in known}
    first = bring(overlay, dana, {A: "a", **files}, report={"plugins": known})
    saved = save_file(overlay, A, b"other", opened=hash_of(first, A), by=dana)
    assert saved.plugins == known

    def paths(version: OverlayVersion) -> list[str]:
        return [plugin["path"] for plugin in version.plugins or ()]

    here, there = f"{folder}a.smx", f"{folder}sub/a.smx"
    moved = rename_file(overlay, here, there, opened=hash_of(first, here), by=dana)
    assert paths(moved) == ["sub/a.smx", "sub/b.smx", "c.smx"]
    disabled = f"{folder}disabled/a.smx"
    unloaded = rename_file(overlay, there, disabled, opened=hash_of(moved, there), by=dana)
    assert paths(unloaded) == ["sub/b.smx", "c.smx"]
    path = f"{folder}c.smx"
    assert paths(remove_file(overlay, path, opened=hash_of(first, path), by=dana)) == ["sub/b.smx"]
    assert go_back(first, by=dana).plugins == known
    assert drop_files(overlay, [A, "gone.cfg"], by=dana).files == 3
