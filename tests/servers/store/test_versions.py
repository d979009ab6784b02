"""Versions of overlays: what makes one, what refuses one, and what a server gets from them."""

import hashlib
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import Permission, User

from hostops.specs import ManifestError, ManifestFile
from servers.models import Blueprint, Overlay
from servers.store import (
    NewerVersionError,
    VersionRefusedError,
    compare,
    get_store,
    make_version,
    read_files,
    remove_version,
    versions,
)
from tests.overlays import bring, lose, manifest_bytes

pytestmark = pytest.mark.django_db


def put(tmp_path: Path, **texts: str) -> tuple[list[ManifestFile], list[tuple[Path, str]]]:
    """Return files of a version by their names in `addons/`, and the paths of their bytes."""
    files, stored = [], []
    for name, text in texts.items():
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        folder = get_store().incoming_dir
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{tmp_path.name}-{name}"
        path.write_text(text)
        files.append(ManifestFile(f"left4dead2/addons/{name.replace('_', '.')}", sha256, len(text)))
        stored.append((path, sha256))
    return files, stored


def test_a_version_is_numbered_and_becomes_the_latest(
    overlay: Overlay, alice: User, tmp_path: Path
) -> None:
    files, stored = put(tmp_path, one_vpk="one", two_cfg="two")
    first = make_version(overlay, files, stored=stored, by=alice, origin="pack.zip")
    changed, stored = put(tmp_path, one_vpk="another one")
    second = make_version(overlay, [*changed, files[1]], stored=stored, by=alice)
    overlay.refresh_from_db()
    assert (first.number, second.number, overlay.latest) == (1, 2, second)
    assert (first.files, first.size_bytes) == (2, 6)
    assert first.added_bytes == 6 + manifest_bytes(first)
    assert second.added_bytes == len("another one") + manifest_bytes(second)
    assert read_files(first) == tuple(files)
    assert [change.path for change in compare(read_files(first), read_files(second))] == [
        "left4dead2/addons/one.vpk"
    ]


def test_the_same_files_make_no_second_version(
    overlay: Overlay, alice: User, tmp_path: Path
) -> None:
    files, stored = put(tmp_path, one_vpk="one", two_cfg="two")
    first = make_version(overlay, files, stored=stored, by=alice)
    _, stored = put(tmp_path, one_vpk="one", two_cfg="two")
    again = make_version(overlay, files[::-1], stored=stored, by=alice)
    assert again == first
    assert overlay.versions.count() == 1


def test_a_blueprint_takes_the_latest_version_or_the_one_that_is_pinned(
    overlay: Overlay, alice: User, tmp_path: Path, blueprint: Blueprint
) -> None:
    by_hand = Overlay.objects.create(name="kept-by-hand", is_host_folder=True)
    files, stored = put(tmp_path, one_vpk="one", two_cfg="two")
    first = make_version(overlay, files, stored=stored, by=alice)
    second = make_version(overlay, files[:1], by=alice)
    overlay.refresh_from_db()
    blueprint.set_overlays([overlay, by_hand])
    assert blueprint.overlay_references == (second.reference, "kept-by-hand")
    blueprint.set_overlays([by_hand, overlay], {overlay.pk: first})
    assert blueprint.overlay_references == ("kept-by-hand", first.reference)
    Blueprint.fetch_overlay_references([blueprint])
    assert blueprint.overlay_references == ("kept-by-hand", first.reference)


def test_files_that_the_store_does_not_have_make_no_version(overlay: Overlay, alice: User) -> None:
    with pytest.raises(VersionRefusedError, match="1 file is no longer in the store"):
        make_version(overlay, [ManifestFile("left4dead2/a.vpk", "a" * 64, 1)], by=alice)
    assert not overlay.versions.exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plugin_smx", "code"),
        ("library_SO", "code"),
        # MetaMod and SourceMod load files by what they are, whatever their names.
        ("server", "\x7fELF library"),
        ("library_so_1", "\x7fELF library"),
        ("motd_txt", "FFPS plugin"),
    ],
)
def test_native_code_takes_the_permission_to_bring_it(
    overlay: Overlay, alice: User, tmp_path: Path, name: str, content: str
) -> None:
    files, stored = put(tmp_path, **{name: content})
    with pytest.raises(VersionRefusedError, match="code that would run on the host"):
        make_version(overlay, files, stored=stored, by=alice)
    alice.is_staff = True
    alice.save()
    alice.user_permissions.add(Permission.objects.get(codename="bring_native_code"))
    version = make_version(overlay, files, stored=stored, by=User.objects.get(pk=alice.pk))
    assert version.has_native_code


@pytest.mark.parametrize(
    ("path", "content", "is_executable"),
    [
        ("srcds_linux", b"\x7fELF\x01\x01", True),
        ("srcds_linux", b"#!/bin/sh\nid\n", True),
        ("bin/libc.so.6", b"\x7fELF\x01\x01", False),
        ("left4dead2/cfg/readme.txt", b"\x7fELF\x01\x01", False),
        ("left4dead2/addons/sourcemod/plugins/a.smx.bak", b"FFPS\x02\x01", False),
    ],
)
def test_native_code_is_told_by_its_bytes_whatever_it_is_called(
    overlay: Overlay, alice: User, dana: User, path: str, content: bytes, is_executable: bool
) -> None:
    harmless: dict[str, bytes | str] = {"left4dead2/cfg/a.cfg": "x"}
    executable = [path] if is_executable else []
    with pytest.raises(VersionRefusedError, match="code that would run on the host"):
        bring(overlay, alice, {path: content}, executable)
    assert not bring(overlay, alice, harmless).has_native_code
    version = bring(overlay, dana, harmless | {path: content}, executable)
    assert version.has_native_code
    moved = {**harmless, f"{path}.old": content}
    with pytest.raises(VersionRefusedError, match="code that would run on the host"):
        bring(overlay, alice, moved, [f"{path}.old"])
    assert bring(overlay, alice, {"left4dead2/b": "y", path: content}, executable).has_native_code
    assert not bring(overlay, alice, harmless).has_native_code


def test_a_script_that_nothing_executes_is_a_text(overlay: Overlay, alice: User) -> None:
    text = {"left4dead2/tools/a.txt": "#!/bin/sh\n"}
    assert not bring(overlay, alice, text).has_native_code
    with pytest.raises(VersionRefusedError, match="code that would run on the host"):
        bring(overlay, alice, text, list(text))


def test_an_overlay_has_so_many_versions_and_no_more(
    overlay: Overlay, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "MOST_VERSIONS", 2)
    first, second = (bring(overlay, alice, {"left4dead2/a.cfg": text}) for text in "12")
    with pytest.raises(VersionRefusedError, match="maps has 2 versions, and no overlay has more"):
        bring(overlay, alice, {"left4dead2/a.cfg": "3"})
    assert bring(overlay, alice, {"left4dead2/a.cfg": "2"}) == second
    remove_version(first)
    assert bring(overlay, alice, {"left4dead2/a.cfg": "3"}).number == 3


def test_an_owner_brings_no_more_bytes_than_they_may(
    overlay: Overlay, alice: User, tmp_path: Path, settings: LazySettings
) -> None:
    files, stored = put(tmp_path, one_vpk="one")
    first = make_version(overlay, files, stored=stored, by=alice)
    settings.CONTENT_BYTES_PER_OWNER = 2 * manifest_bytes(first) + 5
    more, stored = put(tmp_path, two_vpk="two")
    with pytest.raises(VersionRefusedError, match="you may have"):
        make_version(overlay, more, stored=stored, by=alice)
    assert overlay.versions.count() == 1


def test_native_code_that_an_admin_brought_stays_in_versions_of_its_owner(
    overlay: Overlay, alice: User, dana: User
) -> None:
    bring(overlay, dana, {"left4dead2/addons/a.smx": "code"})
    version = bring(
        overlay, alice, {"left4dead2/addons/a.smx": "code", "left4dead2/cfg/a.cfg": "x"}
    )
    assert version.has_native_code
    for path, content in (("a.smx", "other code"), ("b.smx", "code")):
        with pytest.raises(VersionRefusedError, match="code that would run"):
            bring(overlay, alice, {f"left4dead2/addons/{path}": content})


def test_a_file_counts_once_and_goes_on_counting_when_its_first_version_is_removed(
    overlay: Overlay, alice: User, settings: LazySettings
) -> None:
    first = bring(overlay, alice, {"left4dead2/a.cfg": "123456"})
    second = bring(overlay, alice, {"left4dead2/a.cfg": "123456", "left4dead2/b.cfg": "7"})
    rows = manifest_bytes(second)
    assert (first.added_bytes, second.added_bytes) == (6 + manifest_bytes(first), 1 + rows)
    remove_version(first)
    second.refresh_from_db()
    assert second.added_bytes == 7 + rows
    settings.CONTENT_BYTES_PER_OWNER = second.added_bytes + manifest_bytes(first) + 3
    with pytest.raises(VersionRefusedError, match="you may have"):
        bring(overlay, alice, {"left4dead2/c.cfg": "four"})


def test_what_is_refused_for_its_size_does_not_lie_in_the_store_for_the_next_try(
    overlay: Overlay, alice: User, settings: LazySettings
) -> None:
    settings.CONTENT_BYTES_PER_OWNER = 3
    for _try in range(2):
        with pytest.raises(VersionRefusedError, match="of the 3"):
            bring(overlay, alice, {"left4dead2/a.cfg": "1234"})
    assert list(get_store().walk()) == []


def test_a_version_that_was_to_follow_another_than_the_latest_is_refused(
    overlay: Overlay, alice: User
) -> None:
    first = bring(overlay, alice, {"left4dead2/a.cfg": "1"}, is_first=True)
    bring(overlay, alice, {"left4dead2/a.cfg": "2"}, follows=first)
    with pytest.raises(NewerVersionError):
        bring(overlay, alice, {"left4dead2/a.cfg": "3"}, follows=first)
    with pytest.raises(NewerVersionError):
        bring(overlay, alice, {"left4dead2/a.cfg": "3"}, is_first=True)
    assert overlay.versions.count() == 2


def test_a_lost_manifest_of_an_older_version_does_not_keep_new_ones_away(
    overlay: Overlay, alice: User
) -> None:
    lose(bring(overlay, alice, {"left4dead2/a.cfg": "1"}).digest)
    assert bring(overlay, alice, {"left4dead2/a.cfg": "2"}).number == 2


def test_a_path_that_nobody_can_read_is_refused_unless_it_was_there_before(
    overlay: Overlay, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = "left4dead2/\u202egfc.cfg"
    with pytest.raises(ManifestError, match="invisible characters"):
        bring(overlay, alice, {odd: "x"})
    with monkeypatch.context() as patch:
        patch.setattr(versions, "require_readable_paths", lambda *_paths: None)
        bring(overlay, alice, {odd: "x"})
    assert bring(overlay, alice, {odd: "y", "left4dead2/a.cfg": "z"}).number == 2


@pytest.mark.parametrize("path", ["srcds_run", "SRCDS_Linux"])
def test_a_text_in_the_place_of_what_a_host_starts_is_code(
    overlay: Overlay, alice: User, dana: User, path: str
) -> None:
    with pytest.raises(VersionRefusedError, match="code that would run on the host"):
        bring(overlay, alice, {path: "any text"})
    assert bring(overlay, dana, {path: "any text"}).has_native_code
    assert not bring(overlay, alice, {f"left4dead2/{path}.txt": "any text"}).has_native_code
