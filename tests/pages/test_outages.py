"""Pages and clicks while the database is away: they wait for it, and are then refused in words."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.db import IntegrityError, InternalError, OperationalError, connection
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.urls import reverse

from jobs.database import Outage, write_watch
from jobs.models import Job
from l4d2site import outages
from servers.models import Host, Server

LIST = reverse("servers:list")
START = {"operation": "initialize"}


class Database:
    """Fails the first `times` statements that contain a text, with an error."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    @contextmanager
    def failing(
        self, error: Exception, *, holding: str = "", times: int = 1_000_000
    ) -> Iterator[None]:
        """Make them fail within the block."""

        def refuse(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
            if holding in sql and len(self.failed) < times:
                self.failed.append(sql)
                raise error
            return execute(sql, *arguments)

        with connection.execute_wrapper(refuse):
            yield


AWAY = OperationalError("server closed the connection unexpectedly")
READ_ONLY = InternalError("cannot execute INSERT in a read-only transaction")
READ_ONLY.__cause__ = psycopg.errors.ReadOnlySqlTransaction(str(READ_ONLY))


@pytest.fixture
def database() -> Database:
    """Return an object that makes statements fail."""
    return Database()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let requests wait as long as a busy machine needs, and forget the doubt left by other tests."""
    monkeypatch.setattr(outages, "PATIENCE_SECONDS", 60.0)
    monkeypatch.setattr(outages, "doubt", outages.Doubt())


@pytest.fixture
def impatience(monkeypatch: pytest.MonkeyPatch, patience: None) -> None:
    """Let requests give up soon."""
    monkeypatch.setattr(outages, "PATIENCE_SECONDS", 0.3)


@pytest.fixture
def browser(alice: User) -> Client:
    """Return Alice's browser, which gets an answer where a test's client would get an exception."""
    client = Client(raise_request_exception=False)
    client.force_login(alice)
    return client


@pytest.fixture
def start(browser: Client, server: Server, installed_host: Host) -> Callable[[], Any]:
    """Return a function that requests a job, as a click does."""
    address = reverse("jobs:create", args=[server.name])
    return lambda: browser.post(address, START)


class TestAPage:
    def test_it_waits_for_a_database_that_comes_back(
        self, browser: Client, server: Server, database: Database
    ) -> None:
        with database.failing(AWAY, times=2):
            response = browser.get(LIST)
        assert response.status_code == 200
        assert server.name in response.content.decode()
        assert len(database.failed) == 2

    @pytest.mark.usefixtures("impatience")
    def test_it_is_refused_in_words_when_that_takes_too_long(
        self, browser: Client, database: Database, caplog: pytest.LogCaptureFixture
    ) -> None:
        with database.failing(AWAY):
            response = browser.get(LIST)
        page = response.content.decode()
        assert response.status_code == 503
        assert (response["Retry-After"], response["Cache-Control"]) == ("5", "no-store")
        assert "The panel&#x27;s database does not answer." in page
        assert "Content-Security-Policy" in response
        assert "server closed the connection" not in page
        assert not [record for record in caplog.records if record.exc_info]
        assert "GET /servers/: refused, the database does not answer" in caplog.text

    def test_it_is_one_line_however_often_it_was_tried(
        self, browser: Client, database: Database, caplog: pytest.LogCaptureFixture
    ) -> None:
        with database.failing(AWAY, times=2):
            browser.get(LIST)
        (line,) = caplog.messages
        assert line.startswith("GET /servers/: answered after a while, as the database does not")

    @pytest.mark.usefixtures("impatience")
    def test_its_address_cannot_look_like_another_line(
        self, browser: Client, database: Database, caplog: pytest.LogCaptureFixture
    ) -> None:
        forged = "WARNING saferoom.accounts: sign_in_failed address=203.0.113.9 count=1"
        with database.failing(AWAY):
            browser.get(f"/accounts/people/%0a{quote(forged)}%1b%e2%80%a8/{'x' * 3000}")
        (line,) = caplog.messages
        assert line.startswith(f"GET /accounts/people/\\n{forged}\\x1b\\u2028/xxx")
        assert line.endswith("server closed the connection unexpectedly")
        assert len(line) < 400

    def test_it_works_while_the_database_can_only_be_read(
        self, browser: Client, server: Server, database: Database
    ) -> None:
        with database.failing(READ_ONLY, holding="INSERT"):
            assert browser.get(LIST).status_code == 200

    @pytest.mark.parametrize(
        ("accepted", "kind"),
        [
            ("text/html,*/*;q=0.8", "text/html; charset=utf-8"),
            ("application/json", "application/json"),
            ("text/event-stream", "text/plain; charset=utf-8"),
        ],
    )
    @pytest.mark.usefixtures("impatience")
    def test_it_is_refused_in_what_the_client_reads(
        self, browser: Client, database: Database, accepted: str, kind: str
    ) -> None:
        with database.failing(AWAY):
            response = browser.get(LIST, headers={"Accept": accepted})
        assert (response.status_code, response["Content-Type"]) == (503, kind)
        assert "database does not answer" in response.content.decode()
        if accepted == "application/json":
            assert response.json()["retry_after_seconds"] == 5

    def test_a_fault_of_our_own_is_a_500_at_once(
        self, browser: Client, database: Database, caplog: pytest.LogCaptureFixture
    ) -> None:
        with database.failing(IntegrityError("twice")):
            assert browser.get(LIST).status_code == 500
        assert len(database.failed) == 1
        assert [record for record in caplog.records if record.exc_info]

    def test_it_waits_under_asgi_too(self, alice: User, server: Server, database: Database) -> None:
        client = AsyncClient(raise_request_exception=False)
        client.force_login(alice)
        with database.failing(AWAY, times=2):
            response = async_to_sync(client.get)(LIST)
        assert response.status_code == 200

    @pytest.mark.usefixtures("impatience")
    def test_a_stream_is_refused_with_when_to_come_back(
        self, alice: User, database: Database
    ) -> None:
        client = AsyncClient(raise_request_exception=False)
        client.force_login(alice)
        events = reverse("jobs:change_events")
        with database.failing(AWAY):
            response = async_to_sync(client.get)(events, headers={"Accept": "text/event-stream"})
        assert (response.status_code, response["Retry-After"]) == (503, "5")


class TestAClick:
    def test_it_waits_for_a_database_that_is_away_before_its_view(
        self, start: Callable[[], HttpResponse], database: Database
    ) -> None:
        with database.failing(AWAY, holding="django_session", times=2):
            assert start().status_code == 303
        assert Job.objects.count() == 1

    def test_its_view_is_not_run_twice(
        self, start: Callable[[], HttpResponse], database: Database
    ) -> None:
        """A commit whose answer was lost with the connection may have succeeded."""
        with database.failing(AWAY, holding='INSERT INTO "jobs_job"', times=1):
            response = start()
        assert response.status_code == 503
        assert "The panel cannot tell whether" in response.content.decode()
        assert len(database.failed) == 1
        assert not Job.objects.exists()

    def test_its_view_is_not_run_twice_under_asgi(
        self, alice: User, server: Server, installed_host: Host, database: Database
    ) -> None:
        client = AsyncClient(raise_request_exception=False)
        client.force_login(alice)
        address = reverse("jobs:create", args=[server.name])
        with database.failing(AWAY, holding='INSERT INTO "jobs_job"', times=1):
            response = async_to_sync(client.post)(address, START)
        assert response.status_code == 503
        assert "The panel cannot tell whether" in response.content.decode()
        assert not Job.objects.exists()

    @pytest.mark.usefixtures("impatience")
    def test_it_is_told_that_nothing_was_done_where_that_is_certain(
        self, start: Callable[[], HttpResponse], database: Database
    ) -> None:
        with database.failing(AWAY, holding="django_session"):
            assert "was not carried out" in start().content.decode()
        assert not Job.objects.exists()

    def test_a_database_that_can_only_be_read_refuses_it_in_words(
        self,
        start: Callable[[], HttpResponse],
        database: Database,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        noted: list[BaseException] = []
        monkeypatch.setattr(write_watch, "note", noted.append)
        with database.failing(READ_ONLY, holding='INSERT INTO "jobs_job"'):
            response = start()
        assert len(noted) == 1
        page = response.content.decode()
        assert response.status_code == 503
        assert "can only be read at the moment. Your request was not carried out." in page

    @pytest.mark.usefixtures("impatience")
    def test_while_the_database_is_in_doubt_its_view_is_not_begun(
        self, start: Callable[[], HttpResponse], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        outages.doubt.begin()
        monkeypatch.setattr(outages, "find_write_outage", lambda: Outage.READ_ONLY)
        assert start().status_code == 503
        assert not Job.objects.exists()

    @pytest.mark.django_db(transaction=True)  # A transaction around it would hold SQLite's lock.
    def test_a_database_that_is_in_doubt_and_answers_holds_up_nothing(
        self, start: Callable[[], HttpResponse]
    ) -> None:
        outages.doubt.begin()
        assert start().status_code == 303

    def test_without_a_doubt_the_database_is_not_asked_beforehand(
        self, start: Callable[[], HttpResponse], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[int] = []
        monkeypatch.setattr(outages, "find_write_outage", lambda: asked.append(1))
        assert start().status_code == 303
        assert not asked
