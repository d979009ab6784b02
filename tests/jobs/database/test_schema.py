"""Migrations may take their time on PostgreSQL; nothing else may."""

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models.signals import pre_migrate


def idle_limit() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW idle_in_transaction_session_timeout")
        (limit,) = cursor.fetchone()
    return str(limit)


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no such limit")
def test_a_transaction_may_be_idle_while_migrations_run_and_not_after() -> None:
    usual, seen = idle_limit(), set()

    def look(**_: object) -> None:
        seen.add(idle_limit())

    pre_migrate.connect(look)
    try:
        call_command("migrate", verbosity=0)
    finally:
        pre_migrate.disconnect(look)
    assert usual != "0"
    assert (seen, idle_limit()) == ({"0"}, usual)
