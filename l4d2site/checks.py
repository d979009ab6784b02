"""What `manage.py check` says of the machine, each with an id that stays."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Info, Tags, Warning, register  # noqa: A004 - Django's name
from django.db import connection

from servers.secrets import has_keys

FIXED_IN = ((3, 44, 6), (3, 50, 7), (3, 51, 3))
"""The first releases without the WAL-reset bug, in their series and behind the last: https://sqlite.org/wal.html."""


def has_wal_reset_bug(version: tuple[int, int, int]) -> bool:
    """Return whether this SQLite may lose commits where writes and checkpoints are made at one time."""
    is_fixed = version >= FIXED_IN[-1] or any(
        version[:2] == fixed[:2] and version >= fixed for fixed in FIXED_IN
    )
    return version >= (3, 7, 0) and not is_fixed


@register(Tags.database)
def check_sqlite(
    databases: Sequence[str] | None = None,  # noqa: ARG001 - as Django calls it
    **_options: Any,
) -> list[CheckMessage]:
    """Say that other programs can make this SQLite lose commits, where it is the one that is used."""
    if connection.vendor != "sqlite" or not has_wal_reset_bug(sqlite3.sqlite_version_info[:3]):
        return []
    return [
        Info(
            f"SQLite {sqlite3.sqlite_version} can lose commits where a checkpoint is made beside a write. "
            "Saferoom never does that; another program that writes to its database might.",
            hint="Let no other program write to the database while Saferoom runs, or use SQLite 3.51.3 or "
            "newer, or PostgreSQL.",
            id="saferoom.I001",
        )
    ]


@register(Tags.security)
def check_secrets_keys(**_options: Any) -> list[CheckMessage]:
    """Say that the passwords of servers are not encrypted as long as there is no key for it."""
    if has_keys():
        return []
    return [
        Warning(
            "SECRETS_KEYS is not set, so the passwords of servers stay in their configs, unencrypted.",
            hint="Run manage.py makesecretskey, put the line that it prints into the settings of the panel and "
            "of every worker, and restart them.",
            id="saferoom.W001",
        )
    ]
