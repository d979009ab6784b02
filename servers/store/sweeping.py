"""Clears the panel's store of what no version refers to."""

import contextlib
import time
from dataclasses import dataclass

from servers.models import OverlayVersion
from servers.store.panel_store import get_store
from servers.store.versions import read_files

SWEEP_SECONDS = 24 * 3600
_MARK = "swept"


@dataclass(frozen=True)
class Swept:
    """What a sweep removed, and what is left."""

    removed: int
    removed_bytes: int
    kept: int


def sweep_store() -> Swept:
    """Remove the blobs that no version has, older than a day; nobody adds any meanwhile.

    Raises `BlobError` if one of the manifests cannot be read: then nobody knows what it needs, and nothing is
    removed.
    """
    store = get_store()
    if not store.root.exists():
        return Swept(0, 0, 0)
    with store.alone():
        kept: set[str] = set()
        for version in OverlayVersion.objects.only("pk", "digest").order_by("digest"):
            if version.digest not in kept:
                kept.add(version.digest)
                kept.update(file.sha256 for file in read_files(version))
        removed, removed_bytes = store.sweep(kept)
        (store.root / _MARK).touch()
    return Swept(removed, removed_bytes, len(kept))


def sweep_store_daily() -> None:
    """Sweep the store if it is on this machine, and nobody has swept it for a day."""
    with contextlib.suppress(FileNotFoundError):
        if time.time() - (get_store().root / _MARK).stat().st_mtime < SWEEP_SECONDS:
            return
    sweep_store()
