"""Removes from the panel's store what no version refers to."""

import contextlib
import os
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models.signals import post_delete
from django.dispatch import receiver

from hostops.specs import read_known_files
from servers.models import OverlayVersion, Upload
from servers.store import upload_files
from servers.store.ownership import SWEPT, ForeignStoreError, claim_old_store, require_own_store
from servers.store.panel_store import get_store
from servers.store.versions import read_lines

SWEEP_SECONDS = 24 * 3600
FRESH_SECONDS = 60.0
"""In a sweep after a removal, blobs younger than this stay: nobody is adding, but machines' clocks differ."""
_DROPPED = "dropped"
"""Touched when a version was removed: the space of files that only it had is not counted, so they must go
soon.
"""


@dataclass(frozen=True)
class Swept:
    """What a sweep removed, and what is left."""

    removed: int
    removed_bytes: int
    kept: int


def sweep_store(*, waits: bool = True) -> Swept:
    """Remove the blobs that no version has, while nobody adds any.

    Blobs have to be older than a day, or than a minute if a version was removed since the last sweep.

    Raises `BlobError` if a manifest cannot be read: then nobody knows which files it needs, and nothing is
    removed. `ForeignStoreError`, of the store of another database, is one too. Raises BlockingIOError if
    somebody is adding, or making a backup, and this is not to wait.
    """
    store = get_store()
    if not store.root.exists():
        return Swept(0, 0, 0)
    with store.alone(waits=waits):
        began_at = time.time()
        after_seconds = FRESH_SECONDS if _is_dropped() else float(SWEEP_SECONDS)
        # A store without any blob is not the panel's, but a folder that a worker's machine has for itself.
        kept = frozenset[str]()
        if next(store.walk(), None):
            kept = _find_needed()
            require_own_store(kept)
        removed, removed_bytes = store.sweep(kept, after_seconds=after_seconds)
        _set_moment(SWEPT, began_at)  # What is removed from now on waits for the next sweep.
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


def sweep_store_if_due() -> None:
    """Sweep the store if it is here and nobody is using it: daily, and soon after a version was removed.

    One that names no database, of an earlier version, becomes this one's before its next sweep is due.
    """
    claim_old_store()
    with contextlib.suppress(FileNotFoundError):
        if time.time() - _moment(SWEPT) < SWEEP_SECONDS and not _is_dropped():
            return
    try:
        sweep_store(waits=False)
    except BlockingIOError:
        return
    except ForeignStoreError:
        _set_moment(SWEPT, time.time())  # Or it would be tried, and logged, each minute.
        raise


def _is_dropped() -> bool:
    """Whether a version was removed since the last sweep, long enough ago for its blobs to go."""
    try:
        dropped_at = _moment(_DROPPED)
    except FileNotFoundError:
        return False
    if dropped_at > time.time() - FRESH_SECONDS:
        return False
    with contextlib.suppress(FileNotFoundError):
        return dropped_at > _moment(SWEPT)
    return True


def _moment(mark: str) -> float:
    return (get_store().root / mark).stat().st_mtime


def _set_moment(mark: str, moment: float) -> None:
    """Record when something happened. The kernel would stamp the file with its last tick, up to 10 ms ago."""
    path = get_store().root / mark
    path.touch()
    os.utime(path, (moment, moment))


@receiver(post_delete, sender=OverlayVersion)
def note_dropped(**_kwargs: Any) -> None:
    """Have the store swept soon, however the version was removed."""
    transaction.on_commit(_touch_dropped, robust=True)


def _touch_dropped() -> None:
    if get_store().root.exists():
        _set_moment(_DROPPED, time.time())


@receiver(post_delete, sender=Upload)
def remove_files_of_upload(instance: Upload, **_kwargs: Any) -> None:
    """Remove the bytes of an upload that is gone, whether with its overlay or with an account."""
    transaction.on_commit(partial(upload_files.remove_files, instance.pk), robust=True)
