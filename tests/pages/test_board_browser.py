"""The list of servers in a real browser: selecting many, and how many are selected."""

import pytest
from playwright.sync_api import expect

from servers.fleet.board import ROWS_PER_PAGE
from servers.models import Server
from tests.pages.browsing import OpenPage
from tests.states import record_state

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_what_is_for_many_appears_with_the_first_that_is_selected_and_moves_nothing(
    open_page: OpenPage, server: Server
) -> None:
    page = open_page()
    page.goto("/servers/")
    bar, tick = page.locator(".many-part").first, page.locator(f"#tick-{server.name}")
    expect(bar).to_be_hidden()
    before = page.evaluate("[document.body.scrollHeight, scrollY]"), tick.bounding_box()
    tick.check()
    expect(bar).to_be_visible()
    assert (page.evaluate("[document.body.scrollHeight, scrollY]"), tick.bounding_box()) == before
    expect(bar).to_be_in_viewport()
    tick.uncheck()
    expect(bar).to_be_hidden()


def test_the_list_selects_all_of_a_page_or_all_that_match(
    open_page: OpenPage, server: Server
) -> None:
    Server.objects.bulk_create(
        Server(
            name=f"x-{n:03}",
            owner=server.owner,
            host=server.host,
            blueprint=server.blueprint,
            port=28000 + n,
        )
        for n in range(ROWS_PER_PAGE + 9)
    )
    page = open_page()
    page.goto("/servers/")
    ticks = page.locator(".board input[name=server]")
    of_page = page.get_by_label(f"Select all {ROWS_PER_PAGE} servers on this page")
    matching = page.get_by_label("Select all 60 that match, on all pages")
    count = page.locator("[data-select-count]")
    of_page.focus()
    page.keyboard.press("Space")
    expect(page.locator(".board input[name=server]:checked")).to_have_count(ROWS_PER_PAGE)
    expect(count).to_have_text("50 servers are selected.")
    ticks.first.uncheck()
    expect(count).to_have_text("49 servers are selected.")
    expect(of_page).not_to_be_checked()
    matching.focus()
    page.keyboard.press("Space")
    expect(ticks.first).to_be_checked()
    expect(count).to_have_text("60 servers are selected.")
    # The list changes, and the selection stays.
    record_state(server, "running")
    expect(page.locator('tr[data-state="running"]')).to_have_count(1)
    expect(matching).to_be_checked()
    expect(count).to_have_text("60 servers are selected.")
    page.get_by_label("With the selected servers").select_option("start")
    page.get_by_role("button", name="Continue…").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Start: 59 servers")
    page.go_back()
    matching.check()
    ticks.first.uncheck()
    expect(matching).not_to_be_checked()
