"""Dumps the database and restores it, in the way of its engine."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from django.db import Error as AnyDatabaseError
from django.db import connection

from jobs.database import driver
from l4d2site.backups.database_dumps import postgresql, sqlite
from l4d2site.backups.database_dumps.faults import DumpError, explain


def engine() -> str:
    """Return the engine of a dump made here; a dump from another engine cannot be restored."""
    return connection.vendor


def dump(path: Path) -> None:
    """Write the whole database, as of one moment, to a new file at `path`; on PostgreSQL the panel's schema."""
    if connection.vendor == "sqlite":
        sqlite.dump(path)
    else:
        postgresql.dump(path)
    path.chmod(0o600)


def verify(path: Path) -> None:
    """Raise `DumpError` unless the file is complete."""
    if connection.vendor == "sqlite":
        sqlite.verify(path)
    else:
        postgresql.verify(path)


@contextmanager
def replacing(path: Path, *, keeps_others: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Run the block on the content of the file, which then takes the place of the whole database.

    The block may change it and its schema; nobody sees it before. If anything fails or ends the process, the
    database is as it was. With `keeps_others` it also stays so if another program would lose a table, a view or
    the like. Waits for other programs' locks without a limit, and says so after `LONG_WAIT_SECONDS`.
    """
    replace = sqlite.replacing if connection.vendor == "sqlite" else postgresql.replacing
    try:
        with replace(path, keeps_others, say):
            yield
    except (AnyDatabaseError, driver().Error) as error:
        raise DumpError(f"The database could not be replaced: {explain(error)}") from error


def telling_of_waits(say: Callable[[str], None]) -> AbstractContextManager[None]:
    """Say once in the block if a statement outside of `replacing` waits long. SQLite does not wait to read."""
    return nullcontext() if connection.vendor == "sqlite" else postgresql.telling_of_waits(say)


def list_replaced() -> list[str]:
    """Return the tables that would be lost if a dump took the place of the database, but kept others."""
    if connection.vendor == "sqlite":
        return connection.introspection.table_names()
    return postgresql.list_replaced()
