"""How much of a phone the head of a server's pages takes."""

import pytest
from playwright.sync_api import expect

from jobs.models import Job
from servers.models import Server
from tests.pages.browsing import OpenPage
from tests.states import record_state

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PHONE = {"width": 390, "height": 844}
MOST_PIXELS = 220
TOUCH = 44


def test_the_head_leaves_most_of_a_phone_to_what_the_tab_is_about(
    open_page: OpenPage, server: Server, running_job: Job
) -> None:
    record_state(server, "running")
    Server.objects.update(players=2, max_players=8, map="c1m1_hotel")
    page = open_page(viewport=PHONE, has_touch=True, is_mobile=True)
    page.goto(f"{server.get_absolute_url()}people/")
    head, tabs = page.locator(".server-head").bounding_box(), page.locator(".tabs").bounding_box()
    assert head
    assert tabs
    assert tabs["y"] + tabs["height"] - head["y"] <= MOST_PIXELS
    assert tabs["height"] < 2 * TOUCH, "the tabs are in one line"
    expect(page.locator(".tabs [aria-current]")).to_be_in_viewport(ratio=1)
    expect(page.get_by_role("heading", level=2).first).to_be_in_viewport(ratio=1)
    page.locator("#strip > summary").click()
    expect(page.get_by_role("region", name="What its job does")).to_be_visible()
