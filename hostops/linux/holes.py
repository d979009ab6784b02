"""Holes in files: how to free the disk space of the beginning of a file that is still being written."""

import ctypes
import errno
import logging
import os

logger = logging.getLogger(__name__)

_KEEP_SIZE = 0x01  # FALLOC_FL_KEEP_SIZE and FALLOC_FL_PUNCH_HOLE of linux/falloc.h
_PUNCH_HOLE = 0x02
_CANNOT = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM)  # EPERM: an immutable or append-only file

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_devices_without: set[int] = set()


def punch_hole(descriptor: int, end: int) -> bool:
    """Free the disk space of a file's first `end` bytes, which then read as zeros; its size stays.

    Concurrent writers and readers beyond `end` notice nothing. `end` must be a multiple of the file system's
    block size, as any large power of two is. If the file system does not support this, it returns False and
    logs that once; it raises OSError for anything else.
    """
    device = os.fstat(descriptor).st_dev
    if device in _devices_without:
        return False
    while _libc.fallocate(descriptor, _KEEP_SIZE | _PUNCH_HOLE, 0, end) != 0:
        number = ctypes.get_errno()
        if number == errno.EINTR:
            continue
        if number not in _CANNOT:
            raise OSError(number, os.strerror(number))
        _devices_without.add(device)
        logger.warning(
            "the file system of the servers' consoles cannot free parts of files (%s): the output of a "
            "long-running server takes more and more space. Use ext4, XFS, Btrfs or ZFS for the host's folder.",
            os.strerror(number),
        )
        return False
    return True


def find_data(descriptor: int, offset: int) -> int:
    """Return where allocated data begins, from `offset` on; if there is none, the end of the file."""
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # only a hole, or nothing at all, follows
            return max(offset, os.lseek(descriptor, 0, os.SEEK_END))
        if error.errno == errno.EINVAL:  # a file system without holes
            return offset
        raise


def find_hole(descriptor: int, offset: int) -> int:
    """Return where the allocated data at `offset` ends: at a hole, or at the end of the file."""
    try:
        return os.lseek(descriptor, offset, os.SEEK_HOLE)
    except OSError as error:
        if error.errno == errno.ENXIO:  # truncated in the meantime
            return offset
        if error.errno == errno.EINVAL:  # a file system without holes
            return os.lseek(descriptor, 0, os.SEEK_END)
        raise
