"""What every page costs in queries: few, and no more when there is more to show.

The pages are those that the URL patterns have, so a new one is among them.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from jobs.models import Job, JobStage, JobState, Worker
from l4d2site.accounts.models import Invitation
from servers.models import (
    Blueprint,
    ConsoleLine,
    ConsoleRun,
    Host,
    LaidOutVersion,
    Membership,
    Overlay,
    OverlayReport,
    Server,
    UploadState,
)
from servers.store import add_part, begin_upload
from tests.overlays import bring
from tests.pages.addresses import NOT_PAGES, routes
from tests.pages.conftest import sign_in
from tests.pages.queries import queries_of
from tests.states import make_run

pytestmark = pytest.mark.django_db

MOST_QUERIES = 45
"""More than any page needs, with room for one more thing on the page that shows most."""

NOT_COUNTED = {
    **dict.fromkeys(("account_login", "mfa_authenticate"), "who is signed in is led away"),
    **dict.fromkeys(("mfa_reauthenticate", "mfa_reauthenticate_webauthn"), "needs a second factor"),
    **dict.fromkeys(("mfa_deactivate_totp", "mfa_view_recovery_codes"), "needs a second factor"),
    **dict.fromkeys(("mfa_edit_webauthn", "mfa_remove_webauthn"), "needs a passkey"),
    **dict.fromkeys(
        ("mfa_generate_recovery_codes", "mfa_activate_totp", "mfa_add_webauthn"),
        "asks for the password first",
    ),
    "reset_request": "needs mail",
}
"""Pages that are left out, and why: they show nothing of which there could be more."""

FILE = "?path=left4dead2/cfg/a.cfg"
QUERIES = {
    "servers:overlay_file": FILE,
    "servers:overlay_file_edit": FILE,
    "servers:overlay_file_rename": FILE,
    "servers:overlay_file_remove": FILE,
}
"""The query string that an address needs."""


@pytest.fixture(autouse=True)
def store_below(tmp_path: Path, settings: LazySettings) -> None:
    """Give each test a store of its own."""
    settings.CONTENT_ROOT = tmp_path / "content"


@pytest.fixture
def grow(alice: User, bob: User, dana: User, host: Host) -> Callable[[int], None]:
    """Return a function that adds one of everything that pages show; it is told which one."""

    def grow(number: int) -> None:
        now = timezone.now()
        person = User.objects.create_user(f"person-{number}")
        overlay = Overlay.objects.create(name=f"o{number}", owner=alice)
        bring(overlay, alice, {"left4dead2/cfg/a.cfg": f"echo {number}"})
        blueprint = Blueprint.objects.create(name=f"b{number}", owner=alice, is_shared=True)
        first_overlay = Overlay.objects.get(name="o1")
        first_blueprint = Blueprint.objects.get(name="b1")
        first_blueprint.set_overlays(Overlay.objects.order_by("pk"))
        version = bring(first_overlay, alice, {"left4dead2/cfg/a.cfg": f"echo again {number}"})
        LaidOutVersion.objects.create(host=host, version=version)
        upload = begin_upload(first_overlay, by=alice, adds_to_latest=True)
        add_part(upload, f"{number}.vpk", 7)
        upload.state = UploadState.FAILED
        upload.save()
        Job.objects.create(operation="unpack", upload=upload, state="failed", requested_by=alice)
        server, shared = (
            Server.objects.create(
                name=f"{letter}{number}",
                owner=owner,
                host=host,
                blueprint=made_from,
                port=27_100 + 10 * number + index,
                actual_state="running",
                running_build_id=f"{number}",
                last_error="It was killed.",
            )
            for index, (letter, owner, made_from) in enumerate(
                (("s", alice, first_blueprint), ("x", bob, blueprint))
            )
        )
        Membership.objects.create(server=shared, user=alice, role="manager")
        server.tags.create(name=f"tag-{number}")
        fill_server(Server.objects.get(name="s1"), person, number)
        Job.objects.create(operation="start", server=server, state=JobState.RUNNING, started_at=now)
        Job.objects.create(operation="stop", server=server, requested_by=alice)
        fill_host(host, number)
        Invitation.objects.create(made_by=dana)
        for one in (alice, dana):
            sign_in(one)

    return grow


def fill_server(server: Server, person: User, number: int) -> None:
    """Let one more of everything have happened on a server."""
    now = timezone.now()
    make_run(server, config=f"hostname {number}\n")
    server.crashes.create(detail="It was killed.")
    Membership.objects.create(server=server, user=person, role="viewer")
    Invitation.objects.create(made_by=server.owner, server=server, role="viewer")
    for ended_at in (None, now):
        steam_id = f"STEAM_1:{int(ended_at is None)}:{number}"
        server.player_sessions.create(
            steam_id=steam_id, name="Zoey", joined_at=now, seen_at=now, left_at=ended_at
        )
        server.bans.create(owner=server.owner, steam_id=steam_id, lifted_at=ended_at)
    server.game_admins.create(steam_id=f"STEAM_1:0:{number}", preset="full")
    command = server.console_commands.create(text=f"status {number}", state="answered")
    server.map_changes.create(command=command, map="c2m1_highway", state="other")
    ConsoleLine.objects.create(server=server, seq=number, line="ready", created_at=now)
    ConsoleRun.objects.create(server=server, number=number, first_seq=number, started_at=now)
    job = Job.objects.create(
        operation="stop", server=server, state=JobState.FAILED, finished_at=now, error="It hangs."
    )
    first = Job.objects.filter(operation="stop", server=server).order_by("pk")[0]
    Job.objects.filter(pk=job.pk).update(retry_of=None if job == first else first)
    first.logs.create(seq=number, stream="stderr", line="It hangs.")
    JobStage.objects.create(job=first, name=f"Part {number}", first_seq=number, started_at=now)


def fill_host(host: Host, number: int) -> None:
    """Add one more of everything that hosts have, and one more host."""
    now = timezone.now()
    Host.objects.create(name=f"h{number}", reported_at=now)
    host.releases.create(build_id=f"{number}", is_current=number == 1, installed_at=now)
    Host.objects.filter(pk=host.pk).update(build_id="1", reported_at=now)
    OverlayReport.objects.create(host=host, name=f"report-{number}", files=3, looked_at=now)
    Job.objects.create(operation="check", host=host, state=JobState.FAILED, error="No network.")
    if number == 1:  # At most one job of each operation waits for a host.
        Job.objects.create(operation="install", host=host)
    Worker.objects.create(
        host=host,
        pid=number,
        process_started=1,
        concurrency=1,
        started_at=now,
        heartbeat_at=now + timedelta(seconds=25),  # as long as that can count as alive
    )


def fill_in(route: str) -> str:
    """Return the URL of a route for the first of everything that it can be about."""
    server = Server.objects.get(name="s1")
    for prefix, value in (
        ("/servers/<name:name>", "/servers/s1"),
        ("/blueprints/<name:name>", "/blueprints/b1"),
        ("/overlays/<name:name>", "/overlays/o1"),
        ("/hosts/<name:name>", "/hosts/local"),
        ("/versions/<int:number>", "/versions/2"),
        ("/jobs/<int:pk>", f"/jobs/{server.jobs.earliest('pk').pk}"),
        (
            "/servers/s1/people/<int:pk>",
            f"/servers/s1/people/{server.memberships.earliest('pk').pk}",
        ),
        ("/accounts/people/<int:pk>", f"/accounts/people/{server.owner_id}"),
        ("/invitation/<str:token>", f"/invitation/{server.invitations.earliest('made_at').token}"),
        ("/<uuid:pk>", "/00000000-0000-0000-0000-000000000000"),
    ):
        route = route.replace(prefix, value)
    # The rest names what only a form can be sent to.
    return re.sub(r"<(int|slug|str):\w+>", "1", route)


@dataclass(frozen=True)
class Visit:
    """A page, the person who opens it, and the queries that it cost."""

    url: str
    client: Client
    queries: list[str]


def visit_pages(owner: Client, superuser: Client) -> dict[str, Visit]:
    """Open each page, by its name: as its owner, or otherwise as a superuser."""
    newest, oldest = Server.objects.get(name="s1").runs.values_list("pk", flat=True)
    queries = {**QUERIES, "servers:starts_compare": f"?from={oldest}&to={newest}"}
    visits = {}
    for name, route in routes().items():
        if name in NOT_PAGES or name in NOT_COUNTED or is_small_print_of_admin(name):
            continue
        url = fill_in(route) + queries.get(name, "")
        for client in (owner, superuser):
            with CaptureQueriesContext(connection) as captured:
                status = client.get(url).status_code
            if status in (200, 405):
                break
        assert status in (200, 405), f"{name}: {url} answers {status}"
        if status == 200:
            visits[name] = Visit(url, client, [query["sql"] for query in captured.captured_queries])
    return visits


def is_small_print_of_admin(name: str) -> bool:
    """Return whether an address is one of the admin site's that is not a list: those are Django's."""
    return name.startswith("admin:") and not name.endswith(("_changelist", ":index"))


def test_no_page_costs_more_queries_the_more_there_is(
    grow: Callable[[int], None], alice: User, dana: User
) -> None:
    for number in (1, 2):
        grow(number)
    owner, superuser = sign_in(alice), sign_in(dana)
    for client in (owner, superuser):
        client.get("/servers/")  # What is queried only once.
    visits = visit_pages(owner, superuser)
    for number in (3, 4, 5):
        grow(number)
    found = []
    for name, visit in visits.items():
        before, after = visit.queries, queries_of(visit.client, visit.url)
        if len(after) > min(len(before), MOST_QUERIES):
            new = "\n    ".join(find_new(before, after))
            found.append(f"{name}: {len(before)} queries, then {len(after)}:\n    {new}")
    assert not found, "\n".join(found)


def find_new(before: list[str], after: list[str]) -> list[str]:
    """Return the queries of a page that are more than before, whatever the values in them."""
    left = [shape_of(text) for text in before]
    new = []
    for text in after:
        if (shape := shape_of(text)) in left:
            left.remove(shape)
        else:
            new.append(text)
    return new


def shape_of(text: str) -> str:
    """Return a query without its numbers and texts."""
    return re.sub(r"\d+|'[^']*'", "?", text)
