"""Restores a backup: the database, the servers' own files, and jobs that start the servers again.

Nobody is signed in afterwards, no link from before works, and no job from before runs: some had been ended
since the backup was made. The database is restored and cleaned in one step, so nobody can read it uncleaned.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.db import Error as AnyDatabaseError
from django.db import connection, transaction
from django.utils.translation import gettext as _

from hostops.errors import HostError
from hostops.layout import HostLayout, InstanceLayout
from jobs.models import DeferredAction, Operation, Worker
from jobs.queue import cancel_restored, end_deferral, enqueue
from l4d2site.accounts.restored_backups import end_what_was_open, log_restored
from l4d2site.backups import archives, database_dumps, host_files, keeping
from l4d2site.backups.archives import ArchiveError
from l4d2site.backups.content import ContentReturn
from servers.models import DesiredState, Host, Server
from servers.store import claim_store, get_store, identify_database


class RestoreRefused(Exception):  # noqa: N818 - nothing went wrong: it was not attempted
    """Existing data would be lost, or the backup does not fit; the text says what to do."""


class RestoreUnfinished(Exception):  # noqa: N818 - what failed is in it
    """The database is put back, or may be, but not all that follows; the text says what to do."""


@dataclass(frozen=True)
class Restored:
    """What a restored backup has left to do."""

    started: list[str]
    """The servers that will be started again."""
    cancelled_jobs: int
    """How many jobs waited or ran when it was made."""


def restore(path: Path, passphrase: str, *, replaces: bool, say: Callable[[str], None]) -> Restored:
    """Restore the backup at `path`.

    If it raises `RestoreUnfinished`, the database is put back, or may be; with `RestoreRefused`, `BusyError`,
    `DumpError`, `ArchiveError` and `KeyboardInterrupt`, nothing is changed.
    """
    progress = _Progress(replaces)
    try:
        with keeping.only_one():  # A backup that is made now would have half of it.
            return _restore(path, passphrase, progress, say)
    except KeyboardInterrupt as error:
        if not progress.may_be_replaced:
            raise
        raise RestoreUnfinished(
            "This was interrupted just as the database was put back: it may be as it was, or as in the backup. "
            "Do this again with --replace."
        ) from error


@dataclass
class _Progress:
    """How far a restore has come."""

    replaces: bool
    may_be_replaced: bool = False


def _restore(
    path: Path, passphrase: str, progress: _Progress, say: Callable[[str], None]
) -> Restored:
    head, keys = archives.read_head(path, passphrase)
    if head.engine != database_dumps.engine():
        raise RestoreRefused(
            f"The backup is of a database of {head.engine}, and DATABASE_URL names one of "
            f"{database_dumps.engine()}. Set the panel up with the same kind first."
        )
    if missing := set(filter(None, keys.split(","))) - set(settings.SECRETS_KEYS):
        raise RestoreRefused(
            f"{len(missing)} of the backup's keys are not in SECRETS_KEYS, so that passwords of servers could "
            "not be read. With --print-keys this prints the line for the settings of the panel and the workers."
        )
    say("Verifying the backup …")
    names = archives.verify(path, passphrase)
    layout = HostLayout(settings.HOST_ROOT)
    _require_empty(layout, replaces=progress.replaces)
    if head.has_host_files:
        _make_host_root(layout)
        _require_free(layout, names)
    cancelled_jobs = None
    replaced = _identify_replaced()
    try:
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(database_dumps.dump_folder())
            content_return = (
                stack.enter_context(ContentReturn.begin(get_store())) if head.has_content else None
            )
            dump = folder / "database"
            for info, content in stack.enter_context(archives.members(path, passphrase)):
                if info.name == archives.DATABASE and content is not None:
                    with keeping.explaining_a_full_disk(), dump.open("wb") as file:
                        shutil.copyfileobj(content, file, 1024**2)
                    say("Putting the database back …")
                    cancelled_jobs = _restore_database(dump, progress, say)
                    say("Putting back what servers wrote and the overlays …")
                elif info.name.startswith(archives.HOST):
                    info.name = info.name.removeprefix(archives.HOST)
                    host_files.put(layout.root, info, content)
                elif content_return is None or content is None:
                    continue
                elif info.name.startswith(archives.CONTENT):
                    content_return.put(info.name.removeprefix(archives.CONTENT), content)
                elif info.name == archives.SAME_CONTENT:
                    content_return.put_same(content, layout.root)
    except (ArchiveError, HostError, OSError, KeyboardInterrupt) as error:
        if cancelled_jobs is None:
            raise
        raise RestoreUnfinished(
            f"The database is put back, but not every file: {_describe(error)} To put all of it "
            f"back, move instances/ and overlays/ out of {layout.root}, and do this again with --replace."
        ) from error
    try:
        if not claim_store(instead_of=replaced):
            say(
                f"The store {get_store().root} belongs to another database, so nothing is removed from it. If "
                "it is this panel's, run `manage.py prunecontent --claim`."
            )
    except OSError as error:
        say(f"The store of overlays could not be marked as this database's: {error}.")
    try:
        return Restored(_start_again(head.host), cancelled_jobs or 0)
    except (AnyDatabaseError, KeyboardInterrupt) as error:
        raise RestoreUnfinished(
            "The backup is put back, but no server that was running is started again: "
            f"{_describe(error)} Install the game on the host's page, then start each server on its own."
        ) from error


def _identify_replaced() -> str:
    """Return which database is to be replaced; empty if it is another program's."""
    with contextlib.suppress(AnyDatabaseError):
        return identify_database()
    return ""


def _describe(error: BaseException) -> str:
    """Return what happened, as a sentence."""
    reason = "this was interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
    return f"{' '.join(reason.split()).rstrip('.')}."


def _restore_database(dump: Path, progress: _Progress, say: Callable[[str], None]) -> int:
    """Replace the database with what is in the file, cleaned; return how many of its jobs were cancelled."""
    database_dumps.verify(dump)
    with database_dumps.replacing(dump, keeps_others=not progress.replaces, say=say):
        _tell_newer(say)
        # Its schema may be older than this version's.
        call_command("migrate", verbosity=0)
        end_what_was_open()
        for action in DeferredAction.objects.filter(ended_at=None).select_related("server"):
            end_deferral(
                action, _("It was not done, because the panel was restored from a backup.")
            )
        cancelled_jobs = cancel_restored()
        progress.may_be_replaced = True
    log_restored()
    return cancelled_jobs


def _tell_newer(say: Callable[[str], None]) -> None:
    """Tell if a newer version has made the schema: after a switch back this one runs with it too."""
    if unknown := sorted(database_dumps.list_unknown_migrations()):
        names = ", ".join(map(".".join, unknown[:3]))
        say(
            f"The backup is of a newer version of Saferoom, whose database this one does not fully know "
            f"({names}): upgrade to that version soon."
        )


def _require_empty(layout: HostLayout, *, replaces: bool) -> None:
    if _has_worker():
        raise RestoreRefused(
            "A worker is running: stop it, and the web process, before a backup is put back."
        )
    if _has_files(layout):
        raise RestoreRefused(
            f"{layout.root} has files of servers or overlays already, which would be mixed with those of the "
            "backup. Move instances/ and overlays/ away first."
        )
    if replaces:
        return
    lost = database_dumps.list_replaced()
    if lost and not (Server._meta.db_table in lost and database_dumps.is_panels()):
        raise RestoreRefused(
            f"The database has tables of another program, which would be lost: {', '.join(lost[:3])} … Is "
            "DATABASE_URL right? --replace does it all the same."
        )
    if lost and Server.objects.exists():
        raise RestoreRefused(
            "The panel has servers already, which would be lost. --replace does it all the same."
        )


def _has_files(layout: HostLayout) -> bool:
    """Return whether there are files of servers or overlays. Raises `RestoreRefused` if that cannot be seen."""
    try:
        instances = _list_folder(layout.instances_dir)
        own = [*(path / "upper" for path in instances), *_list_folder(layout.overlays_dir)]
        # Where overlays cannot be mounted, any copy of the game, even an empty one, would be used in place of
        # the backup's files.
        copies = (InstanceLayout(layout.root, path.name).tree_dir for path in instances)
        return any(map(_list_folder, own)) or any(map(os.path.lexists, copies))
    except OSError as error:
        raise RestoreRefused(
            f"{error.filename} cannot be looked into: {error.strerror}. Give it to the account that runs "
            "this, or move it away."
        ) from error


def _list_folder(path: Path) -> list[Path]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        # Path.glob passes over what may not be opened.
        return [child for child in path.iterdir() if child.name != host_files.OF_THE_DISK]
    return []


def _make_host_root(layout: HostLayout) -> None:
    """Make HOST_ROOT if it is not there. Raises `RestoreRefused` if no files can be put there."""
    try:
        layout.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RestoreRefused(
            f"The folder {layout.root} cannot be made: {error.strerror}. Make it, and give it to the account "
            "that runs this, or set HOST_ROOT to another."
        ) from error
    for folder in (layout.instances_dir, layout.overlays_dir):
        if folder.is_symlink() or (os.access(folder, os.F_OK) and not folder.is_dir()):
            raise RestoreRefused(
                f"{folder} is not a folder, and nothing is put back through a link. Move it away first."
            )
    for folder in (layout.root, layout.instances_dir, layout.overlays_dir):
        if os.access(folder, os.F_OK) and not os.access(folder, os.W_OK | os.X_OK):
            raise RestoreRefused(
                f"Nothing can be written to {folder}. Give it to the account that runs this, and see "
                "whether its disk is read-only."
            )


def _require_free(layout: HostLayout, names: Iterable[str]) -> None:
    """Raise `RestoreRefused` if a server or an overlay of the backup could not be put where it belongs."""
    inside = {name.removeprefix(archives.HOST) for name in names if name.startswith(archives.HOST)}
    parts = [name.split("/") for name in inside]
    for place in sorted({"/".join(part[:depth]) for part in parts for depth in (2, 3)}):
        path = layout.root / host_files.as_path(place)
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise RestoreRefused(
                f"{path} is in the way of a folder of the backup. Move it away first."
            )
        # A folder of this account that is closed to it is opened up.
        if not path.exists() or path.stat().st_uid == os.geteuid():
            continue
        if not os.access(path, os.W_OK | os.X_OK):
            raise RestoreRefused(
                f"Nothing can be written to {path}. Give it to the account that runs this, or move it away."
            )
        # What is in the backup itself gets its mode from there, and only its owner or root may set that.
        if place in inside and os.geteuid() != 0:
            raise RestoreRefused(
                f"{path} is another account's. Give it to the account that runs this, or move it away."
            )


def _has_worker() -> bool:
    """Return whether a worker may be running, also if a clock that was set back makes it doubtful."""
    if Worker._meta.db_table not in connection.introspection.table_names():
        return False
    if not database_dumps.is_panels():  # Another program's table has the same name.
        return False
    oldest, _ = Worker.lease_limits()
    return Worker.objects.filter(stopped_at=None, heartbeat_at__gte=oldest).exists()


@transaction.atomic
def _start_again(host_name: str) -> list[str]:
    """Queue an install of the game, which no backup contains, and a start of each server that was running."""
    host = Host.objects.filter(name=host_name).first()
    if host is None:
        return []
    servers = Server.objects.filter(host=host, desired_state=DesiredState.RUNNING).order_by("name")
    if not servers:
        return []
    enqueue(Operation.INSTALL, host=host, requested_by=None)
    for server in servers:
        enqueue(Operation.START, server=server, requested_by=None)
    return [server.name for server in servers]


__all__ = ["ArchiveError", "RestoreRefused", "RestoreUnfinished", "Restored", "restore"]
