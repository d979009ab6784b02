"""Archives from strangers, read without the child: good ones come out complete, all others are refused."""

import bz2
import gzip
import io
import lzma
import os
import random
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hostops.content import archive_headers, unpack_reader
from hostops.content.archive_rules import RefusedError
from hostops.specs import UnpackLimits
from tests.hostops.content.archive_files import (
    FILES,
    make_7z,
    make_bomb,
    make_noise,
    make_overlapping_zip,
    make_rar4,
    make_rar5,
    make_tar,
    make_tar_gz,
    make_tar_of,
    make_zip,
    make_zstd,
    rar5_block,
    tar_entry,
)

LIMITS = UnpackLimits()
SMALL = replace(LIMITS, ratio_after_bytes=64 * 1024)


def unpack(
    tmp_path: Path,
    content: bytes,
    name: str = "pack.zip",
    limits: UnpackLimits = LIMITS,
    encoding: str = "",
) -> dict[str, bytes]:
    """Unpack as the child does, without its walls; return the content of each file by its path."""
    archive, into = tmp_path / "archive", tmp_path / "into"
    archive.write_bytes(content)
    into.mkdir(exist_ok=True)
    for old in into.iterdir():
        old.unlink()
    said: list[dict[str, Any]] = []
    opened = [os.open(archive, os.O_RDONLY), os.open(into, os.O_RDONLY)]
    try:
        unpack_reader.unpack(opened[0], name, opened[1], limits, said.append, encoding)
    finally:
        for one in opened:
            os.close(one)
    files = [one for one in said if "path" in one]
    stored = {one["path"]: (into / str(at)).read_bytes() for at, one in enumerate(files, start=1)}
    assert len(list(into.iterdir())) == len(files) == len(stored)
    assert [len(content) for content in stored.values()] == [one["size"] for one in files]
    return stored


def refuse(
    tmp_path: Path, content: bytes, name: str = "pack", limits: UnpackLimits = LIMITS
) -> str:
    with pytest.raises(RefusedError) as refused:
        unpack(tmp_path, content, name, limits)
    return str(refused.value)


# --- What is good -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (make_zip, "pack.zip"),
        (make_7z, "pack.7z"),
        (make_rar4, "pack.rar"),
        (make_rar5, "pack.rar"),
        (make_tar, "pack.tar"),
        (make_tar_gz, "pack.tgz"),
        (lambda: bz2.compress(make_tar()), "pack.tar.bz2"),
        (lambda: lzma.compress(make_tar()), "pack.tar.xz"),
        (lambda: make_zstd(make_tar()), "pack.tar.zst"),
        # An archive is identified by its bytes.
        (make_rar5, "pack.zip"),
        (make_tar_gz, "pack.7z"),
        (make_zip, "pack"),
    ],
)
def test_files_of_every_format_come_out_as_they_went_in(
    tmp_path: Path, make: Callable[[], bytes], name: str
) -> None:
    assert unpack(tmp_path, make(), name) == FILES


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (FILES["addons/a.vpk"], "a.vpk"),
        (b"", "empty.cfg"),
        (b"FFPS" + bytes(1000), "plugin.smx"),
        (bytes(2000), "zeros.bsp"),
        (b"MZ" + make_zip(), "unpacks-itself.exe"),
    ],
)
def test_a_file_that_is_no_archive_is_one_entry(tmp_path: Path, content: bytes, name: str) -> None:
    assert unpack(tmp_path, content, name) == {name: content}


@pytest.mark.parametrize(
    ("pack", "suffix"), [(bz2.compress, ".bz2"), (gzip.compress, ".gz"), (make_zstd, ".zst")]
)
def test_one_file_that_is_compressed_comes_out_under_its_own_name(
    tmp_path: Path, pack: Callable[[bytes], bytes], suffix: str
) -> None:
    content = b"VBSP" + make_noise(100_000)
    assert unpack(tmp_path, pack(content), f"one.bsp{suffix}") == {"one.bsp": content}


def test_an_archive_in_an_archive_stays_as_it_is(tmp_path: Path) -> None:
    inner = make_zip()
    assert unpack(tmp_path, make_7z({"inner.zip": inner})) == {"inner.zip": inner}


def test_paths_are_taken_from_the_top_and_folders_are_no_files(tmp_path: Path) -> None:
    folder = tar_entry("./addons/", tarfile.DIRTYPE)
    file = tar_entry("./addons//./one.cfg", size=1)
    content = make_tar_of([(tar_entry("./", tarfile.DIRTYPE), b""), (folder, b""), (file, b"x")])
    assert unpack(tmp_path, content) == {"addons/one.cfg": b"x"}


def test_backslashes_of_windows_are_folders_and_its_files_are_not_executable(
    tmp_path: Path,
) -> None:
    content = make_zip({"addons/one.cfg": b"x"}, create_system=0)
    content = content.replace(b"addons/one.cfg", b"addons\\one.cfg")
    assert unpack(tmp_path, content) == {"addons/one.cfg": b"x"}


def test_what_may_be_executed_is_told(tmp_path: Path) -> None:
    archive, into = tmp_path / "archive", tmp_path / "into"
    into.mkdir()
    archive.write_bytes(
        make_tar_of([(tar_entry("run", mode=0o755), b""), (tar_entry("read", mode=0o644), b"")])
    )
    said: list[dict[str, Any]] = []
    with archive.open("rb") as file:
        folder = os.open(into, os.O_RDONLY)
        unpack_reader.unpack(file.fileno(), "a.tar", folder, LIMITS, said.append)
        os.close(folder)
    executable = {one["path"]: one["is_executable"] for one in said if "path" in one}
    assert executable == {"run": True, "read": False}


def test_two_tars_one_after_the_other_are_one(tmp_path: Path) -> None:
    content = make_tar({"a": b"1"}) + make_tar({"b": b"2"})
    assert unpack(tmp_path, content) == {"a": b"1", "b": b"2"}


# --- Names --------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [make_zip, make_tar, make_7z, make_rar5])
@pytest.mark.parametrize("name", ["地图/начало.bsp", "a/Ünïcode — 🧟.cfg"])
def test_names_in_utf_8_are_read_in_every_format(
    tmp_path: Path, make: Callable[[Mapping[str, bytes]], bytes], name: str
) -> None:
    assert unpack(tmp_path, make({name: b"x"})) == {name: b"x"}


@pytest.mark.parametrize(
    ("name", "encoding", "other"),
    [("地图.bsp", "gb18030", "cp437"), ("Übung.bsp", "cp437", "gb18030")],
)
def test_names_that_do_not_tell_their_encoding_are_asked_for(
    tmp_path: Path, name: str, encoding: str, other: str
) -> None:
    raw = name.encode(encoding)
    content = make_zip({"X" * len(raw): b"x"}).replace(b"X" * len(raw), raw)
    said = refuse(tmp_path, content)
    assert f"“{name}” as {encoding}" in said
    assert f" as {other}" in said
    assert unpack(tmp_path, content, encoding=encoding) == {name: b"x"}


@pytest.mark.parametrize("make", [make_zip, make_tar, make_7z, make_rar5])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../../etc/passwd", "leads out of its folder"),
        ("a/../../b", "leads out of its folder"),
        ("a/..", "leads out of its folder"),
        ("/etc/passwd", "absolute"),
        ("C:/Windows/a", "drive's letter"),
        ("c:a", "drive's letter"),
        ("a\\..\\..\\b", "backslash|leads out"),
        ("a\nb", "invisible"),
        ("a\x1b[2Jb", "invisible"),
        ("a\N{RIGHT-TO-LEFT OVERRIDE}gpj.smx", "invisible"),
        ("/".join("a" * 40), "folders deep"),
        ("a" * 256, "too long"),
        ("/".join(["a" * 200] * 6), "too long"),
        ("ä" * 128, "too long"),
    ],
)
def test_a_path_that_no_file_of_a_game_has_is_refused_in_every_format(
    tmp_path: Path, make: Callable[[Mapping[str, bytes]], bytes], name: str, said: str
) -> None:
    text = refuse(tmp_path, make({name: b"x"}))
    assert any(one in text for one in said.split("|")), text
    assert text.isprintable()
    assert len(text) < 300


@pytest.mark.parametrize("make", [make_zip, make_tar, make_7z, make_rar5])
def test_a_path_without_end_is_refused(
    tmp_path: Path, make: Callable[[Mapping[str, bytes]], bytes]
) -> None:
    # A format may call so long a name damaged.
    text = refuse(tmp_path, make({"a" * 5_000: b"x"}))
    assert len(text) < 300


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("cfg/server.cfg", "cfg/server.cfg"),
        ("cfg/server.cfg", "CFG/Server.cfg"),
        ("Stra\N{LATIN SMALL LETTER SHARP S}e.cfg", "STRASSE.cfg"),
        ("\N{LATIN SMALL LETTER E WITH ACUTE}.cfg", "e\N{COMBINING ACUTE ACCENT}.cfg"),
        ("a", "a/b"),
        ("a/b", "A"),
        ("a/b/c", "a/b"),
    ],
)
def test_names_that_are_one_to_people_or_to_the_disk_are_refused(
    tmp_path: Path, first: str, second: str
) -> None:
    content = make_tar_of([(tar_entry(first, size=1), b"x"), (tar_entry(second, size=1), b"y")])
    assert "in it" in refuse(tmp_path, content)


def test_a_folder_in_two_ways_of_writing_is_no_double(tmp_path: Path) -> None:
    files = {"Addons/a": b"1", "addons/b": b"2"}
    assert unpack(tmp_path, make_tar(files)) == files


# --- What is neither a file nor a folder --------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "neither a file nor a folder"),
        (tarfile.BLKTYPE, "neither a file nor a folder"),
        (tarfile.FIFOTYPE, "neither a file nor a folder"),
    ],
)
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes, said: str) -> None:
    entry = tar_entry("evil", kind, linkname="/etc/passwd", devmajor=1, devminor=3)
    assert said in refuse(tmp_path, make_tar_of([(tar_entry("good", size=1), b"x"), (entry, b"")]))


@pytest.mark.parametrize(
    ("mode", "said"), [(0o120777, "a link"), (0o010644, "neither"), (0o060644, "neither")]
)
def test_links_and_devices_of_a_zip_are_refused_before_anything_is_written(
    tmp_path: Path, mode: int, said: str
) -> None:
    content = make_zip({"good": b"x", "evil": b"/etc/passwd"}, external_attr=mode << 16)
    assert said in refuse(tmp_path, content)
    assert list((tmp_path / "into").iterdir()) == []


# --- Too much -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        make_bomb,
        lambda size: make_7z({"zeros": bytes(size)}),
        lambda size: make_tar_gz({"zeros": bytes(size)}),
        lambda size: bz2.compress(make_tar({"zeros": bytes(size)})),
        lambda size: lzma.compress(make_tar({"zeros": bytes(size)})),
        lambda size: gzip.compress(bytes(size)),
        # After the end of the tar, where nobody looks for anything.
        lambda size: gzip.compress(make_tar() + bytes(size)),
    ],
)
def test_a_bomb_is_refused_by_its_ratio(tmp_path: Path, make: Callable[[int], bytes]) -> None:
    content = make(300_000)
    assert len(content) < 1_400
    assert "200 times" in refuse(tmp_path, content, "bomb.bin.gz", SMALL)
    written = sum(file.stat().st_size for file in (tmp_path / "into").iterdir())
    assert written < 300_000


def test_so_much_as_the_ratio_allows_comes_out(tmp_path: Path) -> None:
    files = {"zeros": bytes(60_000)}
    assert unpack(tmp_path, make_zip(files), limits=SMALL) == files


@pytest.mark.parametrize("make", [make_zip, make_tar, make_7z, make_rar5, make_tar_gz])
def test_more_bytes_than_the_limit_are_refused(
    tmp_path: Path, make: Callable[[Mapping[str, bytes]], bytes]
) -> None:
    files = {"a": make_noise(6_000), "b": make_noise(6_000)}
    assert unpack(tmp_path, make(files)) == files
    limits = replace(LIMITS, total_bytes=10_000)
    assert "9.77 KiB, which is as much as may come" in refuse(tmp_path, make(files), limits=limits)


def test_what_an_archive_declares_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    huge = tar_entry("huge", size=1024**4)
    content = huge.tobuf(tarfile.GNU_FORMAT) + bytes(10_240)
    assert "as may come at a time" in refuse(tmp_path, content)
    content = make_zip({"good": b"x", "huge": b"y" * 100})
    at = content.rindex(b"PK\1\2") + 24
    content = content[:at] + struct.pack("<I", 0xFFFFFFFE) + content[at + 4 :]
    assert "as may come at a time" in refuse(
        tmp_path, content, limits=replace(LIMITS, total_bytes=2**31)
    )
    assert list((tmp_path / "into").iterdir()) == []


@pytest.mark.parametrize("make", [make_zip, make_tar, make_7z, make_rar4, make_rar5])
def test_too_many_entries_are_refused(
    tmp_path: Path, make: Callable[[Mapping[str, bytes]], bytes]
) -> None:
    files = {f"{number}": b"" for number in range(21)}
    limits = replace(LIMITS, entries=20)
    assert "more than 20 files and folders" in refuse(tmp_path, make(files), limits=limits)
    assert len(unpack(tmp_path, make(dict(list(files.items())[:20])), limits=limits)) == 20


def test_folders_that_only_paths_name_count_too(tmp_path: Path) -> None:
    content = make_zip({f"{number}/a/b/c/d/e": b"" for number in range(5)})
    limits = replace(LIMITS, entries=29)
    assert "29 files and folders" in refuse(tmp_path, content, limits=limits)
    assert len(unpack(tmp_path, content, limits=replace(limits, entries=30))) == 5


def test_one_folder_again_and_again_is_too_many_too(tmp_path: Path) -> None:
    content = make_tar_of([(tar_entry("a", tarfile.DIRTYPE), b"")] * 21)
    assert "more than 20" in refuse(tmp_path, content, limits=replace(LIMITS, entries=20))


def test_blocks_of_a_rar_beside_its_files_are_no_entries() -> None:
    content = make_rar5(first=rar5_block(3, 4, bytes(12)) * 1_005)
    limits = replace(LIMITS, entries=len(FILES))
    checksums = archive_headers.check_rar5(io.BytesIO(content), limits)
    assert checksums == [zlib.crc32(one) for one in FILES.values()]


def test_a_zip_whose_entries_share_their_bytes_is_refused(tmp_path: Path) -> None:
    assert "share their bytes" in refuse(tmp_path, make_overlapping_zip())
    assert unpack(tmp_path, make_overlapping_zip(1)) == {"0": b"x" * 1000}


# --- Damage -------------------------------------------------------------------------------------

NOISE = {"noise.bin": make_noise(5_000)}
DAMAGED = [
    make_zip(NOISE),
    make_7z(NOISE),
    make_rar4(NOISE),
    make_rar5(NOISE),
    make_tar_gz(NOISE),
    bz2.compress(make_tar(NOISE)),
    lzma.compress(make_tar(NOISE)),
]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_wrong_byte_in_the_middle_is_told(tmp_path: Path, content: bytes) -> None:
    assert unpack(tmp_path, content) == NOISE
    middle = len(content) // 2
    broken = content[:middle] + bytes([content[middle] ^ 0x10]) + content[middle + 1 :]
    assert "damaged" in refuse(tmp_path, broken)


@pytest.mark.parametrize("content", [*DAMAGED, make_tar(NOISE), make_zstd(make_tar(NOISE))])
def test_an_archive_that_is_cut_short_anywhere_is_told(tmp_path: Path, content: bytes) -> None:
    # The last blocks of a tar are all alike: its end mark is what counts.
    ends = [10, 100, len(content) // 2, len(content) - 1, len(content) - 6_000]
    for end in ends:
        if 0 < end < len(content):
            refuse(tmp_path, content[:end], "pack.tar.gz")


def test_a_gzip_with_another_checksum_is_told(tmp_path: Path) -> None:
    content = make_tar_gz()
    broken = content[:-8] + struct.pack("<I", 1) + content[-4:]
    assert "CRC check failed" in refuse(tmp_path, broken)


def test_a_tar_with_something_behind_it_is_told(tmp_path: Path) -> None:
    assert "damaged" in refuse(tmp_path, make_tar() + b"x" * 512)
    assert "damaged" in refuse(tmp_path, make_tar() + bytes(100_000) + b"x")


def test_a_tar_that_ends_before_its_end_mark_is_told(tmp_path: Path) -> None:
    whole = make_tar({"a": b"x" * 512})
    assert unpack(tmp_path, whole[:2_048]) == {"a": b"x" * 512}  # one zero block is enough
    assert "last block is missing" in refuse(tmp_path, whole[:1_024])


def test_what_libarchive_only_warns_of_is_refused(tmp_path: Path) -> None:
    content = make_zip({"a": b"x" * 1_000})
    directory = content.index(b"PK\1\2")
    packed = struct.unpack_from("<I", content, directory + 20)[0]
    junk = content[:directory] + b"junk" + content[directory:]
    for at in (18, directory + 4 + 20):
        junk = junk[:at] + struct.pack("<I", packed + 4) + junk[at + 4 :]
    end = junk.index(b"PK\5\6")
    junk = junk[: end + 16] + struct.pack("<I", directory + 4) + junk[end + 20 :]
    assert "wrong size" in refuse(tmp_path, junk)


def test_a_zero_byte_that_would_cut_a_name_is_told(tmp_path: Path) -> None:
    content = make_zip({"map.txt#.so": b"x"}).replace(b"#", b"\0")
    assert "has a zero byte in its name" in refuse(tmp_path, content)


def test_a_zip_whose_directory_has_more_than_it_says_is_not_read_to_its_end(tmp_path: Path) -> None:
    content = make_zip({str(number): b"" for number in range(100)})
    at = content.rindex(b"PK\5\6") + 8
    content = content[:at] + struct.pack("<2H", 3, 3) + content[at + 4 :]
    assert "does not name the 3 entries that it should" in refuse(tmp_path, content)


def test_a_file_of_another_size_than_its_header_says_is_refused(tmp_path: Path) -> None:
    assert "has 204 bytes of 209" in refuse(tmp_path, make_rar5(more_bytes=5))


def test_a_zip_with_more_entries_than_its_directory_names_is_told(tmp_path: Path) -> None:
    content = bytearray(make_zip())
    end = content.rindex(b"PK\5\6")
    content[end + 8 : end + 12] = struct.pack("<2H", 2, 2)
    assert "does not name the 2 entries" in refuse(tmp_path, bytes(content))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (make_zip({}), "contains no files"),
        (make_zip({"folder/": b""}), "contains no files"),
        (make_tar_of([(tar_entry("folder", tarfile.DIRTYPE), b"")]), "contains no files"),
        (make_7z({}), "contains no files"),
        (make_rar4({}), "contains no files"),
        (make_rar5({}), "contains no files"),
    ],
)
def test_an_archive_without_files_is_told(tmp_path: Path, content: bytes, said: str) -> None:
    assert said in refuse(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"<!DOCTYPE html><title>Not found</title>", "pack.zip"),
        (b"", "pack.zip"),
        (bytes(1_000), "pack.tar"),
        (b"MSCF" + bytes(100), "pack.cab"),
        (b"\x04\x22\x4d\x18" + bytes(100), "pack.tar.lz4"),
    ],
)
def test_what_is_not_what_its_name_says_is_refused(
    tmp_path: Path, content: bytes, name: str
) -> None:
    assert "whatever its name says" in refuse(tmp_path, content, name)


def test_what_is_compressed_under_the_name_of_a_tar_and_is_none_is_refused(tmp_path: Path) -> None:
    assert "no tar" in refuse(tmp_path, gzip.compress(b"x" * 1_000), "pack.tar.gz")
    assert "no tar" in refuse(tmp_path, gzip.compress(b"x" * 1_000), "pack.tgz")


def test_no_bytes_raise_anything_but_a_refusal(tmp_path: Path) -> None:
    dice = random.Random(20)
    samples = [make_zip(), make_rar4(), make_rar5(), make_7z(), make_tar(), make_zstd(make_tar())]
    until = time.monotonic() + 0.5
    refused = 0
    while time.monotonic() < until:
        content = bytearray(dice.choice(samples))
        for _ in range(dice.randrange(1, 8)):
            content[dice.randrange(len(content))] = dice.randrange(256)
        try:
            unpack(tmp_path, bytes(content), "a.vpk", SMALL)
        except (RefusedError, MemoryError):
            refused += 1
    assert refused


# --- Passwords, volumes, and what cannot be unpacked --------------------------------------------


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    content = bytearray(make_zip())
    content[content.rindex(b"PK\1\2") + 8] |= 1
    assert "without a password" in refuse(tmp_path, bytes(content))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (make_rar4(main_flags=0x80), "without a password"),
        (make_rar4(file_flags=0x04), "without a password"),
        (make_rar4(main_flags=0x01), "one volume of a set"),
        (make_rar4(file_flags=0x02), "one volume of a set"),
        (make_rar4(main_flags=0x08), "solid RAR of version 4"),
        (make_rar5(first=rar5_block(4, 0, bytes(20))), "without a password"),
        (make_rar5(file_extra=b"\x02\x01\x00"), "without a password"),
        (make_rar5(file_extra=b"\x02\x05\x00\x02\x01\x00"), "without a password"),
        (make_rar5(main_flags=0x01), "one volume of a set"),
        (make_rar5(end_flags=0x01), "one volume of a set"),
    ],
)
def test_what_the_headers_of_a_rar_say_is_heard(tmp_path: Path, content: bytes, said: str) -> None:
    assert said in refuse(tmp_path, content)


def test_a_file_of_a_rar_whose_checksum_is_not_read_is_refused_if_it_is_only_stored(
    tmp_path: Path,
) -> None:
    content = make_rar5(NOISE, file_extra=b"\x22\x02\x00" + bytes(32), has_checksum=False)
    assert "BLAKE2" in refuse(tmp_path, content)


def test_a_solid_rar_of_version_5_is_not_refused_for_that(tmp_path: Path) -> None:
    assert unpack(tmp_path, make_rar5(main_flags=0x04)) == FILES


@pytest.mark.parametrize(
    "name", ["pack.zip.001", "pack.7z.002", "pack.z01", "pack.r00", "map.vpk.003"]
)
def test_a_volume_is_known_by_its_name(tmp_path: Path, name: str) -> None:
    assert "one volume of a set" in refuse(tmp_path, make_noise(100), name)


def test_a_zip_of_several_disks_is_refused(tmp_path: Path) -> None:
    content = bytearray(make_zip())
    end = content.rindex(b"PK\5\6")
    content[end + 4] = 1
    assert "one volume of a set" in refuse(tmp_path, bytes(content))


def test_a_way_of_packing_that_nobody_knows_is_told(tmp_path: Path) -> None:
    content = make_zip({"a": b"x" * 1_000})
    local, directory = content.index(b"PK\3\4") + 8, content.index(b"PK\1\2") + 10
    for at in (local, directory):  # 9 is deflate64, which Windows uses for files over 2 GB.
        content = content[:at] + b"\x09\x00" + content[at + 2 :]
    assert "cannot be unpacked here" in refuse(tmp_path, content)


def test_a_zip_with_64_bits_comes_out(tmp_path: Path) -> None:
    out = tmp_path / "wide.zip"
    with (
        zipfile.ZipFile(out, "w") as archive,
        archive.open(zipfile.ZipInfo("a"), "w", force_zip64=True) as file,
    ):
        file.write(b"x" * 1_000)
    assert unpack(tmp_path, out.read_bytes()) == {"a": b"x" * 1_000}
