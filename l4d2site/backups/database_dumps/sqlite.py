"""Copies a database of SQLite, and puts a copy in its place, through SQLite's own backup interface."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from django.db import Error as AnyDatabaseError
from django.db import connection

from jobs.database import find_database_file, write_turn
from l4d2site.backups.database_dumps import faults
from l4d2site.backups.database_dumps.faults import WAITING, DumpError
from l4d2site.backups.database_dumps.panel_tables import (
    choose_ours,
    refuse_to_lose,
    require_panel,
)

TRY_SECONDS = 0.25
"""How long a restore waits between two tries to write."""


def dump(path: Path) -> None:
    """Copy the database to a new file at `path`. Raises `DumpError`."""
    file = find_database_file()
    if file is None:
        raise DumpError("The database is in memory alone: there is nothing that could be kept.")
    if not file.exists():  # Connecting would make it.
        raise DumpError(f"{file} is not there. Is DATABASE_URL right, and is its disk there?")
    try:
        require_panel(connection.introspection.table_names())
        # In one step, so that it is consistent and no reader waits. Holding the write turn keeps workers from
        # writing, and the log from growing, as long as their patience lasts.
        with write_turn(), closing(sqlite3.connect(path)) as copy:
            connection.connection.backup(copy, progress=_let_signals_in)
            # A single file, without a log beside it.
            copy.execute("PRAGMA journal_mode=DELETE")
    except (AnyDatabaseError, sqlite3.Error) as error:
        raise DumpError(
            f"The database could not be copied: {error}. Look whether it can be read, and whether "
            "BACKUP_DIR has space for it."
        ) from error
    verify(path)


def _let_signals_in(*_pages: int) -> None:
    """Do nothing. Python heeds signals when it calls this; without it, not even while it waits for a lock."""


def verify(path: Path) -> None:
    """Raise `DumpError` if the copy is damaged."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as copy:
            said = [row[0] for row in copy.execute("PRAGMA quick_check")]
    except sqlite3.Error as error:
        said = [str(error)]
    if said != ["ok"]:
        raise DumpError(f"The copy of the database is damaged: {'; '.join(said[:3])}")


@contextmanager
def replacing(path: Path, keeps_others: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Run the block on the copy at `path`, which then takes the place of the database."""
    if keeps_others:
        tables = connection.introspection.table_names(include_views=True)
        others = sorted({*tables} - {*choose_ours(tables, keeps_others=True)})
        refuse_to_lose([name for name in others if not name.startswith("sqlite_")])  # Its own.
    name = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = str(path)
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = name
    with closing(sqlite3.connect(path)) as copy:
        # As in a dump: a single file, without a log beside it.
        copy.execute("PRAGMA journal_mode=DELETE")
        connection.ensure_connection()
        # One transaction: those who read meanwhile see the old database until its end.
        with write_turn():
            # A try fails at once if another program has a lock: `_waiting` waits before the next one.
            connection.connection.execute("PRAGMA busy_timeout = 0")
            copy.backup(connection.connection, progress=_waiting(say), sleep=0)
    # Like the copy, it now has no write-ahead log. The next connection gives it one, as each does.
    connection.close()


def _waiting(say: Callable[[str], None]) -> Callable[[int, int, int], None]:
    """Return what SQLite is to call after each try to write: it waits while another program has a lock.

    An interrupt then is a `DumpError`: nothing was changed. One during a try stays an interrupt: Python raises
    it after the try, which may have been the one that wrote.
    """
    begun_at = time.monotonic()
    has_told = False

    def wait(status: int, *_pages: int) -> None:
        nonlocal has_told
        if status not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return
        try:
            if not has_told and time.monotonic() - begun_at >= faults.LONG_WAIT_SECONDS:
                has_told = True
                say(WAITING)
            time.sleep(TRY_SECONDS)
        except KeyboardInterrupt as interrupt:
            raise DumpError("This was interrupted before anything was changed.") from interrupt

    return wait
