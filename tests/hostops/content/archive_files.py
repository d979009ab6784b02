"""Archives as well-meaning and as hostile people make them, byte by byte where no library would."""

import gzip
import io
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence

import libarchive

FILES: Mapping[str, bytes] = {
    "addons/a.vpk": b"\x34\x12\xaa\x55" + b"pack" * 50,
    "cfg/server.cfg": b"hostname x\n",
    "empty.txt": b"",
}


def make_zip(files: Mapping[str, bytes] = FILES, **attributes: int) -> bytes:
    """Return a zip; `attributes`, such as external_attr, are set on each entry."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            for attribute, value in attributes.items():
                setattr(entry, attribute, value)
            archive.writestr(entry, content)
    return out.getvalue()


def make_tar(files: Mapping[str, bytes] = FILES) -> bytes:
    """Return a tar of ordinary files."""
    return make_tar_of(
        [(tar_entry(name, size=len(content)), content) for name, content in files.items()]
    )


def make_tar_of(entries: Sequence[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """Return a tar of entries that `tar_entry` has made."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for entry, content in entries:
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def tar_entry(name: str, kind: bytes = tarfile.REGTYPE, **attributes: object) -> tarfile.TarInfo:
    """Return the header of a tar's entry."""
    entry = tarfile.TarInfo(name)
    entry.type = kind
    for attribute, value in attributes.items():
        setattr(entry, attribute, value)
    return entry


def make_7z(files: Mapping[str, bytes] = FILES) -> bytes:
    """Return a 7z, made by libarchive's writer."""
    out = bytearray()

    def write(data: bytes) -> int:
        out.extend(data)
        return len(data)

    with libarchive.custom_writer(write, "7zip") as archive:
        for name, content in files.items():
            archive.add_file_from_memory(name, len(content), content)
    return bytes(out)


def make_zstd(content: bytes) -> bytes:
    """Return bytes as zstd stores them uncompressed: a frame of raw blocks (RFC 8878)."""
    blocks = [content[at : at + 65_536] for at in range(0, len(content), 65_536)] or [b""]
    out = b"\x28\xb5\x2f\xfd" + b"\xa0" + struct.pack("<I", len(content))
    for number, block in enumerate(blocks, start=1):
        out += (len(block) << 3 | (number == len(blocks))).to_bytes(3, "little") + block
    return out


def make_rar4(
    files: Mapping[str, bytes] = FILES, *, main_flags: int = 0, file_flags: int = 0
) -> bytes:
    """Return a RAR of version 4 whose files are uncompressed."""
    out = b"Rar!\x1a\x07\x00" + _rar4_block(0x73, main_flags, bytes(6))
    for name, content in files.items():
        raw = name.encode()
        fields = struct.pack(
            "<2IBII2BHI",
            len(content),
            len(content),
            3,
            zlib.crc32(content),
            0,
            29,
            0x30,
            len(raw),
            0o100644,
        )
        out += _rar4_block(0x74, 0x8000 | file_flags, fields + raw) + content
    return out + _rar4_block(0x7B, 0x4000, b"")


def _rar4_block(kind: int, flags: int, fields: bytes) -> bytes:
    rest = struct.pack("<BHH", kind, flags, 7 + len(fields)) + fields
    return struct.pack("<H", zlib.crc32(rest) & 0xFFFF) + rest


def make_rar5(
    files: Mapping[str, bytes] = FILES,
    *,
    main_flags: int = 0,
    file_extra: bytes = b"",
    first: bytes = b"",
    end_flags: int = 0,
    has_checksum: bool = True,
    more_bytes: int = 0,
) -> bytes:
    """Return a RAR of version 5 whose files are uncompressed.

    `first` is a block in front of all others. The headers claim `more_bytes` more than the files have.
    """
    out = b"Rar!\x1a\x07\x01\x00" + first + rar5_block(1, 0, _number(main_flags))
    for name, content in files.items():
        raw = name.encode()
        size = len(content) + more_bytes
        fields = b"".join(map(_number, (4 if has_checksum else 0, size, 0o100644)))
        if has_checksum:
            fields += struct.pack("<I", zlib.crc32(content))
        fields += b"".join(map(_number, (0, 1, len(raw)))) + raw
        out += rar5_block(2, 2, fields, file_extra, len(content)) + content
    return out + rar5_block(5, 0, _number(end_flags))


def rar5_block(
    kind: int, flags: int, fields: bytes, extra: bytes = b"", data_bytes: int = 0
) -> bytes:
    """Return the header of a block."""
    head = _number(kind) + _number(flags | bool(extra))
    if extra:
        head += _number(len(extra))
    if flags & 2:
        head += _number(data_bytes)
    rest = head + fields + extra
    checked = _number(len(rest)) + rest
    return struct.pack("<I", zlib.crc32(checked)) + checked


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def make_overlapping_zip(copies: int = 3) -> bytes:
    """Return a zip whose entries all share the bytes of the first one, as in David Fifield's bombs."""
    content = zlib.compress(b"x" * 1000)[2:-4]
    crc = zlib.crc32(b"x" * 1000)
    local = (
        struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 0, crc, len(content), 1000, 1, 0)
        + b"0"
        + content
    )
    directory = b"".join(
        struct.pack(
            "<4s6H3I5H2I",
            b"PK\1\2",
            20,
            20,
            0,
            8,
            0,
            0,
            crc,
            len(content),
            1000,
            1,
            0,
            0,
            0,
            0,
            0,
            0,
        )
        + str(number).encode()
        for number in range(copies)
    )
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, copies, copies, len(directory), len(local), 0)
    return local + directory + end


def make_bomb(size: int) -> bytes:
    """Return a zip of a few kilobytes with a file of `size` zeros."""
    return make_zip({"zeros": bytes(size)})


def make_tar_gz(files: Mapping[str, bytes] = FILES) -> bytes:
    """Return a tar compressed by gzip."""
    return gzip.compress(make_tar(files), mtime=0)


def make_noise(size: int) -> bytes:
    """Return incompressible bytes."""
    return os.urandom(size)
