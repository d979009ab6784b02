"""What a page says about a search that ended before its log did, and that none outlives its client."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.contrib.auth.models import User
from django.db import connections
from django.test import AsyncClient, Client
from django.urls import reverse

from jobs.models import Job, JobLog
from l4d2site.asgi import serve
from servers.console.reader import Console
from servers.logs import log_pages, searches
from servers.logs.log_pages import RowLog, Searched
from servers.models import ConsoleSegment, Server
from tests.pages.test_console import LINES, link_to, store
from tests.pages.test_log_pages import read, seqs


class Clock:
    """A time that advances by one second at each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def three_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each search examine three parts of its log, of a hundred lines at most."""
    monkeypatch.setattr(searches, "monotonic", Clock())
    monkeypatch.setattr(searches, "SEARCH_SECONDS", 4.0)
    monkeypatch.setattr(log_pages, "LINES_READ", 100)


@pytest.fixture
def job(server: Server) -> Job:
    """Return a job with 1,000 lines, of which every tenth one contains “Tank”."""
    job = Job.objects.create(operation="start", server=server)
    JobLog.objects.bulk_create(
        JobLog(job=job, seq=seq, stream="stdout", line="a Tank" if seq % 10 == 5 else "-")
        for seq in range(1, 1_001)
    )
    return job


def found(page: str) -> str:
    """Return what a page says about its search."""
    return page.split('class="log-found"')[1].split("</div>", maxsplit=1)[0]


@pytest.mark.usefixtures("three_looks")
def test_a_page_says_how_far_a_search_came_and_leads_on_through_the_whole_log(
    as_alice: Client, job: Job
) -> None:
    url, query = job.get_absolute_url(), "?q=tank"
    count, extents = 0, []
    while query:
        search = found(as_alice.get(url + query, follow=True).content.decode())
        count += int(search.split(" of ")[1].split(" line")[0])
        extents.append(search.split("”", 1)[1].split("</p>")[0])
        query = link_to(search, "Continue from there") if "Continue from there" in search else ""
    assert count == 100
    assert extents[0] == ", up to line 300"
    assert extents[1] == ", from line 301 up to line 600"
    assert extents[-1] == ", from line 901"


@pytest.mark.usefixtures("three_looks")
def test_the_matches_of_a_part_lead_to_each_other_within_it(as_alice: Client, job: Job) -> None:
    response = as_alice.get(job.get_absolute_url(), {"q": "tank", "from": "201"})
    assert response.headers["Location"].endswith("?q=tank&from=201&line=205#L205")
    page = read(as_alice, job.get_absolute_url() + "?q=tank&from=201&line=215")
    assert "2 of 30 lines with “tank”, from line 201 up to line 500" in found(page)
    assert "?q=tank&amp;from=201&amp;line=205#L205" in found(page)
    assert "?q=tank&amp;from=201&amp;line=225#L225" in found(page)


@pytest.mark.usefixtures("three_looks")
def test_a_part_without_a_match_leads_on_too(as_alice: Client, job: Job) -> None:
    page = read(as_alice, job.get_absolute_url() + "?q=witch")
    assert "0 lines found with “witch”, up to line 300" in found(page)
    assert "A search stops after 2 seconds." in found(page)
    assert "Continue from there" in found(page)
    assert seqs(page)[-1] == 1_000


@pytest.mark.parametrize("start", ["0", "-1", "x", "1001", "9" * 30])
def test_odd_places_to_begin_at_are_answered(as_alice: Client, job: Job, start: str) -> None:
    response = as_alice.get(job.get_absolute_url(), {"q": "tank", "from": start}, follow=True)
    assert response.status_code == 200


@pytest.mark.usefixtures("three_looks")
def test_a_console_is_searched_back_from_its_newest_line_part_by_part(
    as_alice: Client, server: Server
) -> None:
    store(server, LINES, 10, 250)
    url, query = reverse("servers:console", args=[server.name]), "?q=line 1"
    seen: list[int] = []
    pages = 0
    while query:
        page = read(as_alice, url + query)
        pages += 1
        part = page.split('class="section"')[1]
        seen += [int(one.split("#")[0]) for one in part.split("&amp;line=")[1:]]
        older = [name for name in ("Older matches", "Continue from there") if f">{name}<" in part]
        query = link_to(page, older[0]) if older else ""
        if pages == 1:
            assert "it has looked back to line 2101." in part
            assert "No line down to there contains it." in part
    assert seen == [seq for seq in range(3_100, 100, -1) if str(seq).startswith("1")]


def test_a_console_is_searched_from_any_line_on(server: Server) -> None:
    store(server, LINES, 10, 250)
    parts = list(console_parts(server, 1_234))
    assert [seq for part in parts for seq in part.seqs] == list(range(1_234, 3_101))
    assert parts[-1].last_seq == 3_100
    ConsoleSegment.objects.all().delete()
    assert [part.last_seq for part in console_parts(server, 1)] == [3_100]


def console_parts(server: Server, first: int) -> Iterator[Searched]:
    """Search a console for something that is in each of its lines."""
    return Console(server.pk).find_parts("LINE", first)


@pytest.mark.django_db(transaction=True)
def test_a_search_ends_when_its_client_leaves(
    job: Job, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searches, "SEARCH_SECONDS", 300.0)
    looks: list[threading.Thread] = []

    def find_nothing(_log: RowLog, _text: str, _first: int) -> Iterator[Searched]:
        while True:
            looks.append(threading.current_thread())
            yield Searched([], 1)

    monkeypatch.setattr(RowLog, "find_parts", find_nothing)

    async def scenario() -> None:
        client = AsyncClient()
        await client.aforce_login(alice)
        cookie = f"sessionid={client.cookies['sessionid'].value}".encode()
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "path": job.get_absolute_url(),
            "query_string": b"q=tank",
            "headers": [(b"host", b"localhost"), (b"cookie", cookie)],
        }
        communicator: Any = ApplicationCommunicator
        request = communicator(serve, scope)
        await request.send_input({"type": "http.request"})
        async with asyncio.timeout(30):
            while not looks:  # noqa: ASYNC110 - what is awaited happens in a thread
                await asyncio.sleep(0.01)
        await request.send_input({"type": "http.disconnect"})
        await request.wait(30)
        await sync_to_async(connections.close_all)()  # From the thread that signed in.

    asyncio.run(scenario())
    looks[0].join(30)
    assert not looks[0].is_alive()
    assert not searches.turns._searching
