"""Unpacks archives from strangers, in a child process with limits, into numbered files.

Once it has read an archive, the child counts as hostile: what it reports is checked again here, and the files
are hashed here, because a store that finds files by their hashes would be poisoned by a wrong one.
"""

import contextlib
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hostops.callbacks import Callbacks
from hostops.content.archive_rules import ENCODINGS, Names, RefusedError, Sizes, show, to_path
from hostops.errors import CommandError, HostError
from hostops.linux import untrusted
from hostops.linux.files import make_dir
from hostops.linux.process import minimal_environment, run
from hostops.linux.untrusted import UntrustedFileError
from hostops.specs import UnpackedFile, UnpackLimits

READER_PATH = Path(__file__).with_name("unpack_reader.py")

_BLOCK_BYTES = 1024**2
_LINES_A_SECOND, _MORE_LINES = 10, 100
_UNPACKING = "Unpacking"
_CHECKING = "Checking files"


def unpack(
    archive: Path,
    name: str,
    into: Path,
    limits: UnpackLimits,
    callbacks: Callbacks,
    *,
    encoding: str = "",
) -> list[UnpackedFile]:
    """Unpack the file `archive`, which its owner calls `name`, into numbered files in the folder `into`.

    Zip, 7z, rar and tar are recognized by their first bytes. Any other file is a single entry, and an archive
    inside an archive stays as it is. `into` is created, or cleared of what an earlier try left. Nothing is
    written elsewhere, and after an exception nothing is left in it. `encoding`, such as gb18030, is that of
    names which do not say theirs.

    Raises HostError if the archive is faulty or the disk is full, and ValueError for an encoding that is not
    in ENCODINGS.
    """
    if encoding not in ("", *ENCODINGS):
        raise ValueError(f"{encoding!r} is no encoding of names: use {' or '.join(ENCODINGS)}.")
    callbacks.stage(_UNPACKING, 0)
    try:
        source = untrusted.open_file(archive.absolute(), archive.parent.absolute())
    except (FileNotFoundError, UntrustedFileError) as error:
        raise HostError(f"{show(name)} cannot be read: {error}. Upload it again.") from error
    try:
        with _emptied(into) as folder:
            told = _run_reader(source, name, folder, limits, callbacks, encoding)
            files = _check(told, folder, into, limits, os.fstat(source).st_size, callbacks)
    except RefusedError as error:
        raise HostError(f"{show(name)} was not unpacked: {error}") from error
    finally:
        os.close(source)
    callbacks.say(f"{show(name)}: {len(files):,} files, {sum(one.size for one in files):,} bytes.")
    return files


@contextlib.contextmanager
def _emptied(into: Path) -> Iterator[int]:
    """Keep `into` open for the block, empty when the block starts, and emptied after an exception."""
    make_dir(into)
    with untrusted.open_folder(into, into) as folder:
        _require_own(folder, into)
        _empty(folder)
        try:
            yield folder
        except BaseException:
            _empty(folder)
            raise


def _empty(folder: int) -> None:
    for name in os.listdir(folder):
        untrusted.remove_at(folder, name)


def _require_own(folder: int, into: Path) -> None:
    """Raise HostError if the folder contains anything that no earlier try can have left."""
    names = os.listdir(folder)
    if foreign := [name for name in names if not (name.isascii() and name.isdecimal())]:
        raise HostError(
            f"Nothing is unpacked into {into}, as it has what no unpacking leaves: {show(foreign[0])}. "
            "Name an empty folder."
        )


# --- The child ----------------------------------------------------------------------------------


@dataclass
class _Told:
    """What the child has reported: its files, in the order of their numbers, and how it ended."""

    limits: UnpackLimits
    archive_bytes: int
    callbacks: Callbacks
    files: list[tuple[str, int, bool]] = field(default_factory=list)
    refusal: str = ""
    is_done: bool = False
    is_disk_full: bool = False
    last_words: str = ""
    _percent: int = 0
    _lines: int = 0

    def take(self, stream: str, line: str) -> None:
        """Accept one line of output; HostError for one that the child as it was written never writes."""
        try:
            self._count_line(line)
            if stream == "stderr":
                self.last_words = line
            else:
                self._take(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise HostError(
                f"The program that unpacks said something unexpected: {show(line)}"
            ) from error

    def _count_line(self, line: str) -> None:
        self._lines += 1
        if self._lines > self.limits.entries + _LINES_A_SECOND * self.limits.seconds + _MORE_LINES:
            raise ValueError(line)

    def _take(self, said: dict[str, object]) -> None:
        match said:
            case {"read": int(read)}:
                percent = min(99, 100 * read // max(1, self.archive_bytes))
                if percent > self._percent:
                    self._percent = percent
                    self.callbacks.stage(_UNPACKING, percent)
            case {"path": str(path), "size": int(size), "is_executable": bool(is_executable)}:
                if len(self.files) >= self.limits.entries:
                    raise ValueError(said)
                self.files.append((path, size, is_executable))
            case {"refused": str(text)}:
                self.refusal = text[:1000]
            case {"full": True}:
                self.is_disk_full = True
            case {"done": True}:
                self.is_done = True
            case _:
                raise ValueError(said)


class _TooLongError(Exception):
    """The child has used up its time."""


def _run_reader(
    source: int, name: str, folder: int, limits: UnpackLimits, callbacks: Callbacks, encoding: str
) -> _Told:
    """Have the child unpack, and return its report that everything is there."""
    told = _Told(limits, os.fstat(source).st_size, callbacks)
    until = time.monotonic() + limits.seconds
    task = {"name": name, "encoding": encoding, "limits": asdict(limits)}

    def give_up() -> None:
        if time.monotonic() > until:
            raise _TooLongError

    try:
        run(
            [
                *(sys.executable, "-I", str(READER_PATH)),
                *(str(source), str(folder), str(os.getpid()), json.dumps(task)),
            ],
            # Without a locale, libarchive cannot handle names beyond ASCII.
            environment=minimal_environment(Path("/"), {"LC_ALL": "C.UTF-8"}),
            cwd=Path("/"),
            pass_fds=(source, folder),
            on_line=told.take,
            on_wait=give_up,
            cancel=callbacks.cancel,
            grace_seconds=0.0,
        )
    except _TooLongError:
        raise RefusedError(
            "it took longer than it may. Pack it again as a zip, or in several archives."
        ) from None
    except CommandError as error:
        raise _explain_death(error, told) from error
    _require_success(told, name)
    return told


def _require_success(told: _Told, name: str) -> None:
    """Raise what the child has refused or could not do; it has ended by itself."""
    if told.is_disk_full:
        raise HostError(
            f"{show(name)} was not unpacked because the disk has no room for it. Make room on that "
            "machine, and try again."
        )
    if told.refusal:
        raise RefusedError(told.refusal)
    if not told.is_done:
        raise HostError(
            "The program that unpacks ended without saying why. Try again; if that does not help, read the "
            "worker's log."
        )


def _explain_death(error: CommandError, told: _Told) -> Exception:
    if error.returncode == -signal.SIGXCPU or error.returncode == -signal.SIGKILL:
        return RefusedError(
            "unpacking it took more time or memory than is allowed. Pack it again as a zip, or in several "
            "archives."
        )
    if error.returncode < 0:
        name = signal.Signals(-error.returncode).name
        return RefusedError(
            f"the program that unpacks was killed by {name}, which an archive can be made to cause. Unpack "
            "it on your computer, and pack its files again."
        )
    return HostError(
        f"Archives cannot be unpacked here: {told.last_words or error} Run pip install -r requirements.txt, "
        "see that Debian's libarchive13 is there, and read the worker's log if that does not help."
    )


# --- What is believed ---------------------------------------------------------------------------


def _check(
    told: _Told,
    folder: int,
    into: Path,
    limits: UnpackLimits,
    archive_bytes: int,
    callbacks: Callbacks,
) -> list[UnpackedFile]:
    """Return the files with their hashes; everything that the child has reported about them must be true."""
    names, sizes = Names(limits), Sizes(archive_bytes, limits)
    files: list[UnpackedFile] = []
    total = sum(size for _, size, _ in told.files)
    callbacks.stage(_CHECKING, 0)
    for number, (path, size, is_executable) in enumerate(told.files, start=1):
        if not path or to_path(path, limits) != path:
            raise HostError(
                f"The program that unpacks named a path that is not allowed: {show(path)}"
            )
        names.add(path, is_folder=False)
        sizes.add(size)
        before = sizes.total_bytes - size
        digest = _hash(folder, str(number), size, before, total, callbacks)
        files.append(UnpackedFile(path, digest, size, into / str(number), is_executable))
    if sorted(os.listdir(folder)) != sorted(str(one + 1) for one in range(len(files))):
        raise HostError(f"There is more in {into} than was unpacked. Try again.")
    return files


def _hash(folder: int, name: str, size: int, before: int, total: int, callbacks: Callbacks) -> str:
    try:
        descriptor = untrusted.open_at(folder, name)
    except FileNotFoundError:
        raise HostError(f"The unpacked file {name} is gone. Try again.") from None
    digest = hashlib.sha256()
    done = 0
    percent = 100 * before // max(1, total)
    with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor
        if os.fstat(descriptor).st_nlink != 1:
            raise HostError(f"The unpacked file {name} has a second name. Try again.")
        while block := file.read(_BLOCK_BYTES):
            callbacks.cancel.raise_if_cancelled()
            digest.update(block)
            done += len(block)
            now = 100 * (before + done) // max(1, total)
            if now > percent:
                percent = now
                callbacks.stage(_CHECKING, min(99, percent))
    if done != size:
        raise HostError(
            f"The unpacked file {name} has {done:,} bytes instead of {size:,}. Try again."
        )
    return digest.hexdigest()
