"""The folders in BACKUP_DIR that dumps are in while a backup is made or restored."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from l4d2site.backups import keeping

FOLDER_PREFIXES = (".dump-", ".restore-")
"""How the folders of dumps begin; of the second kind restores once made them."""
NEW_SECONDS = 60.0
"""How old a folder of a dump must be before it can be one that nobody holds: it is made before it is locked."""


@contextmanager
def dump_folder() -> Iterator[Path]:
    """Yield a folder in BACKUP_DIR for a dump, which is not sealed, and remove it after the block.

    First remove those that were left behind by a process that was killed.
    """
    backup_dir = keeping.make_folder()
    for prefix in FOLDER_PREFIXES:
        for path in backup_dir.glob(f"{prefix}*"):
            if _is_left_behind(path):
                shutil.rmtree(path, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=FOLDER_PREFIXES[0], dir=backup_dir) as name:
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield Path(name)
        finally:
            os.close(descriptor)


def _is_left_behind(path: Path) -> bool:
    """Return whether no process holds the lock of a dump's folder."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False  # Gone by now, or no such folder.
    try:
        if time.time() - os.fstat(descriptor).st_mtime < NEW_SECONDS:
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
