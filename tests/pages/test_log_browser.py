"""The log of a job in a real browser: live, older, searched, linked to, and flooded."""

import re
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Locator, Page, expect

from jobs.database import Channel, announce
from jobs.models import Job, JobLog, JobStage, JobState
from servers.models import ConsoleLine, ConsoleRun, Server
from tests.pages.browsing import OpenPage, add_lines, distance_to_end, is_in_view, line, shown_seqs
from tests.pages.webserver import WebServer
from tests.waiting import wait_until

MOST_ROWS = 3_000
"""What `rows.js` keeps."""

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

# --- Live -------------------------------------------------------------------------------------


def test_lines_come_in_order_as_text_and_once(
    open_page: OpenPage, site: WebServer, running_job: Job
) -> None:
    page = open_page()
    page.goto(running_job.get_absolute_url())
    expect(page.locator("[data-log-status]")).to_have_text("Live")
    add_lines(running_job, 201, 700)
    add_lines(running_job, 701, 701, "stderr")
    expect(page.locator('.log-line[data-seq="701"]')).to_be_attached()

    site.stop()
    expect(page.locator("[data-log-status]")).to_have_text("Reconnecting…")
    add_lines(running_job, 702, 800)
    site.start()
    expect(page.locator('.log-line[data-seq="800"]')).to_be_attached(timeout=15_000)
    assert shown_seqs(page) == list(range(1, 801))
    last = page.locator('.log-line[data-seq="701"]')
    expect(last).to_have_text("line 701 <b>as it is</b>")
    expect(last).to_have_attribute("data-stream", "stderr")


def test_the_log_follows_its_end_until_the_reader_scrolls_up(
    open_page: OpenPage, running_job: Job
) -> None:
    page = open_page()
    page.goto(running_job.get_absolute_url())
    log, jump = page.get_by_role("log"), page.get_by_role("button", name="Jump to live")
    add_lines(running_job, 201, 250)
    expect(page.locator('.log-line[data-seq="250"]')).to_be_attached()
    wait_until(lambda: distance_to_end(log) < 24, 20, "the log does not follow its end")
    expect(jump).to_be_hidden()

    log.evaluate("log => { log.scrollTop = 100 }")
    expect(jump).to_be_visible()
    add_lines(running_job, 251, 300)
    expect(page.locator('.log-line[data-seq="300"]')).to_be_attached()
    assert log.evaluate("log => log.scrollTop") == 100

    jump.click()
    assert distance_to_end(log) < 24
    add_lines(running_job, 301, 350)
    expect(page.locator('.log-line[data-seq="350"]')).to_be_attached()
    wait_until(lambda: distance_to_end(log) < 24, 20, "the log does not follow its end")


def test_a_phone_follows_lines_that_are_wrapped(open_page: OpenPage, running_job: Job) -> None:
    page = open_page(viewport={"width": 390, "height": 844}, has_touch=True)
    page.goto(running_job.get_absolute_url())
    log = page.get_by_role("log")
    expect(page.locator("[data-log-status]")).to_have_text("Live")
    for first in (201, 251, 301):
        JobLog.objects.bulk_create(
            JobLog(job=running_job, seq=seq, stream="stdout", line=f"{seq} " * 60)
            for seq in range(first, first + 50)
        )
        expect(line(page, first + 49)).to_be_attached()
        wait_until(lambda: distance_to_end(log) < 24, 20, "the log does not follow its end")
        expect(page.locator("[data-log-jump]")).to_be_hidden()


def test_the_end_of_a_job_shows_in_place(open_page: OpenPage, running_job: Job) -> None:
    page = open_page()
    page.goto(running_job.get_absolute_url())
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    running_job.progress = 55
    running_job.save()
    expect(page.get_by_text("55 %").first).to_be_visible()

    running_job.state = JobState.FAILED
    running_job.exit_code = 8
    running_job.error = "The disk is full."
    running_job.finished_at = timezone.now()
    running_job.save()
    expect(page.get_by_text("The disk is full.")).to_be_visible()
    expect(page.get_by_role("button", name="Retry")).to_be_visible()
    expect(page.locator("[data-log-status]")).to_have_text("Ended")
    expect(page).to_have_title("Start alpha: failed · Saferoom")


def test_the_console_goes_on_live(open_page: OpenPage, server: Server) -> None:
    page = open_page()
    page.goto(server.get_absolute_url())
    expect(page.get_by_text("Nothing yet.")).to_be_visible()
    ConsoleLine.objects.create(server=server, seq=1, line="<i>ready</i>", created_at=timezone.now())
    expect(page.locator(".log-line")).to_have_text("<i>ready</i>")
    expect(page.get_by_text("Nothing yet.")).to_have_count(0)


def test_how_long_a_run_lasts_stops_with_the_run(open_page: OpenPage, server: Server) -> None:
    page = open_page()
    page.goto(server.get_absolute_url())
    expect(page.get_by_text("Nothing yet.")).to_be_visible()
    began = timezone.now() - timedelta(minutes=5)
    run = ConsoleRun.objects.create(server=server, number=1, first_seq=1, started_at=began)
    ConsoleLine.objects.create(server=server, seq=1, line="ready", created_at=began)
    took = page.locator(".log-took")
    expect(took).to_have_text(re.compile(r"^5 min"))
    ConsoleRun.objects.filter(pk=run.pk).update(ended_at=began + timedelta(seconds=42))
    Server.objects.filter(pk=server.pk).update(updated_at=timezone.now())
    announce(Channel.PAGES)
    expect(took).to_have_text("42 s")


def test_a_line_that_comes_live_looks_like_one_of_the_page(
    open_page: OpenPage, running_job: Job
) -> None:
    page = open_page()
    page.goto(running_job.get_absolute_url())
    expect(page.locator("[data-log-status]")).to_have_text("Live")
    text = "\x1b[31mred\x1b[0m <i>plain</i> \x1b[1;44mbold\x1b[K"
    JobLog.objects.create(job=running_job, seq=201, stream="stderr", line=text)
    expect(line(page, 201)).to_have_text("red <i>plain</i> bold")
    live = line(page, 201).evaluate("row => row.outerHTML")
    page.reload()
    assert line(page, 201).evaluate(
        """(row, live) => {
            const template = document.createElement('template');
            template.innerHTML = live;
            return template.content.firstChild.isEqualNode(row);
        }""",
        live,
    ), live


def test_a_stage_that_begins_live_folds(open_page: OpenPage, running_job: Job) -> None:
    page = open_page()
    page.goto(running_job.get_absolute_url())
    expect(page.locator("[data-log-status]")).to_have_text("Live")
    begin_stage(running_job, "Copying the game", 206)
    add_lines(running_job, 201, 210)
    summary = page.locator("summary", has_text="Copying the game")
    expect(summary).to_be_visible()
    expect(line(page, 210)).to_be_visible()
    summary.click()
    expect(line(page, 206)).to_be_hidden()
    expect(line(page, 205)).to_be_visible()


def begin_stage(job: Job, name: str, first_seq: int) -> None:
    """Note where a stage began."""
    JobStage.objects.create(job=job, name=name, first_seq=first_seq, started_at=timezone.now())


def test_a_page_with_a_log_holds_one_stream(open_page: OpenPage, running_job: Job) -> None:
    page = open_page()
    streams: list[str] = []
    page.on(
        "request", lambda request: streams.append(request.url) if "events" in request.url else None
    )
    page.goto(running_job.get_absolute_url())
    expect(page.locator("[data-log-status]")).to_have_text("Live")
    Job.objects.create(operation="stop", server=running_job.server, retry_of=running_job)
    expect(page.get_by_text("Retried by")).to_be_visible()
    assert len(streams) == 1, streams


# --- A flood ----------------------------------------------------------------------------------


def test_a_flood_leaves_the_page_usable(open_page: OpenPage, running_job: Job) -> None:
    page = open_page()
    page.goto(running_job.get_absolute_url())
    expect(page.locator("[data-log-status]")).to_have_text("Live")
    # The oldest rows make room; of more lines than there is room for only the newest become rows.
    for first, last in ((201, 1_700), (1_701, 3_400), (3_401, 6_600)):
        add_lines(running_job, first, last)
        expect(line(page, last)).to_be_attached(timeout=30_000)
        assert shown_seqs(page) == list(range(max(1, last - MOST_ROWS + 1), last + 1))
    wait_until(
        lambda: distance_to_end(page.locator("[data-log]")) < 24, 20, "the log is not at its end"
    )
    # Everything that is gone from the page can be fetched again.
    page.locator("[data-log-earlier]").click()
    expect(line(page, 6_600 - MOST_ROWS)).to_be_attached()
    expect(page.locator("[data-log-status]")).to_have_text("Showing older lines")


def test_a_flood_is_shown_by_a_browser_that_gets_no_time(
    open_page: OpenPage, running_job: Job
) -> None:
    """At each of its first looks at the clock, a frame's time is over, as on a busy computer."""
    page = open_page()
    page.add_init_script("""
        const now = performance.now.bind(performance);
        let late = 0;
        performance.now = () => now() + (late += late < 50_000 ? 1_000 : 0);
    """)
    page.goto(running_job.get_absolute_url())
    expect(page.locator("[data-log-status]")).to_have_text("Live")
    begin_stage(running_job, "Downloading", 300)
    # The browser gets them while it is busy, so that more wait than are shown.
    page.evaluate("setTimeout(() => { const end = Date.now() + 2_000; while (Date.now() < end); })")
    add_lines(running_job, 201, 5_200)
    expect(page.locator("[data-log-earlier]")).to_be_attached(timeout=20_000)
    expect(line(page, 5_200)).to_be_attached(timeout=30_000)
    assert shown_seqs(page) == list(range(5_201 - MOST_ROWS, 5_201))
    assert stage_names(page) == ["Downloading"]


def test_a_flood_does_not_take_away_what_is_being_read(
    open_page: OpenPage, running_job: Job
) -> None:
    page = open_page()
    page.goto(running_job.get_absolute_url())
    log = page.get_by_role("log")
    log.evaluate("log => { log.scrollTop = 100 }")
    expect(page.get_by_role("button", name="Jump to live")).to_be_visible()
    add_lines(running_job, 201, 8_000)
    expect(page.locator("[data-log-status]")).to_have_text("Showing older lines")
    assert log.evaluate("log => log.scrollTop") == 100
    seqs = shown_seqs(page)
    assert seqs == list(range(1, len(seqs) + 1))
    assert len(seqs) <= MOST_ROWS

    # By its attribute: finding it by its role takes seconds among so many rows.
    page.locator("[data-log-jump]").click()
    expect(line(page, 8_000)).to_be_attached()
    expect(page.locator("[data-log-status]")).to_have_text("Live")
    add_lines(running_job, 8_001, 8_010)
    expect(line(page, 8_010)).to_be_attached()
    wait_until(lambda: distance_to_end(log) < 24, 20, "the log does not follow its end")
    assert shown_seqs(page) == list(range(7_001, 8_011))


# --- Earlier and later ------------------------------------------------------------------------


def test_earlier_lines_are_loaded_in_place(open_page: OpenPage, running_job: Job) -> None:
    add_lines(running_job, 201, 2_500)
    begin_stage(running_job, "Checking", 1)
    begin_stage(running_job, "Downloading", 1_200)
    page = open_page()
    page.goto(running_job.get_absolute_url())
    log = page.get_by_role("log")
    log.evaluate("log => { log.scrollTop = 0 }")
    before = line(page, 1_501).bounding_box()
    page.get_by_role("link", name="Load earlier lines").click()
    expect(line(page, 501)).to_be_attached()
    after = line(page, 1_501).bounding_box()
    assert before is not None
    assert after is not None
    assert abs(before["y"] - after["y"]) < 2
    assert shown_seqs(page) == list(range(501, 2_501))
    assert stage_names(page) == ["Checking", "Downloading"]

    add_lines(running_job, 2_501, 2_510)
    expect(line(page, 2_510)).to_be_attached()
    page.get_by_role("link", name="Load earlier lines").click()
    expect(page.get_by_role("link", name="Load earlier lines")).to_have_count(0)
    assert shown_seqs(page) == list(range(1, 2_511))


def stage_names(page: Page) -> list[str]:
    """Return the names of the stages on the page, without their durations."""
    names: list[str] = page.locator("summary").evaluate_all(
        "summaries => summaries.map(summary => summary.firstChild.data.trim())"
    )
    return names


def test_later_lines_lead_back_to_the_live_end(open_page: OpenPage, running_job: Job) -> None:
    add_lines(running_job, 201, 2_200)
    page = open_page()
    page.goto(f"{running_job.get_absolute_url()}?line=100#L100")
    expect(page.locator("[data-log-status]")).to_have_text("Showing older lines")
    page.get_by_role("link", name="Load later lines").click()
    expect(line(page, 2_000)).to_be_attached()
    page.get_by_role("link", name="Load later lines").click()
    expect(page.locator("[data-log-status]")).to_have_text("Live")
    add_lines(running_job, 2_201, 2_210)
    expect(line(page, 2_210)).to_be_attached()
    assert shown_seqs(page) == list(range(1, 2_211))


def test_lines_that_could_not_be_loaded_are_asked_for_again(
    open_page: OpenPage, site: WebServer, running_job: Job
) -> None:
    add_lines(running_job, 201, 1_200)
    page = open_page()
    page.goto(running_job.get_absolute_url())
    page.get_by_role("log").evaluate("log => { log.scrollTop = 0 }")
    site.stop()
    page.get_by_role("link", name="Load earlier lines").click()
    again = page.get_by_role("link", name="These lines could not be loaded. Try again")
    expect(again).to_be_visible()
    site.start()
    again.click()
    expect(line(page, 1)).to_be_attached()


# --- Links to lines ---------------------------------------------------------------------------


def test_a_click_on_a_number_makes_a_link_and_shift_a_range(
    open_page: OpenPage, running_job: Job
) -> None:
    page = open_page()
    page.goto(running_job.get_absolute_url())
    number(page, 190).click()
    expect(page).to_have_url(re.compile(r"\?line=190#L190$"))
    number(page, 194).click(modifiers=["Shift"])
    expect(page).to_have_url(re.compile(r"\?line=190#L190-L194$"))
    assert selected_seqs(page) == list(range(190, 195))
    expect(page.get_by_role("button", name="Copy lines 190–194")).to_be_visible()
    number(page, 192).click()
    assert selected_seqs(page) == [192]


def number(page: Page, seq: int) -> Locator:
    """Return the number of a line."""
    return line(page, seq).locator(".log-number")


def selected_seqs(page: Page) -> list[int]:
    """Return the numbers of the lines that the address means."""
    seqs: list[int] = page.locator(".log-line[aria-current]").evaluate_all(
        "rows => rows.map(row => Number(row.dataset.seq))"
    )
    return seqs


def test_a_link_leads_to_lines_that_the_newest_page_does_not_have(
    open_page: OpenPage, running_job: Job
) -> None:
    add_lines(running_job, 201, 2_000)
    page = open_page()
    for address in ("#L300-L303", "?line=300#L300-L303", "#L303-L300"):
        # With another fragment only, the page would not be loaded again.
        page.goto("about:blank")
        page.goto(running_job.get_absolute_url() + address)
        expect(line(page, 303)).to_have_attribute("aria-current", "true")
        assert selected_seqs(page) == [300, 301, 302, 303]
        wait_until(lambda: is_in_view(line(page, 300)), 20, "the line is not in view")


def test_copied_lines_are_their_text_alone(open_page: OpenPage, running_job: Job) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    page.goto(f"{running_job.get_absolute_url()}#L10-L11")
    page.get_by_role("button", name="Copy lines 10–11").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == "line 10 <b>as it is</b>\nline 11 <b>as it is</b>\n"


def test_lines_are_copied_where_the_browser_has_no_clipboard_for_scripts(
    open_page: OpenPage, running_job: Job
) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    # As over plain HTTP; what was copied is pasted instead of read.
    page.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.goto(f"{running_job.get_absolute_url()}#L10-L11")
    button = page.get_by_role("button", name="Copy lines 10–11")
    button.click()
    copied = page.get_by_role("button", name="Copied")
    expect(copied).to_be_focused()
    page.get_by_role("searchbox").focus()
    page.keyboard.press("Control+V")
    pasted = "line 10 <b>as it is</b> line 11 <b>as it is</b>"
    expect(page.get_by_role("searchbox")).to_have_value(
        re.compile(pasted.replace(" line", ".?line"))
    )


def test_a_stage_tells_how_long_it_took_and_a_running_one_how_long_so_far(
    open_page: OpenPage, running_job: Job
) -> None:
    now = timezone.now()
    JobStage.objects.create(
        job=running_job, name="Checking", first_seq=1, started_at=now - timedelta(seconds=95)
    )
    JobStage.objects.create(
        job=running_job, name="Loading", first_seq=100, started_at=now - timedelta(seconds=30)
    )
    page = open_page()
    page.goto(running_job.get_absolute_url())
    took = page.locator(".log-took")
    expect(took.nth(0)).to_have_text("1 min 5 s")
    first = took.nth(1).text_content()
    expect(took.nth(1)).not_to_have_text(first or "")
    expect(page.locator("[data-log-status]")).to_have_text("Live")
    JobStage.objects.create(
        job=running_job, name="Copying", first_seq=201, started_at=now + timedelta(seconds=10)
    )
    add_lines(running_job, 201, 201)
    expect(took.nth(1)).to_have_text("40 s")
    expect(took.nth(2)).to_have_text(re.compile(r"^\d+(\.\d)? s$"))


# --- Search and options -----------------------------------------------------------------------


def test_a_search_finds_lines_that_are_not_shown(open_page: OpenPage, running_job: Job) -> None:
    add_lines(running_job, 201, 5_000)
    page = open_page()
    page.goto(running_job.get_absolute_url())
    page.get_by_role("searchbox").fill("LINE 77")
    page.get_by_role("searchbox").press("Enter")
    expect(page.get_by_text("1 of 11 lines with “LINE 77”")).to_be_visible()
    expect(line(page, 77).locator("mark")).to_have_text("line 77")
    wait_until(lambda: is_in_view(line(page, 77)), 20, "the match is not in view")
    page.get_by_role("link", name="Next", exact=True).click()
    expect(page.get_by_text("2 of 11 lines")).to_be_visible()
    assert selected_seqs(page) == [770]
    page.get_by_role("link", name="Previous", exact=True).click()
    expect(page.get_by_text("1 of 11 lines")).to_be_visible()


def test_what_is_looked_for_is_marked_in_lines_that_come_live(
    open_page: OpenPage, running_job: Job
) -> None:
    page = open_page()
    page.goto(f"{running_job.get_absolute_url()}?q=line 2&line=200")
    expect(page.locator("[data-log-status]")).to_have_text("Live")
    JobLog.objects.create(
        job=running_job, seq=201, stream="stdout", line="a li\x1b[1mne 2\x1b[m and line 3"
    )
    expect(line(page, 201)).to_have_text("a line 2 and line 3")
    assert line(page, 201).locator("mark").all_text_contents() == ["li", "ne 2"]


def test_times_and_wrapping_are_chosen_and_remembered(
    open_page: OpenPage, running_job: Job
) -> None:
    JobLog.objects.create(job=running_job, seq=201, stream="stdout", line="wide " * 200)
    page = open_page()
    page.goto(running_job.get_absolute_url())
    expect(page.locator("[data-log-status]")).to_have_text("Live")
    add_lines(running_job, 202, 202)
    at = timezone.localtime(running_job.logs.get(seq=202).created_at)
    expect(number(page, 202)).to_have_attribute("data-at", f"{at:%H:%M:%S}")
    assert time_content(page) == "none"
    page.get_by_label("Times").check()
    page.get_by_label("Wrap").uncheck()
    page.reload()
    expect(page.get_by_label("Times")).to_be_checked()
    expect(page.get_by_label("Wrap")).not_to_be_checked()
    assert time_content(page) != "none"
    assert page.get_by_role("log").evaluate("log => log.scrollWidth > log.clientWidth")


def time_content(page: Page) -> str:
    """Return the style's content for the time of a line."""
    content: str = number(page, 200).evaluate(
        "number => getComputedStyle(number, '::after').content"
    )
    return content


# --- Without JavaScript -----------------------------------------------------------------------


def test_the_log_is_read_searched_and_linked_to_without_javascript(
    open_page: OpenPage, running_job: Job
) -> None:
    add_lines(running_job, 201, 2_500)
    begin_stage(running_job, "Downloading", 1)
    page = open_page(java_script_enabled=False)
    page.goto(running_job.get_absolute_url())
    assert page.locator(".log-line").count() == 1_000
    assert is_in_view(line(page, 2_500))
    page.get_by_role("link", name="Load earlier lines").click()
    expect(line(page, 1_500)).to_be_attached()
    number(page, 600).click()
    expect(page).to_have_url(re.compile(r"\?line=600#L600$"))
    expect(line(page, 1_099)).to_be_attached()
    page.get_by_role("searchbox").fill("line 2345")
    page.get_by_role("button", name="Find").click()
    expect(page.get_by_text("1 of 1 line with “line 2345”")).to_be_visible()
    expect(page).to_have_url(re.compile(r"\?q=line\+2345&line=2345#L2345$"))
    page.locator("summary").click()
    expect(line(page, 2_345)).to_be_hidden()
    page.goto(f"{running_job.get_absolute_url()}?line=1")
    page.get_by_role("link", name="Newest lines").click()
    expect(line(page, 2_500)).to_be_attached()
