"""Where the bytes of uploads are kept until a version is made of them: beside the store's blobs.

The size of a part's file says how much of it has arrived. No row says so, which means that none can be wrong.
The web process writes these files and the worker reads them, perhaps as another account: so folders are
setgid, and the group may read and write the files.
"""

import contextlib
import errno
import os
import shutil
import stat
import time
from collections.abc import Collection
from pathlib import Path

from django.conf import settings

from servers.models import UploadPart
from servers.store.panel_store import get_store

FOLDER = "uploads"
FILE_MODE = 0o660
OPEN_FLAGS = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
STRAY_SECONDS = 3600
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def folder_of(upload_id: int) -> Path:
    """Return the folder for an upload's files, whether it exists or not."""
    return get_store().root / FOLDER / str(upload_id)


def path_of(part: UploadPart) -> Path:
    """Return the path of a part's file."""
    return folder_of(part.upload_id) / part.token.hex


def make_file(part: UploadPart) -> None:
    """Make a part's file, empty, while its upload's row is locked. Raises OSError."""
    folder = get_store().make_folder(FOLDER, str(part.upload_id))
    descriptor = os.open(folder / part.token.hex, OPEN_FLAGS | os.O_CREAT, FILE_MODE)
    try:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != FILE_MODE:
            os.fchmod(descriptor, FILE_MODE)  # The umask has removed the group's permissions.
    finally:
        os.close(descriptor)


def open_file(part: UploadPart) -> int:
    """Return a descriptor to write to a part's file. Raises FileNotFoundError if the part is gone.

    It creates no file: the row may have been removed since it was read, and then nobody would count or remove
    the bytes.
    """
    return os.open(path_of(part), OPEN_FLAGS)


def read_offset(part: UploadPart) -> int:
    """Return how much of a part has arrived."""
    try:
        return path_of(part).stat().st_size
    except FileNotFoundError:
        return 0


def sync_file(part: UploadPart, descriptor: int) -> None:
    """Flush the bytes and the name of a part to disk. Raises OSError."""
    os.fsync(descriptor)
    folder = os.open(folder_of(part.upload_id), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove_file(part: UploadPart) -> None:
    """Remove the bytes of a part."""
    path_of(part).unlink(missing_ok=True)


def remove_files(upload_id: int) -> None:
    """Remove all bytes of an upload."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder_of(upload_id))


def remove_strays(upload_id: int, tokens: Collection[str]) -> None:
    """Remove the files of an upload that no token names. Young ones may belong to parts that are being made."""
    before = time.time() - STRAY_SECONDS
    with contextlib.suppress(FileNotFoundError):
        for path in folder_of(upload_id).iterdir():
            if path.name not in tokens and path.lstat().st_mtime < before:
                path.unlink()


def free_bytes() -> int:
    """Return how many more bytes of uploads fit on the store's disk. Some of it stays free for the rest."""
    free = shutil.disk_usage(get_store().make_folder(FOLDER)).free
    kept: int = settings.HOST_MIN_FREE_BYTES
    return max(0, free - kept)


def require_room(descriptor: int, more_bytes: int) -> None:
    """Raise OSError if an open file may not grow by this much: other uploads share the free space."""
    disk = os.fstatvfs(descriptor)
    if disk.f_bavail * disk.f_frsize < settings.HOST_MIN_FREE_BYTES + more_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def are_here() -> bool:
    """Return whether uploads are kept on this machine: the web process makes their folder with the first."""
    return (get_store().root / FOLDER).is_dir()


def list_uploads() -> list[int]:
    """Return the numbers of the uploads that have files."""
    folder = get_store().root / FOLDER
    paths = folder.iterdir() if folder.is_dir() else ()
    return [int(path.name) for path in paths if path.name.isdecimal()]
