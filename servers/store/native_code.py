"""Which files of overlays are code that runs on a host: told by their names, and by how their bytes begin.

The name alone does not tell. What a host starts is `srcds_linux`, the loader takes `bin/libc.so.6` as well as
`bin/libc.so`, and the engine loads any library that a `.vdf` names.
"""

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from hostops.specs import ManifestFile
from servers.store.panel_store import BlobError, get_store

NATIVE_SUFFIXES = (".so", ".smx")
"""Libraries of the engine, and SourceMod's compiled plugins."""

STARTED_BY_HOST = ("srcds_linux", "srcds_run")
"""What a host starts, by its name alone: a text in its place would keep the server from starting."""

_HEAD_BYTES = 4
_CODE = (b"\x7fELF", b"FFPS")
"""How programs and libraries of Linux begin, and SourceMod's plugins, whatever they are called."""
_SCRIPT = b"#!"
"""How a text begins that the kernel hands to a program. It does so only if the file is executable."""


def find_native(
    files: Iterable[ManifestFile], stored: Mapping[str, Path] | None = None
) -> list[ManifestFile]:
    """Return the files that are code. Each file is opened, unless its name tells: 10 µs.

    Their bytes lie in the store, or where `stored` says by their hashes. What lies nowhere is not told.
    """
    stored, found = stored or {}, []
    heads: dict[str, bytes] = {}
    for file in files:
        if file.path.lower().endswith(NATIVE_SUFFIXES) or file.path.lower() in STARTED_BY_HOST:
            found.append(file)
            continue
        if file.sha256 not in heads:
            heads[file.sha256] = _read_head(file.sha256, stored.get(file.sha256))
        head = heads[file.sha256]
        if head.startswith(_CODE) or (file.is_executable and head.startswith(_SCRIPT)):
            found.append(file)
    return found


def _read_head(sha256: str, path: Path | None) -> bytes:
    """Return how a file begins, which lies at `path` or in the store; nothing if it does at neither."""
    if path is not None:
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    with contextlib.suppress(BlobError), get_store().open(sha256) as file:
        return file.read(_HEAD_BYTES)
    return b""
