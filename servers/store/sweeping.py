"""Clears the panel's store of what no version refers to."""

import contextlib
import time
from dataclasses import dataclass

from hostops.specs import read_known_files
from servers.models import OverlayVersion
from servers.store.panel_store import get_store
from servers.store.versions import read_lines

SWEEP_SECONDS = 24 * 3600
_MARK = "swept"


@dataclass(frozen=True)
class Swept:
    """What a sweep removed, and what is left."""

    removed: int
    removed_bytes: int
    kept: int


def sweep_store(*, waits: bool = True) -> Swept:
    """Remove the blobs that no version has, older than a day; nobody adds any meanwhile.

    Raises `BlobError` if one of the manifests cannot be read: then nobody knows what it needs, and nothing is
    removed. Raises BlockingIOError if somebody is adding, or makes a backup, and this is not to wait.
    """
    store = get_store()
    if not store.root.exists():
        return Swept(0, 0, 0)
    with store.alone(waits=waits):
        # Without any blob it is no store of this panel's, but a folder that a worker's machine has of its own.
        kept = _find_needed() if next(store.walk(), None) else frozenset()
        removed, removed_bytes = store.sweep(kept)
        (store.root / _MARK).touch()
    return Swept(removed, removed_bytes, len(kept))


def _find_needed() -> frozenset[str]:
    """Return the hashes of all files of all versions, and of their manifests. Raises `BlobError`."""
    lines: set[bytes] = set()
    digests: set[str] = set()
    for version in OverlayVersion.objects.only("pk", "digest").order_by("digest"):
        if version.digest not in digests:
            digests.add(version.digest)
            lines.update(read_lines(version))
    return frozenset(digests | {file.sha256 for file in read_known_files(lines)})


def sweep_store_daily() -> None:
    """Sweep the store if it is on this machine, nobody has swept it for a day, and nobody is at it now."""
    with contextlib.suppress(FileNotFoundError):
        if time.time() - (get_store().root / _MARK).stat().st_mtime < SWEEP_SECONDS:
            return
    with contextlib.suppress(BlockingIOError):
        sweep_store(waits=False)
