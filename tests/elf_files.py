"""Libraries as a linker writes them, as far as a loader reads them."""

import struct


def make_library(*versions: str, bits: int = 32, machine: int = 3) -> bytes:
    """Return a library that asks for these versions of the C library, with only what the loader reads."""
    if bits == 64:
        return b"\x7fELF\x02\x01\x01" + bytes(57)
    names = b"\0" + b"".join(version.encode() + b"\0" for version in versions)
    head, table = 52, 2 * 32
    names_at = head + table
    dynamic_at = names_at + len(names)
    dynamic = struct.pack("<6i", 5, 0x1000 + names_at, 10, len(names), 0, 0)
    size = dynamic_at + len(dynamic)
    load = struct.pack("<8I", 1, 0, 0x1000, 0x1000, size, size, 5, 4096)
    where = struct.pack("<8I", 2, dynamic_at, 0x1000 + dynamic_at, 0, len(dynamic), 24, 6, 4)
    ident = b"\x7fELF\x01\x01\x01" + bytes(9)
    return (
        ident
        + struct.pack("<HHIIIIIHHHHHH", 3, machine, 1, 0, head, 0, 0, head, 32, 2, 0, 0, 0)
        + load
        + where
        + names
        + dynamic
    )
