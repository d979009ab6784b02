"""People and things that most tests need: Alice owns the server, Bob owns nothing, Dana is the admin."""

import fcntl
import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management.commands import flush
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from pytest_django import DjangoDbBlocker

from jobs import operations
from l4d2site.health import database_state
from servers.models import Blueprint, Host, Server
from tests.emptying import FirstContent
from tests.fakes import FakeHost
from tests.floors import FloorPlugin
from tests.shares import SharesPlugin


def pytest_configure(config: pytest.Config) -> None:
    """Have each machine run the floors that it can, in as many processes as keep it busy."""
    config.pluginmanager.register(FloorPlugin())
    if config.pluginmanager.has_plugin("xdist"):
        config.pluginmanager.register(SharesPlugin())


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage while tests are collected: all that is made then stays. It took 10 % of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """Exempt loaded modules from garbage collection, and collect less often: it took 9 % of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


IS_SHARED = "PYTEST_XDIST_WORKER" in os.environ
"""Whether several processes share the tests."""


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an SQLite database with all tables and no rows of ours, made once by one process for all of them.

    Making it takes longer than starting a panel does.
    """
    folder = tmp_path_factory.getbasetemp()
    if IS_SHARED:
        folder = folder.parent
    database, draft = folder / "migrated.sqlite3", folder / "draft.sqlite3"
    with (folder / "migrated.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not database.exists():
            migrate(f"sqlite:///{draft}")
            draft.rename(database)
    return database


def migrate(database_url: str) -> None:
    """Make all tables in an empty database."""
    subprocess.run(
        [sys.executable, settings.BASE_DIR / "manage.py", "migrate", "--verbosity=0"],
        env=os.environ
        | {"DJANGO_SETTINGS_MODULE": "l4d2site.settings", "DATABASE_URL": database_url},
        check=True,
    )


@pytest.fixture(scope="session")
def django_db_keepdb(
    request: pytest.FixtureRequest,
    django_db_use_migrations: bool,
    django_db_modify_db_settings: None,
) -> Iterator[bool]:
    """Have each of several processes begin with a copy of one database, instead of all of them migrating."""
    if not (IS_SHARED and settings.IS_SQLITE and django_db_use_migrations):
        yield request.config.getvalue("reuse_db")
        return
    path = Path(settings.DATABASES["default"]["TEST"]["NAME"])
    shutil.copy2(request.getfixturevalue("migrated"), path)
    yield True
    connection.close()
    path.unlink()


@pytest.fixture(scope="session")
def django_db_setup(
    django_db_setup: None, django_db_use_migrations: bool, django_db_blocker: DjangoDbBlocker
) -> Iterator[None]:
    """Make the database; tests that commit leave it as it is now (`tests/emptying.py`)."""
    with django_db_blocker.unblock():
        if not django_db_use_migrations:
            # A store tells databases apart by their first migration.
            MigrationRecorder(connection).record_applied("tests", "made without migrations")
        content = FirstContent()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flush.Command, "handle", lambda _self, **_options: content.restore())
        yield


@pytest.fixture(scope="session", autouse=True)
def impatient_health() -> None:
    """Wait only briefly for SQLite's lock when the database is checked: a test's own transaction keeps it."""
    database_state.LOCK_SECONDS = 0.05


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Start each test with the usual umask: the product's entry points, once imported, set their own."""
    os.umask(0o022)


@pytest.fixture
def alice(db: None) -> User:
    """Return the owner."""
    return User.objects.create_user("alice", password="alice-password")


@pytest.fixture
def bob(db: None) -> User:
    """Return a stranger: a user who owns nothing."""
    return User.objects.create_user("bob", password="bob-password")


@pytest.fixture
def dana(db: None) -> User:
    """Return the admin."""
    return User.objects.create_superuser("dana", password="dana-password")


@pytest.fixture
def host(db: None) -> Host:
    """Return the host that the settings name."""
    return Host.local()


@pytest.fixture
def blueprint(alice: User) -> Blueprint:
    """Return a blueprint of Alice's."""
    return Blueprint.objects.create(name="coop", owner=alice, arguments="+map c1m1_hotel")


@pytest.fixture
def server(alice: User, host: Host, blueprint: Blueprint) -> Server:
    """Return a server of Alice's."""
    return Server.objects.create(name="alpha", owner=alice, host=host, blueprint=blueprint)


@pytest.fixture
def fake_host(monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    """Put a fake where the worker gets its host layer."""
    fake = FakeHost()
    monkeypatch.setattr(operations, "get_host", lambda _name: fake)
    return fake
