"""Detects whether an overlay has changed, from each file's path, kind, mode, size and time."""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from hostops.linux import untrusted

CHARS = 32
"""The length of a fingerprint."""


@dataclass(frozen=True)
class OverlayFile:
    """One file or link of an overlay. `path` is relative to the overlay; `target` is a link's target."""

    path: str
    status: os.stat_result
    target: str = ""

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.status.st_mode)


def list_files(overlay: Path) -> list[OverlayFile]:
    """Return everything in an overlay except folders, in a stable order.

    Follows no links. Raises FileNotFoundError if there is no overlay, and `UntrustedFileError` if it has more
    than `untrusted.MAX_ENTRIES` files or a folder that may not be read.
    """
    with untrusted.open_folder(overlay, overlay) as top:
        return [
            OverlayFile(path, status, _read_link(top, path, status))
            for path, status in untrusted.walk(top)
        ]


def fingerprint_of(files: list[OverlayFile]) -> str:
    """Return a text of `CHARS` characters that changes when a file of the overlay changes.

    It does not read contents: for 3,400 files this and `list_files` take 0.05 s; hashing would take 0.1 s for
    every 150 MB. A change that keeps a file's size and time is not detected.
    """
    digest = hashlib.sha256()
    for file in files:
        status = file.status
        facts = (status.st_mode, status.st_size, status.st_mtime_ns)
        text = f"{file.path}\0{facts}\0{file.target}\0"
        digest.update(text.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:CHARS]


def fingerprint(overlay: Path) -> str:
    """Return the current fingerprint of an overlay; raises as `list_files` does."""
    return fingerprint_of(list_files(overlay))


def _read_link(top: int, path: str, status: os.stat_result) -> str:
    if not stat.S_ISLNK(status.st_mode):
        return ""
    pinned = untrusted.pin(top, path)
    try:
        return os.readlink("", dir_fd=pinned)
    finally:
        os.close(pinned)
