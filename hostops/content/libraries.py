"""Reads what kind of machine a library (ELF file, `.so`) is for, and how new a C library it needs.

The numbers and structures are from elf(5). Whatever the bytes are, only `LibraryError` is raised.
"""

import os
import re
import struct
from dataclasses import dataclass

_CLASS_32, _CLASS_64 = 1, 2
_LITTLE_ENDIAN = 1
_I386 = 3
_PT_LOAD = 1
_PT_DYNAMIC = 2
_DT_STRTAB = 5
_DT_STRSZ = 10
# e_type, e_machine, e_version, e_entry, e_phoff, e_shoff, e_flags, e_ehsize, e_phentsize, e_phnum
_HEAD = struct.Struct("<16xHHIIIIIHHH")
# p_type, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_flags, p_align
_SEGMENT = struct.Struct("<8I")
_DYNAMIC = struct.Struct("<iI")
_MAX_SEGMENTS = 64
_MAX_DYNAMIC_BYTES = 64 * 1024
_MAX_NAMES_BYTES = 8 * 1024**2
_GLIBC = re.compile(rb"(?:^|\0)GLIBC_(\d{1,3})\.(\d{1,3})(?:\.\d{1,3})?(?=\0)")


class LibraryError(Exception):
    """The file is not a readable library; the text completes “it …”."""


@dataclass(frozen=True)
class Library:
    """An x86 library: 32-bit, like the game, or 64-bit.

    `glibc` is the newest C library version that a 32-bit one asks for, as (2, 34).
    """

    bits: int
    glibc: tuple[int, int] | None = None


def read_library(file: int) -> Library:
    """Return what kind of library this descriptor is; `LibraryError` if it is not one for x86."""
    head = os.pread(file, _HEAD.size, 0)
    if head[:4] != b"\x7fELF":
        raise LibraryError("is no Linux library")
    if len(head) < _HEAD.size or head[4] not in (_CLASS_32, _CLASS_64):
        raise LibraryError("is a damaged library")
    if head[4] == _CLASS_64:
        return Library(64)
    _, machine, _, _, offset, _, _, _, size, count = _HEAD.unpack(head)
    if head[5] != _LITTLE_ENDIAN or machine != _I386:
        raise LibraryError("is a library for another kind of processor")
    if size != _SEGMENT.size or count > _MAX_SEGMENTS:
        raise LibraryError("is a damaged library")
    segments = _unpack(_SEGMENT, os.pread(file, size * count, offset))
    end = max((one[1] + one[4] for one in segments if one[0] == _PT_LOAD), default=0)
    if len(segments) < count or end > os.fstat(file).st_size:
        raise LibraryError("is a library that was cut short")
    return Library(32, _find_glibc(file, segments))


def _find_glibc(file: int, segments: list[tuple[int, ...]]) -> tuple[int, int] | None:
    """Return the newest version among the names that the loader reads."""
    for kind, offset, _, _, length, *_ in segments:
        if kind == _PT_DYNAMIC:
            data = os.pread(file, min(length, _MAX_DYNAMIC_BYTES), offset)
            entries = {one[0]: one[1] for one in _unpack(_DYNAMIC, data)}
            break
    else:
        return None
    if _DT_STRTAB not in entries:
        return None
    address, length = entries[_DT_STRTAB], entries.get(_DT_STRSZ, 0)
    for kind, offset, start, _, size, *_ in segments:
        if kind == _PT_LOAD and start <= address < start + size:
            place = offset + address - start
            names = os.pread(file, min(length, _MAX_NAMES_BYTES), place)
            versions = [(int(one[1]), int(one[2])) for one in _GLIBC.finditer(names)]
            return max(versions, default=None)
    raise LibraryError("is a damaged library")


def _unpack(form: struct.Struct, data: bytes) -> list[tuple[int, ...]]:
    return list(form.iter_unpack(data[: len(data) // form.size * form.size]))
