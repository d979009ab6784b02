"""Writes, copies and removes files so that a crash at any point leaves a complete state behind."""

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from hostops.errors import HostError
from hostops.linux import untrusted
from hostops.linux.holes import find_data, find_hole
from hostops.specs import CancelToken

_FICLONE = 0x40049409  # linux/fs.h: make a file share another's blocks (btrfs, XFS, bcachefs)
_RENAME_EXCHANGE = 2  # linux/fs.h
_AT_FDCWD = -100  # linux/fcntl.h
_libc = ctypes.CDLL(None, use_errno=True)
_COPY_CHUNK_BYTES = 16 * 1024 * 1024
_TEMPORARY_NAME_BYTES = 240
_COPYING = ".copying"
_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's own block size
_NO_ATTRIBUTES = (errno.ENOTSUP, errno.ENODATA, errno.EINVAL, errno.EPERM, errno.EACCES)


def is_no_space(error: OSError) -> bool:
    """Whether a disk, or the quota on it, had no room for what was written."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def tolerate_no_space() -> Iterator[None]:
    """Leave out the rest of the block if the disk is full.

    For notes without which an operation can do its work: what ends a server or frees space has to work on a
    full disk, as a game can fill it.
    """
    try:
        yield
    except OSError as error:
        if not is_no_space(error):
            raise


def make_dir(path: Path, mode: int = 0o750) -> Path:
    """Create the folder, and its parents if they are missing, and return it."""
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    return path


def write_atomically(
    path: Path, data: bytes | str, mode: int = 0o600, *, outlives_power_cut: bool = True
) -> None:
    """Replace a file by one rename: readers see the old text or the new one, even after a crash.

    With `outlives_power_cut` it returns once the data is on disk, which takes a few milliseconds or more. Data
    that means nothing after a boot can do without: a power cut may then leave the old text, the new one or
    none.
    """
    payload = data.encode() if isinstance(data, str) else data
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(payload)
            os.fchmod(file.fileno(), mode)
            file.flush()
            if outlives_power_cut:
                os.fsync(file.fileno())
        Path(temporary).replace(path)
    except IsADirectoryError:
        Path(temporary).unlink(missing_ok=True)
        raise HostError(f"{path} is a folder where a file belongs: remove it.") from None
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if outlives_power_cut:
        sync_dir(path.parent)


def replace_at(folder: int, name: str, data: bytes) -> None:
    """Do the same as `write_atomically` in an open folder that others may write to.

    The new file inherits the mode of a replaced file; anything else of that name is only replaced.
    """
    mode = 0o644
    with contextlib.suppress(FileNotFoundError):
        status = untrusted.stat_at(folder, name)
        if stat.S_ISREG(status.st_mode):
            mode = stat.S_IMODE(status.st_mode) | stat.S_IRUSR | stat.S_IWUSR
    temporary = f".{untrusted.shorten(name, _TEMPORARY_NAME_BYTES)}.new"
    untrusted.remove_at(folder, temporary)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600, dir_fd=folder)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
        file.write(data)
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    os.fsync(folder)


def remove_leftovers(folder: Path) -> None:
    """Remove what interrupted `write_atomically` calls left in a folder. Nobody may be writing there."""
    for path in folder.glob(".*.json-*"):
        path.unlink()


def sync_dir(path: Path) -> None:
    """Make renames and removals in a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file_system(folder: Path) -> None:
    """Write all pending data of `folder`'s file system to disk: syncfs(2).

    For many small files this takes a fraction of the time of one fsync each.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
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
    """Swap two folders, atomically if the file system can (Linux 3.15; most can)."""
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

    A game's files may be arbitrarily deep and many, and closed to their owner, as overlayfs's own
    folders are.
    """
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        untrusted.remove_at(folder, path.name)
    finally:
        os.close(folder)


def walk_files(top: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield every file and symlink below `top` as (path relative to it, lstat), in a stable order.

    For trees of any size made by people and SteamCMD. `top` may be a link to one; if it is no folder, nothing
    is yielded. For files that a game could have written, use `untrusted.walk`.
    """
    try:
        folder = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        yield from untrusted.walk(folder, max_entries=None)
    finally:
        os.close(folder)


def tree_size(top: Path) -> int:
    """Return how many bytes the files below `top` take on disk."""
    return sum(status.st_blocks * 512 for _, status in walk_files(top))


def free_bytes(path: Path) -> int:
    """Return how many bytes a normal user can still write to the file system of `path`."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def copy_file(source: Path, target: Path, cancel: CancelToken) -> None:
    """Copy a file or symlink with mode and times, sharing its blocks if the file system can.

    The target appears under its name only once it is complete, and replaces what was there.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    from_folder = os.open(source.parent, flags)
    try:
        to_folder = os.open(target.parent, flags)
        try:
            copy_at(from_folder, source.name, to_folder, target.name, cancel)
        finally:
            os.close(to_folder)
    finally:
        os.close(from_folder)


def copy_at(from_folder: int, source: str, to_folder: int, name: str, cancel: CancelToken) -> None:
    """Do the same as `copy_file`, between open folders.

    `source` is a path relative to the first, and `name` a name in the second. Raises `UntrustedFileError` if
    the source is neither a file nor a symlink.
    """
    temporary = f".{untrusted.shorten(name, _TEMPORARY_NAME_BYTES)}{_COPYING}"
    untrusted.remove_at(to_folder, temporary)
    try:
        status = untrusted.stat_at(from_folder, source)
        if stat.S_ISLNK(status.st_mode):
            _copy_link(from_folder, source, to_folder, temporary)
        else:
            _copy_content(from_folder, source, to_folder, temporary, cancel)
        os.rename(temporary, name, src_dir_fd=to_folder, dst_dir_fd=to_folder)
    except BaseException:
        untrusted.remove_at(to_folder, temporary)
        raise


def find_copied(path: str) -> str | None:
    """Return the path of the file that `path`, by its name, is an unfinished copy of, if it is one.

    If the file's name is so long that `copy_at` shortens it, this is not its path.
    """
    parent, slash, name = path.rpartition("/")
    if not (name.startswith(".") and name.endswith(_COPYING)):
        return None
    return f"{parent}{slash}{name[1 : -len(_COPYING)]}"


def _copy_link(from_folder: int, source: str, to_folder: int, name: str) -> None:
    pinned = untrusted.pin(from_folder, source)
    try:
        # readlinkat(2): an empty path means the open link itself.
        os.symlink(os.readlink("", dir_fd=pinned), name, dir_fd=to_folder)
        status = os.fstat(pinned)
    finally:
        os.close(pinned)
    times = (status.st_atime_ns, status.st_mtime_ns)
    os.utime(name, ns=times, dir_fd=to_folder, follow_symlinks=False)


def _copy_content(
    from_folder: int, source: str, to_folder: int, name: str, cancel: CancelToken
) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    reader = untrusted.open_at(from_folder, source)
    try:
        writer = os.open(name, flags, 0o600, dir_fd=to_folder)
        try:
            if not _share_blocks(reader, writer):
                _require_room(reader, source, to_folder)
                _copy_data(reader, writer, cancel)
            _copy_attributes(reader, writer)
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _require_room(reader: int, source: str, to_folder: int) -> None:
    """Refuse a copy that cannot fit: a game can claim all free space for a file, leaving none for its copy."""
    free, status = os.fstatvfs(to_folder), os.fstat(reader)
    size = min(status.st_size, status.st_blocks * _BLOCK_BYTES)
    if size > free.f_bavail * free.f_frsize:
        raise HostError(
            f"Copying {source} takes {size:,} bytes, more than are free. If the game made it, reset the server."
        )


def _copy_data(reader: int, writer: int, cancel: CancelToken) -> None:
    """Copy only allocated data: a game's file that is one hole takes no space, and neither does its copy."""
    size = os.fstat(reader).st_size
    position = 0
    while (position := find_data(reader, position)) < size:
        left = find_hole(reader, position) - position
        os.lseek(reader, position, os.SEEK_SET)
        os.lseek(writer, position, os.SEEK_SET)
        while left > 0 and (chunk := os.read(reader, min(left, _COPY_CHUNK_BYTES))):
            cancel.raise_if_cancelled()
            _write_all(writer, chunk)
            position += len(chunk)
            left -= len(chunk)
        if left > 0:
            break  # It was truncated in the meantime.
    os.ftruncate(writer, size)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _copy_attributes(source: int, target: int) -> None:
    """Copy mode, times and permitted extended attributes, as `shutil.copystat` does."""
    status = os.fstat(source)
    for attribute in _list_attributes(source):
        try:
            os.setxattr(target, attribute, os.getxattr(source, attribute))
        except OSError as error:
            if error.errno not in _NO_ATTRIBUTES:
                raise
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _list_attributes(descriptor: int) -> list[str]:
    try:
        return os.listxattr(descriptor)
    except OSError as error:
        if error.errno not in _NO_ATTRIBUTES:
            raise
        return []


def copy_tree(
    source: Path, target: Path, cancel: CancelToken, on_percent: Callable[[int], None]
) -> None:
    """Copy a folder file by file into `target`, which may already contain part of it.

    Files of the same size and time count as copied, so an interrupted copy resumes where it stopped.
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
