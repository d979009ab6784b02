"""Sharing a server in a real browser: a link, the role in use, and its end while a page is open."""

import os
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, Page, expect

from servers.models import Membership, Server
from tests.pages.browsing import OpenPage
from tests.pages.test_accessibility import DESKTOP, PHONE, violations
from tests.pages.webserver import WebServer

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def look(page: Page, name: str) -> None:
    """Fail for what axe finds or what scrolls sideways on a desktop and on a phone, which the page stays on.

    Keep a picture of each if SCREENSHOTS names a folder.
    """
    page.wait_for_load_state()
    for size in (DESKTOP, PHONE):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        if folder := os.environ.get("SCREENSHOTS", ""):
            path = Path(folder) / f"{name}-{size['width']}.png"
            page.screenshot(path=path, full_page=True)
        assert violations(page) == []
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")


@pytest.mark.parametrize("java_script_enabled", [True, False], ids=["scripts", "none"])
def test_the_minutes_of_a_ban_show_only_for_a_length_of_ones_own_and_are_never_lost(
    open_page: OpenPage, stopped_server: Server, java_script_enabled: bool
) -> None:
    page = open_page(java_script_enabled=java_script_enabled)
    page.goto("/servers/alpha/bans/")
    minutes, length = page.get_by_label("Minutes"), page.get_by_label("For how long")
    expect(minutes).to_be_hidden()
    length.select_option("own")
    expect(minutes).to_be_visible()
    length.select_option("day")
    expect(minutes).to_be_hidden()
    length.select_option("own")
    minutes.fill("90")
    length.select_option("hour")
    expect(minutes).to_have_value("90")
    expect(minutes).to_be_visible()
    minutes.fill("")
    length.select_option("own")
    page.get_by_label("Player’s Steam ID").fill("STEAM_1:0:5")
    page.get_by_role("button", name="Ban", exact=True).click()
    expect(page.get_by_text("Enter a number of minutes.")).to_be_visible()
    page.get_by_label("For how long").select_option("day")
    expect(page.get_by_label("Minutes")).to_be_visible()


def test_what_an_admin_may_is_not_cut(open_page: OpenPage, stopped_server: Server) -> None:
    page = open_page(viewport=DESKTOP)
    page.goto("/servers/alpha/admins/")
    select = page.get_by_label("May", exact=True)
    room = select.evaluate("one => one.offsetWidth")
    select.evaluate(
        "one => { one.style.cssText = 'width: max-content; min-width: 0; max-width: none' }"
    )
    assert room >= select.evaluate("one => one.offsetWidth")
    select.evaluate("one => { one.style.cssText = '' }")
    look(page, "admins")


def test_a_server_is_shared_by_a_link_used_and_taken_back_from_an_open_page(
    open_page: OpenPage,
    browser: Browser,
    site: WebServer,
    stopped_server: Server,
    bob: User,
) -> None:
    site.stop()
    site.start(CHECK_SECONDS="0.5")
    Membership.objects.create(server=stopped_server, user=bob, role="manager")
    alice = open_page(viewport=PHONE)
    alice.goto("/servers/alpha/")
    alice.get_by_role("link", name="People", exact=True).click()
    alice.get_by_label("For", exact=True).fill("Eve")
    links = alice.get_by_role("region", name="Somebody new")
    links.get_by_label("Role").select_option("operator")
    alice.get_by_role("button", name="Make a link").click()
    link = alice.get_by_label("Link for Eve").input_value()
    new = alice.get_by_label("The new link")
    expect(new).to_be_in_viewport(ratio=1)
    expect(new).to_have_value(link)
    look(alice, "people")

    context = browser.new_context(viewport=PHONE)  # type: ignore[arg-type]
    eve = context.new_page()
    eve.goto(link)
    expect(eve.get_by_text("You will be operator of the server")).to_be_visible()
    look(eve, "invitation")
    eve.get_by_label("Username").fill("eve")
    eve.get_by_label("Password", exact=True).fill("a-password-of-eve")
    eve.get_by_label("Password confirmation").fill("a-password-of-eve")
    eve.get_by_role("button", name="Make my account").click()
    expect(eve.get_by_role("heading", level=1)).to_have_text("Servers")
    expect(eve.get_by_text("owned by alice; you are its operator")).to_be_visible()
    look(eve, "list")
    eve.get_by_role("link", name="alpha").click()
    expect(eve.get_by_role("link", name="Edit")).to_have_count(0)
    look(eve, "server-of-operator")
    eve.get_by_role("button", name="Start alpha").click()
    expect(eve.get_by_role("button", name="Cancel the job Start")).to_be_visible()
    stream = eve.locator("[data-log-status]")
    expect(stream).to_have_text("Live")

    alice.goto("/servers/alpha/people/")
    alice.get_by_label("Role of eve").select_option("viewer")
    alice.get_by_role("button", name="Change the role of eve").click()
    expect(alice.get_by_text("eve is viewer of alpha.")).to_be_visible()
    # The open page loses its buttons by itself.
    expect(eve.get_by_role("button", name="Stop alpha")).to_have_count(0)
    expect(eve.get_by_role("button", name="Start alpha")).to_have_count(0)
    alice.get_by_role("link", name="Remove eve").click()
    look(alice, "remove")
    alice.get_by_role("button", name="Remove eve").click()
    expect(alice.get_by_text("eve no longer has a role on alpha.")).to_be_visible()

    expect(stream).to_have_text("No longer live")
    look(eve, "refused")
    eve.reload()
    expect(eve.get_by_role("heading", level=1)).not_to_have_text("alpha")
    eve.goto(f"{site.url}/servers/")
    expect(eve.get_by_text("There are none yet.")).to_be_visible()
    context.close()


def test_somebody_with_an_account_accepts_a_link_and_leaves(
    open_page: OpenPage, stopped_server: Server, bob: User
) -> None:
    # Alice is the one who is signed in; here the server is Bob's.
    Server.objects.update(owner=bob)
    invitation = bob.invitations.create(server=stopped_server, role="manager")
    page = open_page(viewport=PHONE)
    page.goto(invitation.get_absolute_url())
    look(page, "invitation-to-server")
    page.get_by_role("button", name="Accept").click()
    expect(page.get_by_text("You are now manager of alpha.")).to_be_visible()
    look(page, "server-of-manager")
    page.get_by_role("link", name="People", exact=True).click()
    look(page, "people-of-manager")
    page.get_by_role("link", name="Leave").click()
    look(page, "leave")
    page.get_by_role("button", name="Leave the server").click()
    expect(page.get_by_text("You have left server alpha.")).to_be_visible()
