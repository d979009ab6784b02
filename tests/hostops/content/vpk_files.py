"""Packs (VPK files) as tests need them: good ones, and ones that nobody should make."""

import struct
import zlib
from collections.abc import Iterable, Mapping

SIGNATURE = 0x55AA1234
IN_DIRECTORY_FILE = 0x7FFF


def make_pack(
    files: Mapping[str, bytes], *, version: int = 1, archive: int = IN_DIRECTORY_FILE
) -> bytes:
    """Return a pack with these files, all their data in it or, with `archive`, in a part of that number."""
    offset = 0
    entries: list[tuple[str, bytes]] = []
    for path, data in files.items():
        place = struct.pack("<IHHIIH", zlib.crc32(data), 0, archive, offset, len(data), 0xFFFF)
        entries.append((path, place))
        offset += len(data)
    body = b"".join(files.values()) if archive == IN_DIRECTORY_FILE else b""
    return with_tree(make_tree(entries), version=version) + body


def make_tree(entries: Iterable[tuple[str, bytes]]) -> bytes:
    """Return the directory of a pack: each entry below an extension and a folder of its own."""
    tree = b""
    for path, place in entries:
        folder, _, name = path.rpartition("/")
        stem, _, extension = name.rpartition(".")
        words = (extension or " ", folder or " ", stem or " ")
        tree += b"".join(word.encode("utf-8", "surrogateescape") + b"\0" for word in words)
        tree += place + b"\0\0"
    return tree + b"\0"


def with_tree(tree: bytes, *, version: int = 1) -> bytes:
    """Return the beginning of a pack with this directory."""
    head = struct.pack("<III", SIGNATURE, version, len(tree))
    return head + (struct.pack("<4I", 0, 0, 0, 0) if version == 2 else b"") + tree
