"""Signing in with a real browser: second factors, passkeys, links, and a session that is ended elsewhere."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Browser, Page, expect

from l4d2site.accounts.models import AccountEvent, EventKind
from servers.models import Server
from tests.chromium import note_errors
from tests.pages.accounts.totp import fresh_code_of
from tests.pages.addresses import name_of
from tests.pages.test_accessibility import (
    DESKTOP,
    DOOR_PAGES,
    PHONE,
    Window,
    violations_at_any_size,
)
from tests.pages.webserver import WebServer

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

OpenDoor = Callable[..., Page]


@pytest.fixture
def open_door(browser: Browser, site: WebServer) -> Iterator[OpenDoor]:
    """Return a function that opens a browser without a session, at a host name, which passkeys need.

    No script may fail in it, and nothing may violate the content security policy.
    """
    errors: list[str] = []
    contexts = []

    def open_door(**options: object) -> Page:
        url = f"http://localhost:{site.port}"
        context = browser.new_context(base_url=url, **options)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        note_errors(page, errors)
        return page

    yield open_door
    for context in contexts:
        context.close()
    assert errors == []


def sign_in(page: Page, name: str = "alice", password: str = "") -> None:
    page.goto("/accounts/login/")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(password or f"{name}-password")
    page.get_by_role("button", name="Sign in", exact=True).click()


def confirm_password(page: Page, name: str = "alice") -> None:
    expect(page.get_by_role("heading", level=1)).to_have_text("Is it you?")
    page.get_by_label("Password").fill(f"{name}-password")
    page.get_by_role("button", name="Continue").click()


def expect_servers(page: Page) -> None:
    expect(page.get_by_role("heading", level=1)).to_have_text("Servers")


def set_up_app(page: Page) -> list[str]:
    """Set up an app for the signed-in person; return the recovery codes."""
    page.goto("/accounts/second-factor/")
    page.get_by_role("link", name="Set up an app").click()
    confirm_password(page)
    expect(page.get_by_role("img", name="QR code")).to_be_visible()
    # An image that the policy blocks has no size.
    assert page.locator(".qr-code").evaluate("image => image.naturalWidth") > 0
    secret = page.locator(".secret").text_content() or ""
    page.get_by_label("Code").fill(fresh_code_of(secret))
    page.get_by_role("button", name="Use this app").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Recovery codes")
    return page.locator(".codes code").all_text_contents()


def add_authenticator(page: Page) -> None:
    """Give the browser a device that keeps passkeys, with its owner present."""
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    session.send(
        "WebAuthn.addVirtualAuthenticator",
        {
            "options": {
                "protocol": "ctap2",
                "transport": "internal",
                "hasResidentKey": True,
                "hasUserVerification": True,
                "isUserVerified": True,
                "automaticPresenceSimulation": True,
            }
        },
    )


def test_an_app_is_set_up_and_asked_for_and_a_recovery_code_takes_its_place(
    open_door: OpenDoor, alice: User
) -> None:
    page = open_door()
    sign_in(page)
    codes = set_up_app(page)
    assert len(codes) == 10
    page.get_by_role("button", name="Sign out").click()

    sign_in(page)
    expect(page.get_by_role("heading", name="Second factor")).to_be_visible()
    page.get_by_label("Code").fill("000000")
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_text("That code is wrong")).to_be_visible()
    page.get_by_label("Code").fill(codes[0])
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect_servers(page)
    kinds = set(AccountEvent.objects.values_list("kind", flat=True))
    assert {EventKind.SECOND_FACTOR_ADDED, EventKind.SECOND_FACTOR_FAILED} <= kinds

    page.get_by_role("button", name="Sign out").click()
    sign_in(page)
    page.get_by_label("Code").fill(codes[0])
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_text("That code is wrong")).to_be_visible()


def test_a_passkey_signs_in_without_a_password(open_door: OpenDoor, alice: User) -> None:
    page = open_door()
    add_authenticator(page)
    sign_in(page)
    page.goto("/accounts/second-factor/")
    page.get_by_role("link", name="Add a passkey").click()
    confirm_password(page)
    page.get_by_role("button", name="Add it").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Recovery codes")
    page.goto("/accounts/second-factor/passkeys/")
    expect(page.get_by_role("cell", name="Passkey 1", exact=True)).to_be_visible()
    page.get_by_role("button", name="Sign out").click()

    page.get_by_role("button", name="Sign in with a passkey").click()
    expect_servers(page)
    page.get_by_role("button", name="Sign out").click()

    sign_in(page)
    page.get_by_role("button", name="Use a passkey").click()
    expect_servers(page)


def test_a_passkey_of_nobody_is_told(open_door: OpenDoor, alice: User) -> None:
    page = open_door()
    add_authenticator(page)
    page.goto("/accounts/login/")
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.get_by_text("No passkey was used.")).to_be_visible()


def test_an_invitation_makes_an_account(open_door: OpenDoor, dana: User) -> None:
    page = open_door()
    sign_in(page, "dana")
    page.get_by_role("link", name="People").click()
    page.get_by_label("For", exact=True).fill("Eve")
    page.get_by_role("button", name="Make an invitation").click()
    link = page.get_by_label("Link of the invitation for Eve").input_value()

    guest = open_door()
    guest.goto(link)
    guest.get_by_label("Username").fill("eve")
    guest.get_by_label("Password", exact=True).fill("a-password-of-eve")
    guest.get_by_label("Password confirmation").fill("a-password-of-eve")
    guest.get_by_role("button", name="Make my account").click()
    expect_servers(guest)
    assert User.objects.get(username="eve").is_staff is False
    guest.get_by_role("button", name="Sign out").click()
    guest.goto(link)
    over = guest.get_by_role("heading", name="This invitation is no longer valid")
    expect(over).to_be_visible()


def test_a_reset_link_sets_a_new_password_once(
    open_door: OpenDoor, dana: User, alice: User
) -> None:
    page = open_door()
    sign_in(page, "dana")
    page.goto("/accounts/people/")
    page.get_by_role("button", name="Make a reset link for alice").click()
    link = page.get_by_label("Link for alice").input_value()

    guest = open_door()
    guest.goto(link)
    guest.get_by_label("New password", exact=True).fill("another-password")
    guest.get_by_label("New password confirmation").fill("another-password")
    guest.get_by_role("button", name="Change it").click()
    expect(guest.get_by_text("Your password was changed. Sign in with it.")).to_be_visible()
    sign_in(guest, "alice", "another-password")
    expect_servers(guest)
    guest.goto(link)
    expect(guest.get_by_role("heading", name="This link is no longer valid")).to_be_visible()


def test_a_session_that_is_ended_elsewhere_loses_its_open_page(
    open_door: OpenDoor, site: WebServer, alice: User, server: Server
) -> None:
    site.stop()
    site.start(CHECK_SECONDS="0.5")
    lost = open_door()
    sign_in(lost)
    lost.goto("/servers/")
    page = open_door()
    sign_in(page)
    page.goto("/accounts/sessions/")
    page.get_by_role("button", name="Sign out Chrome on Linux").click()
    expect(page.get_by_text("Signed out: Chrome on Linux.")).to_be_visible()
    expect(lost.locator("[data-connection]")).to_be_visible()
    lost.reload()
    expect(lost.get_by_label("Username")).to_be_visible()


def test_axe_finds_nothing_on_the_pages_of_the_door(
    open_door: OpenDoor, settings: LazySettings, dana: User, alice: User
) -> None:
    page = open_door()
    page.add_init_script(AXE_SCRIPT)
    window = Window(page)
    add_authenticator(page)
    found: dict[str, list[str]] = {}
    seen = set()
    folder = os.environ.get("SCREENSHOTS", "")

    def look(name: str) -> None:
        page.wait_for_load_state()
        seen.add(name_of(urlsplit(page.url).path))
        found.setdefault(name, []).extend(violations_at_any_size(page, window))
        for size in (PHONE, DESKTOP):
            window.resize(size)
            # A phone would show all of it, only smaller: its window's width is no measure.
            root = page.locator(":root")
            if root.evaluate("root => root.scrollWidth > root.clientWidth"):
                found[name].append("scrolls sideways")
            for scheme in ("dark", "light") if folder else ():
                page.emulate_media(color_scheme=scheme)
                image = Path(folder) / f"{name}-{scheme}-{size['width']}.png"
                page.screenshot(path=image, full_page=True)

    page.goto("/accounts/login/")
    expect(page.get_by_role("button", name="Sign in with a passkey")).to_be_visible()
    look("login")
    sign_in(page, "dana", "wrong")
    look("login-wrong")
    sign_in(page, "dana")
    expect_servers(page)
    page.goto("/accounts/password/")
    look("password")
    page.goto("/accounts/sessions/")
    look("sessions")
    page.goto("/accounts/people/")
    look("people-first")
    page.get_by_label("For", exact=True).fill("Eve, who has the server with the long name")
    page.get_by_role("button", name="Make an invitation").click()
    look("people")
    link = page.get_by_label("Link of the invitation for Eve").input_value()
    page.goto(link)
    look("invitation-other")
    page.goto("/accounts/people/")
    page.get_by_role("button", name="Make a reset link for alice").click()
    look("reset-link")
    reset = page.get_by_label("Link for alice").input_value()
    page.goto("/accounts/second-factor/")
    look("second-factor-first")
    page.get_by_role("link", name="Set up an app").click()
    look("reauthenticate")
    confirm_password(page, "dana")
    page.get_by_text("Or type the secret").click()
    look("app")
    secret = page.locator(".secret").text_content() or ""
    page.get_by_label("Code").fill(fresh_code_of(secret))
    page.get_by_role("button", name="Use this app").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Recovery codes")
    look("codes")
    page.goto("/accounts/second-factor/codes/new/")
    look("codes-new")
    page.goto("/accounts/second-factor/app/remove/")
    look("app-remove")
    page.goto("/accounts/second-factor/passkeys/add/")
    look("passkey-add")
    page.get_by_role("button", name="Add it").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Second factor")
    look("second-factor")
    page.goto("/accounts/second-factor/passkeys/")
    look("passkeys")
    page.get_by_role("link", name="Rename").click()
    look("passkey-rename")
    page.goto("/accounts/second-factor/passkeys/")
    page.get_by_role("link", name="Remove").click()
    look("passkey-remove")
    for way in ("", "passkeys/"):
        page.goto(f"/accounts/second-factor/{way}reauthenticate/")
        look("second-factor-again")
    page.get_by_role("button", name="Sign out").click()
    sign_in(page, "dana")
    expect(page.get_by_role("button", name="Use a passkey")).to_be_visible()
    look("authenticate")
    page.get_by_role("button", name="Cancel").click()
    page.goto(link)
    look("invitation")
    page.goto(reset)
    look("reset")
    page.goto("/accounts/reset/MQ/nothing/")
    look("reset-over")
    page.goto("/accounts/invitation/nothing/")
    look("invitation-over")
    # Only in this process: the web server was started without mail.
    settings.EMAIL_URL = "smtp://localhost"
    page.set_content(Client().get("/accounts/reset/").content.decode())
    look("reset-request")
    seen.add("reset_request")
    assert not any(found.values()), found
    assert seen >= DOOR_PAGES
