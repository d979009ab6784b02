"""The child process that unpacks an archive made by strangers into numbered files.

    python -I unpack_reader.py ARCHIVE INTO PARENT JSON

ARCHIVE and INTO are numbers of open descriptors, of a file and of a folder. PARENT is the id of the process
without which this one ends. JSON has the archive's name, the encoding of names that do not say theirs, and
the limits. On stdout it writes lines of JSON: how much of the archive has been read, each file in the order
of its number, and at the end that everything is there, or why none of it is to be used. No name from the
archive ever reaches the file system.

The process limits its memory, its CPU time and the size of what it writes. Before it reads the archive it
gives up the network, other programs, other processes, and every file except those that it makes in INTO.
"""

import bz2
import contextlib
import ctypes
import errno
import gzip
import io
import json
import logging
import lzma
import os
import resource
import signal
import stat
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, BinaryIO

# Run by its path and isolated, so the package is not on its search path.
if not __package__:
    sys.path.append(__file__.rsplit("/", 3)[0])

# By its file name, because searching for it runs other programs, which not every account has on its path.
os.environ.setdefault("LIBARCHIVE", "libarchive.so.13")

from libarchive import ArchiveError, ffi
from libarchive.read import ArchiveRead, new_archive_read

from hostops.box import landlock, seccomp
from hostops.content import archive_headers
from hostops.content.archive_headers import Kind
from hostops.content.archive_rules import (
    ENCODINGS,
    Names,
    RefusedError,
    Sizes,
    show,
    to_path,
    too_many,
)
from hostops.content.archive_streams import (
    Bounded,
    Chained,
    Counted,
    Feed,
    Tailed,
    blocks_of,
    read_fully,
)
from hostops.linux.namespaces import call, drop_privileges, libc
from hostops.unpack_limits import UnpackLimits

_READ_BYTES = 64 * 1024
_OPEN_FILES = 64
_FILE_MODE = 0o640
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_NICENESS = 5
_SUFFIXES = (".gz", ".bz2", ".xz", ".zst")

Say = Callable[[dict[str, Any]], None]
"""Sends a message to the parent."""


def main(arguments: list[str]) -> int:
    """Unpack the archive that the command line names."""
    archive, into, parent = (int(one) for one in arguments[:3])
    task = json.loads(arguments[3])
    limits = UnpackLimits(**task["limits"])
    confine(into, parent, limits)
    try:
        unpack(archive, task["name"], into, limits, _say, task["encoding"])
        _say({"done": True})
    except RefusedError as error:
        _say({"refused": str(error)})
    except MemoryError:
        _say({"refused": _needs_memory(limits)})
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _say({"full": True})
    return 0


def _say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    if "path" not in what:
        sys.stdout.flush()


def confine(into: int, parent: int, limits: UnpackLimits) -> None:
    """Take from this process everything that unpacking does not need."""
    call("asking for a signal", libc.prctl, _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit("The program that has asked for this has ended.")
    os.nice(_NICENESS)  # Games run on the same cores.
    for what, most in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_CPU, int(limits.seconds) + 1),
        (resource.RLIMIT_FSIZE, limits.total_bytes),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        bounded = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (bounded, bounded))
    for encoding in ENCODINGS:
        "".encode(encoding)  # Its module cannot be loaded later.
    drop_privileges()
    landlock.allow_new_files_only(into)
    seccomp.refuse_calls(os.getpid(), seccomp.OF_NO_USE_TO_READERS)


def unpack(
    archive: int, name: str, into: int, limits: UnpackLimits, say: Say, encoding: str = ""
) -> None:
    """Unpack the content of the descriptor `archive` into numbered files in the folder `into`.

    Raises RefusedError for what must not be unpacked; whatever was written by then is useless.
    """
    with open(archive, "rb", buffering=0, closefd=False) as raw:
        file = io.BufferedReader(Counted(raw, lambda read: say({"read": read})), _READ_BYTES)
        kind = archive_headers.identify(file.read(archive_headers.HEAD_BYTES), name)
        file.seek(0)
        size = os.fstat(archive).st_size
        store = _Store(into, size, limits, say, encoding)
        _READ[kind](file, name, store)
    if not store.files:
        raise archive_headers.without_files()


# --- What is written ----------------------------------------------------------------------------


class _Store:
    """The numbered files, and the checks that one more has to pass."""

    def __init__(
        self, into: int, archive_bytes: int, limits: UnpackLimits, say: Say, encoding: str
    ) -> None:
        self.limits = limits
        self.files = 0
        self.stream_sizes = Sizes(archive_bytes, limits)
        self._into = into
        self._say = say
        self._encoding = encoding
        self._archive_bytes = archive_bytes
        self._names = Names(limits)
        self._written, self._declared = Sizes(archive_bytes, limits), Sizes(archive_bytes, limits)

    def declare(self, size: int) -> None:
        """Refuse an archive that declares more content than it may have, before anything is written."""
        Sizes(self._archive_bytes, self.limits).add(size)

    def decode(self, name: str | bytes | None) -> str:
        """Return an entry's name as text."""
        if isinstance(name, str):
            return name
        if name is None:
            raise RefusedError("a file in it has no name. Pack it again.")
        if self._encoding:
            with contextlib.suppress(UnicodeDecodeError):
                return name.decode(self._encoding)
        readings = ", or ".join(
            f"“{show(name.decode(one, 'replace'))}” as {one}" for one in ENCODINGS
        )
        raise RefusedError(
            f"it does not say which encoding its names are in: one of them reads {readings}. Say which it is, "
            "or pack it again with names in UTF-8."
        )

    def add_folder(self, name: str) -> None:
        """Accept a folder; nothing is written for it."""
        if path := to_path(name, self.limits):
            self._names.add(path, is_folder=True)

    def add(
        self, name: str, blocks: Iterable[bytes], size: int | None, *, is_executable: bool
    ) -> None:
        """Write a file; `size` is what the archive says it is, if it says so."""
        path = to_path(name, self.limits)
        if not path:
            raise RefusedError("a file in it has no name. Pack it again.")
        self._names.add(path, is_folder=False)
        if size is not None and size < 0:
            raise archive_headers.damaged(f"{show(path)} has a size that cannot be")
        self._declared.add(size or 0)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(str(self.files + 1), flags, _FILE_MODE, dir_fd=self._into)
        written = 0
        with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123 - a descriptor
            for block in blocks:
                self._written.add(len(block))
                written += len(block)
                self._require_room(descriptor, len(block))
                _write(file, block)
        if size is not None and size != written:
            raise archive_headers.damaged(f"{show(path)} has {written:,} bytes of {size:,}")
        self.files += 1
        self._say({"path": path, "size": written, "is_executable": is_executable})

    def _require_room(self, descriptor: int, more_bytes: int) -> None:
        """Treat the disk as full once only the reserve is free; others may be filling it at the same time."""
        if self.limits.min_free_bytes:
            disk = os.fstatvfs(descriptor)
            if disk.f_bavail * disk.f_frsize < self.limits.min_free_bytes + more_bytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _write(file: io.FileIO, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[file.write(view) or 0 :]


# --- What the formats are read by ---------------------------------------------------------------


def _read_zip(file: BinaryIO, _name: str, store: _Store) -> None:
    count, declared_bytes = archive_headers.check_zip(file, store.limits)
    if not count:
        raise archive_headers.without_files()
    store.declare(declared_bytes)
    _read_by_libarchive(file, "zip_seekable", store, count)


def _read_7z(file: BinaryIO, _name: str, store: _Store) -> None:
    archive_headers.check_7z(file)
    _read_by_libarchive(file, "7zip", store)


# libarchive does not check the checksum of an uncompressed file in a RAR.
def _read_rar4(file: BinaryIO, _name: str, store: _Store) -> None:
    checksums = archive_headers.check_rar4(file, store.limits)
    _read_by_libarchive(file, "rar", store, len(checksums), checksums)


def _read_rar5(file: BinaryIO, _name: str, store: _Store) -> None:
    checksums = archive_headers.check_rar5(file, store.limits)
    _read_by_libarchive(file, "rar5", store, len(checksums), checksums)


def _read_tar(file: BinaryIO, _name: str, store: _Store) -> None:
    stream = Tailed(file)
    _read_by_libarchive(stream, "tar", store)
    if any(stream.tail):
        raise archive_headers.damaged("its last block is missing, or something follows it")


def _read_plain(file: BinaryIO, name: str, store: _Store) -> None:
    store.add(name, blocks_of(file), None, is_executable=False)


def _read_compressed(
    open_stream: Callable[[BinaryIO], Any],
) -> Callable[[BinaryIO, str, _Store], None]:
    """Return a function that reads a tar, or a single file, that is compressed as a whole."""

    def read(file: BinaryIO, name: str, store: _Store) -> None:
        bounded = Bounded(open_stream(file), store.stream_sizes)
        try:
            head = read_fully(bounded, archive_headers.HEAD_BYTES)
            stream = io.BufferedReader(Chained(head, bounded), _READ_BYTES)
            if archive_headers.is_tar(head):
                _read_tar(stream, name, store)
            else:
                inner = next(
                    (name[: -len(one)] for one in _SUFFIXES if name.lower().endswith(one)), ""
                )
                if not inner or inner.lower().endswith(".tar"):
                    raise archive_headers.damaged("what is compressed in it is no tar")
                _read_plain(stream, inner, store)
        except (EOFError, zlib.error, lzma.LZMAError) as error:
            raise archive_headers.damaged(str(error)) from error
        except OSError as error:
            if error.errno is not None:
                raise
            raise archive_headers.damaged(str(error)) from error

    return read


class _Unzstd(io.RawIOBase):
    """Decompresses zstd with libarchive: Python itself can only from 3.14 on."""

    def __init__(self, file: BinaryIO) -> None:
        self._blocks = self._unpack(file)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = next(self._blocks, b"")
        length = min(len(buffer), len(self._rest))
        buffer[:length] = self._rest[:length]
        self._rest = self._rest[length:]
        return length

    def _unpack(self, file: BinaryIO) -> Iterator[bytes]:
        with _open_by_libarchive(Feed(file), "raw", "zstd") as reader:
            for entry in reader:
                yield from entry.get_blocks(_READ_BYTES)


_READ: dict[Kind, Callable[[BinaryIO, str, _Store], None]] = {
    Kind.ZIP: _read_zip,
    Kind.SEVEN_ZIP: _read_7z,
    Kind.RAR4: _read_rar4,
    Kind.RAR5: _read_rar5,
    Kind.TAR: _read_tar,
    Kind.PLAIN: _read_plain,
    # libarchive's own filter for gzip ignores the checksum, and no filter reads past the end of a tar.
    Kind.GZIP: _read_compressed(lambda file: gzip.GzipFile(fileobj=file)),
    Kind.BZIP2: _read_compressed(bz2.BZ2File),
    Kind.XZ: _read_compressed(partial(lzma.LZMAFile, format=lzma.FORMAT_XZ)),
    Kind.ZSTD: _read_compressed(_Unzstd),
}


# --- By libarchive ------------------------------------------------------------------------------

_set_options = ffi.ffi(
    "read_set_options", [ffi.c_archive_p, ctypes.c_char_p], ctypes.c_int, ffi.check_int
)
# Two tars one after the other are meant to be one. With this option libarchive reads to the end, where a
# checksum may be; otherwise it stops where the first tar ends.
_TAR_OPTIONS = b"tar:read_concatenated_archives"


class _WarnedError(Exception):
    """libarchive continues in spite of a problem, such as a wrong checksum."""


class _RaiseWarnings(logging.Handler):
    """Turns libarchive's warnings into errors; libarchive-c only logs them, and passes the wrong data on."""

    def emit(self, record: logging.LogRecord) -> None:
        raise _WarnedError(record.getMessage())


logging.getLogger("libarchive").addHandler(_RaiseWarnings(logging.WARNING))


def _read_by_libarchive(
    file: Any,
    format_name: str,
    store: _Store,
    count: int | None = None,
    checksums: Sequence[int | None] = (),
) -> None:
    """Store the content of an archive of one format; `count` is how many entries it names, if known.

    `checksums` are those of the entries, for formats in which libarchive does not check them.
    """
    if file.seekable():
        file.seek(0)
    found = 0
    options = _TAR_OPTIONS if format_name == "tar" else b""
    with _open_by_libarchive(Feed(file), format_name, "none", options) as reader:
        for entry in reader:
            checksum = checksums[found] if found < len(checksums) else None
            found += 1
            if found > store.limits.entries:  # Or an archive of mere names never ends.
                raise too_many(store.limits)
            _store_entry(entry, store, checksum)
    if count is not None and count != found:
        raise archive_headers.damaged(f"{found:,} entries can be read of {count:,}")


@contextlib.contextmanager
def _open_by_libarchive(
    feed: Feed, format_name: str, filter_name: str, options: bytes = b""
) -> Iterator[ArchiveRead]:
    """Do what libarchive.stream_reader does, but with options, and raise the stream's own errors."""
    buffer = ctypes.create_string_buffer(_READ_BYTES)

    def read(_archive: int, _data: int, place: Any) -> int:
        place[0] = ctypes.addressof(buffer)
        return feed.readinto(memoryview(buffer).cast("B"))

    def seek(_archive: int, _data: int, offset: int, whence: int) -> int:
        return feed.seek(offset, whence)

    callbacks = (ffi.READ_CALLBACK(read), ffi.SEEK_CALLBACK(seek))
    with _told(feed), new_archive_read(format_name, filter_name) as archive:
        if options:
            _set_options(archive, options)
        if feed.seekable():
            ffi.read_set_seek_callback(archive, callbacks[1])
        ffi.read_open(archive, None, ffi.NO_OPEN_CB, callbacks[0], ffi.NO_CLOSE_CB)
        yield ArchiveRead(archive)


def _store_entry(entry: Any, store: _Store, checksum: int | None) -> None:
    name = store.decode(entry.pathname)
    if entry.islnk or entry.issym:
        raise archive_headers.a_link(name)
    if entry.isdir:
        store.add_folder(name)
    elif entry.isfile or not stat.S_IFMT(entry.mode):  # Some archives do not say what is a file.
        is_executable = bool(entry.mode & (stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH))
        blocks = entry.get_blocks(_READ_BYTES)
        if checksum is not None:
            blocks = _checked(blocks, checksum, name)
        store.add(name, blocks, entry.size, is_executable=is_executable)
    else:
        raise archive_headers.a_device(name)


def _checked(blocks: Iterable[bytes], checksum: int, name: str) -> Iterator[bytes]:
    found = 0
    for block in blocks:
        found = zlib.crc32(block, found)
        yield block
    if found != checksum:
        raise archive_headers.damaged(f"{show(name)} has another checksum")


@contextlib.contextmanager
def _told(feed: Feed) -> Iterator[None]:
    """Raise libarchive's errors as RefusedError, unless `feed` had an error, which comes first."""
    try:
        yield
    except (ArchiveError, _WarnedError) as error:
        if feed.failure is not None:
            raise feed.failure from None
        raise _explain(error) from error
    if feed.failure is not None:
        raise feed.failure


def _explain(error: Exception) -> Exception:
    said = error.msg if isinstance(error, ArchiveError) else str(error)
    text = (
        said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    ) or "it cannot be read"
    lower = text.lower()
    if "encrypt" in lower or "crypto codec" in lower or "passphrase" in lower:
        return archive_headers.encrypted()
    if "converted" in lower:
        return RefusedError(
            "names in it are not in the encoding it claims. Pack it again, with names in UTF-8."
        )
    if "allocate" in lower or "memory" in lower or getattr(error, "errno", None) == errno.ENOMEM:
        return MemoryError()
    if any(word in lower for word in ("unsupported", "not supported", "codec")):
        return RefusedError(
            f"it is packed in a way that cannot be unpacked here ({show(text)}). Pack its files as one "
            "ordinary zip or 7z."
        )
    return archive_headers.damaged(show(text))


def _needs_memory(limits: UnpackLimits) -> str:
    return (
        f"unpacking it takes more than the {limits.memory_bytes // 1024**2:,} MiB of memory allowed. Pack "
        "it again as a zip, or with a smaller dictionary."
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
