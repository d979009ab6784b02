"""What axe-core finds on the pages, and what a screen reader hears of a growing log."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import count, product
from pathlib import Path

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone
from playwright.sync_api import Page, expect

from jobs.models import Job, JobLog, JobStage, JobState
from servers.models import (
    AdminsNote,
    AdminsState,
    Blueprint,
    CommandState,
    ConsoleLine,
    ConsoleRun,
    Host,
    Membership,
    Overlay,
    OverlayReport,
    ReleaseReport,
    Server,
    Upload,
    UploadState,
)
from servers.store import add_part, begin_upload
from tests.overlays import bring
from tests.pages.addresses import name_of
from tests.pages.browsing import OpenPage, add_lines, line
from tests.pages.targets import small_targets
from tests.pages.test_access import PAGES
from tests.states import make_run

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}


COLOUR_RULES = ("color-contrast", "link-in-text-block")
"""axe-core's colour rules that are on by default."""


DOOR_PAGES = {
    *("account_login", "account_reauthenticate", "password_change", "sessions", "people"),
    *("invitation", "reset", "reset_request"),
    *("mfa_index", "mfa_authenticate", "mfa_activate_totp", "mfa_deactivate_totp"),
    *("mfa_view_recovery_codes", "mfa_generate_recovery_codes"),
    *("mfa_list_webauthn", "mfa_add_webauthn", "mfa_edit_webauthn", "mfa_remove_webauthn"),
    *("mfa_reauthenticate", "mfa_reauthenticate_webauthn"),
}
"""Pages that `test_door_browser` checks: they appear while signing in."""


ADMIN_PATHS = (
    "/admin/",
    "/admin/jobs/job/",
    "/admin/servers/server/",
    "/admin/servers/server/1/change/",
    "/admin/servers/server/1/delete/",
    "/admin/auth/user/1/change/",
)
"""The kinds of pages that the admin site has."""


CUT_PLACEHOLDERS = """() => {
  const pen = document.createElement("canvas").getContext("2d");
  const isCut = (one) => {
    const style = getComputedStyle(one);
    pen.font = style.font;
    const room = one.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    return pen.measureText(one.placeholder).width > room;
  };
  return [...document.querySelectorAll("[placeholder]")]
    .filter((one) => one.checkVisibility() && isCut(one))
    .map((one) => `cut: ${one.placeholder}`);
}"""
"""The placeholders in fields that are too narrow for them."""


REMOVE_ALIKE = """() => {
  const seen = new Map();
  const look = (row) => [
    row.dataset.stream, row.ariaCurrent, row.className,
    ...[...row.children].map((one) => [one.tagName, one.className, one.style.cssText]),
  ].join();
  for (const row of document.querySelectorAll(".log-line")) {
    seen.set(look(row), (seen.get(look(row)) ?? 0) + 1);
    if (seen.get(look(row)) > 50) row.remove();
  }
}"""
"""Removes the lines of a log that look like fifty others: axe-core would spend most of its time on them."""


def violations(page: Page, rules: Sequence[str] = ()) -> list[str]:
    """Return what axe-core finds on the page, and where; with `rules`, only by those."""
    only = {"runOnly": {"type": "rule", "values": rules}} if rules else {}
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    found = page.evaluate(
        "async (options) => (await axe.run(options)).violations",
        {"resultTypes": ["violations"], **only},
    )
    return [
        f"{violation['id']}: {violation['help']}: {node['target']} {node['failureSummary']}"
        for violation in found
        for node in violation["nodes"]
    ]


def violations_in_any_scheme(page: Page) -> list[str]:
    """Return what axe-core finds on the page, in light and in dark colours, and where."""
    page.emulate_media(color_scheme="light")
    in_the_light = violations(page)
    page.emulate_media(color_scheme="dark")
    # Only colours differ in the dark.
    return in_the_light + violations(page, COLOUR_RULES)


class Window:
    """The window of a page, which becomes that of a phone or of a desktop without loading the page again."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._session = page.context.new_cdp_session(page)

    def resize(self, size: dict[str, int]) -> None:
        """Give the window this size; a phone has a touch screen too."""
        is_phone = size == PHONE
        pointer = "(pointer: coarse)" if is_phone else "(not (pointer: coarse))"
        query = f"(width: {size['width']}px) and {pointer}"
        # To change its size costs as much as to open a page.
        if not self._matches(query):
            self._session.send(
                "Emulation.setDeviceMetricsOverride",
                {**size, "deviceScaleFactor": 1, "mobile": is_phone},
            )
            self._session.send("Emulation.setTouchEmulationEnabled", {"enabled": is_phone})
            assert self._matches(query)

    def _matches(self, query: str) -> bool:
        matches: bool = self._page.evaluate("query => matchMedia(query).matches", query)
        return matches


def violations_at_any_size(page: Page, window: Window) -> list[str]:
    """Return what axe-core finds on the page on a desktop and on a phone, in light and in dark colours."""
    window.resize(DESKTOP)
    on_a_desktop = violations_in_any_scheme(page)
    window.resize(PHONE)
    return on_a_desktop + [f"on a phone: {said}" for said in violations_in_any_scheme(page)]


@pytest.fixture
def paths(
    store: Path,
    failed_job: Job,
    running_job: Job,
    server: Server,
    blueprint: Blueprint,
    alice: User,
) -> list[str]:
    """Return the addresses of all kinds of pages, with everything on them that is possible."""
    alice.is_staff = alice.is_superuser = True
    alice.save()
    server.last_error = "Start: Port 27015 is taken."
    server.desired_state, server.actual_state = "running", "crashed"
    server.config_chain = [
        {
            "path": "cfg/saferoom/10-maps.cfg",
            "source": "Overlay maps",
            "text": "sv_lan 0\n" * 100,
            "warnings": ["Line 1 sets hostport. It is left out."],
        }
    ]
    server.config_chain_at = timezone.now()
    server.save()
    queued = Job.objects.create(operation="stop", server=server)
    waiting = Server.objects.create(
        name="waiting",
        owner=alice,
        host=server.host,
        blueprint=blueprint,
        config="hostname Day",
        actual_state="running",
    )
    add_people(waiting)
    add_map_change(waiting)
    older = make_run(waiting, config="hostname Evening\n")
    newer = make_run(waiting, config="hostname Night\nsv_lan 0\n", port=27099)
    ConsoleLine.objects.create(
        server=server, seq=1, line="\x1b[32mready", created_at=timezone.now()
    )
    ConsoleRun.objects.create(server=server, number=1, first_seq=1, started_at=timezone.now())
    add_lines(running_job, 201, 1_500)
    JobStage.objects.create(
        job=running_job, name="Checking", first_seq=1, started_at=timezone.now()
    )
    fill_host(server.host)
    add_versions(alice, blueprint)
    file = "?path=left4dead2/cfg/a.cfg"
    somebody = User.objects.create_user("somebody")
    member = Membership.objects.create(server=waiting, user=somebody, role="viewer")
    waiting.tags.create(name="night")
    job = running_job.get_absolute_url()
    return [
        "/servers/",
        "/servers/new/",
        server.get_absolute_url(),
        f"{server.get_absolute_url()}config/",
        f"{server.get_absolute_url()}console/",
        f"{server.get_absolute_url()}crashes/",
        f"{server.get_absolute_url()}history/",
        "/servers/?q=nothing+like+it&sort=-people",
        f"{server.get_absolute_url()}edit/",
        f"{server.get_absolute_url()}remove/",
        "/blueprints/",
        "/blueprints/new/",
        blueprint.get_absolute_url(),
        f"{blueprint.get_absolute_url()}edit/",
        f"{blueprint.get_absolute_url()}remove/",
        "/overlays/",
        "/overlays/new/",
        "/overlays/pack/",
        "/overlays/pack/edit/",
        "/overlays/pack/remove/",
        "/overlays/pack/uploads/",
        "/overlays/pack/versions/1/",
        f"/overlays/pack/versions/2/file/{file}",
        "/overlays/pack/versions/2/changes/",
        f"/overlays/pack/versions/2/changes/{file}",
        "/overlays/pack/files/new/",
        f"/overlays/pack/files/edit/{file}",
        f"/overlays/pack/files/rename/{file}",
        f"/overlays/pack/files/remove/{file}",
        "/overlays/pack/versions/1/remove/",
        "/jobs/",
        "/jobs/?state=cancelled",
        job,
        f"{job}?line=700#L700-L703",
        f"{job}?q=line 7&line=1400",
        f"{job}?q=nothing like it",
        failed_job.get_absolute_url(),
        queued.get_absolute_url(),
        waiting.get_absolute_url(),
        f"{waiting.get_absolute_url()}starts/",
        f"{waiting.get_absolute_url()}starts/compare/?from={older.pk}&to={newer.pk}",
        f"{waiting.get_absolute_url()}map/",
        f"{waiting.get_absolute_url()}players/",
        f"{waiting.get_absolute_url()}bans/",
        f"{waiting.get_absolute_url()}admins/",
        f"{waiting.get_absolute_url()}commands/?q=status",
        f"{waiting.get_absolute_url()}people/",
        f"{waiting.get_absolute_url()}people/{member.pk}/remove/",
        "/servers/?made=waiting",
        "/tags/",
        "/hosts/",
        server.host.get_absolute_url(),
        "/accounts/password/",
        "/accounts/people/",
        f"/accounts/people/{somebody.pk}/",
        "/accounts/audit/",
        f"{server.get_absolute_url()}people/audit/",
        "/health/",
        "/nowhere/",
    ]


def add_versions(owner: User, blueprint: Blueprint) -> None:
    """Give a blueprint two overlays with versions and files in common, one of them pinned."""
    files = {"left4dead2/cfg/a.cfg": "sv_lan 0\n", "left4dead2/addons/<b>.vpk": "1"}
    overlays = [Overlay.objects.create(name=name, owner=owner) for name in ("pack", "rules")]
    for overlay in overlays:
        for text in ("one", "two"):
            bring(overlay, owner, {**files, "left4dead2/cfg/a.cfg": f"{overlay} {text}"}, note=text)
    blueprint.set_overlays(overlays, {overlays[1].pk: overlays[1].versions.get(number=1)})
    add_uploads(overlays[0], owner)


def add_uploads(overlay: Overlay, owner: User) -> None:
    """Give an overlay an upload in each state that its page shows."""
    for state in UploadState:
        upload = begin_upload(overlay, by=owner, adds_to_latest=True, note="A <b>note</b>")
        add_part(upload, f"{'long' * 40}/{state}.vpk", 7)
        Upload.objects.filter(pk=upload.pk).update(
            state=state,
            finished_at=timezone.now() if state == UploadState.DONE else None,
            version=overlay.latest if state == UploadState.DONE else None,
        )
        if state not in (UploadState.RECEIVING, UploadState.DONE):
            job_state = JobState.RUNNING if state == UploadState.WAITING else JobState(state)
            Job.objects.create(
                operation="unpack", upload=upload, state=job_state, stage="Unpacking", progress=40
            )


def add_people(server: Server) -> None:
    """Let people be on a server, have been there, and be banned, and commands be sent to it."""
    now = timezone.now()
    server.players = 2
    server.save()
    for number, left_at in enumerate((None, now), start=1):
        server.player_sessions.create(
            steam_id=f"STEAM_1:0:{number}", name="Zoey", joined_at=now, seen_at=now, left_at=left_at
        )
        ends_at = left_at and now + timedelta(hours=1)
        server.bans.create(
            owner=server.owner, steam_id=f"STEAM_1:1:{number}", ends_at=ends_at, lifted_at=left_at
        )
    server.game_admins.create(steam_id="STEAM_1:0:1", name="Zoey", preset="head")
    AdminsNote.record(server, AdminsState.NOT_LOADED, "It answered nothing.")
    for state in CommandState.values:
        server.console_commands.create(
            text=f"status {state}", state=state, answer="x\n" * 99, answer_bytes=198, remark="Why."
        )


def add_map_change(server: Server) -> None:
    """Let a server have been told to play another map, and play the first one."""
    command = server.console_commands.create(text="changelevel c2m1_highway", state="answered")
    server.map_changes.create(
        command=command, map="c2m1_highway", state="other", said_map="c1m1_hotel"
    )


def fill_host(host: Host) -> None:
    """Give a host everything that its page can show."""
    now = timezone.now()
    Host.objects.filter(pk=host.pk).update(
        build_id="200",
        latest_build_id="300",
        latest_build_at=now,
        reported_at=now,
        load_average=0.95,
        disk_free_bytes=10**9,
        disk_total_bytes=10**10,
        memory_available_bytes=10**9,
        memory_total_bytes=2 * 10**9,
        findings_at=now,
        findings=[
            {"subject": "Box", "severity": "fault", "text": "No box.", "cure": "Allow it."},
            {"subject": "User", "severity": "ok", "text": "Fine.", "cure": ""},
        ],
    )
    for build_id in ("100", "200"):
        host.releases.create(
            build_id=build_id, is_current=build_id == "200", installed_at=timezone.now()
        )
    OverlayReport.objects.create(host=host, name="maps", files=3, looked_at=now)
    chapters = [{"map": "c1m1_hotel", "title": ""}]
    campaign = {"name": "one", "title": "Dead Center", "path": "one.txt", "problem": "A brace."}
    ReleaseReport.objects.create(
        host=host,
        build_id="200",
        campaigns=[campaign | {"modes": [{"name": "coop", "chapters": chapters}]}],
        obstacles=["A pack is cut short."],
        looked_at=now,
    )
    Job.objects.create(
        operation="install", host=host, state=JobState.RUNNING, stage="Downloading", progress=40
    )


@pytest.mark.timeout(600)  # so many pages
def test_axe_finds_nothing_on_any_page(paths: list[str], open_page: OpenPage) -> None:
    assert {
        name_of(path) for path in paths if path != "/nowhere/"
    } - DOOR_PAGES == PAGES - DOOR_PAGES
    page = open_page()
    page.add_init_script(AXE_SCRIPT)
    window = Window(page)
    found = {}
    for path in [*paths, *ADMIN_PATHS, "/accounts/login/"]:
        if path == "/accounts/login/":
            page.context.clear_cookies()
        response = page.goto(path)
        assert response is not None
        assert response.status == (404 if path == "/nowhere/" else 200), path
        page.wait_for_load_state()
        page.evaluate(REMOVE_ALIKE)
        # What Django's admin site tells screen readers is Django's business.
        said = [] if path in ADMIN_PATHS else violations_at_any_size(page, window)
        window.resize(PHONE)
        if said := said + small_targets(page) + page.evaluate(CUT_PLACEHOLDERS):
            found[path] = said
    assert not found, json.dumps(found, indent=1)


@contextmanager
def lines_pouring_in(job: Job, first: int) -> Iterator[None]:
    """Add line after line to the log of `job`, starting at `first`, as long as the block runs."""
    is_over = threading.Event()

    def pour() -> None:
        for seq in count(first, 5):
            add_lines(job, seq, seq + 4, "stderr" if seq % 10 == 1 else "stdout")
            if is_over.wait(0.2):
                break
        connection.close()

    thread = threading.Thread(target=pour)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def test_axe_finds_nothing_while_lines_pour_in(open_page: OpenPage, running_job: Job) -> None:
    page = open_page()
    page.goto(running_job.get_absolute_url())
    expect(page.locator("[data-log-status]")).to_have_text("Live")
    with lines_pouring_in(running_job, 201):
        expect(line(page, 220)).to_be_attached()
        assert violations(page) == []
        page.get_by_role("log").evaluate("log => { log.scrollTop = 100 }")
        expect(page.get_by_role("button", name="Jump to live")).to_be_visible()
        assert violations(page) == []


def test_every_colour_of_a_log_can_be_read_on_every_other(
    open_page: OpenPage, failed_job: Job
) -> None:
    colours = [None, *range(16)]
    JobLog.objects.bulk_create(
        JobLog(
            job=failed_job,
            seq=3 + index,
            stream="stdout" if index % 2 else "stderr",
            line=f"{sgr(38, foreground)}{sgr(48, background)}{foreground} on {background}",
        )
        for index, (foreground, background) in enumerate(product(colours, colours))
    )
    page = open_page()
    page.goto(failed_job.get_absolute_url())
    # axe measures what can be scrolled to, not only what is in view.
    assert violations(page) == []
    page.goto(f"{failed_job.get_absolute_url()}#L1-L400")
    expect(line(page, 291)).to_have_attribute("aria-current", "true")
    assert violations(page) == []


def sgr(kind: int, colour: int | None) -> str:
    """Return the sequence that chooses a colour, or nothing."""
    return "" if colour is None else f"\x1b[{kind};5;{colour}m"


def test_a_flood_is_told_as_a_number_of_lines(open_page: OpenPage, running_job: Job) -> None:
    page = open_page()
    page.clock.install()
    page.goto(running_job.get_absolute_url())
    log, news = page.get_by_role("log"), page.locator("[data-log-news]")
    expect(page.locator("[data-log-status]")).to_have_text("Live")
    expect(log).to_have_attribute("aria-live", "off")
    expect(news).to_have_attribute("role", "status")
    add_lines(running_job, 201, 1_397)
    add_lines(running_job, 1_398, 1_400, "stderr")
    expect(line(page, 1_400)).to_be_attached()
    expect(news).to_be_empty()
    page.clock.run_for(10_000)
    expect(news).to_have_text("1200 new lines, 3 on stderr")
    page.clock.run_for(60_000)
    expect(news).to_have_text("1200 new lines, 3 on stderr")


def test_the_state_of_a_job_is_told_when_it_changes(open_page: OpenPage, running_job: Job) -> None:
    page = open_page()
    page.goto(running_job.get_absolute_url())
    said = page.get_by_role("status").filter(has_text=f"Job {running_job.pk} is")
    expect(said).to_have_text(f"Job {running_job.pk} is running.")
    running_job.state = JobState.SUCCEEDED
    running_job.finished_at = timezone.now()
    running_job.save()
    expect(said).to_have_text(f"Job {running_job.pk} is succeeded.")
