"""Which accounts may read Saferoom's files: only its own; both, where two accounts share an SQLite database.

Every process creates files with umask 077. Two accounts share an SQLite database only in a folder of mode 2770,
which belongs to a group of both and passes that group on. There the files are 0660.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.db import connection
from django.db.backends.signals import connection_created
from django.dispatch import receiver

from jobs.database.sql import find_database_file

PRIVATE_FOLDER, SHARED_FOLDER = 0o700, 0o2770
PRIVATE_FILE, SHARED_FILE = 0o600, 0o660

_made_shared: set[Path] = set()


def look_at(path: Path) -> os.stat_result | None:
    """Return the status of what is at `path`; None if nothing is, or if this account may not look there.

    In the latter case Path.exists() raises, until Python 3.14.
    """
    try:
        return path.stat()
    except OSError:
        return None


def keep_private(folder: Path) -> None:
    """Make a folder private if there is one, unless it is shared or belongs to another account.

    The system check `saferoom.W001` reports what this cannot fix.
    """
    status = look_at(folder)
    if status is None or not stat.S_ISDIR(status.st_mode):
        return
    if status.st_mode & stat.S_ISGID or status.st_uid != os.geteuid():
        return
    if stat.S_IMODE(status.st_mode) & ~PRIVATE_FOLDER:
        folder.chmod(PRIVATE_FOLDER)


def is_shared(folder: Path) -> bool:
    """Return whether two accounts share a folder: its mode is 2770."""
    status = look_at(folder)
    return status is not None and stat.S_IMODE(status.st_mode) == SHARED_FOLDER


def database_files(database: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the existing files of an SQLite database that this account may look at, each with its status."""
    for ending in ("", "-wal", "-shm", "-turns"):
        path = database.with_name(database.name + ending)
        # SQLite removes the log when the last connection closes.
        if status := look_at(path):
            yield path, status


def new_file_mode(database: Path) -> int:
    """Return the mode for a new file beside a database."""
    return SHARED_FILE if is_shared(database.parent) else PRIVATE_FILE


def share_database_files(database: Path) -> None:
    """Give the files of a database in a shared folder the mode 0660.

    Only their owner can: files of the other account are left alone, and `saferoom.W002` reports them.
    """
    if not is_shared(database.parent):
        return
    for path, status in database_files(database):
        if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) != SHARED_FILE:
            with suppress(FileNotFoundError):
                path.chmod(SHARED_FILE)


@receiver(connection_created)
def share_new_database(**_: Any) -> None:
    """Share the database as soon as it exists. Once: SQLite gives later files the database's own mode."""
    database = find_database_file() if connection.vendor == "sqlite" else None
    if database is not None and database not in _made_shared:
        share_database_files(database)
        _made_shared.add(database)
