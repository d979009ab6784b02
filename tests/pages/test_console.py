"""The page of a console: its runs, what a search finds in them, and files; wherever the lines are stored."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.http import StreamingHttpResponse
from django.test import AsyncClient, Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from servers.console.reader import Console
from servers.models import ConsoleLine, ConsoleRun, ConsoleSegment, Server, StoredLine
from servers.pages.console_pages import MATCHES_SHOWN, RUNS_SHOWN
from tests.pages.test_log_pages import groups, read, seqs, what_is_expected, what_is_shown

EVENING = datetime(2026, 1, 1, 20, 0, 0, tzinfo=UTC)
LINES = [
    StoredLine(seq, f"line {seq}", EVENING + timedelta(seconds=seq)) for seq in range(101, 3_101)
]


def store(server: Server, lines: list[StoredLine], segments: int, each: int) -> None:
    """Store lines: first this many segments of `each` lines, then rows."""
    for number in range(segments):
        ConsoleSegment.of(server.pk, lines[number * each : (number + 1) * each]).save()
    ConsoleLine.objects.bulk_create(
        ConsoleLine(server=server, seq=line.seq, line=line.line, created_at=line.created_at)
        for line in lines[segments * each :]
    )


def add_run(server: Server, number: int, first_seq: int, **more: object) -> ConsoleRun:
    started_at = EVENING + timedelta(hours=number)
    return ConsoleRun.objects.create(
        server=server, number=number, first_seq=first_seq, started_at=started_at, **more
    )


LAYOUTS = [(0, 0), (1, 2_999), (3, 1_000), (40, 75), (7, 300)]
"""How many segments there are, and how many lines each has; the rest are rows.

PostgreSQL is asked for rows alone and for rows behind segments, which takes every query that there is.
"""


@pytest.fixture(params=LAYOUTS if settings.IS_SQLITE else [LAYOUTS[0], LAYOUTS[-1]])
def console(request: pytest.FixtureRequest, server: Server) -> str:
    """Return the address of a console of 3,000 lines from line 101 on, divided in some way."""
    store(server, LINES, *request.param)
    return reverse("servers:console", args=[server.name])


@pytest.fixture
def url(server: Server) -> str:
    """Return the address of the console."""
    return reverse("servers:console", args=[server.name])


# --- Lines ------------------------------------------------------------------------------------


ADDRESSES = {
    "": (2_101, 3_100),
    "?before=2101": (1_101, 2_100),
    "?before=110": (101, 109),
    "?after=1100": (1_101, 2_100),
    "?after=3050": (3_051, 3_100),
    "?line=1600": (1_100, 2_099),
    "?line=5": (101, 1_100),
    "?line=3100": (2_600, 3_100),
    "?line=3101": (2_101, 3_100),
    "?after=9223372036854775807": (2_101, 3_100),
}
"""Queries, and the first and the last line that each shows."""


def test_an_address_shows_the_same_lines_wherever_they_lie(as_alice: Client, console: str) -> None:
    pages = {query: read(as_alice, console + query) for query in ADDRESSES}
    found = {query: what_is_shown(page) for query, page in pages.items()}
    assert found == what_is_expected(ADDRESSES, 101, 3_100)
    for query, (first, _) in ADDRESSES.items():
        assert f"line {first}</div>" in pages[query]


def test_the_servers_own_page_shows_its_newest_lines(
    as_alice: Client, console: str, server: Server
) -> None:
    page = read(as_alice, server.get_absolute_url())
    assert seqs(page) == range(2_101, 3_101)
    assert console in page


def test_lines_are_read_on_in_any_steps_without_a_gap_or_a_double(
    console: str, server: Server
) -> None:
    for limit in (1, 7, 75, 500, 5_000):
        # In short steps across the ends of some segments, whatever their size, and of the last one.
        first, until = (2_090, 2_210) if limit < 10 else (101, 3_090)
        after, found = first - 1, []
        while lines := Console(server.pk).read_after(after, limit, until=until):
            assert len(lines) <= limit
            found += lines
            after = lines[-1].seq
        assert found == LINES[first - 101 : until - 100]


@pytest.mark.parametrize(
    ("read_lines", "first_seq"),
    [
        (lambda console: console.read_before(None, 2_500), 601),
        (lambda console: console.read_after(600, 5_000), 601),
        (lambda console: [line for block in console.blocks() for line in block.lines()], 101),
    ],
)
def test_a_line_that_moves_while_it_is_read_is_read_once(
    server: Server, read_lines: Callable[[Console], list[StoredLine]], first_seq: int
) -> None:
    store(server, LINES, 1, 1_000)
    queries: list[str] = []

    def seal_meanwhile(execute: Callable[..., object], sql: str, *rest: object) -> object:
        """Let all rows become a segment before the second query, whose answer contains them again."""
        queries.append(sql)
        if len(queries) == 2:
            ConsoleSegment.of(server.pk, LINES[1_000:]).save()
            ConsoleLine.objects.all().delete()
        return execute(sql, *rest)

    with connection.execute_wrapper(seal_meanwhile):
        lines = read_lines(Console(server.pk))
    assert lines == LINES[first_seq - 101 :]
    assert not ConsoleLine.objects.exists()


# --- Runs -------------------------------------------------------------------------------------


@override_settings(TIME_ZONE="UTC")
def test_lines_stand_under_their_runs(as_alice: Client, console: str, server: Server) -> None:
    for number, first_seq in ((1, 90), (2, 1_000), (3, 1_500), (4, 1_500), (5, 3_101)):
        add_run(server, number, first_seq)
    assert groups(read(as_alice, console + "?line=1000")) == [
        ("Run of 2026-01-01 21:00:00", 500, 999),
        ("Run of 2026-01-01 22:00:00", 1_000, 1_499),
    ]
    assert groups(read(as_alice, console + "?before=1601"))[1:] == [
        ("Run of 2026-01-01 22:00:00", 1_000, 1_499),
        ("Run of 2026-01-01 23:00:00", 0, 0),
        ("Run of 2026-01-02 00:00:00", 1_500, 1_600),
    ]


def test_runs_are_listed_with_how_they_ended_and_lead_to_their_lines(
    as_alice: Client, console: str, server: Server
) -> None:
    ended_at = EVENING + timedelta(hours=3)
    add_run(server, 1, 50, ended_at=ended_at, ending="stopped", build_id="100")
    crash = add_run(server, 2, 1_000, ended_at=ended_at, ending="crashed", exit_signal="SIGSEGV")
    add_run(server, 3, 2_000, ended_at=ended_at, ending="host_restarted")
    add_run(server, 4, 3_000)
    page = read(as_alice, console)
    for words in ("stopped", "crashed with SIGSEGV", "host restarted", "still running"):
        assert page.count(words) == 1
    for lines in ("101–999", "1000–1999", "2000–2999", "since line 3000"):
        assert lines in page
    assert f'href="{console}?line=1000#L1000"' in page
    # What is left of a partly deleted run.
    assert f'href="{console}?line=101#L101"' in page
    assert f"console.txt?run={crash.pk}" in page


def test_many_runs_are_listed_page_by_page(as_alice: Client, url: str, server: Server) -> None:
    store(server, LINES[:200], 0, 0)
    runs = [add_run(server, number, 101 + number) for number in range(RUNS_SHOWN + 5)]
    page = read(as_alice, url)
    assert page.count("?run=") == RUNS_SHOWN
    assert f"?runs_before={runs[5].pk}" in page
    older = read(as_alice, f"{url}?runs_before={runs[5].pk}")
    assert older.count("?run=") == 5
    assert "since line 105" in older


def test_a_page_costs_no_more_queries_with_more_runs(
    as_alice: Client, url: str, server: Server
) -> None:
    store(server, LINES, 3, 1_000)
    add_run(server, 1, 101)

    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            read(as_alice, url)
        return len(queries)

    before = count()
    for number in range(2, 30):
        add_run(server, number, 100 * number)
    assert count() == before


# --- Search -----------------------------------------------------------------------------------


def test_a_search_lists_what_it_finds_in_all_runs_the_newest_first(
    as_alice: Client, console: str, server: Server
) -> None:
    add_run(server, 1, 101, ended_at=EVENING, ending="crashed")
    add_run(server, 2, 1_500)
    page = read(as_alice, console + "?q=LINE 15")
    assert "110 lines with “LINE 15”" in page
    assert page.count("<mark>line 15</mark>") == MATCHES_SHOWN
    assert page.index("?q=LINE+15&amp;line=1599#L1599") < page.index("line=1598#L1598")
    older = read(as_alice, console + link_to(page, "Older matches"))
    assert older.count("<mark>line 15</mark>") == 10
    assert "line=150#L150" in older
    assert "crashed" in older
    assert 'class="log-line"' not in older


def link_to(page: str, text: str) -> str:
    """Return where the link with that text leads."""
    before = page[: page.index(f">{text}<")]
    return before[before.rindex('href="') + 6 :].rstrip('"').replace("&amp;", "&")


def test_a_match_is_shown_among_its_neighbours_and_leads_to_the_next_one(
    as_alice: Client, console: str
) -> None:
    page = read(as_alice, console + "?q=line 15&line=1500")
    assert "11 of 110 lines with “line 15”" in page
    assert 'rel="prev" href="?q=line+15&amp;line=159#L159"' in page
    assert 'rel="next" href="?q=line+15&amp;line=1501#L1501"' in page
    assert seqs(page) == range(1_000, 2_000)


@pytest.mark.parametrize("text", ["%", "_", "<b>", "Ä", "ß", "[", "\\", "日本"])
def test_a_search_takes_every_character_as_it_is(
    as_alice: Client, url: str, server: Server, text: str
) -> None:
    lines = [
        *LINES[:10],
        StoredLine(111, f"it is {text.lower()} here", EVENING),
        StoredLine(112, f"{text}{text}", EVENING),
        StoredLine(113, "", EVENING),
    ]
    for segments, each in ((0, 0), (1, 13), (1, 11)):
        store(server, lines, segments, each)
        page = as_alice.get(url, {"q": text}).content.decode()
        assert "2 lines with" in page
        assert page.index("line=112#L112") < page.index("line=111#L111")
        ConsoleSegment.objects.all().delete()
        ConsoleLine.objects.all().delete()


@pytest.mark.parametrize("segments", [0, 1])
def test_a_search_finds_what_a_line_shows_across_its_colours(
    as_alice: Client, url: str, server: Server, segments: int
) -> None:
    lines = [
        StoredLine(1, "plain", EVENING),
        StoredLine(2, "\x1b[31mTank\x1b[0m ahe\x1b[1mad\x1b[0m", EVENING),
        StoredLine(3, "\x1b]0;an end that never comes", EVENING),
        StoredLine(4, "tank ahead", EVENING),
    ]
    store(server, lines, segments, 4)
    page = read(as_alice, url + "?q=tank ahead")
    assert "2 lines with" in page
    assert '<mark class="ansi-fg-1">Tank</mark><mark> ahe</mark>' in page
    assert "0 lines with" in read(as_alice, url + "?q=31m")


def test_a_search_without_a_match_says_so(as_alice: Client, console: str) -> None:
    page = read(as_alice, console + "?q=nothing like it")
    assert "0 lines with" in page
    assert "No line of the stored runs contains it." in page


# --- Files ------------------------------------------------------------------------------------


def test_one_run_and_everything_can_be_downloaded(
    as_alice: Client, console: str, server: Server
) -> None:
    url = reverse("servers:console_text", args=[server.name])
    first = add_run(server, 1, 90, ended_at=EVENING, ending="stopped", build_id="7")
    add_run(server, 2, 3_000)
    response = as_alice.get(url, {"run": first.pk})
    text = b"".join(response).decode()
    lines = text.splitlines()
    assert len(lines) == 3_000 - 101
    assert lines[0] == "2026-01-01T20:01:41.000+00:00 line 101"
    assert lines[-1].endswith(" line 2999")
    assert response.headers["Content-Disposition"] == (
        'attachment; filename="saferoom-alpha-run-20260101-210000.txt"'
    )
    everything = b"".join(as_alice.get(url)).decode().splitlines()
    assert len(everything) == 3_001
    assert everything[2_899].startswith("==== Run of ")
    assert everything[2_899].endswith(": still running ====")
    assert as_alice.get(url, {"run": first.pk + 1_000}).status_code == 404


@pytest.mark.django_db(transaction=True)
def test_the_console_is_streamed_under_asgi_too(server: Server, alice: User) -> None:
    store(server, LINES, 2, 1_000)

    async def download() -> bytes:
        client = AsyncClient()
        await client.aforce_login(alice)
        answer = await client.get(reverse("servers:console_text", args=[server.name]))
        response = cast("StreamingHttpResponse", answer)
        return b"".join([chunk async for chunk in response])

    assert len(asyncio.run(download()).splitlines()) == 3_000


def test_strangers_learn_nothing(as_bob: Client, client: Client, url: str, server: Server) -> None:
    text_url = reverse("servers:console_text", args=[server.name])
    for address in (url, text_url):
        assert as_bob.get(address).status_code == 404
        assert client.get(address).status_code == 302


def test_a_console_without_a_line_says_so(as_alice: Client, url: str, server: Server) -> None:
    page = read(as_alice, url)
    assert "Nothing yet." in page
    assert "None yet. Each start of the server is a run" in page
    text = as_alice.get(reverse("servers:console_text", args=[server.name]))
    assert b"".join(text) == b""


@pytest.mark.parametrize("page", ["", "console/", "console/?q=ready"])
def test_its_log_has_a_name(as_alice: Client, server: Server, page: str) -> None:
    text = as_alice.get(f"{server.get_absolute_url()}{page}").content.decode()
    assert 'aria-label="Console of alpha"' in text
