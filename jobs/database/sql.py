"""Executes the few statements that bypass the ORM: those that run for every job, or at every commit.

The ORM takes ten to a hundred times as long to build one of them as the database takes to execute it. They are
constants, in PostgreSQL's dialect, in the modules that use them, and are executed on Django's connection, in
its transactions: `jobs/queue/scheduler.py` (which jobs may run), `jobs/queue/claim_statements.py` (a claim),
`jobs/queue/transitions.py` (requests to cancel), `jobs/logs/finishing.py` (an end), `jobs/logs/job_output.py`
(lines), `jobs/command_requests.py` and `jobs/talk/command_desk.py` (waiting commands); at each commit,
`jobs/live/change_versions.py`.
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from django.db import DEFAULT_DB_ALIAS, connection, connections

ARRAY = "= ANY(%s)"

Statement = tuple[str, Sequence[Any]]
"""The text of a statement and its parameters."""


@dataclass(frozen=True)
class Result:
    """The result of a statement."""

    rows: list[Any]
    count: int
    """How many rows it returned or changed."""


def driver() -> Any:
    """Return the module of the database's driver: sqlite3 or, only where a panel uses PostgreSQL, psycopg."""
    return cast("Any", connection).Database


def execute(statement: str, parameters: Sequence[Any] = ()) -> Result:
    """Execute a statement, with %s for each parameter, on this thread's connection.

    A list stands for an array: `id = ANY(%s)`. PostgreSQL keeps the plan of each text, so there should be few
    of them; `for_sqlite` translates it for SQLite. Django's own cursor takes as long as SQLite takes for the
    statement, so it is used only if something observes it (`connection.execute_wrapper`, the log of queries).
    """
    own = connections[DEFAULT_DB_ALIAS]  # Once: `connection` looks it up at each access.
    own.ensure_connection()
    return fetch(own, send(own, statement, parameters))


def execute_all(statements: Sequence[Statement]) -> list[Result]:
    """Execute statements like `execute`, in this order, and return all results; call it in a transaction.

    PostgreSQL gets them together, so they cost one round trip. It begins each of them after the one before, and
    each sees what was committed until then: after one that waits for a lock, also what it waited for. If one
    fails, none after it is executed, and its error is raised.
    """
    own = connections[DEFAULT_DB_ALIAS]
    own.ensure_connection()
    if len(statements) < 2 or own.vendor == "sqlite" or is_observed(own):
        return [execute(*statement) for statement in statements]
    with own.wrap_database_errors, own.connection.pipeline():
        cursors = [send(own, *statement) for statement in statements]
    return [fetch(own, cursor) for cursor in cursors]


def is_observed(own: Any) -> bool:
    """Return whether something wants to know of each statement on this connection."""
    return bool(own.execute_wrappers or own.queries_logged)


def send(own: Any, statement: str, parameters: Sequence[Any]) -> Any:
    """Have a statement executed on a connection; return its cursor."""
    is_sqlite = own.vendor == "sqlite"
    statement, parameters = with_equation(statement, parameters)
    text = for_sqlite(statement) if is_sqlite else statement
    adapted = [adapt(value, is_sqlite=is_sqlite) for value in parameters]
    if is_observed(own):
        cursor = own.cursor()
        cursor.execute(text, adapted)
        return cursor
    with own.wrap_database_errors:
        if is_sqlite:
            return own.connection.execute(text.replace("%s", "?"), adapted)
        return own.Database.Cursor(own.connection).execute(text, adapted, prepare=True)


def fetch(own: Any, cursor: Any) -> Result:
    """Return the result of a statement that was executed with `cursor`."""
    with own.wrap_database_errors:
        # All at once: an SQLite statement that is not read to its end keeps its transaction from ending.
        rows = cursor.fetchall() if cursor.description else []
    return Result(rows, cursor.rowcount)


def with_equation(statement: str, parameters: Sequence[Any]) -> tuple[str, Sequence[Any]]:
    """Return both with `id = %s` in place of an array of one element: most claims are of one job.

    PostgreSQL keeps the plan of that. With an array it makes a new plan each time, because a generic one has to
    assume ten elements: 0.73 ms instead of 0.28 for the servers of a claim.
    """
    arrays = [place for place, value in enumerate(parameters) if isinstance(value, list)]
    if len(arrays) != 1 or len(parameters[arrays[0]]) != 1 or ARRAY not in statement:
        return statement, parameters
    place = arrays[0]
    single = [*parameters[:place], parameters[place][0], *parameters[place + 1 :]]
    return statement.replace(ARRAY, "= %s"), single


@lru_cache(maxsize=64)
def for_sqlite(statement: str) -> str:
    """Return a statement in SQLite's dialect: no arrays, no row locks, and another name for json_agg().

    The index that a comment names after a table is the one that SQLite has to use: `/* INDEXED BY name */`.

    If an update of several rows fails, SQLite undoes it, for which it first writes the old content of each page
    into a file. Here its transaction is given up anyway; with OR FAIL, SQLite leaves the undoing to that.
    """
    in_array = "IN (SELECT value FROM json_each(%s))"
    statement = statement.replace(ARRAY, in_array).replace(" FOR NO KEY UPDATE", "")
    statement = statement.replace("json_agg(", "json_group_array(")
    statement = re.sub(r"/\* (INDEXED BY \w+) \*/", r"\1", statement)
    return re.sub("^UPDATE ", "UPDATE OR FAIL ", statement)


def adapt(value: Any, *, is_sqlite: bool) -> Any:
    """Return `value` in a form that the database's driver accepts."""
    if isinstance(value, datetime):
        return adapt_time(value)
    if isinstance(value, Enum):
        return value.value
    return json.dumps(value) if is_sqlite and isinstance(value, list) else value


@lru_cache(maxsize=16)
def adapt_time(value: datetime) -> Any:
    """Return a time in a form for statements. Cached: several statements of a transaction use the same one."""
    return connection.ops.adapt_datetimefield_value(value)


def find_database_file() -> Path | None:
    """Return the path of the SQLite database; None for one in memory, and for PostgreSQL."""
    name = str(connection.settings_dict["NAME"])
    is_file = connection.vendor == "sqlite" and name != ":memory:" and "mode=memory" not in name
    return Path(name) if is_file else None


def identify_database_file() -> tuple[int, int] | None:
    """Return what tells the SQLite database from another file at its place; None if there is no file.

    While the database is open, no other file can have the same. A copy that is written into the file is not
    another one.
    """
    path = find_database_file()
    try:
        status = os.stat(path) if path else None  # noqa: PTH116
    except FileNotFoundError:
        return None
    return (status.st_dev, status.st_ino) if status else None
