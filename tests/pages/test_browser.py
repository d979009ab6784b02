"""What the pages do in a real browser while something changes behind them. Logs: `test_log_browser.py`."""

import re
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.utils import timezone
from playwright.sync_api import Dialog, Route, expect

from jobs.claimed_jobs import ClaimedJob
from jobs.models import Job, JobLog, JobState, Worker
from jobs.queue.requests import enqueue
from jobs.queue.transitions import claim_next_job, finish_job, give_back
from servers.models import (
    ActualState,
    Blueprint,
    Host,
    Membership,
    Overlay,
    OverlayReport,
    Run,
    Server,
)
from servers.permissions import Role
from servers.secrets.encryption import ServerSecret
from tests.overlays import bring
from tests.pages.browsing import OpenPage, add_lines
from tests.pages.test_accessibility import violations
from tests.pages.webserver import WebServer
from tests.states import record_state

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

# --- Live regions -----------------------------------------------------------------------------


def test_an_open_list_is_true(open_page: OpenPage, stopped_server: Server) -> None:
    page = open_page()
    page.goto("/servers/")
    start = page.get_by_role("button", name="Start alpha", exact=True)
    start.focus()
    record_state(stopped_server, ActualState.RUNNING)
    expect(page.get_by_role("button", name="Stop alpha")).to_be_visible()
    expect(start).to_have_count(0)
    expect(page.get_by_role("link", name="alpha")).to_be_focused()


def test_an_update_leaves_an_open_confirmation_and_the_focus_alone(
    open_page: OpenPage, stopped_server: Server
) -> None:
    page = open_page()
    page.goto(stopped_server.get_absolute_url())
    page.get_by_text("More", exact=True).click()
    page.get_by_text("Delete files…").click()
    delete = page.get_by_role("button", name="Delete files of alpha")
    delete.focus()
    record_state(stopped_server, ActualState.RUNNING)
    expect(page.get_by_role("button", name="Restart alpha")).to_be_visible()
    expect(delete).to_be_visible()
    expect(delete).to_be_focused()


def test_what_becomes_of_a_crash_changes_in_place(open_page: OpenPage, server: Server) -> None:
    page = open_page()
    page.goto("/servers/alpha/")
    badge = page.locator(".server-state-word .state")
    for note in ("restarting (1 of 5)", "gave up"):
        server.state_note = note
        server.save()
        record_state(server, ActualState.CRASHED)
        expect(badge).to_have_text(f"crashed, {note}")


def test_a_job_that_goes_back_into_the_queue_waits_on_its_open_page_again(
    open_page: OpenPage, worker: Worker, server: Server
) -> None:
    job = enqueue("start", server=server, requested_by=server.owner)
    page = open_page()
    page.goto(job.get_absolute_url())
    state = page.locator(".state", has_text=re.compile("queued|running|succeeded")).first
    expect(state).to_have_text("queued")
    assert claim_next_job(worker)
    expect(state).to_have_text("running")
    give_back(worker, [ClaimedJob.of(job)])
    expect(state).to_have_text("queued")
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    again = claim_next_job(worker)
    assert again
    finish_job(again, exit_code=0)
    expect(state).to_have_text("succeeded")
    expect(page.locator("[data-log-status]")).to_have_text("Ended")


def test_an_update_leaves_what_is_being_typed_alone(
    open_page: OpenPage, server: Server, blueprint: Blueprint
) -> None:
    page = open_page()
    page.goto("/servers/alpha/edit/")
    page.get_by_label("Own config").fill("hostname half-typed")
    record_state(server, ActualState.RUNNING)
    with page.expect_response(lambda response: response.url.endswith("/servers/alpha/edit/")):
        record_state(server, ActualState.STOPPED)
    expect(page.get_by_label("Own config")).to_have_value("hostname half-typed")


def test_a_lost_connection_is_told_and_its_return_too(
    open_page: OpenPage, site: WebServer, server: Server
) -> None:
    page = open_page()
    page.goto("/servers/")
    notice = page.get_by_text("The connection to the panel is lost")
    expect(page.get_by_role("link", name="alpha")).to_be_visible()
    site.stop()
    expect(notice).to_be_visible(timeout=15_000)
    record_state(server, ActualState.RUNNING)
    site.start()
    expect(notice).to_be_hidden(timeout=15_000)
    expect(page.get_by_role("button", name="Stop alpha")).to_be_visible()


# --- A click stays ----------------------------------------------------------------------------


def test_a_server_is_started_and_restarted_without_leaving_its_page(
    open_page: OpenPage, worker: Worker, stopped_server: Server
) -> None:
    page = open_page()
    page.goto("/servers/alpha/")
    page.evaluate("window.isSamePage = true")
    page.get_by_role("button", name="Start alpha").click()
    strip = page.get_by_role("region", name="What its job does")
    expect(strip).to_contain_text("Starts in a moment.")
    job = claim_next_job(worker)
    assert job
    Job.objects.update(stage="Waiting for the map", progress=40, updated_at=timezone.now())
    expect(strip.get_by_role("progressbar")).to_have_attribute("value", "40")

    # Its log unfolds here, live, beside a console that has lines with the same numbers.
    add_lines(job, 1, 2)
    strip.get_by_role("link", name="Log of the job Start").click()
    log = page.locator("[data-guest-log]")
    expect(log.locator(".log-line")).to_have_count(2)
    add_lines(job, 3, 3, "stderr")
    expect(log.locator('[data-seq="3"][data-stream]')).to_be_visible()
    assert log.locator("[id^=L]").count() == 0
    assert violations(page) == []
    number = log.locator('a[data-seq="3"]')
    expect(number).to_have_attribute("href", f"{job.get_absolute_url()}?line=3#L3")
    strip.get_by_role("link", name="Log of the job Start").click()
    expect(log).to_be_hidden()

    changes = {"actual_state": "running", "players": 3, "max_players": 8}
    finish_job(job, exit_code=0, server_changes=changes)
    expect(strip).to_contain_text("succeeded")
    menu = page.get_by_text("Restart…", exact=True)
    menu.click()
    later = page.get_by_role("button", name="Restart when empty on alpha")
    expect(later).to_be_visible()
    assert violations(page) == []
    page.keyboard.press("Escape")
    expect(later).to_be_hidden()
    expect(menu).to_be_focused()
    menu.click()
    page.get_by_role("heading", level=1).click()
    expect(later).to_be_hidden()
    menu.click()
    page.locator("[open] > .menu-body").click(position={"x": 3, "y": 3})
    expect(later).to_be_visible()
    menu.focus()
    page.keyboard.press("Shift+Tab")
    expect(later).to_be_hidden()
    menu.click()
    later.click()
    waits = page.get_by_role("region", name="Waits until nobody is on")
    expect(waits).to_contain_text("3 people are on")
    waits.get_by_role("button", name="Cancel Restart when empty").click()
    expect(waits).to_have_count(0)
    expect(strip).to_be_focused()
    assert page.evaluate("window.isSamePage")


def test_ticks_stay_while_the_list_changes_and_an_action_is_for_them_all(
    open_page: OpenPage, stopped_server: Server, blueprint: Blueprint
) -> None:
    beta = Server.objects.create(
        name="beta", owner=stopped_server.owner, host=stopped_server.host, blueprint=blueprint
    )
    page = open_page(viewport={"width": 390, "height": 844}, has_touch=True)
    page.goto("/servers/")
    for name in ("alpha", "beta"):
        page.get_by_label(f"Select {name}").check()
    record_state(beta, ActualState.STOPPED)
    expect(page.get_by_role("row").filter(has_text="beta").locator(".state")).to_have_text(
        "stopped"
    )
    expect(page.get_by_label("Select beta")).to_be_checked()
    expect(page.get_by_label("Select beta")).to_be_focused()
    page.get_by_label("With the selected servers").select_option("start")
    page.get_by_role("button", name="Continue…").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Start: 2 servers")
    assert violations(page) == []
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_text("Start: 2 servers.")).to_be_visible()
    expect(page.get_by_role("link", name="Start")).to_have_count(2)
    sizes = page.locator("main .button:visible").evaluate_all(
        "all => all.map(one => one.offsetHeight)"
    )
    assert min(sizes) >= 44, sizes


# --- Passwords --------------------------------------------------------------------------------


def test_a_password_is_shown_in_its_place_until_it_is_hidden(
    open_page: OpenPage, server: Server
) -> None:
    server.set_secret(ServerSecret.RCON_PASSWORD, "<b>hunter2</b>")
    server.save()
    page = open_page()
    page.goto("/servers/alpha/")
    value = page.locator("[data-secret-value]")
    expect(value).to_have_text("••••")
    page.get_by_role("button", name="Show the RCON password").click()
    expect(value).to_have_text("<b>hunter2</b>")
    expect(page).to_have_url(re.compile("/servers/alpha/$"))
    record_state(server, ActualState.RUNNING)
    expect(page.get_by_role("button", name="Stop alpha")).to_be_visible()
    expect(value).to_have_text("<b>hunter2</b>")
    page.get_by_role("button", name="Hide the RCON password").click()
    expect(value).to_have_text("••••")


def test_without_scripts_a_password_is_shown_on_a_page_of_its_own(
    open_page: OpenPage, server: Server
) -> None:
    server.set_secret(ServerSecret.RCON_PASSWORD, "hunter2-of-rcon")
    server.save()
    page = open_page(java_script_enabled=False)
    page.goto("/servers/alpha/")
    page.get_by_role("button", name="Show the RCON password").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("RCON password of alpha")
    expect(page.get_by_text("hunter2-of-rcon")).to_be_visible()
    page.get_by_role("link", name="Back to alpha").click()
    expect(page.get_by_text("hunter2-of-rcon")).to_have_count(0)


def test_a_password_that_cannot_be_had_any_more_leads_to_the_page_that_says_why(
    open_page: OpenPage, server: Server
) -> None:
    page = open_page()
    page.goto("/servers/alpha/")
    Session.objects.all().delete()
    page.get_by_role("button", name="Show the RCON password").click()
    expect(page).to_have_url(re.compile("/accounts/login/"))


# --- All kinds of screens ---------------------------------------------------------------------


WIDTHS = (360, 768, 1280, 1920)


def test_no_page_is_wider_than_the_screen(
    open_page: OpenPage, host: Host, blueprint: Blueprint, alice: User
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
        requested_by_name="u" * 150,
        state=JobState.FAILED,
        error="Q" * 300,
        stage="S" * 100,
        started_at=timezone.now(),
        finished_at=timezone.now(),
    )
    JobLog.objects.create(job=job, seq=1, stream="stderr", line="L" * 4_000)
    Run.objects.create(server=server, started_by_name="r" * 150, has_answered=True)
    long_person = User.objects.create_user("p" * 150)
    Membership.objects.create(server=server, user=long_person, role=Role.MANAGER)
    Host.objects.update(
        findings=[{"subject": "Box", "severity": "fault", "text": "F" * 300, "cure": ""}]
    )
    OverlayReport.objects.create(host=host, name=name, looked_at=timezone.now())
    alice.is_staff = alice.is_superuser = True
    alice.save()
    Job.objects.create(operation="install", error="E" * 300, state=JobState.FAILED)
    page = open_page()
    for path in (
        "/servers/",
        "/servers/new/",
        f"/servers/new/?made={name}",
        f"/servers/{name}/people/",
        f"/servers/{name}/people/audit/",
        f"/servers/{name}/starts/",
        "/hosts/",
        host.get_absolute_url(),
        "/accounts/people/",
        f"/accounts/people/{long_person.pk}/",
        "/accounts/audit/",
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
        page.set_viewport_size({"width": WIDTHS[0], "height": 800})
        page.goto(path)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            surplus = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert surplus <= 0, f"{path} is {surplus} px too wide at {width} px"
    # On a phone, with text that is twice as large.
    page.set_viewport_size({"width": 390, "height": 800})
    large = {"fontSizes": {"standard": 32, "fixed": 26}}
    page.context.new_cdp_session(page).send("Page.setFontSizes", large)
    for path in (
        "/servers/",
        server.get_absolute_url(),
        f"/servers/{name}/starts/",
        f"/servers/{name}/people/",
        host.get_absolute_url(),
        "/accounts/audit/",
        "/jobs/",
    ):
        page.goto(path)
        surplus = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert surplus <= 0, f"{path} is {surplus} px too wide with large text"


def test_a_form_that_was_changed_stays_with_its_faults_and_asks_before_it_is_left(
    open_page: OpenPage, installed_host: Host, server: Server
) -> None:
    page = open_page()
    page.goto("/servers/new/")
    asked: list[str] = []

    def accept(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.accept()

    page.on("dialog", accept)
    name = page.get_by_label("Name", exact=True)
    expect(name).to_be_focused()
    name.fill("Bad Name")
    name.press("Enter")
    expect(page.get_by_text("Use 1 to 32 lower-case letters")).to_be_visible()
    expect(name).to_be_focused()
    expect(name).to_have_value("Bad Name")
    page.get_by_label("Survival").check()
    page.get_by_role("link", name="Blueprints").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Blueprints")
    assert asked == ["beforeunload"]
    page.goto("/servers/new/")
    page.get_by_role("link", name="Blueprints").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Blueprints")
    assert asked == ["beforeunload"]


def test_overlays_are_put_in_order_by_keys_by_dragging_and_by_buttons_until_a_start_works(
    store: Path, open_page: OpenPage, stopped_server: Server, dana: User
) -> None:
    blueprint = stopped_server.blueprint
    overlays = [Overlay.objects.create(name=f"o{number}", owner=dana) for number in range(4)]
    for overlay in overlays:
        bring(overlay, dana, {"left4dead2/addons/sourcemod/plugins/p.smx": "the same"})
    core = Overlay.objects.create(name="core", description="SourceMod itself", owner=dana)
    stacks = ("sourcemod/bin/s.so", "metamod/bin/m.so")
    bring(core, dana, {f"left4dead2/addons/{path}": path for path in stacks})
    blueprint.set_overlays(overlays[:3])
    page = open_page()
    page.goto(f"/blueprints/{blueprint.name}/edit/")
    names = page.locator("[data-places=chosen] .name")
    said = page.locator("[data-places-said]")
    page.get_by_label("Version of o0").select_option("1")
    page.get_by_role("button", name="Move o2 up").focus()
    page.keyboard.press("Alt+ArrowUp")
    expect(said).to_have_text("o2 is now 2 of 3.")
    page.keyboard.press("Alt+ArrowUp")
    expect(names).to_have_text(["o2", "o0", "o1"])
    # At the top there is no way up: the focus stays in the row.
    expect(page.get_by_role("button", name="Move o2 up")).to_be_disabled()
    expect(page.get_by_role("button", name="Move o2 down")).to_be_focused()

    handle = page.locator("[data-place=o1] [data-drag]")
    handle.hover()
    page.mouse.down()
    top = page.locator("[data-place=o2]").bounding_box()
    assert top
    page.mouse.move(top["x"] + 5, top["y"] + 2, steps=3)
    expect(names).to_have_text(["o1", "o2", "o0"])
    page.keyboard.press("Escape")
    page.mouse.up()
    expect(names).to_have_text(["o2", "o0", "o1"])
    handle.hover()
    page.mouse.down()
    page.mouse.move(top["x"] + 5, top["y"] + 2, steps=3)
    page.mouse.up()
    expect(said).to_have_text("o1 is now 1 of 3.")
    expect(names).to_have_text(["o1", "o2", "o0"])

    page.get_by_role("button", name="Leave o0 out").click()
    page.get_by_text("Add an overlay").click()
    search = page.get_by_label("Search overlays")
    search.fill("O3")
    search.press("Enter")
    expect(page.locator("[data-places=rest] .place:visible .name")).to_have_text("o3")
    page.get_by_role("button", name="Add o3").click()
    expect(page.get_by_role("button", name="Move o3 up")).to_be_focused()
    assert violations(page) == []
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text(f"Blueprint {blueprint.name} was saved.")).to_be_visible()
    stored = Blueprint.objects.get(pk=blueprint.pk).ordered_overlays()
    assert [overlay.name for overlay in stored] == ["o1", "o2", "o3"]

    # What cannot work is reported in place of the page, with the button that cures it.
    page.goto("/servers/alpha/")
    page.get_by_role("button", name="Start alpha").click()
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text("alpha was not started")
    expect(heading).to_be_focused()
    assert violations(page) == []
    page.get_by_role("button", name="Add core below").click()
    expect(page.get_by_text("core was added, below the others.")).to_be_visible()
    page.get_by_role("button", name="Start alpha").click()
    expect(page.get_by_role("region", name="What its job does")).to_contain_text("Waits")


def test_everything_can_be_done_without_javascript(
    open_page: OpenPage, stopped_server: Server
) -> None:
    page = open_page(java_script_enabled=False)
    page.goto("/servers/")
    page.get_by_role("link", name="alpha").click()
    page.get_by_text("More", exact=True).click()
    page.get_by_text("Delete files…").click()
    page.get_by_role("button", name="Delete files of alpha").click()
    expect(page).to_have_url(re.compile("/servers/alpha/$"))
    expect(page.get_by_text("Waits for a worker")).to_be_visible()
    page.get_by_role("button", name="Cancel the job Delete files").click()
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


# --- Access that ends -------------------------------------------------------------------------


@pytest.mark.parametrize("is_away", [False, True], ids=["while live", "while away"])
def test_who_is_signed_out_elsewhere_is_told(
    open_page: OpenPage, site: WebServer, running_job: Job, is_away: bool
) -> None:
    site.stop()
    site.start(CHECK_SECONDS="0.2")
    page = open_page()
    page.goto(running_job.get_absolute_url())
    expect(page.locator("[data-log-status]")).to_have_text("Live")
    if is_away:
        site.stop()
        expect(page.locator("[data-log-status]")).to_have_text("Reconnecting…")
    Session.objects.all().delete()
    if is_away:
        site.start()
    expect(page.get_by_text("You are signed out, or may no longer see this")).to_be_visible()
    expect(page.locator("[data-log-status]")).to_have_text("No longer live")


def test_a_page_comes_back_after_a_refusal_for_now(
    open_page: OpenPage, site: WebServer, running_job: Job
) -> None:
    page = open_page()
    events = re.compile("/events")
    page.context.route(events, lambda route: route.fulfill(status=503))
    page.goto(running_job.get_absolute_url())
    expect(page.locator("[data-log-status]")).to_have_text("Reconnecting…")
    page.context.unroute(events)
    expect(page.locator("[data-log-status]")).to_have_text("Live")


def test_a_page_without_a_place_says_so_and_waits_as_long_as_it_was_told(
    open_page: OpenPage, running_job: Job
) -> None:
    page = open_page()
    page.clock.install()
    events = re.compile("/events")
    asked: list[str] = []

    def refuse(route: Route) -> None:
        asked.append(route.request.resource_type)
        route.fulfill(
            status=429,
            headers={"Retry-After": "20"},
            body="Too many pages are following this panel live.",
        )

    page.context.route(events, refuse)
    page.goto(running_job.get_absolute_url())
    expect(page.locator("[data-log-status]")).to_have_text("Waiting to go live…")
    expect(page.get_by_text("Too many pages are following this panel live")).to_be_visible()
    # The connection was answered, so it is not lost.
    expect(page.get_by_text("The connection to the panel is lost")).to_have_count(0)
    before = len(asked)
    page.clock.run_for(19_000)
    assert len(asked) == before
    page.context.unroute(events)
    page.clock.run_for(12_000)
    expect(page.locator("[data-log-status]")).to_have_text("Live")
    expect(page.get_by_text("Too many pages are following this panel live")).to_be_hidden()


def test_a_page_that_cannot_be_fetched_again_says_why(
    open_page: OpenPage, server: Server, alice: User
) -> None:
    record_state(server, ActualState.RUNNING)
    page = open_page()
    page.goto("/servers/alpha/bans/")
    page.locator("form[action$='/bans/import/'] textarea").evaluate(
        "box => { box.value = 'garbage'; box.form.requestSubmit() }"
    )
    page.wait_for_url("**/bans/import/")
    notice = page.locator("[data-connection]")
    Server.objects.update(players=2)
    expect(notice).to_contain_text("until you send its form again")
    page.goto("/servers/alpha/")
    expect(notice).to_be_hidden()
    server.delete()
    expect(notice).to_contain_text("no longer there")


def test_who_joins_while_it_is_asked_is_asked_about_too(
    open_page: OpenPage, server: Server
) -> None:
    record_state(server, ActualState.RUNNING)
    Server.objects.update(players=2)
    page = open_page()
    page.goto("/servers/alpha/edit/")
    page.get_by_role("button", name="Save and restart…").click()
    expect(page.get_by_role("heading", name="Saved. Restart it with people on?")).to_be_visible()
    Server.objects.update(players=3)
    page.get_by_role("button", name="Restart now on alpha").click()
    expect(page.get_by_text("3 people are on.")).to_be_visible()
    page.get_by_role("button", name="Restart now on alpha").click()
    page.wait_for_url("**/servers/alpha/config/")
    assert [job.operation for job in server.jobs.all()] == ["restart"]
