"""Compiled plugins as spcomp writes them, with the content that a test wants."""

import struct
import zlib
from collections.abc import Sequence

Need = tuple[str, str, bool]
"""What a plugin needs: its name, its file, and whether it cannot do without."""


def make_plugin(
    info: Sequence[str] = ("Title", "What it does", "An author", "1.2", "https://example.org"),
    *,
    extensions: Sequence[Need] = (),
    libraries: Sequence[Need] = (),
    natives: Sequence[str] = (),
    api: int = 7,
    code_version: int = 10,
    compression: int = 1,
) -> bytes:
    """Return a plugin whose `info` is its name, description, author, version and address.

    `api` is what it was compiled for, and `code_version` what it was compiled by.
    """
    memory, variables = bytearray(4), []

    def put(text: str) -> int:
        at = len(memory)
        memory.extend(text.encode() + b"\0")
        memory.extend(bytes(-len(memory) % 4))
        return at

    def put_variable(name: str, cells: Sequence[int]) -> None:
        variables.append((name, len(memory)))
        memory.extend(struct.pack(f"<{len(cells)}I", *cells))

    if info:
        put_variable("myinfo", [put(text) for text in info])
    for number, (name, file, is_required) in enumerate(extensions):
        put_variable(f"__ext_{number}", [put(name), put(file), 1, is_required])
    for number, (name, file, is_required) in enumerate(libraries):
        put_variable(f"__pl_{number}", [put(name), put(file), is_required])
    put_variable("__version", [api, put("1.13.0"), put(""), put("")])
    names, table, wanted = b"", b"", b""
    for name, address in variables:
        table += struct.pack("<2I", address, len(names))
        names += name.encode() + b"\0"
    for name in natives:
        wanted += struct.pack("<I", len(names))
        names += name.encode() + b"\0"
    code = struct.pack("<IBBHII", 0, 4, code_version, 0, 0, 16)
    data = struct.pack("<3I", len(memory), len(memory) + 4096, 12) + memory
    sections = {b".code": code, b".data": data, b".pubvars": table, b".names": names}
    return pack(sections | ({b".natives": wanted} if wanted else {}), compression)


def pack(sections: dict[bytes, bytes], compression: int = 1) -> bytes:
    """Return a file with these sections."""
    names = b"".join(name + b"\0" for name in sections)
    names_at = 24 + 12 * len(sections)
    data_at = names_at + len(names)
    table, body, name_at = b"", b"", 0
    for name, content in sections.items():
        table += struct.pack("<3I", name_at, data_at + len(body), len(content))
        name_at += len(name) + 1
        body += content
    packed = zlib.compress(body) if compression == 1 else body
    return (
        struct.pack(
            "<IHBIIBII",
            0x53504646,
            0x0102,
            compression,
            data_at + len(packed),
            data_at + len(body),
            len(sections),
            names_at,
            data_at,
        )
        + table
        + names
        + packed
    )
