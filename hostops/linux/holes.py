"""Holes in files: how the beginning of a file that is being written gives its disk space back."""

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
    """Free the disk space of a file's first `end` bytes, which read as zeros from then on; its size stays.

    Whoever writes or reads behind them meanwhile notices nothing. `end` is to be a multiple of the file
    system's block, as any large power of two is. Returns False, and says so once in the log, where the file
    system cannot do it; raises OSError for anything else.
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
            "the file system of the servers' consoles cannot free parts of files (%s): the output of a server "
            "that runs for long takes more and more space. Use ext4, XFS, Btrfs or ZFS for the host's folder.",
            os.strerror(number),
        )
        return False
    return True


def find_data(descriptor: int, offset: int) -> int:
    """Return where the next bytes that are really there begin, from `offset` on; at the end, the end."""
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole, or nothing at all, follows
            return max(offset, os.lseek(descriptor, 0, os.SEEK_END))
        if error.errno == errno.EINVAL:  # a file system that knows no holes
            return offset
        raise


def find_hole(descriptor: int, offset: int) -> int:
    """Return where the bytes that are really there at `offset` end: at a hole, or at the end of the file."""
    try:
        return os.lseek(descriptor, offset, os.SEEK_HOLE)
    except OSError as error:
        if error.errno == errno.ENXIO:  # cut meanwhile
            return offset
        if error.errno == errno.EINVAL:  # a file system that knows no holes
            return os.lseek(descriptor, 0, os.SEEK_END)
        raise
