"""What the pages do in a real browser while something changes behind them."""

import os
from collections.abc import Callable, Iterator

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.utils import timezone
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from jobs.models import Job, JobLog, JobState
from servers.models import ActualState, Blueprint, ConsoleLine, Host, Overlay, Server
from tests.floors import find_chromium
from tests.pages.webserver import WebServer
from tests.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

CHROMIUM_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture
def site(transactional_db: None) -> Iterator[WebServer]:
    """Return a web server on the tests' database."""
    site = WebServer()
    site.start()
    yield site
    site.stop()
    connections.close_all()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return a headless Chromium."""
    chromium = find_chromium()
    assert chromium, "there is no chromium: apt install chromium"
    # Playwright's synchronous interface runs an event loop in this thread, in which Django would
    # refuse to touch the database.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, site: WebServer, alice: User) -> Iterator[OpenPage]:
    """Return a function that opens a page on which Alice is signed in; scripts may not fail on it."""
    errors: list[str] = []
    contexts = []

    def open_page(**options: object) -> Page:
        context = browser.new_context(base_url=site.url, **options)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto("/accounts/login/")
        page.get_by_label("Username").fill("alice")
        page.get_by_label("Password").fill("alice-password")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Servers")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def running_job(server: Server, alice: User) -> Job:
    """Return a running job with enough lines to scroll."""
    job = Job.objects.create(
        operation="start",
        server=server,
        requested_by=alice,
        state=JobState.RUNNING,
        started_at=timezone.now(),
        stage="Downloading",
        progress=10,
    )
    add_lines(job, 1, 200)
    return job


def add_lines(job: Job, first: int, last: int, stream: str = "stdout") -> None:
    """Add lines to the log of `job`."""
    JobLog.objects.bulk_create(
        JobLog(job=job, seq=seq, stream=stream, line=f"line {seq} <b>as it is</b>")
        for seq in range(first, last + 1)
    )


def shown_seqs(page: Page) -> list[int]:
    """Return the numbers of the lines on the page."""
    seqs: list[int] = page.locator(".log-line").evaluate_all(
        "rows => rows.map(row => Number(row.dataset.seq))"
    )
    return seqs


def distance_to_end(log: Locator) -> int:
    """Return how far the log is scrolled up from its newest line, in pixels."""
    distance: float = log.evaluate("log => log.scrollHeight - log.scrollTop - log.clientHeight")
    return round(distance)


# --- Logs -------------------------------------------------------------------------------------


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
    wait_until(lambda: distance_to_end(log) < 24, 5, "the log does not follow its end")
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
    wait_until(lambda: distance_to_end(log) < 24, 5, "the log does not follow its end")


def test_a_log_keeps_a_bounded_number_of_rows(open_page: OpenPage, running_job: Job) -> None:
    page = open_page()
    page.goto(running_job.get_absolute_url())
    add_lines(running_job, 201, 7_000)
    expect(page.locator('.log-line[data-seq="7000"]')).to_be_attached(timeout=20_000)
    wait_until(lambda: len(shown_seqs(page)) == 5_000, 5, "the rows are not cut to 5,000")
    assert shown_seqs(page) == list(range(2_001, 7_001))
    expect(page.get_by_text("Earlier lines are not shown here")).to_be_attached()


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
    ConsoleLine.objects.create(
        server=server, seq=1, run=1, line="<i>ready</i>", created_at=timezone.now()
    )
    expect(page.locator(".log-line")).to_have_text("<i>ready</i>")
    expect(page.get_by_text("Nothing yet.")).to_have_count(0)


# --- Live regions -----------------------------------------------------------------------------


def test_an_open_list_is_true(open_page: OpenPage, stopped_server: Server) -> None:
    page = open_page()
    expect(page.get_by_role("button", name="Start alpha")).to_be_visible()
    stopped_server.record_actual_state(ActualState.RUNNING)
    expect(page.get_by_role("button", name="Stop alpha")).to_be_visible()
    expect(page.get_by_role("button", name="Start alpha")).to_have_count(0)


def test_an_update_leaves_an_open_confirmation_and_the_focus_alone(
    open_page: OpenPage, stopped_server: Server
) -> None:
    page = open_page()
    page.goto(stopped_server.get_absolute_url())
    page.get_by_text("Delete instance…").click()
    delete = page.get_by_role("button", name="Delete the instance alpha")
    delete.focus()
    stopped_server.record_actual_state(ActualState.RUNNING)
    expect(page.get_by_role("button", name="Restart alpha")).to_be_visible()
    expect(delete).to_be_visible()
    expect(delete).to_be_focused()


def test_an_update_leaves_what_is_being_typed_alone(
    open_page: OpenPage, server: Server, blueprint: Blueprint
) -> None:
    page = open_page()
    page.goto("/servers/alpha/edit/")
    page.get_by_label("Own config").fill("hostname half-typed")
    server.record_actual_state(ActualState.RUNNING)
    with page.expect_response(lambda response: response.url.endswith("/servers/alpha/edit/")):
        server.record_actual_state(ActualState.STOPPED)
    expect(page.get_by_label("Own config")).to_have_value("hostname half-typed")


def test_a_lost_connection_is_told_and_its_return_too(
    open_page: OpenPage, site: WebServer, server: Server
) -> None:
    page = open_page()
    notice = page.get_by_text("The connection to the panel is lost")
    expect(page.get_by_role("link", name="alpha")).to_be_visible()
    site.stop()
    expect(notice).to_be_visible(timeout=15_000)
    server.record_actual_state(ActualState.RUNNING)
    site.start()
    expect(notice).to_be_hidden(timeout=15_000)
    expect(page.get_by_role("button", name="Stop alpha")).to_be_visible()


# --- All kinds of screens ---------------------------------------------------------------------


@pytest.mark.parametrize("width", [360, 768, 1280, 1920])
def test_no_page_is_wider_than_the_screen(
    open_page: OpenPage, host: Host, blueprint: Blueprint, alice: User, width: int
) -> None:
    name = "a-name-as-long-as-names-may-be-0"
    overlay = Overlay.objects.create(name=name, description="long " * 30)
    long_blueprint = Blueprint.objects.create(
        name=name, owner=alice, arguments="+map " + "x" * 300, config="sv_tags " + "y" * 300
    )
    long_blueprint.set_overlays([overlay])
    server = Server.objects.create(
        name=name,
        owner=alice,
        host=host,
        blueprint=long_blueprint,
        last_error="Z" * 300,
        desired_state="running",
        actual_state="crashed",
        config="w" * 300,
    )
    job = Job.objects.create(
        operation="restart",
        server=server,
        state=JobState.FAILED,
        error="Q" * 300,
        stage="S" * 100,
        started_at=timezone.now(),
        finished_at=timezone.now(),
    )
    JobLog.objects.create(job=job, seq=1, stream="stderr", line="L" * 4_000)
    page = open_page(viewport={"width": width, "height": 800})
    for path in (
        "/servers/",
        server.get_absolute_url(),
        f"/servers/{name}/edit/",
        f"/servers/{name}/remove/",
        "/blueprints/",
        long_blueprint.get_absolute_url(),
        f"/blueprints/{name}/edit/",
        "/jobs/",
        job.get_absolute_url(),
        "/accounts/password/",
        "/nowhere/",
    ):
        page.goto(path)
        surplus = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert surplus <= 0, f"{path} is {surplus} px too wide at {width} px"


def test_everything_can_be_done_without_javascript(
    open_page: OpenPage, stopped_server: Server
) -> None:
    page = open_page(java_script_enabled=False)
    page.get_by_role("link", name="alpha").click()
    page.get_by_text("Delete instance…").click()
    page.get_by_role("button", name="Delete the instance alpha").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Delete instance alpha")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("list", name="Messages")).to_contain_text("is cancelled.")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def test_a_keyboard_reaches_the_content_first(open_page: OpenPage, server: Server) -> None:
    page = open_page()
    page.goto(server.get_absolute_url())
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
