"""Writes and reads the archives: tar files whose last member lists all others with their digests."""

import contextlib
import gzip
import hashlib
import io
import json
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

from hostops.blobs import BlobFolder
from l4d2site.backups import host_files
from l4d2site.backups.sealing import SealedReader, SealError, SealingWriter, is_sealed

FORMAT = 1
HEAD = "backup.json"
DATABASE = "database"
KEYS = "secrets-keys"
HOST = "host/"
CONTENT = "content/"
SAME_CONTENT = "same-content.json"
DIGESTS = "digests.json"
_LEVEL = 3  # of gzip: output a fifth larger than at the default, three times as fast


class ArchiveError(Exception):
    """An archive is not what it should be; the text says what is wrong."""


@dataclass(frozen=True)
class Head:
    """An archive's description of itself, in its first member."""

    engine: str
    version: str
    host: str
    created_at: str
    has_host_files: bool
    format: int = FORMAT
    has_content: bool = False


@dataclass
class Written:
    """The content written to an archive."""

    digests: dict[str, str] = field(default_factory=dict)
    files: int = 0
    skipped: list[str] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    """For each tree that lacks something because it could not be opened: what, and why."""


class Writer:
    """Writes one archive; a context manager. Unless it ends normally, the file counts as truncated."""

    def __init__(self, path: Path, passphrase: str) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._file = open(descriptor, "wb")  # noqa: SIM115, PTH123 - closed by `__exit__`
        target: Any = self._file
        self._seal: SealingWriter | None = None
        if passphrase:
            self._seal = SealingWriter(self._file, passphrase)
            target = io.BufferedWriter(self._seal, 1024**2)
        self._buffer = target
        self._gzip = gzip.GzipFile(fileobj=target, mode="wb", compresslevel=_LEVEL, mtime=0)
        self._tar = tarfile.open(  # noqa: SIM115
            fileobj=self._gzip, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8"
        )
        self.written = Written()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._add(DIGESTS, json.dumps(self.written.digests).encode())
                self._tar.close()
                self._gzip.close()
                if self._seal is not None:
                    self._buffer.close()
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            # What is left in their buffers would be written when they are collected, to a closed file.
            for stream in (self._tar, self._gzip, self._buffer, self._file):
                with contextlib.suppress(OSError, ValueError):
                    stream.close()

    def add_bytes(self, name: str, content: bytes) -> None:
        """Add a member with this content."""
        self.written.digests[name] = hashlib.sha256(content).hexdigest()
        self._add(name, content)

    def add_file(self, name: str, path: Path) -> None:
        """Add a file that does not change in the meantime."""
        info = tarfile.TarInfo(name)
        info.size, info.mode = path.stat().st_size, 0o600
        with path.open("rb") as file:
            self._add_counted(info, file)

    def add_tree(self, root: Path, place: str, say: Callable[[str], object]) -> None:
        """Add a tree of the host, whatever its game does at the same time."""
        closed: list[str] = []
        listeners = host_files.Listeners(self.written.skipped.append, closed.append, say)
        for info, descriptor in host_files.entries(root, place, listeners):
            info.name = HOST + host_files.as_member(info.name)
            info.linkname = host_files.as_member(info.linkname)
            if descriptor is None:
                self.written.digests[info.name] = ""
                self._tar.addfile(info)
                continue
            with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
                self._add_counted(info, file)
            self.written.files += 1
        if closed:
            where = "/".join(Path(place).parts[:2])
            more = f" And {len(closed) - 1} more in {where}." if closed[1:] else ""
            self.written.incomplete.append(f"{closed[0]}{more}")

    def add_blobs(self, store: BlobFolder) -> int:
        """Add the panel's store, each file once, and return how many files it has.

        Files that the host's trees contain too are only referenced. The caller keeps sweeps away.
        """
        at_hand = {
            digest: name for name, digest in self.written.digests.items() if name.startswith(HOST)
        }
        same: dict[str, str] = {}
        count = 0
        for sha256, path in store.walk():
            count += 1
            if sha256 in at_hand:
                same[sha256] = at_hand[sha256]
            else:
                self.add_file(CONTENT + sha256, path)
                if self.written.digests[CONTENT + sha256] != sha256:
                    raise ArchiveError(
                        f"{path} is damaged: its bytes are not those it is named by. Upload its overlay's "
                        "files again, or put the file back from an older backup."
                    )
        self.add_bytes(SAME_CONTENT, json.dumps(same).encode())
        return count

    def _add(self, name: str, content: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(content), 0o600
        self._tar.addfile(info, io.BytesIO(content))

    def _add_counted(self, info: tarfile.TarInfo, file: BinaryIO) -> None:
        content = _Hashing(host_files.ExactFile(file, info.size))
        self._tar.addfile(info, cast("BinaryIO", content))
        self.written.digests[info.name] = content.digest


class _Hashing:
    """Reads from another file, and computes the digest of what was read."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._hash = hashlib.sha256()

    def read(self, count: int = -1) -> bytes:
        data: bytes = self._source.read(count)
        self._hash.update(data)
        return data

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


@contextlib.contextmanager
def members(
    path: Path, passphrase: str
) -> Iterator[Iterator[tuple[tarfile.TarInfo, BinaryIO | None]]]:
    """Hold an archive open for the block; yields its members in order. Read each before the next.

    Raises `ArchiveError` if it is damaged, truncated, or sealed with another passphrase.
    """
    with path.open("rb") as file:
        source: BinaryIO = file
        try:
            if is_sealed(path):
                if not passphrase:
                    raise ArchiveError(f"{path} is sealed: name the file with its passphrase.")
                source = cast(
                    "BinaryIO", io.BufferedReader(SealedReader(file, passphrase), 1024**2)
                )
            with (
                gzip.GzipFile(fileobj=source, mode="rb") as plain,
                tarfile.open(fileobj=plain, mode="r|", encoding="utf-8") as tar,
            ):
                yield (
                    (info, cast("BinaryIO | None", tar.extractfile(info) if info.isreg() else None))
                    for info in tar
                )
        except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, SealError) as error:
            raise ArchiveError(f"{path} cannot be read: {error}") from error


def read_head(path: Path, passphrase: str) -> tuple[Head, str]:
    """Return an archive's description of itself, and its keys, empty if it has none."""
    keys = ""
    head: Head | None = None
    with members(path, passphrase) as found:
        for info, content in found:
            if info.name == HEAD and content is not None:
                document = _parse(path, HEAD, content.read(64 * 1024))
                if document.get("format") != FORMAT:
                    raise ArchiveError(
                        f"{path} was written by another version: format {document.get('format')}."
                    )
                known = {column.name for column in fields(Head)}
                try:
                    # A later version may say more.
                    head = Head(**{name: document[name] for name in known & document.keys()})
                except TypeError as error:
                    raise _damaged(path, HEAD) from error
            elif info.name == KEYS and content is not None:
                # Whether they are what was written is what `verify` tells.
                keys = content.read(64 * 1024).decode(errors="replace")
            else:
                break
    if head is None:
        raise ArchiveError(f"{path} is no backup of Saferoom.")
    return head, keys


def verify(path: Path, passphrase: str) -> list[str]:
    """Read an entire archive, compare all digests, and return the members' names. Raises `ArchiveError`."""
    found_digests: dict[str, str] = {}
    wanted: dict[str, str] | None = None
    with members(path, passphrase) as found:
        for info, content in found:
            if info.name == DIGESTS and content is not None:
                wanted = _parse(path, DIGESTS, content.read())
                continue
            digest = hashlib.sha256()
            if content is not None:
                while data := content.read(1024**2):
                    digest.update(data)
            found_digests[info.name] = digest.hexdigest() if content is not None else ""
    if wanted is None:
        raise ArchiveError(f"{path} was cut off: its list of digests is missing.")
    if wanted != found_digests:
        different = sorted(
            name
            for name in wanted.keys() | found_digests.keys()
            if wanted.get(name) != found_digests.get(name)
        )
        raise _damaged(path, ", ".join(different[:3]))
    return [*wanted]


def _parse(path: Path, name: str, content: bytes) -> dict[str, Any]:
    """Return the JSON object in a member. Raises `ArchiveError`: it is read before the digests are compared."""
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(content.decode())
        if isinstance(document, dict):
            return document
    raise _damaged(path, name)


def _damaged(path: Path, what: str) -> ArchiveError:
    return ArchiveError(f"{path} is damaged: {what} is not what was written.")


def head_as_bytes(head: Head) -> bytes:
    """Return a head in the form it has in an archive."""
    return json.dumps(asdict(head), indent=2).encode()
