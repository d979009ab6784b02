"""Makes a backup: everything in one archive, which is verified before it counts."""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import Error as AnyDatabaseError
from django.utils import timezone

from hostops import __version__
from hostops.errors import HostError
from hostops.layout import HostLayout
from l4d2site.backups import archives, database_dumps, host_files, keeping
from l4d2site.backups.archives import ArchiveError, Head
from l4d2site.backups.database_dumps import DumpError
from l4d2site.backups.keeping import LastBackup
from l4d2site.backups.passphrases import PassphraseError, read_passphrase
from servers.models import DesiredState, Server
from servers.store import find_incomplete_versions, get_store

FAULTS = (ArchiveError, DumpError, PassphraseError, HostError, keeping.BusyError, OSError)
"""The errors of a failed backup; their texts are for the panel's operators."""

_MOST_NOTED = 5
_LONGEST_NOTED = 200


@dataclass(frozen=True)
class Made:
    """A completed backup."""

    path: Path
    bytes: int
    members: int
    skipped: tuple[str, ...]
    incomplete: tuple[str, ...]
    """A text for each server's and each overlay's files of which some could not be opened."""
    is_sealed: bool
    removed: tuple[Path, ...]


def make_backup(
    *, with_host_files: bool = True, with_content: bool = True, say: Callable[[str], None]
) -> Made:
    """Make a backup in BACKUP_DIR, remove the oldest ones, and record the outcome. Raises one of `FAULTS`.

    The record has also failures that are none of these, such as faults of the code: they too leave no backup.
    If only the record fails, it says so: the outcome of the backup does not depend on that. While another
    backup is made, none is attempted, and so none recorded. Without the host's files, it is only recorded if it
    is made, and no other backup is recorded: each upgrade makes one, which must not hide what the nightly one
    lacks.
    """
    try:
        with keeping.only_one() as folder:
            made = _make(folder, with_host_files, with_content, say)
    except keeping.BusyError:
        raise
    except Exception as error:
        if with_host_files:
            _note(LastBackup(timezone.now().isoformat(), error=str(error) or repr(error)), say)
        raise
    if with_host_files or not _is_another_recorded():
        _note(
            LastBackup(
                timezone.now().isoformat(),
                str(made.path),
                made.bytes,
                made.is_sealed,
                with_host_files,
                has_content=with_content,
                trees_left_out=len(made.incomplete),
                incomplete=[_shorten(text) for text in made.incomplete[:_MOST_NOTED]],
            ),
            say,
        )
    return made


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST_NOTED else f"{text[: _LONGEST_NOTED - 1]}…"


def _is_another_recorded() -> bool:
    """Return whether the last record is of a backup with the host's files, or may be of one that failed."""
    last = keeping.read_last()
    return last is not None and (last.has_host_files or bool(last.error))


def _note(outcome: LastBackup, say: Callable[[str], None]) -> None:
    try:
        keeping.note(outcome)
    except OSError as error:  # The disk may be full.
        say(f"How this backup ended could not be recorded: {error}")


def _make(
    folder: Path, with_host_files: bool, with_content: bool, say: Callable[[str], None]
) -> Made:
    # First, as they may take the room that this one needs.
    removed = keeping.remove_unfinished(folder, say)
    passphrase = read_passphrase(settings.BACKUP_PASSPHRASE_FILE)
    path = keeping.new_path(
        folder, timezone.now(), settings.HOST_NAME, is_of_database=not with_host_files
    )
    partial = keeping.partial_path(path)
    try:
        with (
            _without_sweeps(with_content),
            keeping.explaining_a_full_disk(),
            archives.Writer(partial, passphrase) as writer,
        ):
            _fill(writer, with_host_files, with_content, bool(passphrase), say)
        say("Verifying it …")
        members = len(archives.verify(partial, passphrase))
        size = partial.stat().st_size
        partial.rename(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    # It is made: nothing that fails from here on changes that.
    try:
        _sync(folder)
    except OSError as error:
        say(f"A power cut may still undo the backup, as {folder} was not synced: {error}.")
    try:
        removed += keeping.remove_old(
            folder,
            path,
            keep=settings.BACKUP_KEEP,
            keep_bytes=settings.BACKUP_KEEP_BYTES,
            say=say,
        )
    except OSError as error:
        say(f"Old backups in {folder} could not be removed: {error}.")
    written = writer.written
    return Made(
        path,
        size,
        members,
        tuple(written.skipped),
        tuple(written.incomplete),
        bool(passphrase),
        tuple(removed),
    )


@contextlib.contextmanager
def _without_sweeps(with_content: bool) -> Iterator[None]:
    """Keep sweeps from removing what the database references until it is in the archive."""
    store = get_store()
    with store.adding() if with_content and store.root.exists() else contextlib.nullcontext():
        yield


def _fill(
    writer: archives.Writer,
    with_host_files: bool,
    with_content: bool,
    is_sealed: bool,
    say: Callable[[str], None],
) -> None:
    layout = HostLayout(settings.HOST_ROOT)
    head = Head(
        database_dumps.engine(),
        __version__,
        settings.HOST_NAME,
        timezone.now().isoformat(),
        with_host_files,
        has_content=with_content,
    )
    writer.add_bytes(archives.HEAD, archives.head_as_bytes(head))
    if is_sealed:
        writer.add_bytes(archives.KEYS, ",".join(settings.SECRETS_KEYS).encode())
    # Before the files: then rows may reference missing files, but there are no files that no row knows.
    with database_dumps.dump_folder() as folder:
        dump = folder / "database"
        say("Copying the database …")
        database_dumps.dump(dump)
        writer.add_file(archives.DATABASE, dump)
    if with_host_files:
        say("Adding what servers wrote and the overlays …")
        for place in host_files.places(layout):
            writer.add_tree(layout.root, place, say)
        writer.written.incomplete += [
            f"{layout.instances_dir / name} is not there, although {name} was started before and is to run. If "
            "that is on another disk, mount it."
            for name in _list_set_up()
            if not os.path.lexists(layout.instances_dir / name)
        ]
    if with_content:
        say("Adding the store of overlays …")
        writer.add_blobs(get_store())
        with contextlib.suppress(AnyDatabaseError):  # The schema may be older than this version's.
            writer.written.incomplete += find_incomplete_versions()


def _list_set_up() -> list[str]:
    """Return the servers of this host that are to run, and have been started before, by name."""
    here = Server.objects.filter(host__name=settings.HOST_NAME, desired_state=DesiredState.RUNNING)
    with contextlib.suppress(AnyDatabaseError):  # The schema may be older than this version's.
        names = here.exclude(config_chain_at=None).order_by("name").values_list("name", flat=True)
        return list(names)
    return []


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
