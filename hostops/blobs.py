"""Files kept by the SHA-256 of their bytes, each once: the panel's store, and the cache of a host.

    <root>/<first two digits>/<sha256>   a blob; it never changes
    <root>/incoming/<anything>           what is still being written; nobody takes it for a blob
    <root>/uploads/<number>/<token>      what browsers have sent so far: see `servers.store`
    <root>/store.lock                    held shared to add, exclusively to sweep

A blob appears under its name by one rename, once its bytes are on disk. So a process that dies at any point
leaves only complete blobs, and perhaps something in `incoming`, which `sweep` removes a day later; in the
panel's store `remove_left_behind` does so sooner.

Several accounts may add to one folder: what they write gets the root's group, if the root has the setgid bit.
New folders inherit that bit. The group's permissions come from a default ACL of the root, which an installed
panel has, because a unit with RestrictSUIDSGID could not set the bit itself. Without an ACL it is set here.
"""

import contextlib
import fcntl
import filecmp
import hashlib
import os
import re
import secrets
import stat
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from hostops.errors import HostError
from hostops.linux.files import remove_tree, sync_dir, sync_file_system
from hostops.manifests import SHA256

SWEEP_AFTER_SECONDS = 24 * 3600
"""How long a blob without a reference is kept: it may just have been added, its reference still to come."""

LEFT_AFTER_SECONDS = 3600
"""How old something must be that nobody holds locked: processes of the previous version locked nothing."""

_FOLDER_NAME = re.compile("[0-9a-f]{2}")
_INCOMING_MODE = 0o660
_FOLDER_MODE = 0o770


class BlobError(HostError):
    """A blob is missing, or its bytes do not have the expected hash."""


class BlobFolder:
    """A folder of blobs. It is created with the first blob."""

    def __init__(self, root: Path, *, file_mode: int = 0o660) -> None:
        self.root = root
        self._file_mode = file_mode

    @property
    def incoming_dir(self) -> Path:
        """Where files are written before they become blobs: on the same file system."""
        return self.root / "incoming"

    def path_of(self, sha256: str) -> Path:
        """Return the path of a blob, whether it exists or not. Raises ValueError for what is no hash."""
        if not SHA256.fullmatch(sha256):
            raise ValueError(f"{sha256[:80]!r} is no SHA-256.")
        return self.root / f"{sha256[:2]}/{sha256}"

    def __contains__(self, sha256: str) -> bool:
        return self.path_of(sha256).is_file()

    def find_missing(self, hashes: Iterable[str]) -> list[str]:
        """Return those of which there is no blob, each once."""
        return [sha256 for sha256 in dict.fromkeys(hashes) if sha256 not in self]

    def open(self, sha256: str) -> BinaryIO:
        """Open a blob for reading. Raises `BlobError` if it is missing."""
        try:
            return self.path_of(sha256).open("rb")
        except FileNotFoundError:
            raise BlobError(
                f"The file with the SHA-256 {sha256} is no longer in the store."
            ) from None

    def read(self, sha256: str, max_bytes: int) -> bytes:
        """Return the bytes of a blob. Raises `BlobError` if it has more, or is missing."""
        with self.open(sha256) as file:
            data = file.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise BlobError(f"The file {sha256} has more than {max_bytes:,} bytes.")
        return data

    def size_of(self, sha256: str) -> int:
        """Return how many bytes a blob has. Raises `BlobError` if it is missing."""
        with self.open(sha256) as file:
            return os.fstat(file.fileno()).st_size

    def make_folder(self, *names: str) -> Path:
        """Return a folder of the root that contains no blobs, open to all accounts that share the root."""
        self._make()
        folder = self.root
        for name in names:
            folder /= name
            _make_folder(folder)
        return folder

    @contextlib.contextmanager
    def adding(self) -> Iterator[None]:
        """Keep `sweep` away, from checking which blobs exist until it is recorded what they are needed for."""
        self._make()
        with self._locked(fcntl.LOCK_SH):
            yield

    @contextlib.contextmanager
    def incoming(self, purpose: str) -> Iterator[Path]:
        """Yield a new folder for writing files, on the store's own file system. It is removed at the end.

        It is locked as long as this process lives, so what a killed process left can be recognized.
        """
        self._make()
        folder = self.incoming_dir / f"{purpose}-{secrets.token_hex(8)}"
        _make_folder(folder)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield folder
        finally:
            remove_tree(folder)
            os.close(descriptor)

    def remove_left_behind(self) -> None:
        """Remove what killed processes have left in `incoming`, which may be as much as an archive unpacks to.

        For a store to which everybody adds only through `incoming`; all others are swept.
        """
        before = time.time() - LEFT_AFTER_SECONDS
        for path in self.incoming_dir.glob("*"):
            with contextlib.suppress(FileNotFoundError, BlockingIOError):
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if os.fstat(descriptor).st_mtime < before:
                        remove_tree(path)
                finally:
                    os.close(descriptor)

    def adopt(self, files: Iterable[tuple[Path, str]]) -> int:
        """Turn files with known hashes into blobs; return how many bytes are new.

        The files must be on the store's file system, preferably in a folder of `incoming`. They are moved,
        except those whose blob exists already. A damaged blob is replaced. Call it within `adding`.
        """
        new: dict[str, Path] = {}
        for path, sha256 in files:
            if sha256 not in new and not self._renew(sha256, path):
                new[sha256] = path
        if not new:
            return 0
        for path in new.values():
            # Only the owner of a file can change its mode.
            if stat.S_IMODE(path.stat().st_mode) != self._file_mode:
                path.chmod(self._file_mode)
        sync_file_system(self.root)
        added = 0
        for sha256, path in new.items():
            target = self.path_of(sha256)
            _make_folder(target.parent)
            added += path.stat().st_size
            path.rename(target)
        sync_file_system(self.root)
        return added

    def _renew(self, sha256: str, path: Path) -> bool:
        """Return whether there is a blob with the bytes of `path`; if so, `sweep` then treats it as new."""
        target = self.path_of(sha256)
        try:
            if not filecmp.cmp(path, target, shallow=False):
                return False
        except FileNotFoundError:
            if path.exists():
                return False
            # An earlier try has moved it there.
        os.utime(target)
        return True

    def add_bytes(self, data: bytes) -> str:
        """Store some bytes; return their hash. Call it within `adding`."""
        sha256 = hashlib.sha256(data).hexdigest()
        with self.incoming("bytes") as folder:
            path = folder / "0"
            path.write_bytes(data)
            self.adopt([(path, sha256)])
        return sha256

    def walk(self) -> Iterator[tuple[str, Path]]:
        """Yield every blob with its path, in the order of their hashes. Raises OSError if that is forbidden."""
        for folder in self._find_folders():
            for path in sorted(folder.iterdir()):
                if SHA256.fullmatch(path.name):
                    yield path.name, path

    def sweep(
        self, kept: Collection[str], *, after_seconds: float = SWEEP_AFTER_SECONDS
    ) -> tuple[int, int]:
        """Remove the blobs that are not `kept` and older than that, and what has been in `incoming` for a day.

        `kept` must be determined within `alone`. Returns how many files were removed, and their bytes.
        """
        kept, now = frozenset(kept), time.time()
        before = now - after_seconds
        removed = removed_bytes = 0
        for folder in self._find_folders():
            for path in folder.iterdir():
                status = path.lstat()
                if path.name in kept or status.st_mtime > before:
                    continue
                path.unlink()
                removed, removed_bytes = removed + 1, removed_bytes + status.st_size
        for path in self.incoming_dir.glob("*"):
            if path.lstat().st_mtime < now - SWEEP_AFTER_SECONDS:
                remove_tree(path)
        return removed, removed_bytes

    @contextlib.contextmanager
    def alone(self, *, waits: bool = True) -> Iterator[None]:
        """Keep everybody from adding. Raises BlockingIOError if somebody is adding and this is not to wait."""
        self._make()
        with self._locked(fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB):
            yield

    def _find_folders(self) -> list[Path]:
        """Return the folders with blobs, sorted; none if there is no store yet.

        Path.glob() would find none either in a root that this account may enter, but not read.
        """
        with contextlib.suppress(FileNotFoundError):
            names = sorted(os.listdir(self.root))  # noqa: PTH208 - names are wanted
            return [self.root / name for name in names if _FOLDER_NAME.fullmatch(name)]
        return []

    def _make(self) -> None:
        _make_folder(self.root)
        _make_folder(self.incoming_dir)

    @contextlib.contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.root / "store.lock", flags, _INCOMING_MODE)
        try:
            # Another account may have made it, with this mode.
            with contextlib.suppress(PermissionError):
                os.fchmod(descriptor, _INCOMING_MODE)
            fcntl.flock(descriptor, kind)
            yield
        finally:
            os.close(descriptor)


def _make_folder(path: Path) -> None:
    """Make a folder, open to the group of the store if several accounts share that."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        return
    mode = _FOLDER_MODE | path.parent.stat().st_mode & stat.S_ISGID
    if stat.S_IMODE(path.stat().st_mode) != mode:
        path.chmod(mode)
    sync_dir(path.parent)
