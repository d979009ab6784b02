"""Identifies archives by their first bytes, and checks what libarchive silently ignores in their headers.

That is whether anything is encrypted, whether the file is one volume of several, how many entries there are,
and whether entries of a zip share their data. Nothing is unpacked. Zip is as in PKWARE's APPNOTE.TXT, RAR as
in RARLAB's technote.txt of versions 4 and 5, 7z as in 7zFormat.txt.
"""

import re
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import BinaryIO

from hostops.content.archive_rules import RefusedError, show, too_many
from hostops.unpack_limits import UnpackLimits

HEAD_BYTES = 512
"""How much of a file's beginning is enough to identify it: the length of a tar's first header."""


class Kind(Enum):
    """The kind of a file, by its first bytes."""

    ZIP = "zip"
    SEVEN_ZIP = "7zip"
    RAR4 = "rar4"
    RAR5 = "rar5"
    TAR = "tar"
    GZIP = "gzip"
    BZIP2 = "bzip2"
    XZ = "xz"
    ZSTD = "zstd"
    PLAIN = "plain"


_MAGIC = (
    (b"PK\x03\x04", Kind.ZIP),
    (b"PK\x05\x06", Kind.ZIP),
    (b"PK\x07\x08", Kind.ZIP),
    (b"7z\xbc\xaf\x27\x1c", Kind.SEVEN_ZIP),
    (b"Rar!\x1a\x07\x00", Kind.RAR4),
    (b"Rar!\x1a\x07\x01\x00", Kind.RAR5),
    (b"\x1f\x8b\x08", Kind.GZIP),
    (b"BZh", Kind.BZIP2),
    (b"\xfd7zXZ\x00", Kind.XZ),
    (b"\x28\xb5\x2f\xfd", Kind.ZSTD),
)
# What people call archives, including those that are not unpacked here.
_ARCHIVE_NAME = re.compile(
    r"\.(?:zipx?|7z|rar|tar|t?gz|t?bz2?|tbz2|t?xz|t?zst|t?lz|lzma|lz4|lzo|z|cab|iso|arj|ace|lzh|lha)\Z",
    re.IGNORECASE,
)
_VOLUME_NAME = re.compile(
    r"\.(?:(?:zip|7z|rar|tar|gz|bz2|xz|vpk)\.\d{3}|[zr]\d\d)\Z", re.IGNORECASE
)
_DAMAGED = "it is damaged or incomplete: {}. Download it again, and see whether it unpacks on your computer."
_VOLUME = "it is one volume of a set. Unpack the set on your computer, and pack its files as one zip or 7z."
_ENCRYPTED = "it is encrypted. Pack it again without a password."
_LINK = "{} in it is a link. Pack it again with the file it points to."
_NO_FILES = "it contains no files. Check what you packed, and pack it again."


def damaged(what: str) -> RefusedError:
    """Return the error for an archive that cannot be read to its end."""
    return RefusedError(_DAMAGED.format(what))


def encrypted() -> RefusedError:
    """Return the error for an archive that needs a password."""
    return RefusedError(_ENCRYPTED)


def without_files() -> RefusedError:
    """Return the error for an archive without any files."""
    return RefusedError(_NO_FILES)


def a_link(name: str) -> RefusedError:
    """Return the error for an archive with a link in it."""
    return RefusedError(_LINK.format(show(name)))


def a_device(name: str) -> RefusedError:
    """Return the error for an archive with a device, a FIFO or a socket in it."""
    return RefusedError(
        f"{show(name)} in it is neither a file nor a folder. Remove it, and pack it again."
    )


def identify(head: bytes, name: str) -> Kind:
    """Return the kind of a file by its first `HEAD_BYTES`; RefusedError if its name promises another."""
    if _VOLUME_NAME.search(name):
        raise RefusedError(_VOLUME)
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if is_tar(head):
        return Kind.TAR
    if _ARCHIVE_NAME.search(name):
        raise RefusedError(
            "whatever its name says, it is not an archive that can be unpacked here (zip, 7z, rar or tar). "
            "If you downloaded it, check whether the website sent a page instead."
        )
    return Kind.PLAIN


def is_tar(head: bytes) -> bool:
    """Whether the bytes are the header of a tar's first entry: its checksum is right."""
    if len(head) < HEAD_BYTES or not any(head):
        return False
    digits = head[148:156].strip(b" \0")
    try:
        told = int(digits, 8)
    except ValueError:
        return False
    return told == sum(head[:148]) + 8 * ord(" ") + sum(head[156:HEAD_BYTES])


# --- Zip ----------------------------------------------------------------------------------------

_END = struct.Struct("<4s4H2IH")
_END_LOCATOR_64 = struct.Struct("<4sIQI")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_ENTRY = struct.Struct("<4s2B5H3I5H2I")
_MAX_COMMENT_BYTES = 65_535
_MAX_DIRECTORY_BYTES = 64 * 1024**2
_LOCAL_HEADER_BYTES = 30
_EXTRA_64 = 1
_MAX_32, _MAX_16 = 0xFFFFFFFF, 0xFFFF
_FLAG_ENCRYPTED = 0x1
_UNIX, _MACOS = 3, 19
_SIZES_64 = struct.Struct("<Q")


@dataclass(frozen=True)
class _ZipEntry:
    name: bytes
    is_encrypted: bool
    file_type: int
    """As in st_mode; 0 if the directory does not say."""
    packed_bytes: int
    size: int
    offset: int


def check_zip(file: BinaryIO, limits: UnpackLimits) -> tuple[int, int]:
    """Return how many entries the directory of a zip names, and how many bytes these have in all.

    Raises RefusedError for a zip that must not be unpacked.
    """
    position, count, directory_bytes, offset = _find_zip_directory(file)
    if count > limits.entries:
        raise too_many(limits)
    if directory_bytes > _MAX_DIRECTORY_BYTES:
        raise RefusedError(f"its directory takes {directory_bytes:,} bytes. Pack it again.")
    start = position - directory_bytes
    if start < 0:
        raise damaged("its directory lies before its beginning")
    file.seek(start)
    # No more than these are kept: a directory of a million may say that it has ten.
    entries = list(islice(_read_zip_directory(file.read(directory_bytes)), count + 1))
    if len(entries) != count:
        raise damaged(f"its directory does not name the {count:,} entries that it should")
    for entry in entries:
        name = entry.name.decode("utf-8", "replace")
        if b"\0" in entry.name:  # libarchive ignores what comes before it.
            raise damaged(f"{show(name)} has a zero byte in its name")
        if entry.is_encrypted:
            raise encrypted()
        if entry.file_type == stat.S_IFLNK:
            raise a_link(name)
        if entry.file_type not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise a_device(name)
    # Whatever is in front of a zip (as in one that unpacks itself) shifts all positions by its length.
    moved = start - offset
    end = 0
    for entry in sorted(entries, key=lambda one: one.offset):
        begin = entry.offset + moved
        if begin < end:
            raise RefusedError(
                "files in it share their bytes, as in archives made to fill a disk. If it is not one of "
                "those, pack it again."
            )
        end = begin + _LOCAL_HEADER_BYTES + len(entry.name) + entry.packed_bytes
    if end > start:
        raise damaged("it lists more bytes than it has")
    return count, sum(entry.size for entry in entries)


def _find_zip_directory(file: BinaryIO) -> tuple[int, int, int, int]:
    """Return where the directory of a zip ends, its number of entries, its length, and its stated position."""
    size = file.seek(0, 2)
    tail_start = max(0, size - _END.size - _MAX_COMMENT_BYTES)
    file.seek(tail_start)
    tail = file.read()
    at = len(tail)
    while (at := tail.rfind(b"PK\x05\x06", 0, at)) >= 0:
        if len(tail) - at >= _END.size:
            record = _END.unpack_from(tail, at)
            if at + _END.size + record[7] == len(tail):
                break
    else:
        raise damaged("its directory, which stands at the end, is missing")
    _, disk, first_disk, here, count, length, offset, _ = record
    position = tail_start + at
    if at >= _END_LOCATOR_64.size and tail.startswith(b"PK\x06\x07", at - _END_LOCATOR_64.size):
        _, _, end_64, disks = _END_LOCATOR_64.unpack_from(tail, at - _END_LOCATOR_64.size)
        if disks > 1:
            raise RefusedError(_VOLUME)
        data = b""
        # At the stated position or, if the zip is behind something else, directly in front of the end record.
        for place in (end_64, position - _END_LOCATOR_64.size - _END_64.size):
            if not data.startswith(b"PK\x06\x06") and 0 <= place <= position:
                file.seek(place)
                data = file.read(_END_64.size)
                end_64 = place
        if len(data) < _END_64.size or not data.startswith(b"PK\x06\x06"):
            raise damaged("its directory, which stands at the end, is missing")
        position = end_64
        _, _, _, _, disk, first_disk, here, count, length, offset = _END_64.unpack(data)
    if disk or first_disk or here != count:
        raise RefusedError(_VOLUME)
    return position, count, length, offset


def _read_zip_directory(data: bytes) -> Iterator[_ZipEntry]:
    at = 0
    while data.startswith(b"PK\x01\x02", at):
        if at + _ENTRY.size > len(data):
            raise damaged("its directory is cut short")
        fields = _ENTRY.unpack_from(data, at)
        _, _, system, _, flags, _, _, _, _, packed, size, name_bytes, extra_bytes, comment_bytes = (
            fields[:14]
        )
        attributes, offset = fields[16], fields[17]
        name_at = at + _ENTRY.size
        at = name_at + name_bytes + extra_bytes + comment_bytes
        if at > len(data):
            raise damaged("its directory is cut short")
        extra = data[name_at + name_bytes : name_at + name_bytes + extra_bytes]
        size, packed, offset = _widen(extra, size, packed, offset)
        yield _ZipEntry(
            name=data[name_at : name_at + name_bytes],
            is_encrypted=bool(flags & _FLAG_ENCRYPTED),
            file_type=stat.S_IFMT(attributes >> 16) if system in (_UNIX, _MACOS) else 0,
            packed_bytes=packed,
            size=size,
            offset=offset,
        )
    if at != len(data):
        raise damaged("its directory is not as long as it says")


def _widen(extra: bytes, *values: int) -> tuple[int, ...]:
    """Return sizes, taking those that do not fit 32 bits from the extra field that has them in 64."""
    if _MAX_32 not in values:
        return values
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == _EXTRA_64:
            field = extra[at + 4 : at + 4 + length]
            wide = iter(_SIZES_64.iter_unpack(field[: len(field) // 8 * 8]))
            return tuple(next(wide, (value,))[0] if value == _MAX_32 else value for value in values)
        at += 4 + length
    return values


# --- 7z -----------------------------------------------------------------------------------------

_SEVEN_ZIP_HEAD = struct.Struct("<6s2sI2QI")


def check_7z(file: BinaryIO) -> None:
    """Raise RefusedError for a 7z that is empty, or shorter than its header says."""
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(_SEVEN_ZIP_HEAD.size)
    if len(head) < _SEVEN_ZIP_HEAD.size:
        raise damaged("it ends within its header")
    _, _, checksum, offset, length, _ = _SEVEN_ZIP_HEAD.unpack(head)
    if zlib.crc32(head[12:]) != checksum:
        raise damaged("its header has another checksum")
    if length == 0:
        raise without_files()
    if _SEVEN_ZIP_HEAD.size + offset + length > size:
        raise damaged("it is shorter than its header says, as the first volume of a set is too")


# --- RAR ----------------------------------------------------------------------------------------

_RAR4_BLOCK = struct.Struct("<HBHH")
_RAR4_MARK_BYTES, _RAR5_MARK_BYTES = 7, 8
_RAR4_MAIN, _RAR4_FILE, _RAR4_END = 0x73, 0x74, 0x7B
_RAR5_MAIN, _RAR5_FILE, _RAR5_ENCRYPTION, _RAR5_END = 1, 2, 4, 5
_RAR5_FILE_ENCRYPTION, _RAR5_FILE_HASH = 1, 2
_MAX_HEADER_BYTES = 2 * 1024**2
# Beside each file there may be blocks with what its system knew about it: streams, owners, times.
_BLOCKS_AN_ENTRY, _BLOCKS_BESIDE_ENTRIES = 4, 1_000


def check_rar4(file: BinaryIO, limits: UnpackLimits) -> list[int]:
    """Return the checksum of each entry of a RAR of version 4 or older.

    Raises RefusedError for a RAR that must not be unpacked.
    """
    checksums: list[int] = []
    size = file.seek(0, 2)
    position = _RAR4_MARK_BYTES
    for _ in range(_BLOCKS_AN_ENTRY * limits.entries + _BLOCKS_BESIDE_ENTRIES):
        if position > size:
            raise damaged("it ends within a file, as the first volume of a set does too")
        file.seek(position)
        head = file.read(_RAR4_BLOCK.size + 32)
        if (
            len(head) < _RAR4_BLOCK.size
        ):  # Only before version 3, of 2002, that was an archive's end.
            raise damaged("it ends without an end block")
        _, kind, flags, length = _RAR4_BLOCK.unpack_from(head)
        if kind == _RAR4_MAIN:
            if flags & 0x80:
                raise encrypted()
            if flags & 0x1:
                raise RefusedError(_VOLUME)
            if flags & 0x8:
                raise RefusedError(
                    "it is a solid RAR of version 4, which cannot be unpacked here. Pack it again as zip or 7z."
                )
        elif kind == _RAR4_FILE:
            checksums.append(int.from_bytes(head[16:20], "little"))
            if flags & 0x4:
                raise encrypted()
            if flags & 0x3:
                raise RefusedError(_VOLUME)
        elif kind == _RAR4_END:
            if flags & 0x1:
                raise RefusedError(_VOLUME)
            return checksums
        if len(checksums) > limits.entries:
            break
        position += length
        if flags & 0x8000 or kind == _RAR4_FILE:
            position += int.from_bytes(head[7:11], "little")
            if kind == _RAR4_FILE and flags & 0x100:
                position += int.from_bytes(head[32:36], "little") << 32
        if length < _RAR4_BLOCK.size:
            raise damaged("it has a block without length")
    raise too_many(limits)


def check_rar5(file: BinaryIO, limits: UnpackLimits) -> list[int | None]:
    """Return the checksum of each entry of a RAR of version 5; None for one that is not a CRC-32.

    Raises RefusedError for a RAR that must not be unpacked.
    """
    checksums: list[int | None] = []
    size = file.seek(0, 2)
    position = _RAR5_MARK_BYTES
    for _ in range(_BLOCKS_AN_ENTRY * limits.entries + _BLOCKS_BESIDE_ENTRIES):
        if position > size:
            raise damaged("it ends within a file, as the first volume of a set does too")
        file.seek(position)
        block = _Rar5Block(file.read(4 + 3), file)
        position += block.length
        if block.kind == _RAR5_ENCRYPTION:
            raise encrypted()
        if block.kind == _RAR5_MAIN:
            if block.number() & 0x1:
                raise RefusedError(_VOLUME)
        elif block.kind == _RAR5_FILE:
            if block.flags & 0x18:
                raise RefusedError(_VOLUME)
            if block.has_extra(_RAR5_FILE_ENCRYPTION):
                raise encrypted()
            checksums.append(block.read_checksum())
            if len(checksums) > limits.entries:
                break
        elif block.kind == _RAR5_END:
            if block.number() & 0x1:
                raise RefusedError(_VOLUME)
            return checksums
    raise too_many(limits)


class _Rar5Block:
    """The header of one block. `length` is the distance to the next block: header and data."""

    def __init__(self, begin: bytes, file: BinaryIO) -> None:
        if len(begin) < 4 + 1:
            raise damaged("it ends without an end block")
        self._data, self._at = begin, 4
        header_bytes = self.number()
        header_at = self._at
        if header_bytes > _MAX_HEADER_BYTES:
            raise damaged(f"it has a header of {header_bytes:,} bytes")
        self._data = begin + file.read(max(0, header_at + header_bytes - len(begin)))
        self._data = self._data[: header_at + header_bytes]
        if len(self._data) < header_at + header_bytes:
            raise damaged("it ends within a header")
        if zlib.crc32(self._data[4:]) != int.from_bytes(self._data[:4], "little"):
            raise damaged("one of its headers has another checksum")
        self.kind = self.number()
        self.flags = self.number()
        self._extra_bytes = self.number() if self.flags & 0x1 else 0
        self.length = header_at + header_bytes + (self.number() if self.flags & 0x2 else 0)
        self._fields_at = self._at

    def number(self) -> int:
        """Return the next number: seven bits in each byte, the highest bit set in all but the last."""
        value = 0
        for shift in range(0, 70, 7):
            if self._at >= len(self._data):
                raise damaged("one of its headers is cut short")
            byte = self._data[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return value
        raise damaged("one of its headers has a number without end")

    def read_checksum(self) -> int | None:
        """Return the CRC-32 of a file's content, if its header has one.

        Raises RefusedError for an uncompressed file with another kind of checksum, which nothing here checks.
        """
        self._at = self._fields_at
        flags, _, _ = self.number(), self.number(), self.number()
        self._at += 4 if flags & 0x2 else 0
        checksum = int.from_bytes(self._data[self._at : self._at + 4], "little")
        self._at += 4 if flags & 0x4 else 0
        method = self.number() >> 7 & 0x7
        if flags & 0x4:
            return checksum
        if method == 0 and self.has_extra(_RAR5_FILE_HASH):
            raise RefusedError(
                "its files are stored as they are, with BLAKE2 as their checksum, which is not read here. Pack "
                "it again with CRC-32, or as zip or 7z."
            )
        return None

    def has_extra(self, kind: int) -> bool:
        """Whether the extra area, which ends the header, has a record of that kind."""
        if self._extra_bytes > len(self._data):
            raise damaged("one of its headers is cut short")
        self._at = len(self._data) - self._extra_bytes
        while self._at < len(self._data):
            length = self.number()
            after = self._at + length
            if self.number() == kind:
                return True
            self._at = after
        return False
