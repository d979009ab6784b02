"""Learning of changes in folders from the kernel: inotify(7)."""

import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

IN_MODIFY = 0x2
IN_CREATE = 0x100
IN_MOVE_SELF = 0x800
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x0100_0000
IN_DONT_FOLLOW = 0x0200_0000

_HEAD = struct.Struct("iIII")  # watch, mask, cookie, length of the name
_READ_BYTES = 65_536


class Event(NamedTuple):
    """What happened in a watched folder. `watch` is -1 if events were lost."""

    watch: int
    mask: int


class Inotify:
    """A queue of the kernel's, with any number of watches. For use by one thread at a time."""

    def __init__(self) -> None:
        """Open the queue. Raises OSError if the account has too many."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._checked(self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))

    def fileno(self) -> int:
        """Return the descriptor, which is readable once there is an event."""
        return self._descriptor

    def add(self, path: Path, mask: int) -> int:
        """Watch what is at `path`; return the number of the watch. Raises OSError if that cannot be done."""
        watch = self._libc.inotify_add_watch(self._descriptor, os.fsencode(path), mask)
        return self._checked(watch)

    def remove(self, watch: int) -> None:
        """End a watch, which may have ended by itself."""
        self._libc.inotify_rm_watch(self._descriptor, watch)

    def read(self) -> bytes:
        """Return the next events as the kernel gives them; none if there are none."""
        try:
            return os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """End all watches."""
        os.close(self._descriptor)

    @staticmethod
    def _checked(result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result


def parse(events: bytes) -> Iterator[Event]:
    """Return the events that `Inotify.read` gave, without the names of files."""
    at = 0
    while at < len(events):
        watch, mask, _, name_bytes = _HEAD.unpack_from(events, at)
        yield Event(watch, mask)
        at += _HEAD.size + name_bytes
