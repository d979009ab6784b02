"""Writes, copies and removes files so that a crash at any point leaves a whole state behind."""

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from hostops.specs import CancelToken

_FICLONE = 0x40049409  # linux/fs.h: make a file share another's blocks (btrfs, XFS, bcachefs)
_RENAME_EXCHANGE = 2  # linux/fs.h
_AT_FDCWD = -100  # linux/fcntl.h
_libc = ctypes.CDLL(None, use_errno=True)
_COPY_CHUNK_BYTES = 16 * 1024 * 1024


def make_dir(path: Path, mode: int = 0o750) -> Path:
    """Make the folder and those above it if they are missing, and return it."""
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    return path


def write_atomically(path: Path, data: bytes | str, mode: int = 0o600) -> None:
    """Replace a file by one rename: whoever reads sees the old text or the new one, after a crash too."""
    payload = data.encode() if isinstance(data, str) else data
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(payload)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_dir(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove what `write_atomically` left in a folder when it was killed. Nobody may be writing there."""
    for path in folder.glob(".*.json-*"):
        path.unlink()


def sync_dir(path: Path) -> None:
    """Make renames and removals in a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def switch_symlink(link: Path, target: str) -> None:
    """Point a symlink elsewhere by one rename."""
    temporary = link.with_name(f".{link.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
    sync_dir(link.parent)


def exchange(one: Path, other: Path) -> None:
    """Let two folders take each other's place, at once where the file system can (Linux 3.15: most can)."""
    arguments = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    if _libc.renameat2(*arguments) == 0:
        return
    number = ctypes.get_errno()
    if number not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(number, os.strerror(number), str(one), None, str(other))
    aside = one.with_name(f"{one.name}.aside")
    remove_tree(aside)
    other.rename(aside)
    one.rename(other)
    aside.rename(one)


def remove_tree(path: Path) -> None:
    """Remove a folder with everything in it, never following a symlink. It may be missing.

    overlayfs leaves folders of mode 000 behind, which their owner cannot list: they are opened up
    first.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    path.chmod(stat.S_IRWXU)
    for folder, names, _ in os.walk(path):
        for name in names:
            inner = Path(folder, name)
            mode = inner.lstat().st_mode
            if stat.S_ISDIR(mode) and mode & stat.S_IRWXU != stat.S_IRWXU:
                inner.chmod(stat.S_IRWXU)
    shutil.rmtree(path)


def walk_files(top: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield every file and symlink below `top` as (path relative to it, lstat), in a stable order."""
    for folder, names, files in os.walk(top):
        names.sort()
        inside = Path(folder).relative_to(top)
        for name in sorted([*files, *(name for name in names if Path(folder, name).is_symlink())]):
            yield str(inside / name), Path(folder, name).lstat()


def tree_size(top: Path) -> int:
    """Return how many bytes the files below `top` take on disk."""
    return sum(status.st_blocks * 512 for _, status in walk_files(top))


def free_bytes(path: Path) -> int:
    """Return how many bytes a normal user can still write to the file system of `path`."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def copy_file(source: Path, target: Path, cancel: CancelToken) -> None:
    """Copy a file or symlink with mode and times, sharing its blocks where the file system can.

    The target appears under its name only when it is whole, and takes the place of what was there.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.copying")
    temporary.unlink(missing_ok=True)
    try:
        if source.is_symlink():
            temporary.symlink_to(source.readlink())
        else:
            with source.open("rb") as reader, temporary.open("xb") as writer:
                if not _share_blocks(reader.fileno(), writer.fileno()):
                    while chunk := reader.read(_COPY_CHUNK_BYTES):
                        cancel.raise_if_cancelled()
                        writer.write(chunk)
        shutil.copystat(source, temporary, follow_symlinks=False)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def copy_tree(
    source: Path, target: Path, cancel: CancelToken, on_percent: Callable[[int], None]
) -> None:
    """Copy a folder file by file into `target`, which may hold a part of it already.

    Files of the same size and time are taken as copied: an interrupted copy goes on where it was.
    """
    total = max(1, sum(status.st_size for _, status in walk_files(source)))
    done = 0
    for folder, names, _ in os.walk(source):
        make_dir(target / Path(folder).relative_to(source), 0o755)
        for name in names:
            cancel.raise_if_cancelled()
            if not Path(folder, name).is_symlink():
                make_dir(target / Path(folder, name).relative_to(source), 0o755)
    for relative, status in walk_files(source):
        cancel.raise_if_cancelled()
        with contextlib.suppress(FileNotFoundError):
            there = (target / relative).lstat()
            if (there.st_size, there.st_mtime_ns) == (status.st_size, status.st_mtime_ns):
                done += status.st_size
                continue
        copy_file(source / relative, target / relative, cancel)
        done += status.st_size
        on_percent(100 * done // total)


def can_share_blocks(folder: Path) -> bool:
    """Whether copies within this folder's file system can share blocks with their originals."""
    with tempfile.TemporaryFile(dir=folder) as source, tempfile.TemporaryFile(dir=folder) as target:
        source.write(b"\0" * 4096)
        source.flush()
        return _share_blocks(source.fileno(), target.fileno())


def _share_blocks(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.EPERM):
            return False
        raise
    return True
