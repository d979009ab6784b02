"""New code on the previous database: pages and worker say so in words, and what needs nothing new works."""

from collections.abc import Iterator
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import ProgrammingError, connection
from django.test import Client
from django.urls import reverse

from l4d2site import outages

pytestmark = pytest.mark.django_db(transaction=True)
LIST = reverse("servers:list")


@pytest.fixture
def browser() -> Client:
    """Return Alice's browser, which gets an answer where a test's client would get an exception."""
    client = Client(raise_request_exception=False)
    client.force_login(User.objects.create_user("alice"))
    return client


@pytest.fixture
def older() -> Iterator[None]:
    """Remove from the database the newest migration of jobs, and the column that a page needs."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM django_migrations WHERE app = 'jobs' ORDER BY name DESC")
        newest = cursor.fetchall()[0][0]
        cursor.execute("UPDATE django_migrations SET name = 'away' WHERE name = %s", [newest])
        cursor.execute("ALTER TABLE servers_server RENAME COLUMN actual_state TO not_there_yet")
    yield
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE servers_server RENAME COLUMN not_there_yet TO actual_state")
        cursor.execute("UPDATE django_migrations SET name = %s WHERE name = 'away'", [newest])


@pytest.mark.usefixtures("older")
def test_a_page_that_needs_what_is_new_says_what_is_missing(browser: Client) -> None:
    response = browser.get(LIST, headers={"Accept": "text/html"})
    assert response.status_code == 503
    assert "an upgrade was not finished, which manage.py migrate does" in response.content.decode()
    assert not outages.doubt


@pytest.mark.usefixtures("older")
def test_a_page_that_needs_nothing_new_goes_on(client: Client) -> None:
    assert client.get(reverse("account_login")).status_code == 200


@pytest.mark.usefixtures("older")
def test_the_worker_does_not_start() -> None:
    with pytest.raises(CommandError, match=r"run manage\.py migrate\. This worker starts once"):
        call_command("runjobs", "--until-empty", stdout=StringIO())


@pytest.mark.usefixtures("older")
def test_a_command_says_what_to_run() -> None:
    sentence = outages.describe_outage(ProgrammingError("no such column"))
    assert sentence == "The database is older than this version: run manage.py migrate."


def test_a_wrong_statement_on_a_database_that_is_new_enough_stays_a_fault(browser: Client) -> None:
    assert outages.find_unfinished_upgrade(ProgrammingError("no such column")) is None
    assert outages.describe_outage(ProgrammingError("no such column")) == ""
    assert browser.get(LIST).status_code == 200
