"""Which lines of a log a page shows, what a search finds in it, and the stages of its lines."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from django.test import Client, RequestFactory, override_settings
from django.urls import reverse
from django.utils import timezone

from jobs.models import Job, JobLog, JobStage
from servers.logs.log_pages import LINES_SHOWN, RowLog, read_log_page
from servers.models import ConsoleLine, Server
from tests.pages.queries import assert_same_queries

REFRESH = {"X-Saferoom-Refresh": "1"}
WITH_LOG = {"X-Saferoom-Refresh": "log"}


@pytest.fixture
def long_job(server: Server) -> Job:
    """Return a job with 5,000 lines."""
    job = Job.objects.create(operation="start", server=server)
    JobLog.objects.bulk_create(
        JobLog(job=job, seq=seq, stream="stdout", line=f"line {seq}") for seq in range(1, 5_001)
    )
    return job


def read(client: Client, url: str, **headers: str) -> str:
    """Return the page at `url`, which redirects nowhere."""
    response = client.get(url, headers=headers)
    assert response.status_code == 200
    return response.content.decode()


def seqs(page: str) -> range:
    """Return the numbers of the lines on a page, which are consecutive."""
    numbers = [int(number) for number in re.findall(r'class="log-line" id="L(\d+)"', page)]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    return range(numbers[0], numbers[-1] + 1)


def link(page: str, name: str) -> str:
    """Return where the link to earlier or later lines leads, or an empty text."""
    match = re.search(rf'data-log-{name} href="([^"]*)"', page)
    return match[1].replace("&amp;", "&") if match else ""


def what_is_shown(page: str) -> tuple[range, str, str]:
    """Return the lines on a page, and where its links to earlier and to later ones lead."""
    return seqs(page), link(page, "earlier"), link(page, "later")


def what_is_expected(
    addresses: dict[str, tuple[int, int]], oldest: int, newest: int
) -> dict[str, tuple[range, str, str]]:
    """Return the same for each query, from the first and the last line that it shows."""
    return {
        query: (
            range(first, last + 1),
            f"?before={first}" if first > oldest else "",
            f"?after={last}" if last < newest else "",
        )
        for query, (first, last) in addresses.items()
    }


# --- Pages of lines ---------------------------------------------------------------------------


def test_lines_stored_while_the_page_is_made_are_left_to_the_stream(
    long_job: Job, rf: RequestFactory
) -> None:
    """A link to later lines would end a running job's live log before it began."""

    def stages() -> Iterator[JobStage]:
        JobLog.objects.create(job=long_job, seq=5_001, stream="stdout", line="meanwhile")
        yield from ()

    page = read_log_page(RowLog(JobLog.objects.filter(job=long_job), stages()), rf.get("/"))
    assert [line.seq for line in page.lines][-1] == 5_000
    assert page.later == ""


ADDRESSES = {
    "": (4_001, 5_000),
    "?before=4001": (3_001, 4_000),
    "?before=10": (1, 9),
    "?after=1000": (1_001, 2_000),
    "?after=4990": (4_991, 5_000),
    "?line=2500": (2_000, 2_999),
    "?line=1": (1, 1_000),
    "?line=5000": (4_500, 5_000),
    # What leads nowhere leads to the newest lines.
    "?line=5001": (4_001, 5_000),
    "?line=0": (4_001, 5_000),
    "?before=1": (4_001, 5_000),
    "?after=5000": (4_001, 5_000),
    "?line=x&before=-1": (4_001, 5_000),
    "?line=" + "9" * 30: (4_001, 5_000),
    "?line=9223372036854775807": (4_001, 5_000),
    "?before=9223372036854775807": (4_001, 5_000),
    "?after=9223372036854775807": (4_001, 5_000),
}
"""Queries, and the first and the last line that each shows."""


def test_an_address_says_which_lines_are_shown(as_alice: Client, long_job: Job) -> None:
    # In one test: the lines take longer to store than to read.
    url = long_job.get_absolute_url()
    found = {query: what_is_shown(read(as_alice, url + query)) for query in ADDRESSES}
    assert found == what_is_expected(ADDRESSES, 1, 5_000)


@pytest.mark.parametrize(("start", "step"), [("", "earlier"), ("?line=1", "later")])
def test_the_links_lead_through_the_whole_log(
    as_alice: Client, long_job: Job, start: str, step: str
) -> None:
    seen: list[int] = []
    query = start
    while query or not seen:
        page = read(as_alice, long_job.get_absolute_url() + query)
        seen += seqs(page)
        query = link(page, step)
    assert sorted(seen) == list(range(1, 5_001))


def test_a_console_whose_oldest_lines_are_gone_is_read_the_same_way(
    as_alice: Client, server: Server
) -> None:
    ConsoleLine.objects.bulk_create(
        ConsoleLine(server=server, seq=seq, line=f"at {seq}", created_at=timezone.now())
        for seq in range(701, 2_301)
    )
    url = server.get_absolute_url()
    assert seqs(read(as_alice, url)) == range(1_301, 2_301)
    page = read(as_alice, url + "?before=1301")
    assert seqs(page) == range(701, 1_301)
    assert link(page, "earlier") == ""
    assert seqs(read(as_alice, url + "?line=5"))[0] == 701
    response = as_alice.get(url, {"q": "at 2000"})
    assert response.headers["Location"] == f"{url}?q=at+2000&line=2000#L2000"


@override_settings(TIME_ZONE="Europe/Berlin")
def test_a_line_carries_its_number_and_its_time_of_day(as_alice: Client, failed_job: Job) -> None:
    failed_job.logs.update(created_at=datetime(2026, 7, 1, 22, 30, 5, tzinfo=UTC))
    page = read(as_alice, failed_job.get_absolute_url())
    assert 'data-seq="2" data-at="00:30:05"' in page
    assert 'href="?line=2#L2"' in page


def test_colours_are_classes_and_text_stays_text(as_alice: Client, failed_job: Job) -> None:
    JobLog.objects.create(
        job=failed_job, seq=3, stream="stdout", line="\x1b[31m<script>\x1b[0m\x1b]0;t\x07"
    )
    page = read(as_alice, failed_job.get_absolute_url())
    assert '</a><span class="ansi-fg-1">&lt;script&gt;</span></div>' in page


def test_a_page_that_fetches_older_lines_leaves_the_messages_alone(
    as_alice: Client, stopped_server: Server, long_job: Job
) -> None:
    url = reverse("jobs:create", args=[stopped_server.name])
    landing = as_alice.post(url, {"operation": "start"}).headers["Location"]
    part = read(as_alice, landing + "?before=4001", **WITH_LOG)
    assert seqs(part) == range(3_001, 4_001)
    assert "is already waiting" not in part
    assert "is already waiting" in read(as_alice, landing)
    assert 'class="log-line"' not in read(as_alice, landing, **REFRESH)


# --- Search -----------------------------------------------------------------------------------


def test_a_search_leads_to_the_first_line_that_has_it(as_alice: Client, long_job: Job) -> None:
    url = long_job.get_absolute_url()
    response = as_alice.get(url, {"q": "LINE 12"})
    assert response.status_code == 302
    assert response.headers["Location"] == f"{url}?q=LINE+12&line=12#L12"


def test_a_search_counts_and_leads_from_match_to_match(as_alice: Client, long_job: Job) -> None:
    url = long_job.get_absolute_url()
    page = read(as_alice, url + "?q=line 12&line=120")
    assert "2 of 111 lines with “line 12”" in page
    assert 'href="?q=line+12&amp;line=12#L12"' in page
    assert 'href="?q=line+12&amp;line=121#L121"' in page
    assert "<mark>line 12</mark>0</div>" in page
    assert link(page, "later") == "?q=line+12&after=1000"
    last = read(as_alice, url + "?q=line 12&line=1299")
    assert "111 of 111" in last
    assert 'rel="next"' not in last
    # A line without a match is no match, but the search can continue from it.
    between = read(as_alice, url + "?q=line 12&line=130")
    assert "111 lines found with" in between
    assert 'href="?q=line+12&amp;line=1200#L1200"' in between


@pytest.mark.parametrize("text", ["%", "_", "\\", "<b>", "'", '"', "line 5 ", "[", "ß"])
def test_a_search_takes_every_character_as_it_is(
    as_alice: Client, failed_job: Job, text: str
) -> None:
    JobLog.objects.create(job=failed_job, seq=3, stream="stdout", line=f"it is {text} here")
    url = failed_job.get_absolute_url()
    count = failed_job.logs.filter(line__contains=text.strip()).count()
    response = as_alice.get(url, {"q": text}, follow=True)
    noun = "line" if count == 1 else "lines"
    assert f"1 of {count} {noun}" in response.content.decode()


def test_a_search_finds_what_colours_divide_and_not_the_colours(
    as_alice: Client, failed_job: Job
) -> None:
    lines = ["a nee\x1b[1mdle h\x1b[0;31mere", "\x1b]0;title\x07Needle", "ne edle \x1b[31m", "31m"]
    for seq, text in enumerate(lines, start=3):
        JobLog.objects.create(job=failed_job, seq=seq, stream="stdout", line=text)
    url = failed_job.get_absolute_url()
    page = read(as_alice, url + "?q=needle&line=3")
    assert "1 of 2 lines with" in page
    assert '<mark>nee</mark><mark class="ansi-bold">dle</mark>' in page
    assert "1 of 1 line with" in read(as_alice, url + "?q=31m&line=6")
    assert "0 lines found" in read(as_alice, url + "?q=title&line=3")
    assert "0 lines found" in read(as_alice, url + "?q=\x1b&line=3")


@pytest.mark.parametrize("text", ["nothing like it", "\0", " ", "x" * 5_000])
def test_a_search_without_a_match_shows_the_newest_lines(
    as_alice: Client, long_job: Job, text: str
) -> None:
    response = as_alice.get(long_job.get_absolute_url(), {"q": text})
    assert response.status_code == 200
    page = response.content.decode()
    assert seqs(page)[-1] == 5_000
    assert ("0 lines found" in page) == bool(text.strip(" \0"))


# --- Stages -----------------------------------------------------------------------------------


def test_lines_stand_under_their_stages(as_alice: Client, long_job: Job) -> None:
    stages = [("Checking", 5), ("Quick", 900), ("Quicker", 900), ("Copying", 901), ("Later", 5_001)]
    for name, first_seq in stages:
        JobStage.objects.create(
            job=long_job, name=name, first_seq=first_seq, started_at=timezone.now()
        )
    url = long_job.get_absolute_url()
    assert groups(read(as_alice, url + "?line=1")) == [
        ("", 1, 4),
        ("Checking", 5, 899),
        ("Quick", 0, 0),
        ("Quicker", 900, 900),
        ("Copying", 901, 1_000),
    ]
    assert groups(read(as_alice, url)) == [("Copying", 4_001, 5_000)]
    assert groups(read(as_alice, url + "?before=901"))[-1] == ("Quicker", 900, 900)


def groups(page: str) -> list[tuple[str, int, int]]:
    """Return the stages on a page, each with its first and its last line; 0 for none."""
    found = []
    log = page.split("data-log-lines>")[1]
    for part in re.split("<details", log):
        name = re.search("<summary>([^<]*?) ?<", part)
        numbers = [int(number) for number in re.findall(r'id="L(\d+)"', part)]
        if name or numbers:
            first, last = (numbers[0], numbers[-1]) if numbers else (0, 0)
            found.append((name[1] if name else "", first, last))
    return found


def test_a_page_costs_no_more_queries_with_more_lines_and_stages(
    as_alice: Client, failed_job: Job
) -> None:
    def make_more() -> None:
        JobLog.objects.bulk_create(
            JobLog(job=failed_job, seq=seq, stream="stdout", line="x")
            for seq in range(3, LINES_SHOWN)
        )
        for seq in range(1, 20):
            JobStage.objects.create(
                job=failed_job, name=f"{seq}", first_seq=seq, started_at=timezone.now()
            )

    assert_same_queries(as_alice, failed_job.get_absolute_url(), make_more)


def test_last_lines_are_quoted_without_their_colours(as_alice: Client, failed_job: Job) -> None:
    JobLog.objects.create(job=failed_job, seq=3, stream="stderr", line="\x1b[31mno <space>\x1b[0m")
    page = read(as_alice, failed_job.get_absolute_url(), **REFRESH)
    assert "no &lt;space&gt;\n" in page
    assert "\x1b" not in page
