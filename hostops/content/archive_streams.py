"""The streams through which an archive is read: they count, set limits, or remember what went wrong."""

import io
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from hostops.content.archive_rules import Sizes

BLOCK_BYTES = 1024**2
TAIL_BYTES = 512
"""A block of a tar."""

_TELL_SECONDS = 0.2


class Counted(io.RawIOBase):
    """The archive; reports now and then how many bytes of it have been read."""

    def __init__(self, raw: io.FileIO, tell: Callable[[int], None]) -> None:
        self._raw, self._tell = raw, tell
        self._read_bytes = 0
        self._tell_at = 0.0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._raw.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        length = self._raw.readinto(buffer) or 0
        self._read_bytes += length
        now = time.monotonic()
        if now >= self._tell_at:
            self._tell_at = now + _TELL_SECONDS
            self._tell(self._read_bytes)
        return length


class Bounded(io.RawIOBase):
    """A stream that is refused once it has yielded too much."""

    def __init__(self, stream: Any, sizes: Sizes) -> None:
        self._stream, self._sizes = stream, sizes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        length: int = self._stream.readinto(buffer)
        self._sizes.add(length)
        return length


class Chained(io.RawIOBase):
    """A stream with its beginning, which has been read already."""

    def __init__(self, head: bytes, stream: Any) -> None:
        self._head, self._stream = head, stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._head:
            length: int = self._stream.readinto(buffer)
            return length
        length = min(len(buffer), len(self._head))
        buffer[:length] = self._head[:length]
        self._head = self._head[length:]
        return length


class Tailed(io.RawIOBase):
    """A tar that remembers its last block: a complete one ends with zeros."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.tail = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        length: int = self._stream.readinto(buffer)  # type: ignore[attr-defined]
        begin = max(0, length - TAIL_BYTES)
        self.tail = (self.tail + bytes(buffer[begin:length]))[-TAIL_BYTES:]
        return length


class Feed:
    """What libarchive reads from. An exception would get lost in libarchive, so it is kept here."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.failure: BaseException | None = None

    def seekable(self) -> bool:
        return bool(self._stream.seekable())

    def readinto(self, buffer: Any) -> int:
        return self._guard(lambda: self._stream.readinto(buffer))

    def seek(self, offset: int, whence: int) -> int:
        return self._guard(lambda: self._stream.seek(offset, whence))

    def _guard(self, act: Callable[[], int]) -> int:
        if self.failure is None:
            try:
                return act()
            except Exception as error:  # noqa: BLE001 - raised by the code that drives libarchive
                self.failure = error
        return -1


def read_fully(stream: Any, length: int) -> bytes:
    """Read exactly this many bytes; fewer only at the end of the stream."""
    data = b""
    while len(data) < length and (some := stream.read(length - len(data))):
        data += some
    return data


def blocks_of(stream: Any) -> Iterator[bytes]:
    """Yield the rest of a stream, block by block."""
    while block := stream.read(BLOCK_BYTES):
        yield block
