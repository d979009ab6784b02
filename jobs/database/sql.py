"""What the few statements have in common that a worker executes for every job, as SQL.

Building such a query anew takes the ORM ten to a hundred times as long as executing it takes the database, and
Django's cursor as long as SQLite takes for it. They are executed on Django's connection, in its transactions.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import psycopg
from django.db import DEFAULT_DB_ALIAS, connection, connections, models
from django.db.models.base import ModelState

from jobs.models import Job

M = TypeVar("M", bound=models.Model)


class Result(Protocol):
    """What a statement returns, to be fetched once."""

    def fetchall(self) -> list[Any]:
        """Return the rows."""


@dataclass(frozen=True)
class Rows:
    """A result that has come: a statement of SQLite that is left half-way keeps its transaction from ending."""

    rows: list[Any]
    count: int = 0
    """How many rows the statement changed."""

    def fetchall(self) -> list[Any]:
        """Return the rows."""
        return self.rows


def execute(statement: str, parameters: Sequence[Any] = ()) -> Result:
    """Execute a statement, with %s for each parameter, on this thread's connection.

    PostgreSQL keeps its plan: give it few texts, and lists by `among`. What is to happen at each execution
    (`connection.execute_wrapper`, the log of queries) does.
    """
    # Once: what stands behind `connection` is looked up each time.
    own = connections[DEFAULT_DB_ALIAS]
    if own.execute_wrappers or own.queries_logged:
        cursor = own.cursor()
        cursor.execute(statement, parameters)
        return cursor if own.vendor == "postgresql" else Rows(cursor.fetchall(), cursor.rowcount)
    if own.connection is None:
        own.ensure_connection()
    with own.wrap_database_errors:
        if own.vendor == "postgresql":
            return psycopg.Cursor(own.connection).execute(
                cast("Any", statement), parameters, prepare=True
            )
        cursor = own.connection.execute(with_question_marks(statement), parameters)
        return Rows(cursor.fetchall(), cursor.rowcount)


def update_counted(statement: str, parameters: Sequence[Any]) -> Callable[[], int]:
    """Execute an UPDATE; call what is returned, in the same transaction, to learn how many rows it changed."""
    if connection.vendor == "postgresql":
        result = execute(f"{statement} RETURNING id", parameters)
        return lambda: len(result.fetchall())
    # SQLite returns rows one by one, and gives way to another thread at each.
    count = cast("Rows", execute(statement, parameters)).count
    return lambda: count


@lru_cache(maxsize=256)
def with_question_marks(statement: str) -> str:
    """Return `statement` with SQLite's places for parameters."""
    return statement.replace("%s", "?")


def find_database_file() -> Path | None:
    """Return where the SQLite database is; None for one in memory, and for PostgreSQL."""
    name = str(connection.settings_dict["NAME"])
    is_file = connection.vendor == "sqlite" and name != ":memory:" and "mode=memory" not in name
    return Path(name) if is_file else None


def adapt(value: Any) -> Any:
    """Return `value` as a statement takes it."""
    if isinstance(value, datetime):
        return adapt_time(value)
    return value.value if isinstance(value, Enum) else value


@lru_cache(maxsize=16)
def adapt_time(value: datetime) -> Any:
    """Return a time as a statement takes it: several of one transaction have the same."""
    return connection.ops.adapt_datetimefield_value(value)


def among(values: Sequence[Any]) -> tuple[str, list[Any]]:
    """Return the condition that what stands before it is one of `values`, and its parameters."""
    if connection.vendor == "postgresql":
        return "= ANY(%s)", [list(values)]
    return f"IN ({places(values)})", [*values]


def places(values: Iterable[object]) -> str:
    """Return as many placeholders as there are values."""
    return ", ".join(["%s" for _ in values])


def insert(
    model: type[M], values: Mapping[str, Any], returning: str = "", **related: models.Model | None
) -> M:
    """Insert a row with these values, by column, and evaluate SQL of our own `returning` beside it.

    That is one round trip. Returns the row, whose relations are as given. What there is no value for is as in
    a new `model`, but for times: they are to be given.
    """
    values = {**blank_values(model), **values}
    statement = f"{insert_statement(model)} {returning}"
    [(row_id, *_)] = execute(statement, [*map(adapt, values.values())]).fetchall()
    return make(model, ("id", *values), (row_id, *values.values()), **related)


@cache
def blank_values(model: type[models.Model]) -> dict[str, Any]:
    """Return the values of a new row of `model`, by column."""
    fields = model._meta.concrete_fields
    return {str(field.column): field.get_default() for field in fields if not field.primary_key}


@cache
def insert_statement(model: type[models.Model]) -> str:
    """Return the statement that inserts a row with as many values as `blank_values` has."""
    columns = blank_values(model)
    return (
        f"INSERT INTO {model._meta.db_table} ({', '.join(columns)})"  # noqa: S608
        f" VALUES ({places(columns)}) RETURNING id"
    )


def make(
    model: type[M], columns: Iterable[str], row: Sequence[Any], **related: models.Model | None
) -> M:
    """Return the row of `model` whose `columns` have the values that `row` begins with; relations as given.

    The columns are called as the attributes are. As unpickling makes it: `Model.from_db` takes as long as all
    statements of a claim do.
    """
    made = model.__new__(model)
    made.__dict__.update(zip(columns, row))  # noqa: B905
    state = made._state = ModelState()  # noqa: SLF001 - documented, as what says whether a row is stored
    state.adding, state.db, state.fields_cache = False, DEFAULT_DB_ALIAS, related
    return made


def update_all(
    table: str,
    changes: Mapping[str, Any],
    ids: Sequence[int],
    condition: str = "",
    *parameters: Any,
) -> None:
    """Make the same changes, by column, to those rows that also meet an SQL condition of our own."""
    columns = ", ".join([f"{column} = %s" for column in changes])
    is_one, one_of = among(ids)
    execute(
        f"UPDATE {table} SET {columns} WHERE id {is_one} {condition}",  # noqa: S608
        [*map(adapt, changes.values()), *one_of, *parameters],
    )


@contextmanager
def pipelined() -> Iterator[None]:
    """Send each statement of the block at once, without waiting for the result of the one before.

    Only until a result is fetched: then those of all earlier ones have come too. At the end of the block the
    transaction is committed, if it is the outermost one and not to be rolled back. PostgreSQL only; SQLite has
    nothing to wait for. COPY is not possible in it.
    """
    if connection.vendor != "postgresql":
        yield
        return
    connection.ensure_connection()
    with connection.wrap_database_errors, connection.connection.pipeline():
        yield
        is_outermost = connection.in_atomic_block and not connection.savepoint_ids
        if is_outermost and not connection.needs_rollback:
            # Sent with what was sent before: Django finds nothing left to commit.
            psycopg.Cursor(connection.connection).execute("COMMIT", prepare=False)


def lock_owned(job: Job) -> str | None:
    """Lock the row of a job that runs for its worker, to the end of the transaction; return its stage.

    None: it is not its worker's any more.
    """
    lock = " FOR NO KEY UPDATE" if connection.features.has_select_for_update else ""
    rows = execute(
        "SELECT stage FROM jobs_job"  # noqa: S608 - nothing but places for parameters
        f" WHERE id = %s AND state = 'running' AND COALESCE(worker_id, 0) = %s{lock}",
        [job.pk, job.worker_id or 0],
    ).fetchall()
    return str(rows[0][0]) if rows else None
