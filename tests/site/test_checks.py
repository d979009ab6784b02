"""What `manage.py check` says of the machine."""

import sqlite3
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from l4d2site.checks import check_secrets_keys, check_sqlite, has_wal_reset_bug


@pytest.mark.parametrize(
    ("version", "has_bug"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
        ((4, 0, 0), False),
    ],
)
def test_it_knows_which_sqlite_has_the_bug(version: tuple[int, int, int], has_bug: bool) -> None:
    assert has_wal_reset_bug(version) is has_bug


def test_it_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 40, 1))
    monkeypatch.setattr(connection, "vendor", "sqlite")
    (message,) = check_sqlite()
    assert message.id == "saferoom.I001"
    assert "PostgreSQL" in str(message.hint)
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 3))
    assert check_sqlite() == []


def test_postgresql_has_nothing_to_do_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 40, 1))
    monkeypatch.setattr(connection, "vendor", "postgresql")
    assert check_sqlite() == []


def test_no_key_for_passwords_is_a_warning_with_the_command(settings: Any) -> None:
    assert check_secrets_keys() == []
    settings.SECRETS_KEYS = []
    (message,) = check_secrets_keys()
    assert message.id == "saferoom.W001"
    assert "manage.py makesecretskey" in str(message.hint)
    output = StringIO()
    call_command("check", stdout=output, stderr=output)
    assert "saferoom.W001" in output.getvalue()


@pytest.mark.django_db
def test_the_command_finds_nothing_worse() -> None:
    call_command("check", "--database", "default", "--fail-level", "WARNING", stdout=StringIO())
