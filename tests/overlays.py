"""Makes versions of overlays for tests, in a store of the test's own."""

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

from django.contrib.auth.models import User

from hostops.specs import ManifestFile
from servers.models import Overlay, OverlayVersion
from servers.store import get_store, make_version


def bring(
    overlay: Overlay,
    by: User,
    files: Mapping[str, bytes | str],
    executable: Collection[str] = (),
    **columns: Any,
) -> OverlayVersion:
    """Make a version of an overlay with exactly these files, by their paths."""
    listed, stored = [], []
    with get_store().incoming("test") as folder:
        for number, (path, content) in enumerate(files.items()):
            data = content.encode() if isinstance(content, str) else content
            place = folder / str(number)
            place.write_bytes(data)
            sha256 = hashlib.sha256(data).hexdigest()
            listed.append(ManifestFile(path, sha256, len(data), path in executable))
            stored.append((place, sha256))
        version = make_version(overlay, listed, stored=stored, by=by, **columns)
    overlay.refresh_from_db()
    return version


def manifest_bytes(version: OverlayVersion) -> int:
    """Return how much space the list of a version's files takes, which counts as they do."""
    return get_store().size_of(version.digest)


def lose(sha256: str) -> None:
    """Make the store lose a file."""
    get_store().path_of(sha256).unlink()
