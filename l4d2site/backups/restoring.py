"""Restores a backup: the database, the servers' own files, and jobs that start the servers again.

Nobody is signed in afterwards, and no link from before works: some had been ended since the backup.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.db import connection

from hostops.layout import HostLayout
from jobs.models import Operation, Worker
from jobs.queue import enqueue
from l4d2site.accounts.restored_backups import end_what_was_open
from l4d2site.backups import archives, database_dumps, host_files
from l4d2site.backups.archives import ArchiveError
from l4d2site.backups.content import ContentReturn
from servers.models import DesiredState, Host, Server
from servers.store import get_store


class RestoreRefused(Exception):  # noqa: N818 - nothing went wrong: it was not attempted
    """Existing data would be lost, or the backup does not fit; the text says what to do."""


def restore(
    path: Path, passphrase: str, *, replaces: bool, say: Callable[[str], None]
) -> list[str]:
    """Restore the backup at `path`, and return the names of the servers that will be started again.

    Before changing anything it raises `RestoreRefused`, or `ArchiveError` for a damaged backup.
    """
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
    archives.verify(path, passphrase)
    layout = HostLayout(settings.HOST_ROOT)
    _require_empty(layout, replaces=replaces)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix=".restore-", dir=settings.BACKUP_DIR)
        )
        content_return = (
            stack.enter_context(ContentReturn.begin(get_store())) if head.has_content else None
        )
        dump = Path(folder, "database")
        with archives.members(path, passphrase) as found:
            for info, content in found:
                if info.name == archives.DATABASE and content is not None:
                    with dump.open("wb") as file:
                        shutil.copyfileobj(content, file, 1024**2)
                    say("Putting the database back …")
                    database_dumps.verify(dump)
                    database_dumps.restore(dump)
                    # Its schema may be older than this version's.
                    call_command("migrate", verbosity=0)
                    end_what_was_open()
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
    return _start_again(head.host)


def _require_empty(layout: HostLayout, *, replaces: bool) -> None:
    if _has_worker():
        raise RestoreRefused(
            "A worker is running: stop it, and the web process, before a backup is put back."
        )
    if any(layout.instances_dir.glob("*/upper/*")) or any(layout.overlays_dir.glob("*/*")):
        raise RestoreRefused(
            f"{layout.root} has files of servers or overlays already, which would be mixed with those of the "
            "backup. Move instances/ and overlays/ away first."
        )
    if replaces:
        return
    tables = connection.introspection.table_names()
    if Server._meta.db_table in tables and Server.objects.exists():
        raise RestoreRefused(
            "The panel has servers already, which would be lost. --replace does it all the same."
        )


def _has_worker() -> bool:
    """Return whether a worker may be running, also if a clock that was set back makes it doubtful."""
    if Worker._meta.db_table not in connection.introspection.table_names():
        return False
    oldest, _ = Worker.lease_limits()
    return Worker.objects.filter(stopped_at=None, heartbeat_at__gte=oldest).exists()


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


__all__ = ["ArchiveError", "RestoreRefused", "restore"]
