"""People and things that most tests need: Alice owns the server, Bob owns nothing, Dana is the admin."""

import gc
import os
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.core.management.commands import flush
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


def pytest_collection_finish() -> None:
    """Exempt loaded modules from garbage collection, and collect less often: it took 9 % of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Make the database; tests that commit leave it as it is now (`tests/emptying.py`)."""
    with django_db_blocker.unblock():
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
