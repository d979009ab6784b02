"""The folder of the backups: their names, how many are kept, and how the last one went."""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from jobs.database import is_shared

ENDING = ".saferoom-backup"
_PARTIAL = ".partial"
LATE = timedelta(days=2)
"""A backup a day is what deploy/ sets up: without one for so long, something keeps it from being made."""


@dataclass(frozen=True)
class LastBackup:
    """How the last backup went, for who looks after the panel."""

    finished_at: str
    """As ISO 8601."""
    path: str = ""
    bytes: int = 0
    is_sealed: bool = False
    has_host_files: bool = False
    error: str = ""
    has_content: bool = False

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
        return ""


def new_name(now: datetime, host: str) -> str:
    """Return the name of a backup that is made now. Names sort by time."""
    return f"{now:%Y%m%dT%H%M%SZ}-{host}{ENDING}"


def list_backups(folder: Path) -> list[Path]:
    """Return the backups in a folder, the oldest first."""
    return sorted(path for path in folder.glob(f"*{ENDING}") if path.is_file())


def partial_path(path: Path) -> Path:
    """Return where a backup is while it is written."""
    return path.with_name(f".{path.name}{_PARTIAL}")


def remove_old(folder: Path, *, keep: int, keep_bytes: int) -> list[Path]:
    """Remove the oldest backups until so many are left that take so much, and what was never finished.

    The newest stays, whatever it takes. Returns what was removed.
    """
    removed = list(folder.glob(f".*{ENDING}{_PARTIAL}"))
    kept: list[Path] = []
    total = 0
    for path in reversed(list_backups(folder)):
        total += path.stat().st_size
        if kept and (len(kept) >= keep or total > keep_bytes):
            removed.append(path)
        else:
            kept.append(path)
    for path in removed:
        path.unlink(missing_ok=True)
    return removed


def note(last: LastBackup) -> None:
    """Write down how a backup went, where the web process reads it."""
    path = _note_path()
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps(asdict(last)), encoding="utf-8")
    temporary.chmod(0o640 if is_shared(path.parent) else 0o600)
    temporary.replace(path)


def read_last() -> LastBackup | None:
    """Return how the last backup went; None if there was none, or that cannot be read."""
    with suppress(OSError, ValueError, TypeError):
        return LastBackup(**json.loads(_note_path().read_text(encoding="utf-8")))
    return None


def free_bytes(folder: Path) -> int:
    """Return how much is free on the disk of a folder."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _note_path() -> Path:
    return settings.VAR_DIR / "last-backup.json"
