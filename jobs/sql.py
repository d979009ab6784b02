"""What the few statements have in common that a worker executes for every job, as SQL.

Building such a query anew takes the ORM ten to a hundred times as long as executing it takes the database.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any

from django.db import connection, models

from jobs.models import Job


def adapt(value: Any) -> Any:
    """Return `value` as a cursor takes it."""
    if isinstance(value, datetime):
        return connection.ops.adapt_datetimefield_value(value)
    return value.value if isinstance(value, Enum) else value


def places(values: Iterable[object]) -> str:
    """Return as many placeholders as there are values."""
    return ", ".join("%s" for _ in values)


def update_all(
    table: str,
    changes: Mapping[str, Any],
    ids: Sequence[int],
    condition: str = "",
    *parameters: Any,
) -> None:
    """Make the same changes, by column, to those rows that also meet an SQL condition of our own."""
    columns = ", ".join(f"{column} = %s" for column in changes)
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {table} SET {columns} WHERE id IN ({places(ids)}) {condition}",  # noqa: S608
            [*map(adapt, changes.values()), *ids, *parameters],
        )


@contextmanager
def pipelined() -> Iterator[None]:
    """Send each statement of the block at once, without waiting for the result of the one before.

    Only until a result is fetched: then those of all earlier ones have come too. PostgreSQL only; SQLite
    has nothing to wait for. COPY is not possible in it.
    """
    if connection.vendor != "postgresql":
        yield
        return
    connection.ensure_connection()
    with connection.wrap_database_errors, connection.connection.pipeline():
        yield


@cache
def plain_columns(model: type[models.Model]) -> tuple[str, ...]:
    """Return the columns of `model`, without times, whose values the database's driver returns as they are."""
    return tuple(
        str(field.column)
        for field in model._meta.concrete_fields
        if not isinstance(field, models.DateTimeField)
        and not field.get_db_converters(connection)
        and not connection.ops.get_db_converters(field.get_col(model._meta.db_table))
    )


def lock_owned(job: Job) -> str | None:
    """Lock the row of a job that runs for its worker, to the end of the transaction; return its stage.

    None: it is not its worker's any more.
    """
    lock = " FOR NO KEY UPDATE" if connection.features.has_select_for_update else ""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT stage FROM jobs_job"  # noqa: S608 - nothing but places for parameters
            f" WHERE id = %s AND state = 'running' AND COALESCE(worker_id, 0) = %s{lock}",
            [job.pk, job.worker_id or 0],
        )
        row = cursor.fetchone()
    return str(row[0]) if row else None
