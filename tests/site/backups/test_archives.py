"""Archives: what went in comes out, sealed or not; damaged, cut off or otherwise sealed ones are refused."""

import errno
import io
import os
import stat
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from django.utils import timezone

from hostops.layout import HostLayout
from hostops.linux import untrusted
from hostops.linux.untrusted import UntrustedFileError
from jobs.models import Worker
from l4d2site.backups import archives, host_files, restoring, sealing
from l4d2site.backups.archives import ArchiveError, Head
from l4d2site.backups.restoring import RestoreRefused
from l4d2site.backups.sealing import PIECE_BYTES, SealedReader
from servers.models import Host

HEAD = Head("sqlite", "1", "local", "2026-11-26T00:00:00+00:00", has_host_files=True)
PASSPHRASE = "correct horse battery"
REAL_WORK = sealing._SCRYPT
SEALED_BEFORE = (
    "73616665726f6f6d2d7365616c65642d310a6aa0167506ad08ec74aa0b2691482647"
    "a76dbb3a09e9d5e9797c8dac0dee707245f2ce4143d2e9efb1eb"
)
"""What Saferoom once sealed with the passphrase."""


@pytest.fixture(autouse=True)
def quick_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a thousandth of the work for each key."""
    monkeypatch.setattr(sealing, "_SCRYPT", REAL_WORK | {"n": 2**6})


def write(
    path: Path, passphrase: str, root: Path | None = None, head: bytes | None = None
) -> archives.Written:
    with archives.Writer(path, passphrase) as writer:
        writer.add_bytes(archives.HEAD, head or archives.head_as_bytes(HEAD))
        if passphrase:
            writer.add_bytes(archives.KEYS, b"key-one,key-two")
        writer.add_bytes(archives.DATABASE, os.urandom(2 * PIECE_BYTES + 5))
        for place in host_files.places(HostLayout(root)) if root else ():
            writer.add_tree(root or path, place, print)
    return writer.written


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a host's root with what a hostile game could have left in its layer."""
    upper = tmp_path / "host/instances/alpha/upper"
    (upper / "cfg/deep").mkdir(parents=True)
    (upper / "cfg/server.cfg").write_text("hostname mine")
    (upper / "cfg/server.cfg").chmod(0o640)
    (upper / "closed").write_text("closed to its owner")
    (upper / "closed").chmod(0)
    (upper / "leak").symlink_to("/etc/passwd")
    os.mkfifo(upper / "pipe")
    (upper / "empty").mkdir()
    (tmp_path / "host/overlays/maps").mkdir(parents=True)
    (tmp_path / "host/overlays/maps/one.vpk").write_bytes(b"\0" * 1000)
    (tmp_path / "host/instances/alpha/run.json").write_text("{}")
    (tmp_path / "host/releases/1").mkdir(parents=True)
    return tmp_path / "host"


def take_out(path: Path, passphrase: str, target: Path) -> None:
    with archives.members(path, passphrase) as found:
        for info, content in found:
            if info.name.startswith(archives.HOST):
                info.name = info.name.removeprefix(archives.HOST)
                host_files.put(target, info, content)


@pytest.mark.parametrize("passphrase", ["", PASSPHRASE])
def test_what_servers_wrote_and_overlays_come_back_and_nothing_else(
    tmp_path: Path, root: Path, passphrase: str
) -> None:
    written = write(tmp_path / "a", passphrase, root)
    assert written.skipped == ["instances/alpha/upper/pipe is neither a file, a folder nor a link."]
    archives.verify(tmp_path / "a", passphrase)
    (tmp_path / "new").mkdir()
    take_out(tmp_path / "a", passphrase, tmp_path / "new")
    upper = tmp_path / "new/instances/alpha/upper"
    assert (upper / "cfg/server.cfg").read_text() == "hostname mine"
    assert stat.S_IMODE((upper / "cfg/server.cfg").stat().st_mode) == 0o640
    assert (upper / "leak").readlink() == Path("/etc/passwd")
    assert (upper / "empty").is_dir()
    assert (upper / "closed").exists()
    assert (tmp_path / "new/overlays/maps/one.vpk").stat().st_size == 1000
    assert {found.name for found in (tmp_path / "new").iterdir()} == {"instances", "overlays"}
    assert [found.name for found in (tmp_path / "new/instances/alpha").iterdir()] == ["upper"]


def test_a_server_whose_folder_cannot_be_entered_is_left_out_and_told(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pipe", "closed"):
        (root / "instances/alpha/upper" / name).unlink()
    (root / "instances/aloof").mkdir()
    (root / "instances/aloof/upper").symlink_to("/etc")
    (root / "overlays/maps/full/inside").mkdir(parents=True)
    (root / "overlays/maps/entered").mkdir()
    for number in range(9):
        (root / f"overlays/maps/full/{number}").touch()
    monkeypatch.setattr(untrusted, "MAX_ENTRIES", 9)
    for name in ("inside", "shut"):
        (root / "overlays/theirs" / name).mkdir(parents=True)
        (root / "overlays/theirs" / name).chmod(0o555)
    (root / "overlays/theirs/inside/theirs").touch()
    monkeypatch.setattr(os, "chmod", Mock(side_effect=PermissionError(1, "not the owner's")))
    open_folder_at = untrusted.open_folder_at

    def open_or_refuse(folder: int, relative: str, *, opens_up: bool = False) -> int:
        if relative == "shut" and not opens_up:  # Nothing is shut to root.
            raise UntrustedFileError("shut may not be opened.")
        return open_folder_at(folder, relative, opens_up=opens_up)

    monkeypatch.setattr(untrusted, "open_folder_at", open_or_refuse)
    written = write(tmp_path / "a", "", root)
    assert not written.skipped
    assert [text.split(". ")[0] for text in written.incomplete] == [
        "instances/aloof/upper cannot be opened: aloof/upper is a symbolic link where a folder belongs",
        f"{root}/overlays/maps/full holds more than 9 files, and is not gone through.",
        "overlays/theirs/shut cannot be opened: shut may not be opened.",
    ]
    assert "host/overlays/theirs/inside/theirs" in written.digests
    assert "host/instances/alpha/upper/cfg/server.cfg" in written.digests
    assert "host/overlays/maps/one.vpk" in written.digests
    assert "host/overlays/maps/entered" in written.digests


def test_of_a_tree_that_lacks_more_than_one_file_it_is_told_how_many(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = UntrustedFileError("Not now.")
    monkeypatch.setattr(untrusted, "open_at", Mock(side_effect=error))
    assert write(tmp_path / "a", "", root).incomplete == [
        "instances/alpha/upper/closed cannot be opened: Not now. And 1 more in instances/alpha.",
        "overlays/maps/one.vpk cannot be opened: Not now.",
    ]


def test_a_folder_that_may_only_be_read_stays_as_it_is(tmp_path: Path, root: Path) -> None:
    """Another account's game may have to read it too."""
    (root / "overlays/maps/deep").mkdir()
    folders = (root / "overlays/maps/deep", root / "overlays/maps")
    for folder in folders:
        folder.chmod(0o555)
    assert not write(tmp_path / "a", "", root).incomplete
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in folders] == [0o555, 0o555]
    folders[1].chmod(0o755)  # Now it can be removed.


def test_a_closed_folder_that_cannot_be_opened_up_is_told(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "overlays/maps").chmod(0o400)
    (root / "instances/alpha/upper/closed").unlink()
    monkeypatch.setattr(os, "chmod", Mock(side_effect=PermissionError(1, "immutable")))
    assert write(tmp_path / "a", "", root).incomplete == [
        "overlays/maps cannot be opened: maps may not be opened."
    ]


def test_a_server_that_its_game_has_closed_is_opened_up(tmp_path: Path, root: Path) -> None:
    upper = root / "instances/alpha/upper"
    upper.chmod(0)
    assert not write(tmp_path / "a", "", root).incomplete
    assert stat.S_IMODE(upper.stat().st_mode) == stat.S_IRWXU


IN_ASCII = """
import sys
from pathlib import Path
import django
django.setup()
from tests.site.backups.test_archives import archives, put_into, take_out

assert sys.getfilesystemencoding() == "ascii"
globals()[sys.argv[1]](Path(sys.argv[2]), "", Path(sys.argv[3]))
archives.verify(Path(sys.argv[2]), "")
"""


def put_into(path: Path, passphrase: str, root: Path) -> None:
    with archives.Writer(path, passphrase) as writer:
        writer.add_tree(root, "overlays/maps", print)


@pytest.mark.parametrize("in_ascii", ["put_into", "take_out"])
def test_names_do_not_depend_on_what_a_process_takes_for_their_encoding(
    tmp_path: Path, root: Path, in_ascii: str
) -> None:
    maps = root / "overlays/maps"
    for name in map(os.fsdecode, (b"\xc3\xbc", b"\xff", b"\xc3\xbc\xff")):
        (maps / name).touch()
        (maps / f"{name}.link").symlink_to(name)
    (tmp_path / "new").mkdir()
    for step, folder in ((put_into, root), (take_out, tmp_path / "new")):
        if step.__name__ != in_ascii:
            step(tmp_path / "a", "", folder)
            continue
        subprocess.run(
            [sys.executable, "-c", IN_ASCII, in_ascii, tmp_path / "a", folder],
            env=os.environ
            | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
            | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
            check=True,
        )
    archives.verify(tmp_path / "a", "")
    found = [*(tmp_path / "new/overlays/maps").iterdir()]
    assert {path.name for path in found} == {path.name for path in maps.iterdir()}
    links = [path for path in found if path.is_symlink()]
    assert [f"{link.readlink()}.link" for link in links] == [link.name for link in links]
    assert len(links) == 3


@pytest.mark.parametrize("name", ["instances", "overlays"])
def test_trees_on_another_disk_are_in_a_backup(tmp_path: Path, root: Path, name: str) -> None:
    (root / name).rename(tmp_path / "disk")
    (root / name).symlink_to(tmp_path / "disk")
    written = write(tmp_path / "a", "", root)
    assert "host/instances/alpha/upper/cfg/server.cfg" in written.digests
    assert "host/overlays/maps/one.vpk" in written.digests
    assert not written.incomplete


@pytest.mark.parametrize("name", ["host", "host/instances", "host/overlays"])
def test_no_backup_is_made_while_the_disk_of_the_trees_is_not_there(
    tmp_path: Path, root: Path, name: str
) -> None:
    (tmp_path / name).rename(tmp_path / "disk")
    (tmp_path / name).symlink_to(tmp_path / "gone")
    with pytest.raises(OSError, match=f"{name} is a link to {tmp_path}/gone, which is not there"):
        write(tmp_path / "a", "", root)


def test_a_server_or_an_overlay_that_is_a_link_is_left_out_and_told(
    tmp_path: Path, root: Path
) -> None:
    (root / "instances/alpha").rename(tmp_path / "disk")
    (root / "instances/alpha").symlink_to(tmp_path / "disk")
    (root / "overlays/gone").symlink_to(tmp_path / "gone")
    (tmp_path / "file").touch()
    (root / "overlays/README").symlink_to(tmp_path / "file")
    written = write(tmp_path / "a", "", root)
    assert [text.split(" is a link")[0] for text in written.incomplete] == [
        "instances/alpha",
        "overlays/gone",
    ]


def test_a_link_to_what_is_closed_to_this_account_keeps_no_backup_from_being_made(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "overlays/closed").symlink_to(tmp_path)
    stat_file = os.stat

    def stat_or_fail(path: Any, **options: Any) -> os.stat_result:
        if options.get("follow_symlinks", True) and str(path).endswith("/closed"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return stat_file(path, **options)

    monkeypatch.setattr(os, "stat", stat_or_fail)  # A mode of 000 closes nothing to root.
    (told,) = write(tmp_path / "a", "", root).incomplete
    assert told.startswith("overlays/closed is a link")


def test_an_overlay_on_a_disk_of_its_own_lacks_nothing(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "overlays/maps/lost+found").mkdir()
    (root / "overlays/maps/more/lost+found").mkdir(parents=True)
    open_folder_at = untrusted.open_folder_at

    def open_or_fail(folder: int, relative: str, **options: Any) -> int:
        if relative.endswith("lost+found"):
            raise UntrustedFileError(f"{relative} may not be opened.")
        return open_folder_at(folder, relative, **options)

    monkeypatch.setattr(untrusted, "open_folder_at", open_or_fail)
    (told,) = write(tmp_path / "a", "", root).incomplete
    assert told.startswith("overlays/maps/more/lost+found cannot be opened")
    assert "And 1 more" not in told


@pytest.mark.parametrize("name", ["instances", "overlays"])
def test_what_a_disk_of_its_own_has_is_no_server_that_is_left_out(
    tmp_path: Path, root: Path, name: str
) -> None:
    (root / name / "lost+found").mkdir()
    (root / name / "lost+found/upper").symlink_to("closed")
    written = write(tmp_path / "a", "", root)
    assert not written.incomplete
    assert not [member for member in written.digests if "lost+found" in member]


def test_no_backup_is_made_if_the_trees_may_not_be_looked_at(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lstat = Path.lstat

    def lstat_or_fail(path: Path) -> os.stat_result:
        if path.name == "alpha":
            raise PermissionError(errno.EACCES, "Permission denied")
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", lstat_or_fail)
    with pytest.raises(PermissionError):
        list(host_files.places(HostLayout(root)))


def test_the_keys_are_only_in_a_sealed_archive_and_can_be_read_first(tmp_path: Path) -> None:
    write(tmp_path / "sealed", PASSPHRASE)
    write(tmp_path / "plain", "")
    assert archives.read_head(tmp_path / "sealed", PASSPHRASE) == (HEAD, "key-one,key-two")
    assert archives.read_head(tmp_path / "plain", "") == (HEAD, "")
    assert b"key-one" not in (tmp_path / "sealed").read_bytes()


def test_what_was_once_sealed_can_still_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "_SCRYPT", REAL_WORK)
    sealed = io.BytesIO(bytes.fromhex(SEALED_BEFORE))
    assert SealedReader(sealed, PASSPHRASE).read(100) == b"some thing"


def test_another_passphrase_and_none_open_nothing(tmp_path: Path) -> None:
    write(tmp_path / "a", PASSPHRASE)
    with pytest.raises(ArchiveError, match="The passphrase is another one"):
        archives.verify(tmp_path / "a", "another passphrase")
    with pytest.raises(ArchiveError, match="is sealed: name the file"):
        archives.verify(tmp_path / "a", "")


@pytest.mark.parametrize("passphrase", ["", PASSPHRASE])
@pytest.mark.parametrize("left", [0.3, 0.7, 0.999])
def test_an_archive_that_was_cut_off_is_refused(
    tmp_path: Path, passphrase: str, left: float
) -> None:
    write(tmp_path / "a", passphrase)
    size = (tmp_path / "a").stat().st_size
    os.truncate(tmp_path / "a", int(size * left))
    with pytest.raises(ArchiveError, match=r"cannot be read|cut off"):
        archives.verify(tmp_path / "a", passphrase)


def test_a_sealed_archive_that_ends_with_a_piece_is_known_as_cut_off(tmp_path: Path) -> None:
    write(tmp_path / "a", PASSPHRASE)
    # The header, and whole pieces, each of them correct: only the missing mark of the last one reveals it.
    os.truncate(tmp_path / "a", 18 + 16 + 2 * (PIECE_BYTES + 16))
    with pytest.raises(ArchiveError, match="damaged, or cut off"):
        archives.verify(tmp_path / "a", PASSPHRASE)


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        (b"version", b"versirn"),
        (b'"', b"\0"),
        (b"{", b"[["),
        (b":", b"\xff"),
        pytest.param(b"{", b"[" * 60_000, id="deep"),
    ],
)
def test_a_damaged_head_is_told_although_it_is_read_before_the_digests(
    tmp_path: Path, text: bytes, instead: bytes
) -> None:
    write(tmp_path / "a", "", head=archives.head_as_bytes(HEAD).replace(text, instead, 1))
    with pytest.raises(ArchiveError, match=r"is damaged: backup\.json is not what was written"):
        archives.read_head(tmp_path / "a", "")


def test_a_later_version_may_say_more(tmp_path: Path) -> None:
    more = archives.head_as_bytes(HEAD).replace(b"{", b'{"weather": "rain",', 1)
    write(tmp_path / "a", "", head=more)
    assert archives.read_head(tmp_path / "a", "") == (HEAD, "")


def test_damaged_digests_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("json.dumps", lambda *_: "[1, 2]")
        with archives.Writer(tmp_path / "a", "") as writer:
            writer.add_bytes(archives.DATABASE, b"rows")
    with pytest.raises(ArchiveError, match=r"is damaged: digests\.json is not what was written"):
        archives.verify(tmp_path / "a", "")


@pytest.mark.parametrize("passphrase", ["", PASSPHRASE])
def test_a_flipped_bit_is_noticed(tmp_path: Path, passphrase: str) -> None:
    write(tmp_path / "a", passphrase)
    content = bytearray((tmp_path / "a").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ArchiveError):
        archives.verify(tmp_path / "a", passphrase)


def test_whiteouts_and_opaque_folders_of_overlayfs_stay_what_they_are(
    tmp_path: Path, root: Path
) -> None:
    upper = root / "instances/alpha/upper"
    try:
        os.mknod(upper / "gone", stat.S_IFCHR, os.makedev(0, 0))
        os.setxattr(upper / "empty", host_files.OPAQUE, b"y")
    except OSError as error:  # A file system, or a container, that has neither.
        pytest.skip(str(error))
    write(tmp_path / "a", "", root)
    (tmp_path / "new").mkdir()
    take_out(tmp_path / "a", "", tmp_path / "new")
    upper = tmp_path / "new/instances/alpha/upper"
    status = (upper / "gone").lstat()
    assert stat.S_ISCHR(status.st_mode)
    assert status.st_rdev == 0
    assert os.getxattr(upper / "empty", host_files.OPAQUE) == b"y"


def test_nothing_is_put_through_a_link(tmp_path: Path, root: Path) -> None:
    write(tmp_path / "a", "", root)
    (tmp_path / "new/instances").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "new/instances/alpha").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UntrustedFileError, match="alpha is in the way"):
        take_out(tmp_path / "a", "", tmp_path / "new")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_file_that_shrinks_while_it_is_read_does_not_shift_the_rest(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    with (tmp_path / "file").open("rb") as file:
        exact = host_files.ExactFile(file, 5)
        assert exact.read(4) + exact.read() + exact.read() == b"abc\0\0"


@pytest.mark.parametrize("ahead_seconds", [-10, 10, 3600])
def test_nothing_is_put_back_while_a_worker_may_run(
    host: Host, tmp_path: Path, ahead_seconds: int
) -> None:
    """A heartbeat from far ahead is one from before the clock was set back: then it is not known."""
    beat_at = timezone.now() + timedelta(seconds=ahead_seconds)
    Worker.objects.create(
        host=host,
        pid=1,
        process_started=1,
        concurrency=1,
        started_at=beat_at,
        heartbeat_at=beat_at,
    )
    with pytest.raises(RestoreRefused, match="A worker is running"):
        restoring._require_empty(HostLayout(tmp_path), replaces=True)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "place", ["instances/alpha/upper/mine", "instances/alpha/tree", "overlays/maps/mine"]
)
def test_nothing_is_put_back_beside_files_of_a_server_or_an_overlay(
    tmp_path: Path, place: str
) -> None:
    (tmp_path / place).mkdir(parents=True)
    with pytest.raises(RestoreRefused, match="has files of servers or overlays already"):
        restoring._require_empty(HostLayout(tmp_path), replaces=True)


@pytest.mark.django_db
@pytest.mark.parametrize("place", ["instances", "instances/alpha/upper", "overlays/maps"])
def test_nothing_is_put_back_beside_folders_that_cannot_be_looked_into(
    tmp_path: Path, place: str
) -> None:
    closed = tmp_path / place
    closed.parent.mkdir(parents=True, exist_ok=True)
    closed.symlink_to(closed)  # A mode of 000 closes nothing to root.
    with pytest.raises(RestoreRefused, match=f"{closed} cannot be looked into: Too many levels"):
        restoring._require_empty(HostLayout(tmp_path), replaces=True)


@pytest.mark.parametrize("place", ["instances", "overlays"])
def test_nothing_is_put_back_through_a_link_to_another_disk_or_over_a_file(
    tmp_path: Path, place: str
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / place).symlink_to("disk")
    with pytest.raises(RestoreRefused, match=f"{place} is not a folder"):
        restoring._make_host_root(HostLayout(tmp_path))
    (tmp_path / place).unlink()
    (tmp_path / place).touch()
    with pytest.raises(RestoreRefused, match=f"{place} is not a folder"):
        restoring._make_host_root(HostLayout(tmp_path))


@pytest.mark.django_db
@pytest.mark.parametrize("place", ["instances/alpha", "instances/alpha/upper", "overlays/maps"])
def test_nothing_is_put_back_if_something_is_in_the_way_of_its_folders(
    tmp_path: Path, root: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database would be replaced by then."""
    names = [*write(tmp_path / "a", "", root).digests]
    layout = HostLayout(tmp_path / "new")
    path = layout.root / place
    (path / "beside").mkdir(parents=True)
    restoring._require_free(layout, names)
    monkeypatch.setattr(os, "access", lambda folder, _mode: folder != path)
    restoring._require_free(layout, names)  # It can be opened up.
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(RestoreRefused, match=f"Nothing can be written to {path}"):
        restoring._require_free(layout, names)
    path.rename(tmp_path / "away")
    for kind in ("a link to a folder", "a link to nothing", "a file"):
        if kind == "a file":
            path.touch()
        else:
            path.symlink_to(tmp_path / ("away" if kind == "a link to a folder" else "gone"))
        with pytest.raises(RestoreRefused, match=f"{path} is in the way"):
            restoring._require_free(layout, names)
        path.unlink()


@pytest.mark.parametrize("place", ["instances/alpha/upper", "overlays/maps"])
def test_nothing_is_put_back_into_a_folder_whose_mode_cannot_be_set(
    tmp_path: Path, root: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [*write(tmp_path / "a", "", root).digests]
    layout = HostLayout(tmp_path / "new")
    (layout.root / place).mkdir(parents=True)
    # It is another account's, and this one may write to it.
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(RestoreRefused, match=f"{place} is another account's"):
        restoring._require_free(layout, names)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    restoring._require_free(layout, names)


@pytest.mark.django_db
def test_what_a_disk_of_its_own_has_keeps_no_backup_from_being_put_back(tmp_path: Path) -> None:
    closed = tmp_path / "overlays/lost+found"
    closed.parent.mkdir()
    closed.symlink_to(closed)  # A mode of 000 closes nothing to root.
    restoring._require_empty(HostLayout(tmp_path), replaces=True)


@pytest.mark.parametrize("place", ["", "instances", "overlays"])
def test_nothing_is_put_back_where_no_file_could_be_written(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / place
    closed.mkdir(exist_ok=True)

    def access(path: Path, mode: int) -> bool:
        return not (path == closed and mode & os.W_OK) and path.exists()

    monkeypatch.setattr(os, "access", access)  # To root, only a read-only disk is closed.
    with pytest.raises(RestoreRefused, match=rf"written to {closed}\. Give it to the account"):
        restoring._make_host_root(HostLayout(tmp_path))
