"""The heads of pages: how much of a phone's screen a server's head takes, and what does not move."""

from base64 import b64encode
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from jobs.models import Job, JobState
from servers.models import Overlay, Server
from tests.overlays import bring
from tests.pages.browsing import OpenPage
from tests.pages.test_accessibility import violations
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


READ_PIXELS = """
async ([png, points]) => {
  const image = new Image();
  image.src = `data:image/png;base64,${png}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.width, image.height];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  return points.map(([x, y]) => [...context.getImageData(x, y, 1, 1).data].join());
}
"""


def shaded_edges(page: Page) -> tuple[bool, bool]:
    """Return whether the left and the right edge of the tabs differ from the page above them."""
    box = page.locator(".tabs").bounding_box()
    assert box
    left, right, y = 1, PHONE["width"] - 2, int(box["y"])
    png = b64encode(page.screenshot(scale="css")).decode()
    points = [[left, y - 2], [left, y + 3], [right, y + 3]]
    plain, first, last = page.evaluate(READ_PIXELS, [png, points])
    return first != plain, last != plain


def test_an_edge_beyond_which_there_are_more_tabs_is_shaded(
    open_page: OpenPage, server: Server
) -> None:
    page = open_page(viewport=PHONE)
    page.goto(f"{server.get_absolute_url()}map/")
    page.wait_for_load_state()
    tabs = page.locator(".tabs")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        tabs.evaluate("one => { one.scrollLeft = 0 }")
        assert shaded_edges(page) == (False, True), scheme
        tabs.evaluate("one => { one.scrollLeft = 60 }")
        assert shaded_edges(page) == (True, True), scheme
        tabs.evaluate("one => { one.scrollLeft = one.scrollWidth }")
        assert shaded_edges(page) == (True, False), scheme


def test_a_question_in_the_head_of_a_page_moves_nothing(
    store: Path, open_page: OpenPage, alice: User
) -> None:
    overlay = Overlay.objects.create(name="pack", owner=alice)
    note = "What was in the first of all packs that there were"
    older = bring(overlay, alice, {"left4dead2/motd.txt": "1"}, note=note)
    bring(overlay, alice, {"left4dead2/motd.txt": "2"})
    page = open_page()
    summary = page.get_by_text("Make this the latest again…")
    shown = [
        summary,
        page.get_by_role("heading", level=1),
        page.get_by_role("link", name="Remove…"),
        page.get_by_role("heading", name="Files"),
    ]
    for width in (1440, 720, 390):
        page.set_viewport_size({"width": width, "height": 844})
        page.goto(f"{overlay.get_absolute_url()}versions/{older.number}/")
        before = [one.bounding_box() for one in shown]
        if width != PHONE["width"]:
            last = page.get_by_role("link", name="Remove…").bounding_box()
            assert last
            assert last["x"] + last["width"] > width - 20, (
                "a narrow button's question would leave the screen"
            )
        summary.click()
        button = page.get_by_role("button", name="Make it the latest")
        expect(button).to_be_in_viewport(ratio=1)
        assert [one.bounding_box() for one in shown] == before
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
        assert violations(page) == []


def test_a_notice_for_browsers_without_scripts_takes_no_room_in_others(
    open_page: OpenPage, server: Server, running_job: Job
) -> None:
    page = open_page()
    page.goto("/servers/")
    expect(page.locator("[data-without-script]")).to_be_hidden()
    during = page.get_by_role("heading", level=1).bounding_box()
    Job.objects.update(state=JobState.SUCCEEDED)
    page.reload()
    expect(page.locator("[data-without-script]")).to_have_count(0)
    assert page.get_by_role("heading", level=1).bounding_box() == during
