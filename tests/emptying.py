"""Empties the tests' database after each test that commits, at a tenth of what it costs Django.

Django empties every table and sends the signal that follows a migration, which recreates the content types and
permissions. This empties only the tables that have rows, and puts back the rows that the migrations had made.
"""

from typing import Any

from django.db import connection, transaction

SMALL_BYTES = 256 * 1024
"""PostgreSQL plans by the size of a table's file: larger ones are truncated, of others the rows are deleted."""


class FirstContent:
    """The rows that the migrations put into a new database."""

    def __init__(self) -> None:
        self._tables = connection.introspection.django_table_names(
            only_existing=True, include_views=False
        )
        self._rows: dict[str, list[tuple[Any, ...]]] = {}
        with connection.cursor() as cursor:
            for table in find_filled(self._tables):
                cursor.execute(f"SELECT * FROM {quote(table)}")
                self._rows[table] = cursor.fetchall()

    def restore(self) -> None:
        """Empty all tables, and put the rows back."""
        with transaction.atomic(), connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                # A panel may still be committing what a test had it write.
                tables = ", ".join(map(quote, self._tables))
                cursor.execute(f"LOCK TABLE {tables} IN EXCLUSIVE MODE")
            large = find_large(self._tables)
            # First: a table whose foreign keys are still to be checked cannot be truncated.
            if large:
                cursor.execute(f"TRUNCATE {', '.join(map(quote, large))} CASCADE")
            for table in find_filled(self._tables):
                cursor.execute(f"DELETE FROM {quote(table)}")
            for table, rows in self._rows.items():
                values = ", ".join(["%s"] * len(rows[0]))
                cursor.executemany(f"INSERT INTO {quote(table)} VALUES ({values})", rows)


def find_filled(tables: list[str]) -> list[str]:
    """Return those of the tables that have rows."""
    answers = ", ".join(f"EXISTS (SELECT 1 FROM {quote(table)})" for table in tables)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {answers}")
        return [
            table for table, has_rows in zip(tables, cursor.fetchone(), strict=True) if has_rows
        ]


def find_large(tables: list[str]) -> list[str]:
    """Return those of PostgreSQL's tables whose files are large, also with rows that were deleted."""
    if connection.vendor != "postgresql":
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relname = ANY(%s) AND pg_relation_size(oid) > %s",
            [tables, SMALL_BYTES],
        )
        return [name for [name] in cursor.fetchall()]


def quote(name: str) -> str:
    """Return a name as SQL has it."""
    return connection.ops.quote_name(name)
