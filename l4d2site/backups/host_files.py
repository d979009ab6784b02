"""The files that exist only on this host: those that servers wrote themselves, and overlays maintained by hand.

Games are native code from strangers, and their files are no safer: nothing here follows a link, or opens
anything but regular files and folders. overlayfs's marks in an upper layer are preserved: for a deleted file,
and for a folder that hides the one below it.
"""

import contextlib
import errno
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hostops.instances.tree_manifests import OwnFiles
from hostops.layout import HostLayout, InstanceLayout
from hostops.linux import untrusted
from hostops.linux.untrusted import UntrustedFileError

OPAQUE = "user.overlay.opaque"
"""With `userxattr`, this marks for overlayfs a folder that hides what is below it."""

_TO_READ = stat.S_IRUSR | stat.S_IXUSR

OF_THE_DISK = "lost+found"
"""What the file system puts on a disk of its own, for root alone: no server, and no overlay."""

_OPAQUE_HEADER = f"SCHILY.xattr.{OPAQUE}"  # as tar(1) writes extended attributes


def places(layout: HostLayout) -> Iterator[str]:
    """Yield the trees' paths relative to the host's root. A tree may be gone by the time it is read.

    Raises `OSError` if they cannot be listed, also because the disk to which their folder leads is not there.
    """
    root = layout.root
    for folder, inside in ((layout.instances_dir, "/upper"), (layout.overlays_dir, "")):
        for link in (folder, *folder.parents):
            if link.is_symlink() and not link.exists():
                raise OSError(
                    f"{link} is a link to {link.readlink()}, which is not there. If that is on another disk, "
                    "mount it; otherwise remove the link."
                )
        with contextlib.suppress(FileNotFoundError):
            for path in sorted(folder.iterdir()):
                if not path.name.startswith(".") and path.name != OF_THE_DISK and _is_tree(path):
                    yield f"{path.relative_to(root)}{inside}"


def _is_tree(path: Path) -> bool:
    """Return whether a folder is there, or a link that may lead to one. Raises `OSError` if it may not look.

    Path.is_dir() would then say no, since Python 3.14. Where a link leads may be closed to this account.
    """
    with contextlib.suppress(FileNotFoundError):
        mode = path.lstat().st_mode
        # Path.is_file() raises for such a link, until Python 3.14.
        return stat.S_ISDIR(mode) or (stat.S_ISLNK(mode) and not os.path.isfile(path))  # noqa: PTH113
    return False


@dataclass(frozen=True)
class Listeners:
    """Those who hear what is not in a tree's entries. Each is called with a sentence."""

    on_skipped: Callable[[str], object]
    """For anything that is no file, folder, link or whiteout."""
    on_closed: Callable[[str], object]
    """For what cannot be opened, also the tree itself, and for a folder with too many names."""
    say: Callable[[str], object]
    """For all else that people should know."""


def entries(
    root: Path, place: str, listeners: Listeners
) -> Iterator[tuple[tarfile.TarInfo, int | None]]:
    """Yield a tree's entries as headers, each regular file with an open descriptor that the caller closes.

    If the server has a full copy of the game, its own files there are among them, as the host moves them to
    `upper` once it can mount overlays (`hostops.instances.full_copies`). It has no header for their folders.

    The folder that contains the trees is trusted like `root`: it may be a link to another disk.
    """
    folder, name = Path(place).parts[:2]
    if (root / folder / name).is_symlink():
        listeners.on_closed(
            f"{folder}/{name} is a link, and no link is followed here. Move what it leads to there, or keep "
            "copies of that yourself."
        )
        return
    taken: set[str] = set()
    above_taken: set[str] = set()
    instance = InstanceLayout(root, name)
    if instance.dir == root / folder / name:
        # First: a start that moves them to `upper` meanwhile can hide none of them.
        for path, info, descriptor in _read_own(instance, place, listeners):
            taken.add(path)
            while (path := path.rpartition("/")[0]) and path not in above_taken:
                above_taken.add(path)
            yield info, descriptor

    def is_left(path: str, status: os.stat_result) -> bool:
        return path not in taken and (stat.S_ISDIR(status.st_mode) or path not in above_taken)

    for _path, info, descriptor in _read(root / folder, place, place, is_left, listeners):
        yield info, descriptor


def _read_own(
    instance: InstanceLayout, place: str, listeners: Listeners
) -> Iterator[tuple[str, tarfile.TarInfo, int | None]]:
    """Yield the server's own files in its full copy of the game, if it has one, as entries of `place`.

    If the manifest is damaged, nobody knows which they are, and all of the copy is yielded. That is large, but
    what the server wrote may be nowhere else, and a game that wants to fill backups can do so anyway.
    """
    own_files = OwnFiles(
        instance,
        lambda text: listeners.say(
            f"{text}: the backup has its whole copy of the game. Restart the server to have them listed again."
        ),
    )

    def is_wanted(path: str, status: os.stat_result) -> bool:
        return stat.S_ISDIR(status.st_mode) or own_files.is_own(path, status)

    copy = str(instance.tree_dir.relative_to(instance.root))
    for path, info, descriptor in _read(instance.trusted_dir, copy, place, is_wanted, listeners):
        if not info.isdir():
            yield path, info, descriptor


def _read(
    trusted: Path,
    source: str,
    place: str,
    is_wanted: Callable[[str, os.stat_result], bool],
    listeners: Listeners,
) -> Iterator[tuple[str, tarfile.TarInfo, int | None]]:
    """Yield what is wanted of the tree `source` as entries of `place`: path inside, header, open descriptor.

    A folder that is not wanted is not gone through.
    """
    try:
        with _open_tree(trusted, source.partition("/")[2]) as top:
            waiting = [""]
            while waiting:
                inside = waiting.pop()
                try:
                    here = _open_folder(top, inside) if inside else os.dup(top)
                except FileNotFoundError:  # removed in the meantime
                    continue
                except UntrustedFileError as error:
                    if inside != OF_THE_DISK:  # An overlay may be a disk of its own.
                        listeners.on_closed(f"{source}/{inside} cannot be opened: {error}")
                    continue
                try:
                    yield inside, _folder(here, f"{place}/{inside}".rstrip("/")), None
                    for child in _list_names(here, listeners.on_closed):
                        below = f"{inside}/{child}".lstrip("/")
                        try:
                            status = untrusted.stat_at(here, child)
                            if not is_wanted(below, status):
                                continue
                            if stat.S_ISDIR(status.st_mode):
                                waiting.append(below)
                            elif entry := _entry(here, child, f"{place}/{below}", status):
                                yield below, *entry
                            else:
                                listeners.on_skipped(
                                    f"{source}/{below} is neither a file, a folder nor a link."
                                )
                        except FileNotFoundError:  # removed in the meantime
                            continue
                        except UntrustedFileError as error:
                            listeners.on_closed(f"{source}/{below} cannot be opened: {error}")
                finally:
                    os.close(here)
    except FileNotFoundError:  # A server that was never started has no such folder.
        return
    except UntrustedFileError as error:
        listeners.on_closed(f"{source} cannot be opened: {error}")


@contextlib.contextmanager
def _open_tree(trusted: Path, relative: str) -> Iterator[int]:
    with untrusted.open_folder(trusted, trusted) as anchor:
        top = _open_folder(anchor, relative)
    try:
        yield top
    finally:
        os.close(top)


def _open_folder(folder: int, relative: str) -> int:
    """Return a descriptor of a folder, which is opened up if this account, its owner, may not read it."""
    status = untrusted.stat_at(folder, relative)
    is_closed = status.st_uid == os.geteuid() and status.st_mode & _TO_READ != _TO_READ
    try:
        return untrusted.open_folder_at(folder, relative, opens_up=is_closed)
    except PermissionError as error:  # It cannot be changed.
        raise UntrustedFileError(f"{relative} may not be opened.") from error


def _list_names(folder: int, on_closed: Callable[[str], object]) -> list[str]:
    try:
        return sorted(untrusted.list_names(folder, untrusted.MAX_ENTRIES))
    except UntrustedFileError as error:
        on_closed(str(error))
        return []


def _folder(descriptor: int, name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE
    status = os.fstat(descriptor)
    info.mode, info.mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime)
    with contextlib.suppress(OSError):  # ENODATA, or a file system without attributes
        value = os.getxattr(descriptor, OPAQUE).decode("ascii", "replace")
        info.pax_headers = {_OPAQUE_HEADER: value}
    return info


def _entry(
    folder: int, child: str, name: str, status: os.stat_result
) -> tuple[tarfile.TarInfo, int | None] | None:
    """Return the header and descriptor of an entry that is no folder; None if it is of an unsupported kind."""
    info = tarfile.TarInfo(name)
    info.mode, info.mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime)
    if stat.S_ISLNK(status.st_mode):
        info.type = tarfile.SYMTYPE
        pinned = untrusted.pin(folder, child)
        try:
            # readlinkat(2): an empty path means the open link itself. If it is none any more: ENOENT.
            info.linkname = os.readlink("", dir_fd=pinned)
        finally:
            os.close(pinned)
        return info, None
    if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
        info.type = tarfile.CHRTYPE  # a whiteout: overlayfs(5)
        return info, None
    if not stat.S_ISREG(status.st_mode):
        return None
    descriptor = untrusted.open_at(folder, child)
    info.size = os.fstat(descriptor).st_size
    return info, descriptor


class ExactFile:
    """Reads a file that a game may change: exactly the announced number of bytes, with zeros if it shrank."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size

    def read(self, count: int = -1) -> bytes:
        """Return up to `count` bytes; nothing once all announced bytes are read."""
        wanted = self._left if count < 0 else min(count, self._left)
        data = self._file.read(wanted)
        data += bytes(wanted - len(data))
        self._left -= wanted
        return data


def as_member(path: str) -> str:
    """Return a path as archives have it, whatever this process takes for the encoding of names."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


def as_path(member: str) -> str:
    """Return the path of what archives call so."""
    return os.fsdecode(member.encode("utf-8", "surrogateescape"))


def put(root: Path, info: tarfile.TarInfo, content: BinaryIO | None) -> None:
    """Create what a header describes below `root`. Raises `UntrustedFileError` if its name leads elsewhere."""
    inside = as_path(info.name)
    path = root / inside
    parent, _slash, name = inside.rpartition("/")
    with untrusted.open_folder(root, root) as top:
        folder = untrusted.make_folders(top, parent, _refuse)
        try:
            if info.isdir():
                _put_folder(folder, name, info)
            elif info.issym():
                os.symlink(as_path(info.linkname), name, dir_fd=folder)
            elif info.ischr():
                os.mknod(name, stat.S_IFCHR | 0o600, os.makedev(0, 0), dir_fd=folder)
            elif content is not None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                descriptor = os.open(name, flags, 0o600, dir_fd=folder)
                with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
                    while data := content.read(1024**2):
                        file.write(data)
                    os.fchmod(file.fileno(), info.mode & 0o777)
                    file.flush()
                    os.utime(file.fileno(), (info.mtime, info.mtime))
        except OSError as error:
            if error.errno == errno.EEXIST:
                raise UntrustedFileError(f"{path} is there already.") from None
            raise
        finally:
            os.close(folder)


def _put_folder(folder: int, name: str, info: tarfile.TarInfo) -> None:
    with contextlib.suppress(FileExistsError):  # A folder in it may have come first.
        os.mkdir(name, 0o700, dir_fd=folder)
    descriptor = untrusted.open_folder_at(folder, name)
    try:
        # Never closed to its owner, who still has to fill it.
        os.fchmod(descriptor, info.mode & 0o777 | stat.S_IRWXU)
        if value := info.pax_headers.get(_OPAQUE_HEADER):
            os.setxattr(descriptor, OPAQUE, value.encode())
    finally:
        os.close(descriptor)


def _refuse(_folder: int, name: str) -> None:
    raise UntrustedFileError(f"{name} is in the way of a folder of the backup.")
