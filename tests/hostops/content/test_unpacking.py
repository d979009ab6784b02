"""Unpacking in the child: its walls hold, its reports are not trusted, and a failure leaves nothing behind."""

import hashlib
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from hostops.callbacks import Callbacks
from hostops.content import unpacking
from hostops.content.archive_rules import RefusedError
from hostops.errors import HostError, OperationCancelled
from hostops.host import Host
from hostops.specs import CancelToken, UnpackedFile, UnpackLimits
from tests.hostops.content.archive_files import (
    make_noise,
    make_tar_gz,
    make_tar_of,
    make_zip,
    tar_entry,
)

PROJECT_DIR = Path(__file__).parents[3]
LIMITS = UnpackLimits()
QUIET = Callbacks()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def names_in(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def be_read_by(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str) -> None:
    """Put another program in the child's place; it has `say` and `into`."""
    begin = (
        "import json, os, signal, sys, time\n"
        f"sys.path.append({str(PROJECT_DIR)!r})\n"
        "into, parent = int(sys.argv[2]), int(sys.argv[3])\n"
        "def say(**what): print(json.dumps(what), flush=True)\n"
        "def make(name, content=b'x'):\n"
        "    os.write(os.open(name, os.O_WRONLY | os.O_CREAT, 0o640, dir_fd=into), content)\n"
    )
    reader = write(tmp_path / "reader.py", (begin + program).encode())
    monkeypatch.setattr(unpacking, "READER_PATH", reader)


# --- The child ----------------------------------------------------------------------------------


def test_an_archive_becomes_numbered_files_with_their_hashes(tmp_path: Path) -> None:
    big = make_noise(3_000_000)
    archive = write(
        tmp_path / "upload.bin",
        make_tar_of(
            [
                (tar_entry("map/one.bsp", size=len(big)), big),
                (tar_entry("run.sh", size=2, mode=0o755), b"#!"),
            ]
        ),
    )
    into = tmp_path / "deep" / "into"
    stages: list[tuple[str, int | None]] = []
    lines: list[str] = []
    files = Host(tmp_path / "host").unpack(
        archive,
        "pack.tar",
        into,
        on_stage=lambda *stage: stages.append(stage),
        on_line=lambda _, line: lines.append(line),
    )
    assert files == [
        UnpackedFile("map/one.bsp", hashlib.sha256(big).hexdigest(), len(big), into / "1", False),
        UnpackedFile("run.sh", hashlib.sha256(b"#!").hexdigest(), 2, into / "2", True),
    ]
    assert (into / "1").read_bytes() == big
    assert names_in(into) == ["1", "2"]
    assert not (tmp_path / "host").exists()
    assert lines == ["pack.tar: 2 files, 3,000,002 bytes."]
    names = list(dict.fromkeys(name for name, _ in stages))
    assert names == ["Unpacking", "Checking files"]
    progress = [percent for name, percent in stages if name == "Checking files"]
    assert progress[0] == 0
    assert len(progress) >= 3
    assert progress == sorted(progress, key=lambda one: one or 0)


def test_what_the_archive_is_refused_for_is_told_with_its_name(tmp_path: Path) -> None:
    archive = write(tmp_path / "archive", make_zip({"地图": b"", "../evil": b"x"}))
    into = tmp_path / "into"
    with pytest.raises(
        HostError, match=r"^pack.zip was not unpacked: \.\./evil in it leads out of"
    ):
        unpacking.unpack(archive, "pack.zip", into, LIMITS, QUIET)
    assert names_in(into) == []
    assert not (tmp_path / "evil").exists()


CONFINED = """
import errno, socket
from hostops.content import unpack_reader
from hostops.specs import UnpackLimits
import ctypes, resource
libc = ctypes.CDLL(None)
unpack_reader.confine(into, parent, UnpackLimits(memory_bytes=400 * 1024**2, total_bytes=1000))
def tries(act):
    try:
        act()
    except (OSError, MemoryError) as error:
        return getattr(error, "errno", 0) or type(error).__name__
    return "done"
signal_number = ctypes.c_int()
libc.prctl(2, ctypes.byref(signal_number), 0, 0, 0)
make("1")
done = {
    "read": tries(lambda: open("/etc/passwd")),
    "write": tries(lambda: open(OUTSIDE, "w")),
    "link": tries(lambda: os.symlink("/etc/passwd", "2", dir_fd=into)),
    "folder": tries(lambda: os.mkdir("2", dir_fd=into)),
    "list": tries(lambda: os.listdir("/")),
    "network": tries(lambda: socket.socket()),
    "program": tries(lambda: os.execv("/bin/true", ["true"])),
    "process": tries(os.fork),
    "memory": tries(lambda: bytearray(500 * 1024**2)),
    "too large": tries(lambda: make("1", bytes(2000))),
    "parent": tries(lambda: os.kill(parent, 0)),
    "death": signal_number.value,
}
say(path=json.dumps(done), size=0, is_executable=False)
say(refused=json.dumps(done))
"""


def test_the_child_can_do_nothing_but_make_files_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = write(tmp_path / "outside", b"")
    be_read_by(monkeypatch, tmp_path, f"OUTSIDE = {str(outside)!r}\n{CONFINED}")
    archive = write(tmp_path / "archive", b"x")
    with pytest.raises(HostError) as refused:
        unpacking.unpack(archive, "a", tmp_path / "into", LIMITS, QUIET)
    done = json.loads(str(refused.value).partition("unpacked: ")[2])
    assert done == {
        "read": 13,
        "write": 13,
        "link": 13,
        "folder": 13,
        "list": 13,
        "network": 1,
        "program": 1,
        "process": 1,
        "memory": "MemoryError",
        "too large": "done",  # exactly as much as is allowed
        "parent": 1,
        "death": 9,
    }


def test_some_of_the_disk_stays_free(tmp_path: Path) -> None:
    archive = write(tmp_path / "archive", make_zip({"a.vpk": b"x"}))
    limits = replace(LIMITS, min_free_bytes=2**60)
    with pytest.raises(HostError, match=r"pack\.zip was not unpacked because the disk has no room"):
        unpacking.unpack(archive, "pack.zip", tmp_path / "into", limits, QUIET)
    assert names_in(tmp_path / "into") == []


def test_a_child_that_is_killed_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_read_by(
        monkeypatch,
        tmp_path,
        "make('1'); say(path='a', size=1, is_executable=False); os.kill(os.getpid(), signal.SIGKILL)",
    )
    archive = write(tmp_path / "archive", b"x")
    with pytest.raises(HostError, match="more time or memory than is allowed"):
        unpacking.unpack(archive, "a", tmp_path / "into", LIMITS, QUIET)
    assert names_in(tmp_path / "into") == []


def test_a_cancel_ends_the_child_at_once_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It could continue for longer than any test may take.
    be_read_by(monkeypatch, tmp_path, "make('1'); say(read=1); signal.pause()")
    limits = replace(LIMITS, seconds=3600.0)
    archive = write(tmp_path / "archive", b"xx")
    cancel = CancelToken()

    def cancel_at(_name: str, percent: int | None) -> None:
        if percent == 50:
            cancel.cancel()

    with pytest.raises(OperationCancelled):
        unpacking.unpack(
            archive, "a", tmp_path / "into", limits, Callbacks(on_stage=cancel_at, cancel=cancel)
        )
    assert names_in(tmp_path / "into") == []


def test_a_child_that_takes_too_long_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_read_by(monkeypatch, tmp_path, "time.sleep(60)")
    archive = write(tmp_path / "archive", b"x")
    limits = replace(LIMITS, seconds=0.1)
    with pytest.raises(HostError, match="longer than it may"):
        unpacking.unpack(archive, "a", tmp_path / "into", limits, QUIET)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("say(full=True)", "the disk has no room for it"),
        ("pass", "ended without saying why"),
        (
            "raise SystemExit('No module named libarchive')",
            "No module named libarchive .*libarchive13",
        ),
        ("print('[' * 100_000)", "said something unexpected"),
        ("say(path=1, size='a', is_executable=None)", "said something unexpected"),
        ("make('9'); say(done=True)", "There is more in"),
        ("make('evil'); os.mkdir('8', dir_fd=into); say(done=True)", "There is more in"),
        ("while True: say(read=1)", "said something unexpected"),
    ],
)
def test_whatever_the_child_does_ends_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, said: str
) -> None:
    be_read_by(monkeypatch, tmp_path, program)
    archive = write(tmp_path / "archive", b"x")
    with pytest.raises(HostError) as failed:
        unpacking.unpack(archive, "a", tmp_path / "into", LIMITS, QUIET)
    assert re.search(said, str(failed.value)), failed.value
    assert names_in(tmp_path / "into") == []


# --- What it says is checked --------------------------------------------------------------------


def check(
    into: Path, *files: tuple[str, int, bool], limits: UnpackLimits = LIMITS
) -> list[UnpackedFile]:
    told = unpacking._Told(limits, 100, QUIET, files=list(files))
    folder = os.open(into, os.O_RDONLY)
    try:
        return unpacking._check(told, folder, into, limits, 100, QUIET)
    finally:
        os.close(folder)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("../evil", "leads out"),
        ("/evil", "absolute"),
        ("./evil", "a path that is not allowed"),
        ("a//evil", "a path that is not allowed"),
        ("", "a path that is not allowed|no name"),
        ("a\0b", "invisible"),
        ("\udcff", "invisible"),
    ],
)
def test_a_path_that_the_child_may_not_have_said_is_refused(
    tmp_path: Path, path: str, said: str
) -> None:
    write(tmp_path / "1", b"x")
    with pytest.raises((HostError, RefusedError)) as refused:
        check(tmp_path, (path, 1, False))
    assert re.search(said, str(refused.value)), refused.value


def test_what_the_child_has_written_is_looked_at(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret", b"xxxx")
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(HostError, match="is gone"):
        check(into, ("a", 4, False))
    (into / "1").symlink_to(secret)
    with pytest.raises(HostError, match="symbolic link"):
        check(into, ("a", 4, False))
    (into / "1").unlink()
    (into / "1").hardlink_to(secret)
    with pytest.raises(HostError, match="has a second name"):
        check(into, ("a", 4, False))
    (into / "1").unlink()
    write(into / "1", b"xxxx")
    with pytest.raises(HostError, match="4 bytes instead of 3"):
        check(into, ("a", 3, False))
    with pytest.raises(RefusedError, match="twice"):
        check(into, ("a", 4, False), ("A", 4, False))
    with pytest.raises(RefusedError, match="as may come at a time"):
        check(into, ("a", 4, False), limits=replace(LIMITS, total_bytes=3))
    assert check(into, ("a", 4, False))[0].stored_at == into / "1"


# --- Where it is unpacked to --------------------------------------------------------------------


def test_what_an_earlier_try_has_left_is_removed(tmp_path: Path) -> None:
    into = tmp_path / "into"
    into.mkdir()
    for name in ("1", "2", "3"):
        write(into / name, b"old")
    archive = write(tmp_path / "archive", make_tar_gz({"a": b"new"}))
    (file,) = unpacking.unpack(archive, "a.tgz", into, LIMITS, QUIET)
    assert file.stored_at.read_bytes() == b"new"
    assert names_in(into) == ["1"]


def test_a_folder_with_anything_else_in_it_is_left_alone(tmp_path: Path) -> None:
    into = tmp_path / "into"
    into.mkdir()
    write(into / "1", b"old")
    write(into / "precious", b"x")
    archive = write(tmp_path / "archive", make_zip())
    with pytest.raises(HostError, match="precious"):
        unpacking.unpack(archive, "a.zip", into, LIMITS, QUIET)
    assert names_in(into) == ["1", "precious"]


def test_names_are_read_in_no_encoding_but_those_that_zips_have(tmp_path: Path) -> None:
    archive = write(tmp_path / "archive", make_zip())
    with pytest.raises(ValueError, match="cp437 or gb18030"):
        unpacking.unpack(archive, "a.zip", tmp_path / "into", LIMITS, QUIET, encoding="rot13")


def test_an_archive_that_is_no_ordinary_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("/etc/passwd")
    for name in ("fifo", "link", "missing"):
        with pytest.raises(HostError, match="Upload it again"):
            unpacking.unpack(tmp_path / name, "a.zip", tmp_path / "into", LIMITS, QUIET)
    assert not (tmp_path / "into").exists()
