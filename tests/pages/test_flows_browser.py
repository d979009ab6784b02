"""What people do on the pages from beginning to end: with a finger, with only keys, and without scripts.

Each way of using the pages is one browser. No worker is needed, because jobs may wait. With ALL_FLOWS=1 in the
environment everything is done in every way, otherwise as `FLOWS` says.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.contrib.auth.models import Group, User
from django.utils import timezone
from playwright.sync_api import Locator, Page, expect

from jobs.models import Job, JobState, Worker
from l4d2site.accounts.panel_roles import HOST_ADMINS
from servers.models import Blueprint, Host, Overlay, ReleaseReport, Server, Upload
from tests.overlays import bring
from tests.pages.browsing import OpenPage
from tests.pages.hands import Finger, Keyboard, Mouse
from tests.pages.targets import small_targets
from tests.pages.test_accessibility import DESKTOP, PHONE, violations
from tests.states import record_state

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

Flow = Callable[["Visit"], None]

CHAPTERS = {"one": "c1m1_hotel", "two": "c2m1_highway"}


@pytest.fixture
def people(alice: User, bob: User) -> None:
    """Make Alice a superuser with a second factor, so that she may do everything, and the host admins' group.

    A migration makes that, but an earlier test may have emptied the database.
    """
    Group.objects.get_or_create(name=HOST_ADMINS)
    alice.is_staff = alice.is_superuser = True
    alice.save()
    TOTP.activate(alice, generate_totp_secret())


@pytest.fixture
def fleet(
    store: Path,
    people: None,
    beating_worker: Worker,
    two_releases: Host,
    blueprint: Blueprint,
    alice: User,
) -> None:
    """Make a stopped server, one with people on it, and one whose start has failed."""
    now = timezone.now()
    Host.objects.update(latest_build_id="18000000", latest_build_at=now)
    for number, (name, state) in enumerate(
        (("alpha", "stopped"), ("beta", "running"), ("gamma", "stopped"))
    ):
        server = Server.objects.create(
            name=name, owner=alice, host=two_releases, blueprint=blueprint, port=27100 + number
        )
        record_state(server, state)
    beta = Server.objects.filter(name="beta")
    beta.update(players=3, max_players=8, map="c1m1_hotel", mode="coop")
    beta.get().player_sessions.create(
        steam_id="STEAM_1:0:7", name="Zoey", joined_at=now, seen_at=now
    )
    Job.objects.create(
        operation="start",
        server=server,
        state=JobState.FAILED,
        error="Port 27102 is taken.",
        finished_at=now,
    )
    ReleaseReport.objects.create(
        host=two_releases,
        build_id=two_releases.build_id,
        campaigns=[campaign(*one) for one in CHAPTERS.items()],
        maps=list(CHAPTERS.values()),
        looked_at=now,
    )
    bring(Overlay.objects.create(name="pack", owner=alice), alice, {"left4dead2/cfg/a.cfg": "1"})


def campaign(name: str, chapter: str) -> dict[str, Any]:
    """Return the report on a campaign with one chapter."""
    modes = [{"name": "coop", "chapters": [{"map": chapter, "title": ""}]}]
    path = f"left4dead2/missions/{name}.txt"
    return {"name": name, "title": name.title(), "path": path, "problem": "", "modes": modes}


@dataclass(frozen=True)
class Visit:
    """One person with one way to use the pages."""

    hand: Mouse
    has_scripts: bool
    code: str
    """A recovery code."""
    file: Path
    """Something to upload."""

    @property
    def page(self) -> Page:
        """The page that the person is on."""
        return self.hand.page

    def link(self, name: str | re.Pattern[str], place: Locator | None = None) -> None:
        """Follow a link."""
        self.hand.press((place or self.page.locator("main")).get_by_role("link", name=name).first)

    def button(self, name: str) -> None:
        """Press a button."""
        self.hand.press(self.page.get_by_role("button", name=name, exact=True))

    def fold(self, name: str) -> None:
        """Open a fold, by the words on it or those that a screen reader says for it."""
        of_name = self.page.locator("summary").and_(self.page.get_by_label(name, exact=True))
        of_text = self.page.locator("summary").filter(has_text=re.compile(f"^\\s*{name}\\s*$"))
        self.hand.press(of_name.or_(of_text))

    def enter(self, label: str, text: str) -> None:
        """Type into a field."""
        field = self.page.get_by_label(label, exact=True).and_(self.page.locator("input, textarea"))
        self.hand.enter(field, text)

    def choose(self, label: str, choice: str) -> None:
        """Choose an option from a list."""
        field = self.page.get_by_label(label, exact=True).and_(self.page.locator("select"))
        self.hand.choose(field, choice)

    def choose_in(self, place: str, label: str, choice: str) -> None:
        """Choose an option from a list that occurs more than once on the page."""
        self.hand.choose(self.page.locator(place).get_by_label(label), choice)

    def head(self, name: str) -> None:
        """Go to a part of the panel by the links at the top."""
        self.link(name, self.page.get_by_role("navigation", name="Main"))

    def look(self) -> None:
        """Fail for what axe finds here, for targets too small for a finger, and for sideways scrolling."""
        if isinstance(self.hand, Finger):
            folds = self.page.locator("details")
            open_ones = folds.evaluate_all("all => all.map((fold) => fold.open)")
            assert violations(self.page) + small_targets(self.page) == []
            # To find the targets in them, all were opened.
            folds.evaluate_all(
                "(all, are) => are.forEach((is, at) => { all[at].open = is })", open_ones
            )
            assert not self.page.evaluate("document.documentElement.scrollWidth > innerWidth")

    def expect_message(self, text: str) -> None:
        """Wait for the panel's message that it has done this."""
        expect(self.page.get_by_role("list", name="Messages")).to_contain_text(text)


def make_a_server(visit: Visit) -> None:
    """Go from the list to a starting server."""
    visit.link("New server")
    visit.enter("Name", "delta")
    visit.hand.tick(visit.page.get_by_label("Versus"))
    visit.button("Make and start")
    expect(visit.page.locator("main")).to_contain_text("Server delta was made")
    visit.look()


def use_the_list(visit: Visit) -> None:
    """Sort, search and filter; start a server from its row, tag two, and act on many at once."""
    page, hand = visit.page, visit.hand
    rows = page.locator(".board tbody tr")
    heads = page.get_by_role("columnheader")
    visit.link("Name", heads)
    expect(heads.filter(has_text="Name")).to_have_attribute("aria-sort", "descending")
    expect(rows.first).to_contain_text("gamma")
    visit.enter("Search servers", "eta")
    visit.button("Search")
    expect(rows).to_have_count(1)
    states = page.get_by_role("navigation", name="Servers by state")
    visit.link("running", states)
    expect(states.locator("[aria-current]")).to_contain_text("running")
    visit.head("Servers")
    visit.button("Start alpha")
    expect(rows.filter(has_text="alpha")).to_contain_text("waits")
    for name in ("alpha", "beta"):
        hand.tick(page.get_by_label(f"Select {name}"))
    visit.enter("Tag the selected servers", "night")
    visit.button("Add")
    visit.expect_message("Tag night was added to 2 servers.")
    visit.link("night", page.get_by_role("navigation", name="Servers by tag"))
    expect(rows).to_have_count(2)
    for name in ("alpha", "beta"):
        hand.tick(page.get_by_label(f"Select {name}"))
    visit.choose("With the selected servers", "Restart when empty")
    visit.button("Continue…")
    expect(page.get_by_role("heading", level=1)).to_have_text("Restart when empty: 1 server")
    visit.button("Restart when empty")
    visit.expect_message("Restart when empty: 1 server.")
    expect(rows.filter(has_text="beta")).to_contain_text("Restart when empty: 3 people are on")


def use_a_server(visit: Visit) -> None:
    """Stop a server with people on it when it is empty, restart it now, reset it; cancel what waits."""
    page = visit.page
    strip = page.get_by_role("region", name="What its job does")
    waits = page.get_by_role("region", name="Waits until nobody is on")
    visit.link("beta")
    visit.fold("Stop beta…")
    visit.choose_in("#ask-stop-beta", "Wait at most", "1 hour")
    visit.look()
    visit.button("Stop when empty on beta")
    expect(waits).to_contain_text("3 people are on")
    visit.button("Cancel Stop when empty")
    expect(waits).to_have_count(0)
    visit.fold("Restart beta…")
    visit.button("Restart now on beta")
    expect(strip).to_contain_text("Restart")
    visit.button("Cancel the job Restart")
    expect(strip).to_contain_text("cancelled")
    visit.fold("More")
    visit.fold("Reset…")
    visit.look()
    visit.button("Reset beta")
    expect(strip).to_contain_text("Reset")


def talk_to_a_server(visit: Visit) -> None:
    """Send a command, kick and ban somebody, change the map."""
    page = visit.page
    tabs = page.get_by_role("navigation", name="Pages of this server")
    visit.link("beta")
    visit.enter("Command for beta", "status")
    visit.button("Send")
    expect(page.locator(".command").first).to_contain_text("status")
    visit.link("Players", tabs)
    visit.fold("Kick Zoey…")
    visit.enter("Reason (the player sees it)", "spam")
    visit.look()
    visit.button("Kick Zoey")
    expect(page.locator(".player-news")).to_contain_text("Zoey")
    visit.link(re.compile("^Ban Zoey"))
    visit.button("Ban")
    bans = page.get_by_role("table", name="Bans in force")
    expect(bans).to_contain_text("STEAM_1:0:7")
    visit.button("Lift the ban of STEAM_1:0:7")
    expect(bans).to_have_count(0)
    visit.link("Map", tabs)
    visit.choose("Campaign", "Two")
    if not visit.has_scripts:
        visit.button("Show its chapters")
    expect(page.get_by_label("Chapter and mode of Two")).to_have_value("coop/c2m1_highway")
    visit.button("Change now")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Change beta to Two")
    visit.look()
    visit.button("Change now")
    expect(page.locator("main .notice", has_text="old to play Two")).to_be_visible()


def try_again(visit: Visit) -> None:
    """Read why a start failed, and retry it."""
    strip = visit.page.get_by_role("region", name="What its job does")
    visit.link("gamma")
    expect(strip).to_contain_text("Port 27102 is taken.")
    visit.button("Retry the job Start")
    expect(strip).to_contain_text("queued")


def change_the_settings(visit: Visit) -> None:
    """Save over somebody else's changes after seeing both; be asked before leaving unsaved input."""
    page = visit.page
    visit.link("gamma")
    visit.fold("More")
    visit.link("Edit")
    visit.enter("Own config", "hostname Mine")
    Server.objects.filter(name="gamma").update(config="hostname Theirs")
    visit.button("Save")
    expect(page.locator("ins")).to_have_text("hostname Mine")
    visit.look()
    if visit.has_scripts:
        asked: list[str] = []

        def stay(dialog: Any) -> None:
            asked.append(dialog.type)
            dialog.dismiss()

        page.once("dialog", stay)
        visit.head("Blueprints")
        expect(page.get_by_label("Own config")).to_have_value("hostname Mine")
        assert asked == ["beforeunload"]
    visit.button("Save mine anyway")
    expect(page.get_by_role("heading", level=1)).to_have_text("gamma")
    assert Server.objects.get(name="gamma").config == "hostname Mine"


def bring_files(visit: Visit) -> None:
    """Upload a file, write another one, and make an older version the latest."""
    page = visit.page
    visit.head("Blueprints")
    visit.link("Overlays")
    visit.link("pack")
    visit.link("Upload files")
    visit.hand.give(page.get_by_label("Files and archives"), visit.file)
    visit.button("Upload")
    expect(page.get_by_text("Unpack upload").first).to_be_visible()
    assert Upload.objects.get().parts.count() == 1
    visit.look()
    visit.link("pack")
    visit.link("New text file")
    visit.enter("Path", "left4dead2/cfg/mine.cfg")
    visit.enter("Text", "echo mine")
    visit.button("Save as a new version")
    visit.expect_message("Version 2 was made.")
    visit.link("Version 1")
    visit.fold("Make this the latest again…")
    visit.button("Make it the latest")
    visit.expect_message("Version 3")


def look_after_the_host(visit: Visit) -> None:
    """Check for an update, update and roll back; install from the admin site."""
    page = visit.page
    strip = page.locator("section.strip")
    visit.head("Hosts")
    visit.link("local")
    for name, title in (
        ("Check for updates", "Check"),
        ("Update to build 18000000", "Install"),
        ("Roll back to build 17000000", "Roll back"),
    ):
        if title == "Roll back":
            visit.fold(f"{name}…")
        visit.button(name)
        expect(strip).to_contain_text(title)
        expect(strip).to_contain_text("queued")
        visit.hand.press(strip.get_by_role("button", name="Cancel"))
        expect(strip).to_have_count(0)
    visit.look()


def install_from_the_admin_site(visit: Visit) -> None:
    """Install the game with the button of the admin site."""
    visit.head("Admin")
    visit.hand.press(visit.page.get_by_role("button", name="Install or update the game").first)
    row = visit.page.get_by_role("row").filter(has_text="queued").first
    expect(row).to_contain_text("install")


def look_after_people(visit: Visit) -> None:
    """Invite somebody, give somebody a role and limits, and read who did what."""
    page = visit.page
    visit.head("People")
    visit.enter("For", "Eve")
    visit.button("Make an invitation")
    expect(page.get_by_label("Link of the invitation for Eve")).to_be_visible()
    visit.link("bob")
    visit.choose("Role", "host admin")
    visit.button("Change the role")
    visit.expect_message("bob is now: host admin.")
    visit.fold("Give this person different limits")
    visit.enter("Servers", "3")
    visit.look()
    visit.button("Save")
    visit.expect_message("The limits of bob were saved.")
    visit.link("What they did")
    entries = page.locator("main table tbody tr")
    visit.enter("Person", "alice")
    visit.button("Show")
    expect(entries.filter(has_text="bob").first).to_be_visible()


def sign_in_again(visit: Visit) -> None:
    """Sign out, and in again with a second factor."""
    visit.button("Sign out")
    visit.enter("Username", "alice")
    visit.enter("Password", "alice-password")
    visit.button("Sign in")
    visit.enter("Code", visit.code)
    visit.button("Sign in")
    expect(visit.page.get_by_role("heading", level=1)).to_have_text("Servers")


FLOWS: dict[Flow, str] = {
    use_the_list: "finger",
    use_a_server: "keyboard",
    talk_to_a_server: "no scripts",
    try_again: "",
    change_the_settings: "no scripts",
    bring_files: "",
    look_after_people: "no scripts",
    make_a_server: "",
    look_after_the_host: "no scripts",
    sign_in_again: "",
    install_from_the_admin_site: "",
}
"""What every test run does, and in which way: what other tests do not do in a browser."""

ALL_FLOWS = "ALL_FLOWS" in os.environ
WAYS = ["finger", "keyboard", "no scripts"] + ["mouse"] * ALL_FLOWS


@pytest.mark.usefixtures("fleet")
@pytest.mark.parametrize("way", WAYS)
def test_everything_can_be_done(open_page: OpenPage, alice: User, tmp_path: Path, way: str) -> None:
    is_phone = way == "finger"
    page = open_page(
        viewport=PHONE if is_phone else DESKTOP,
        has_touch=is_phone,
        is_mobile=is_phone,
        java_script_enabled=way != "no scripts",
    )
    page.goto("/servers/")
    hand = {"finger": Finger, "keyboard": Keyboard}.get(way, Mouse)(page)
    (code, *_) = RecoveryCodes.activate(alice).get_unused_codes()
    file = tmp_path / "night.cfg"
    file.write_text("echo night")
    visit = Visit(hand, way != "no scripts", code, file)
    for flow, usual in FLOWS.items():
        if way == usual or ALL_FLOWS:
            visit.head("Servers")
            flow(visit)
