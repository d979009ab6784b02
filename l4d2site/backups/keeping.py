"""The folder of the backups: their names, how many are kept, and the outcome of the last one."""

import errno
import fcntl
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from jobs.database import is_shared


class BusyError(Exception):
    """Another process makes a backup, or puts one back; the text says so."""


ENDING = ".saferoom-backup"
_PARTIAL = ".partial"
_OF_DATABASE = ".database"
"""In the name of a backup of the database alone. No host's name has a dot."""
_DATE = re.compile(r"\d{8}T\d{6}Z")
LATE = timedelta(days=2)
"""deploy/ sets up one backup a day: after this long without one, something prevents them."""


@dataclass(frozen=True)
class LastBackup:
    """The outcome of the last backup with the host's files, for the panel's operators.

    Of the database alone if there was no other one yet.
    """

    finished_at: str
    """As ISO 8601."""
    path: str = ""
    bytes: int = 0
    is_sealed: bool = False
    has_host_files: bool = False
    error: str = ""
    has_content: bool = False
    trees_left_out: int = 0
    """Of how many servers and overlays it lacks files, because they could not be opened."""
    incomplete: Sequence[str] = ()
    """For the first of these: what it lacks, and why."""

    @property
    def at(self) -> datetime:
        """When it ended."""
        return datetime.fromisoformat(self.finished_at)

    @property
    def fault(self) -> str:
        """What is wrong with it, in a sentence; empty if nothing is."""
        if self.error:
            return f"The last backup failed: {self.error}"
        if timezone.now() - self.at > LATE:
            return f"The last backup is of {self.at:%Y-%m-%d}: systemctl status saferoom-backup.timer says why."
        if self.trees_left_out:
            texts = ["The last backup lacks files.", *self.incomplete]
            if more := self.trees_left_out - len(self.incomplete):
                texts.append(f"Servers and overlays that are not named here: {more}.")
            return " ".join(texts)
        return ""


def make_folder() -> Path:
    """Make BACKUP_DIR if it is not there, and return it. Raises `OSError`, whose text says what to do."""
    folder: Path = settings.BACKUP_DIR
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"The folder {folder} cannot be made: {error.strerror}. Make it, and give it to the account that "
            "runs this, or set BACKUP_DIR to another."
        ) from error
    return folder


@contextmanager
def only_one() -> Iterator[Path]:
    """Yield BACKUP_DIR, where nobody else makes, removes or restores a backup during the block.

    Raises `BusyError` if somebody does. The folder itself is locked: a file in it could belong to another
    account. If the process dies, the kernel unlocks it.
    """
    folder = make_folder()
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(
                f"Another backup is being made in {folder}, or put back. Wait until that is done."
            ) from error
        yield folder
    finally:
        os.close(descriptor)


@contextmanager
def explaining_a_full_disk() -> Iterator[None]:
    """Name BACKUP_DIR if there was no room for what the block writes there: the system's own error does not."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError(
            f"There is no room in {settings.BACKUP_DIR}. Free some, or set BACKUP_DIR to another folder."
        ) from error


def new_path(folder: Path, now: datetime, host: str, *, is_of_database: bool = False) -> Path:
    """Return where to put a backup made now: of the next free second. Names sort by time.

    `is_of_database` says that it has the database alone.
    """
    kind = _OF_DATABASE if is_of_database else ""
    while (path := folder / f"{now:%Y%m%dT%H%M%SZ}-{host}{kind}{ENDING}").exists():
        now += timedelta(seconds=1)
    return path


def _is_of_database(path: Path) -> bool:
    return path.name.endswith(f"{_OF_DATABASE}{ENDING}")


def partial_path(path: Path) -> Path:
    """Return the path of a backup while it is being written."""
    return path.with_name(f".{path.name}{_PARTIAL}")


def remove_unfinished(folder: Path, say: Callable[[str], None]) -> list[Path]:
    """Remove what backups that were killed have left; return that, and tell what could not be removed.

    The caller is in `only_one`: otherwise one of them could be another process's.
    """
    return _remove(folder.glob(f".*{ENDING}{_PARTIAL}"), say)


def remove_old(
    folder: Path, made: Path, *, keep: int, keep_bytes: int, say: Callable[[str], None]
) -> list[Path]:
    """Remove the oldest backups of the same kind as `made`, beyond this number and this total size.

    Those of the database alone are one kind: each upgrade makes one, and they must not cost the ones that have
    everything. So their sizes do not count for these, while the sizes of these count for them.

    The one that was just `made` stays, whatever its size, and counts as the newest. One with a later date was
    made while a clock was ahead, and counts as the oldest: otherwise each new one would cost the one before.
    What a person has given another name counts as newer than what has its date. Returns what was removed, and
    tells what could not be.
    """
    old: list[Path] = []
    kept: list[Path] = []

    def age_key(path: Path) -> tuple[bool, bool, Path]:
        is_ahead = _DATE.match(path.name) is not None and path.name[:16] > made.name[:16]
        return path == made, not is_ahead, path

    sizes: dict[Path, int] = {}
    for path in folder.glob(f"*{ENDING}"):
        try:
            status = path.stat()
        except OSError as error:
            say(f"{path} is not counted among the backups: {error.strerror}.")
            continue
        if stat.S_ISREG(status.st_mode):
            sizes[path] = status.st_size
    alike = [path for path in sizes if _is_of_database(path) == _is_of_database(made)]
    total = sum(sizes.values()) - sum(sizes[path] for path in alike) if _is_of_database(made) else 0
    for path in sorted(alike, key=age_key, reverse=True):
        total += sizes[path]
        if kept and (len(kept) >= keep or total > keep_bytes):
            old.append(path)
        else:
            kept.append(path)
    return _remove(old, say)


def _remove(paths: Iterable[Path], say: Callable[[str], None]) -> list[Path]:
    removed = []
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            say(f"{path} could not be removed: {error.strerror}.")
        else:
            removed.append(path)
    return removed


def note(last: LastBackup) -> None:
    """Record a backup's outcome where the web process reads it."""
    path = _note_path()
    temporary = path.with_name(f".{path.name}.new")
    # Without what is as usual: an earlier version, which may be taken back, does not know all of it.
    unusual = {name: value for name, value in asdict(last).items() if value}
    # A game may give its files names that are no text, which no page could show.
    temporary.write_bytes(json.dumps(unusual, ensure_ascii=False).encode("utf-8", "replace"))
    temporary.chmod(0o640 if is_shared(path.parent) else 0o600)
    temporary.replace(path)


def read_last() -> LastBackup | None:
    """Return the last backup's outcome; None if there was none, or it cannot be read."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        noted = json.loads(_note_path().read_text(encoding="utf-8"))
        # A later version may say more.
        known = {column.name for column in fields(LastBackup)} & noted.keys()
        return LastBackup(**{name: noted[name] for name in known})
    return None


def free_bytes(folder: Path) -> int:
    """Return how many bytes are free on a folder's disk."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _note_path() -> Path:
    return settings.VAR_DIR / "last-backup.json"
