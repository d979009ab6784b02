"""The tests' database is the same again after a test that commits."""

from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.db import connection

from jobs.models import Job
from servers.models import Host
from tests import emptying


def read_all() -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table but the list of migrations."""
    with connection.cursor() as cursor:
        tables = connection.introspection.django_table_names(include_views=False)
        rows = {}
        for table in tables:
            cursor.execute(f"SELECT * FROM {emptying.quote(table)} ORDER BY 1")
            rows[table] = cursor.fetchall()
    return rows


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("small_bytes", [emptying.SMALL_BYTES, 0])
def test_the_database_is_as_it_was(
    small_bytes: int, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    """In both ways: the rows are deleted, or the tables truncated."""
    monkeypatch.setattr(emptying, "SMALL_BYTES", small_bytes)
    new = read_all()
    # Content types and permissions; by a migration, which `script/test --quick` leaves out, a group with some.
    assert sum(map(bool, new.values())) >= (2 if pytestconfig.getoption("nomigrations") else 4)

    person = User.objects.create_user("alice")
    person.groups.set(Group.objects.all())
    Permission.objects.first().delete()  # type: ignore[union-attr]
    Job.objects.create(operation="install", host=Host.local(), requested_by=person)
    assert read_all() != new

    call_command("flush", interactive=False)
    assert read_all() == new
