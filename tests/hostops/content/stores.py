"""A panel's store of overlays' files, filled as tests need it."""

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

from hostops.blobs import BlobFolder
from hostops.manifests import ManifestFile, write_manifest
from hostops.overlay_references import OverlayReference


def add_version(
    root: Path,
    name: str,
    number: int,
    files: Mapping[str, bytes],
    executable: Collection[str] = (),
    seeds: Mapping[str, bool] | None = None,
) -> str:
    """Put a version of an overlay into the store at `root`, and return its reference."""
    store = BlobFolder(root)
    with store.adding(), store.incoming("test") as folder:
        entries, stored = [], []
        for position, (path, content) in enumerate(files.items()):
            sha256 = hashlib.sha256(content).hexdigest()
            (folder / str(position)).write_bytes(content)
            stored.append((folder / str(position), sha256))
            entries.append(
                ManifestFile(
                    path, sha256, len(content), path in executable, (seeds or {}).get(path)
                )
            )
        store.adopt(stored)
        digest = store.add_bytes(write_manifest(entries))
    return str(OverlayReference(name, number, digest))
