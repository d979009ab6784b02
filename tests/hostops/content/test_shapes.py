"""An overlay whose files the game would not read is reported, with a remedy; a correct one is not."""

import contextlib
import os
from pathlib import Path

import pytest

from hostops.content import shapes
from hostops.content.fingerprints import fingerprint, list_files
from hostops.content.libraries import LibraryError, read_library
from hostops.errors import HostError
from hostops.specs import ContentFinding, ContentSeverity
from tests.elf_files import make_library

REFUSED, WARNED, NOTED = ContentSeverity


def lay_out(overlay: Path, *paths: str) -> Path:
    for path in paths:
        (overlay / path).parent.mkdir(parents=True, exist_ok=True)
        (overlay / path).write_bytes(b"")
    return overlay


def find(overlay: Path, *paths: str) -> list[tuple[str, ContentSeverity, str]]:
    lay_out(overlay, *paths)
    return [(one.code, one.severity, one.path) for one in faults_of(overlay)]


def faults_of(overlay: Path) -> list[ContentFinding]:
    return shapes.arrange(shapes.find_faults(overlay, list_files(overlay)))


GOOD = (
    "left4dead2/addons/metamod.vdf",
    "left4dead2/addons/my maps.vpk",
    "left4dead2/addons/sourcemod/plugins/disabled/one.smx",
    "left4dead2/addons/sourcemod/data/updates.zip",
    "left4dead2/addons/unpacked/maps/one.bsp",
    "left4dead2/cfg/sourcemod/one.cfg",
    "left4dead2/maps/one.bsp",
    "left4dead2/motd.txt",
    "left4dead2/pak02_dir.vpk",
    "left4dead2/pak02_000.vpk",
    "update/maps/two.bsp",
    "bin/one.txt",
    "README.md",
)


def test_nothing_is_said_of_an_overlay_whose_files_are_in_their_places(tmp_path: Path) -> None:
    assert find(tmp_path, *GOOD) == []


@pytest.mark.parametrize(
    ("paths", "code", "severity", "path"),
    [
        # Case 18 of the issue, and others of its kind.
        (["addons/metamod.vdf", "cfg/server.cfg"], "no_game_folder", REFUSED, "addons"),
        (["Pack/Addons/a.vpk"], "no_game_folder", REFUSED, "Pack/Addons"),
        (["sourcemod/plugins/a.smx"], "no_game_folder", REFUSED, "sourcemod"),
        (["campaign.vpk"], "no_game_folder", REFUSED, "campaign.vpk"),
        (["pack-main/left4dead2/cfg/a.cfg"], "root_too_deep", REFUSED, "pack-main"),
        (["x/y/Left4Dead2/cfg/a.cfg"], "root_too_deep", REFUSED, "x/y"),
        (["left4dead2/left4dead2/cfg/a.cfg"], "root_too_high", REFUSED, "left4dead2/left4dead2"),
        (["Left4Dead2/addons/a.vpk"], "wrong_case", REFUSED, "Left4Dead2"),
        (["left4dead2/Addons/a.vpk"], "wrong_case", REFUSED, "left4dead2/Addons"),
        (["pack.zip"], "packed_archive", REFUSED, "pack.zip"),
        (["notes/hello.txt"], "nothing_for_the_game", WARNED, "notes/hello.txt"),
        # Beside files in their right places these are no reason to refuse a start.
        ([*GOOD, "addons/b.vdf"], "no_game_folder", WARNED, "addons"),
        ([*GOOD, "left4dead2/CFG/b.cfg"], "wrong_case", WARNED, "left4dead2/CFG"),
        ([*GOOD, "left4dead2/addons/SourceMod/a"], "wrong_case", WARNED, "left4dead2/addons/SourceMod"),
        ([*GOOD, "left4dead2/sourcemod/a"], "not_read", WARNED, "left4dead2/sourcemod"),
        ([*GOOD, "left4dead2/addons/left4dead2/a"], "not_read", WARNED, "left4dead2/addons/left4dead2"),
        ([*GOOD, "left4dead2/addons/a.rar"], "packed_archive", WARNED, "left4dead2/addons/a.rar"),
        ([*GOOD, "left4dead2/addons/sub/a.vpk"], "pack_not_read", WARNED, "left4dead2/addons/sub/a.vpk"),
        ([*GOOD, "left4dead2/addons/workshop/1.vpk"], "pack_not_read", WARNED, "left4dead2/addons/workshop/1.vpk"),  # noqa: E501
        ([*GOOD, "left4dead2/addons/a.bsp"], "map_not_read", WARNED, "left4dead2/addons/a.bsp"),
        ([*GOOD, "left4dead2/addons/a.smx"], "plugin_not_read", WARNED, "left4dead2/addons/a.smx"),
        ([*GOOD, "left4dead2/server.cfg"], "config_not_read", WARNED, "left4dead2/server.cfg"),
        ([*GOOD, "left4dead2/cfg/Server.cfg"], "config_not_read", WARNED, "left4dead2/cfg/Server.cfg"),
        ([*GOOD, "left4dead2/cfg/server.cfg"], "server_cfg", NOTED, "left4dead2/cfg/server.cfg"),
        ([*GOOD, "left4dead2/addons/a.dll"], "windows_only", WARNED, ""),
        ([], "empty", WARNED, ""),
    ],
)  # fmt: skip
def test_what_the_game_would_not_read_is_found(
    tmp_path: Path, paths: list[str], code: str, severity: ContentSeverity, path: str
) -> None:
    assert (code, severity, path) in find(tmp_path, *paths)


def test_a_start_is_refused_for_an_overlay_of_which_nothing_reaches_the_game(
    tmp_path: Path,
) -> None:
    shapes.require_usable(lay_out(tmp_path / "good", *GOOD), "good", "alpha")
    shapes.require_usable(lay_out(tmp_path / "mixed", *GOOD, "Addons/a.vpk"), "mixed", "alpha")
    (tmp_path / "empty").mkdir()
    shapes.require_usable(tmp_path / "empty", "empty", "alpha")
    shapes.require_usable(tmp_path / "missing", "missing", "alpha")
    shapes.require_usable(lay_out(tmp_path / "odd", "my_files/a.txt"), "odd", "alpha")
    pack = lay_out(tmp_path / "pack", "addons/metamod.vdf", "cfg/server.cfg", "addons/a.vpk")
    with pytest.raises(HostError) as raised:
        shapes.require_usable(pack, "pack", "alpha")
    assert str(raised.value) == (
        f"alpha is not started, as the game would read nothing of its overlay pack, in {pack}. "
        "The game does not look for addons there: move it into left4dead2/. "
        "The game does not look for cfg there: move it into left4dead2/."
    )


def test_what_weighs_most_comes_first_and_each_kind_a_few_times_only(tmp_path: Path) -> None:
    names = [f"left4dead2/addons/{number}.bsp" for number in range(20)]
    codes = [code for code, *_ in find(tmp_path, "left4dead2/cfg/server.cfg", *names)]
    assert codes == ["map_not_read"] * (shapes.MOST_OF_A_KIND + 1) + ["server_cfg"]
    assert "one part of each server’s config: the release’s" in faults_of(tmp_path)[-1].text
    assert "15 more" in faults_of(tmp_path)[shapes.MOST_OF_A_KIND].text


def test_links_that_lead_out_and_what_is_no_file_are_told(tmp_path: Path) -> None:
    lay_out(tmp_path, *GOOD)
    (tmp_path / "left4dead2/cfg/in.cfg").symlink_to("sourcemod/one.cfg")
    (tmp_path / "left4dead2/cfg/out.cfg").symlink_to("../../../secret.cfg")
    (tmp_path / "left4dead2/scripts").symlink_to("/srv/scripts")
    os.mkfifo(tmp_path / "left4dead2/pipe")
    assert sorted((one.code, one.path) for one in faults_of(tmp_path)) == [
        ("link_leads_out", "left4dead2/cfg/out.cfg"),
        ("link_leads_out", "left4dead2/scripts"),
        ("special_file", "left4dead2/pipe"),
    ]


def test_a_hostile_name_is_shown_in_visible_characters(tmp_path: Path) -> None:
    name = b"left4dead2/addons/\x1b[31m\xff\xe2\x80\xae.bsp"
    lay_out(tmp_path, "left4dead2/addons/a")
    (tmp_path / os.fsdecode(name)).write_bytes(b"")
    (finding,) = faults_of(tmp_path)
    assert finding.path == "left4dead2/addons/\ufffd[31m\ufffd\ufffd.bsp"
    finding.path.encode()


# --- Libraries ----------------------------------------------------------------------------------


def put_library(overlay: Path, path: str, content: bytes) -> None:
    lay_out(overlay, path)
    (overlay / path).write_bytes(content)


def test_a_library_says_which_c_library_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "one.so"
    path.write_bytes(
        make_library("GLIBC_2.1.3", "GLIBC_2.34", "GLIBC_2.7", "XGLIBC_9.9", "GLIBC_2.x")
    )
    with path.open("rb") as file:
        assert read_library(file.fileno()).glibc == (2, 34)


@pytest.mark.parametrize(
    ("path", "content", "code"),
    [
        ("metamod/bin/server.so", make_library("GLIBC_2.4"), None),
        ("metamod/bin/server.so", make_library("GLIBC_2.499"), "library_needs_newer"),
        ("metamod/bin/server.so", make_library(bits=64), "library_64_bit"),
        # Packages bring both, and the game takes the one that it can load.
        ("metamod/bin/linux64/server.so", make_library(bits=64), None),
        ("sourcemod/extensions/x64/a.ext.so", make_library(bits=64), None),
        ("l4dtoolz.so", b"<html>404</html>", "library_broken"),
        ("l4dtoolz.so", make_library()[:60], "library_broken"),
        ("l4dtoolz.so", make_library("GLIBC_2.4")[:-20], "library_broken"),
        ("l4dtoolz.so", make_library(machine=40), "library_broken"),
    ],
)
def test_libraries_that_the_game_cannot_load_are_told(
    tmp_path: Path, path: str, content: bytes, code: str | None
) -> None:
    put_library(tmp_path, f"left4dead2/addons/{path}", content)
    assert [one.code for one in faults_of(tmp_path)] == ([code] if code else [])


def test_no_bytes_of_a_library_raise_anything_else() -> None:
    whole = make_library("GLIBC_2.4")
    file = os.memfd_create("library")
    try:
        for position in range(len(whole)):
            for value in (0, 0x7F, 0xFF):
                os.pwrite(file, whole[:position] + bytes([value]) + whole[position + 1 :], 0)
                with contextlib.suppress(LibraryError):
                    read_library(file)
    finally:
        os.close(file)


# --- Fingerprints -------------------------------------------------------------------------------


def test_a_fingerprint_changes_with_each_change_of_a_file_and_with_nothing_else(
    tmp_path: Path,
) -> None:
    lay_out(tmp_path, *GOOD)
    path = tmp_path / GOOD[0]
    link = tmp_path / "link"
    link.symlink_to("README.md")
    os.utime(link, ns=(0, 1), follow_symlinks=False)
    seen = [fingerprint(tmp_path)]
    path.read_bytes()
    (tmp_path / "left4dead2").touch()
    assert fingerprint(tmp_path) == seen[0]
    os.utime(path, ns=(0, 1))
    seen.append(fingerprint(tmp_path))
    path.chmod(0o600)
    seen.append(fingerprint(tmp_path))
    path.write_bytes(b"x")
    os.utime(path, ns=(0, 1))
    seen.append(fingerprint(tmp_path))
    path.rename(path.with_suffix(".old"))
    seen.append(fingerprint(tmp_path))
    link.unlink()
    link.symlink_to("README.nd")
    os.utime(link, ns=(0, 1), follow_symlinks=False)
    seen.append(fingerprint(tmp_path))
    lay_out(tmp_path, "new")
    seen.append(fingerprint(tmp_path))
    assert len(set(seen)) == len(seen)
