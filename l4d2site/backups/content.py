"""Restores the panel's store of overlays: every file under its hash, after checking that hash."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from hostops.blobs import BlobFolder
from hostops.linux import untrusted
from l4d2site.backups.archives import HOST, ArchiveError
from l4d2site.backups.host_files import as_path

CHUNK_BYTES = 1024**2


class ContentReturn:
    """Collects the files of a store beside it, and at the end makes them blobs all at once."""

    def __init__(self, store: BlobFolder, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._files: list[tuple[Path, str]] = []

    @classmethod
    @contextlib.contextmanager
    def begin(cls, store: BlobFolder) -> Iterator["ContentReturn"]:
        """Yield an instance, and adopt the collected files if the block ends without an error."""
        with store.incoming("restore") as folder, store.adding():
            content_return = cls(store, folder)
            yield content_return
            store.adopt(content_return._files)

    def put(self, sha256: str, content: BinaryIO) -> None:
        """Take a file of the archive. Raises `ArchiveError` unless its bytes have that hash."""
        path = self._folder / str(len(self._files))
        digest = hashlib.sha256()
        with path.open("wb") as file:
            while data := content.read(CHUNK_BYTES):
                digest.update(data)
                file.write(data)
        if digest.hexdigest() != sha256:
            raise ArchiveError(f"A file of the store is not what its name says: {sha256}.")
        self._files.append((path, sha256))

    def put_same(self, same: BinaryIO, host_root: Path) -> None:
        """Take the files that are listed as identical to files of the host, which are restored by now."""
        names: Mapping[str, str] = json.load(same)
        for sha256, name in names.items():
            inside = as_path(name.removeprefix(HOST))
            parent, _slash, child = inside.rpartition("/")
            with untrusted.open_folder(host_root / parent, host_root) as folder:
                descriptor = untrusted.open_at(folder, child)
            with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
                self.put(sha256, file)
