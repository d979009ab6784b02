"""The store as it is installed: the web process writes to it as one account, and the worker as another."""

import hashlib
import os
import shutil
import stat
import struct
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.core.management import call_command
from django.core.management.base import CommandError

from servers.models import UploadPart
from servers.store import get_store, open_file, path_of, remove_files, sync_file, upload_files

WEB, WORKER, SHARED = 61_601, 61_602, 61_603
"""Two accounts, and the group of both."""

CONTENT = b"a map"
SHA256 = hashlib.sha256(CONTENT).hexdigest()

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two other accounts")


_NOBODY_BY_NAME = 0xFFFFFFFF
DEFAULT_ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, allowed, _NOBODY_BY_NAME)
    for tag, allowed in ((0x01, 0o7), (0x04, 0o7), (0x20, 0o0))
)
"""`user::rwx,group::rwx,other::---`, as Linux keeps it (include/uapi/linux/posix_acl_xattr.h)."""


@pytest.fixture(params=["installed", "by hand"])
def content_root(request: pytest.FixtureRequest, settings: LazySettings) -> Iterator[Path]:
    """Return the store's folder, as `deploy/systemd/saferoom.tmpfiles.conf` makes it, or only its parent."""
    # Not below pytest's folder, which is closed to other accounts.
    top = Path(tempfile.mkdtemp(prefix="saferoom-accounts-"))
    os.chown(top, 0, SHARED)
    top.chmod(0o2770)
    settings.CONTENT_ROOT = top / "content"
    if request.param == "installed":
        settings.CONTENT_ROOT.mkdir()
        settings.CONTENT_ROOT.chmod(0o2770)
        os.setxattr(settings.CONTENT_ROOT, "system.posix_acl_default", DEFAULT_ACL)
    yield settings.CONTENT_ROOT
    shutil.rmtree(top)


def is_installed() -> bool:
    """Return whether the store's folder is as the installer makes it."""
    root = get_store().root
    return root.exists() and bool(os.listxattr(root))


def forbid_setgid() -> None:
    """Refuse in this process what RestrictSUIDSGID refuses in the web process's unit."""
    allowed = os.chmod

    def chmod(path: os.PathLike[str], mode: int, **options: bool) -> None:
        if mode & (stat.S_ISUID | stat.S_ISGID):
            raise PermissionError(f"{path}: {mode:o}")
        allowed(path, mode, **options)

    os.chmod = chmod  # type: ignore[assignment]


def run_as(account: int, do: Callable[[], None]) -> None:
    """Run something in a child as an account, with the umask of the units; fail if it fails."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([SHARED])
            os.setgid(account)
            os.setuid(account)
            os.umask(0o077)
            if account == WEB and is_installed():
                forbid_setgid()
            do()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the parent tells it
            os.write(writing, traceback.format_exc().encode())
            os._exit(1)
    os.close(writing)
    with open(reading, "rb") as said:  # noqa: PTH123 - a descriptor
        told = said.read().decode()
    _, status = os.waitpid(child, 0)
    assert status == 0, told


def receive(part: UploadPart) -> None:
    """Receive a part, as the upload door does."""
    upload_files.make_file(part)
    descriptor = open_file(part)
    os.write(descriptor, CONTENT)
    sync_file(part, descriptor)
    os.close(descriptor)


def keep(part: UploadPart) -> None:
    """Make a blob of a part, as a job does, and remove the original."""
    store = get_store()
    with store.incoming("upload-1") as folder, store.adding():
        os.link(path_of(part), folder / "0")
        store.adopt([(folder / "0", SHA256)])
    remove_files(part.upload_id)


def write_bytes() -> None:
    """Store something, as the web process's editor does."""
    with get_store().adding():
        get_store().add_bytes(b"a text of the editor's")


@pytest.mark.parametrize("first", [WEB, WORKER])
def test_each_account_goes_on_with_what_the_other_began(content_root: Path, first: int) -> None:
    second = WORKER if first == WEB else WEB
    part = UploadPart(upload_id=1, path="a.vpk", size=len(CONTENT))
    run_as(first, write_bytes)
    run_as(WEB, lambda: receive(part))
    run_as(WORKER, lambda: keep(part))
    run_as(second, write_bytes)

    def read() -> None:
        assert get_store().read(SHA256, 100) == CONTENT

    for account in (WEB, WORKER):
        run_as(account, read)
    assert not path_of(part).exists()
    assert list((content_root / "incoming").iterdir()) == []
    for path in content_root.rglob("*"):
        status = path.stat()
        mode = 0o2770 if path.is_dir() else 0o660
        assert (stat.S_IMODE(status.st_mode), status.st_gid) == (mode, SHARED), path


def test_each_account_sweeps_what_the_other_left(content_root: Path) -> None:
    def leave() -> None:
        write_bytes()
        left = get_store().make_folder("incoming", "left-1")
        (left / "0").write_bytes(b"killed here")
        for path in (left, *get_store().root.glob("??/*")):
            os.utime(path, (time.time() - 200_000,) * 2)

    def sweep() -> None:
        with get_store().alone():
            get_store().sweep(())

    for first, second in ((WEB, WORKER), (WORKER, WEB)):
        run_as(first, leave)
        run_as(second, sweep)
        assert [path for path in content_root.rglob("*") if path.is_file()] == [
            content_root / "store.lock"
        ]


def test_a_store_that_nobody_has_made_yet_has_no_files(content_root: Path) -> None:
    if content_root.exists():
        content_root.rmdir()
    assert list(get_store().walk()) == []


def test_a_store_that_may_be_entered_and_not_read_is_not_taken_for_an_empty_one(
    content_root: Path,
) -> None:
    """A backup would lack all of it, and a sweep would be content."""
    run_as(WEB, write_bytes)
    content_root.chmod(0o2730)

    def look() -> None:
        with get_store().adding(), pytest.raises(PermissionError, match=str(content_root)):
            list(get_store().walk())
        with get_store().alone(), pytest.raises(PermissionError, match=str(content_root)):
            get_store().sweep(())
        with pytest.raises(CommandError, match=rf"could not be swept: .*{content_root}"):
            call_command("prunecontent")

    run_as(WORKER, look)
