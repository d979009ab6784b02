"""The messages of `manage.py check` about the machine, each with a permanent id."""

import os
import pwd
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Info, Tags, register
from django.core.checks import Warning as CheckWarning
from django.db import connection

from jobs.database import SHARED_FILE, database_files, find_database_file, is_shared, look_at
from l4d2site.backups.passphrases import PassphraseError, read_passphrase
from servers.secrets import has_keys

FIXED_IN = ((3, 44, 6), (3, 50, 7), (3, 51, 3))
"""The first releases without the WAL-reset bug: per series, then all later ones (https://sqlite.org/wal.html)."""


def has_wal_reset_bug(version: tuple[int, int, int]) -> bool:
    """Return whether this SQLite may lose commits when a write and a checkpoint coincide."""
    is_fixed = version >= FIXED_IN[-1] or any(
        version[:2] == fixed[:2] and version >= fixed for fixed in FIXED_IN
    )
    return version >= (3, 7, 0) and not is_fixed


@register(Tags.database)
def check_sqlite(
    databases: Sequence[str] | None = None,  # noqa: ARG001 - as Django calls it
    **_options: Any,
) -> list[CheckMessage]:
    """Report that other programs can make this SQLite lose commits, if the panel uses SQLite."""
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
    """Report that the servers' passwords are not encrypted while there is no key."""
    if has_keys():
        return []
    return [
        CheckWarning(
            "SECRETS_KEYS is not set, so the passwords of servers stay in their configs, unencrypted.",
            hint="Run manage.py makesecretskey, put the line that it prints into the settings of the panel and "
            "of every worker, and restart them.",
            id="saferoom.W004",
        )
    ]


@register(Tags.security)
def check_who_can_read(**_options: Any) -> list[CheckMessage]:
    """Report the panel's own files that every account of the machine can read or change."""
    return [
        CheckWarning(
            f"Every account of this machine can get at {path}.",
            hint=f"chmod {mode} {path}",
            id="saferoom.W001",
        )
        for path, status, mode in private_paths()
        if is_open_to_all(path, status)
    ]


@register(Tags.security)
def check_shared_database(**_options: Any) -> list[CheckMessage]:
    """Report files of a shared SQLite database that the other account cannot use."""
    database = sqlite_file()
    if database is None or not is_shared(database.parent):
        return []
    return [
        CheckWarning(
            f"{path} is in a shared folder, but has the mode {mode:o}: the other account cannot use it.",
            hint=f"As its owner, {name_account(status.st_uid)}: chmod {SHARED_FILE:o} {path}",
            id="saferoom.W002",
        )
        for path, status in database_files(database)
        if (mode := stat.S_IMODE(status.st_mode)) != SHARED_FILE
    ]


def name_account(uid: int) -> str:
    """Return an account's name, or its number if it has none, as one that was removed."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@register(Tags.security)
def check_proxies(**_options: Any) -> list[CheckMessage]:
    """Report that everybody counts as one client if the proxy before the panel is not trusted."""
    if settings.SECURE_PROXY_SSL_HEADER is None or not settings.TRUSTED_PROXIES.is_empty:
        return []
    return [
        CheckWarning(
            "BEHIND_TLS_PROXY is true, but TRUSTED_PROXIES names no proxy: everybody counts as one address, so "
            "that one person's failed sign-ins or open pages use up what all may have.",
            hint="Set TRUSTED_PROXIES to the proxy's address, such as 127.0.0.1, or to unix for a Unix socket.",
            id="saferoom.W003",
        )
    ]


@register()
def check_database_url(**_options: Any) -> list[CheckMessage]:
    """Report an SQLite URL that leads to another file than it seems. It is used: the panel's data is there."""
    url = settings.DATABASE_URL
    query = urlsplit(url).query
    has_wrong_slashes = not url.startswith("sqlite:///")
    is_cut_off = "#" in url or (query and "=" not in query)
    if not settings.IS_SQLITE or not (has_wrong_slashes or is_cut_off):
        return []
    path = settings.DATABASES["default"]["NAME"]
    return [
        CheckWarning(
            f"DATABASE_URL seems to name another file than the one that it leads to, {path}.",
            hint=f"Write sqlite:///{quote(os.fsencode(path))} instead, or move the file. An absolute path "
            "follows three slashes, and %23 and %3F stand for # and ? in it.",
            id="saferoom.W005",
        )
    ]


@register()
def check_backup_passphrase(**_options: Any) -> list[CheckMessage]:
    """Report that no backup can be made, as its passphrase is missing or too short.

    A passphrase that this account may not read is no fault: another account may make the backups.
    """
    try:
        read_passphrase(settings.BACKUP_PASSPHRASE_FILE)
    except PassphraseError as error:
        if isinstance(error.__cause__, PermissionError):
            return []
        return [
            CheckWarning(
                f"No backup can be made: {error}",
                hint="Write a passphrase into that file, or correct BACKUP_PASSPHRASE_FILE.",
                id="saferoom.W006",
            )
        ]
    return []


def private_paths() -> Iterator[tuple[Path, os.stat_result, str]]:
    """Yield the existing files and folders that contain secrets, each with the mode it should have.

    Not what this account may not look at, because it is closed to others already.
    """
    database = sqlite_file()
    for folder in sorted({settings.VAR_DIR} | ({database.parent} if database else set())):
        if (status := look_at(folder)) and stat.S_ISDIR(status.st_mode):
            yield folder, status, "2770" if status.st_mode & stat.S_ISGID else "700"
    for path in (settings.BASE_DIR / ".env", settings.VAR_DIR / "local.env"):
        if status := look_at(path):
            yield path, status, "600"
    if database and not is_shared(database.parent):
        for path, status in database_files(database):
            yield path, status, "600"


def sqlite_file() -> Path | None:
    """Return the path of the configured SQLite database, if it is one in a file."""
    return find_database_file() if connection.vendor == "sqlite" else None


def is_open_to_all(path: Path, status: os.stat_result) -> bool:
    """Return whether every account may use `path`, and may enter all its parent folders."""
    return bool(status.st_mode & stat.S_IRWXO) and all(
        folder.stat().st_mode & stat.S_IXOTH for folder in path.parents
    )
