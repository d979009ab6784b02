"""The pages in a real browser: a live log, a lost connection, and the end of the stream."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, Route, expect, sync_playwright

from tests.chromium import CHROMIUM_ARGUMENTS, note_errors
from tests.endtoend.panel import PASSWORD, Panel
from tests.endtoend.proxy import Proxy
from tests.floors import find_page_browser
from tests.ports import find_free_port
from tests.waiting import wait_until

pytestmark = [pytest.mark.endtoend, pytest.mark.browser]


@pytest.fixture
def proxy(panel: Panel) -> Iterator[Proxy]:
    """Return a connection to the panel that can be cut."""
    proxy = Proxy(panel.port)
    yield proxy
    proxy.close()


@pytest.fixture
def page(panel: Panel, proxy: Proxy) -> Iterator[Page]:
    """Return a browser page whose admin has signed in, and which must not report a single error."""
    chromium = find_page_browser()
    assert chromium, "there is no chromium: apt install chromium"
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGUMENTS)
        page = browser.new_page(base_url=f"http://127.0.0.1:{proxy.port}")
        note_errors(page, errors)
        page.goto("/")
        page.get_by_label("Username").fill("admin")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page).to_have_url(f"http://127.0.0.1:{proxy.port}/servers/")
        yield page
        browser.close()
    assert errors == []


def shown_lines(page: Page) -> list[str]:
    """Return the lines of the log on the page."""
    return page.locator(".log-line").all_text_contents()


def test_a_live_log_survives_a_cut_and_sees_the_end(panel: Panel, proxy: Proxy, page: Page) -> None:
    panel.set_simulator(steamcmd={"seconds": 8, "lines": 400})
    page.goto("/admin/")
    page.get_by_role("button", name="Install or update the game").first.click()
    ((job_id,),) = panel.query("SELECT max(id) FROM jobs_job")
    page.goto(f"/jobs/{job_id}/")
    expect(page.locator("[data-log-status]")).to_have_text("Live")
    before = len(shown_lines(page))
    wait_until(lambda: len(shown_lines(page)) > before + 5, 20, "no line arrived live")
    expect(page.locator("progress").first).to_be_visible()

    assert proxy.cut() > 0
    expect(page.locator("[data-log-status]")).to_have_text("Reconnecting…")
    at_cut = len(panel.log(job_id))
    wait_until(lambda: len(panel.log(job_id)) > at_cut + 5, 20, "the job does not go on")
    proxy.mend()

    expect(page.locator("[data-log-status]")).to_have_text("Ended", timeout=60_000)
    panel.succeed(job_id)
    assert shown_lines(page) == panel.log(job_id)
    expect(page.get_by_role("heading", level=1)).to_contain_text("Install the game")
    expect(page.get_by_text("succeeded").first).to_be_visible()

    # The stream is closed for good: a browser that reconnected would ask again.
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.wait_for_timeout(2500)
    assert [url for url in requests if f"/jobs/{job_id}/events" in url] == []


def test_the_first_server_runs_after_three_clicks_on_one_page(panel: Panel, page: Page) -> None:
    panel.set_simulator(steamcmd={"seconds": 2}, srcds={"start_seconds": 0.2})
    page.evaluate("window.isSamePage = true")
    # The install's answer comes late, while the next form is being filled in.
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/hosts/*/jobs/", hold)
    page.get_by_role("button", name="Install the game").click()
    game, server, play = (page.locator(".guide-step").nth(index) for index in range(3))
    page.get_by_label("Versus").check()
    page.get_by_label("Name").fill("alpha")
    page.get_by_text("Port, passwords").click()
    page.get_by_label("Port").fill(str(find_free_port()))
    (install,) = held
    with page.expect_response("**/servers/"):
        install.continue_()
    expect(game.locator("progress")).to_be_visible()
    page.get_by_role("button", name="Make and start").click()
    expect(server).to_contain_text("Server alpha was made")
    expect(play).to_contain_text("It starts once the game is installed")
    expect(game).to_contain_text("is installed on host", timeout=30_000)
    expect(play.get_by_role("link", name="Join")).to_be_visible(timeout=30_000)
    assert page.evaluate("window.isSamePage")
    ((arguments,),) = panel.query("SELECT arguments FROM servers_blueprint")
    assert "+mp_gamemode versus" in arguments

    page.goto("/servers/alpha/")
    expect(page.locator(".log-line").last).to_be_visible()
    expect(page.get_by_text("Connection to Steam servers successful").first).to_be_attached()
    # An open page stays true: the server stops without its doing.
    panel.hostops("stop", "alpha")
    expect(page.get_by_role("button", name="Start alpha", exact=True)).to_be_visible(timeout=15_000)


def test_without_javascript_everything_works(panel: Panel, page: Page) -> None:
    context = page.context.browser
    assert context
    plain = context.new_page(java_script_enabled=False, base_url=panel.url)
    plain.goto("/")
    plain.get_by_label("Username").fill("admin")
    plain.get_by_label("Password").fill(PASSWORD)
    plain.get_by_role("button", name="Sign in").click()
    plain.goto("/admin/")
    plain.get_by_role("button", name="Install or update the game").first.click()
    ((job_id,),) = panel.query("SELECT max(id) FROM jobs_job")
    panel.succeed(job_id)
    plain.goto(f"/jobs/{job_id}/")
    assert shown_lines(plain) == panel.log(job_id)

    plain.goto("/servers/")
    plain.get_by_label("Name").fill("alpha")
    plain.get_by_text("Port, passwords").click()
    plain.get_by_label("Port").fill(str(find_free_port()))
    plain.get_by_role("button", name="Make and start").click()
    expect(plain).to_have_url(f"{panel.url}/servers/?made=alpha")
    ((start_id,),) = panel.query("SELECT max(id) FROM jobs_job")
    panel.succeed(start_id)
    plain.reload()
    expect(plain.get_by_role("link", name="Join")).to_be_visible()
