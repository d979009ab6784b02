"""Finds the files of overlays that are code and run on a host, by their names and by their first bytes.

The name alone is not enough. A host starts `srcds_linux`, the loader takes `bin/libc.so.6` as well as
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
"""What a host starts just by its name: a text in its place would keep the server from starting."""

_HEAD_BYTES = 4
_CODE = (b"\x7fELF", b"FFPS")
"""The first bytes of Linux programs and libraries, and of SourceMod's plugins, whatever their names."""
_SCRIPT = b"#!"
"""The first bytes of a text that the kernel hands to a program. It does so only if the file is executable."""


def find_native(
    files: Iterable[ManifestFile], stored: Mapping[str, Path] | None = None
) -> list[ManifestFile]:
    """Return the files that are code. Each file is opened, unless its name is enough: 10 µs.

    Their bytes are in the store, or at the path that `stored` gives for their hash. Files whose bytes are in
    neither are left out.
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
    """Return the first bytes of a file at `path` or in the store; empty if it is in neither."""
    if path is not None:
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    with contextlib.suppress(BlobError), get_store().open(sha256) as file:
        return file.read(_HEAD_BYTES)
    return b""
