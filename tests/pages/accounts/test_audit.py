"""Who did what: what people save is recorded, and shown together with jobs and sign-ins."""

from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from allauth.core.context import request_context
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone

from jobs.models import DeferredAction, Job
from l4d2site.accounts import audit
from l4d2site.accounts.audit import LARGEST_ID, AuditQuery, Place, find_commands, find_events
from l4d2site.accounts.models import (
    DOOR_KINDS,
    PEOPLE_KINDS,
    PLAYER_KINDS,
    SETTING_KINDS,
    AccountEvent,
    EventKind,
)
from servers.forms.last_changes import find_last_change
from servers.models import Ban, Blueprint, ConsoleCommand, Overlay, Server
from servers.secrets.encryption import ServerSecret
from tests.pages.conftest import sign_in
from tests.pages.queries import assert_same_queries
from tests.states import record_state

pytestmark = pytest.mark.django_db

AUDIT = reverse("audit")


def read(client: Client, address: str = AUDIT) -> str:
    """Return a page with each run of blanks collapsed."""
    return " ".join(client.get(address).content.decode().split())


def recorded(*kinds: EventKind) -> list[tuple[str, str, str]]:
    rows = AccountEvent.objects.filter(kind__in=kinds or SETTING_KINDS).order_by("pk")
    return list(rows.values_list("kind", "name", "detail"))


def edit(client: Client, server: Server, **changes: str) -> None:
    values = {
        "port": str(server.port),
        "blueprint": str(server.blueprint_id),
        "arguments": "",
        "config": "",
    }
    answer = client.post(reverse("servers:edit", args=[server.name]), values | changes)
    assert answer.status_code == 302


# --- What is recorded -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Server, Blueprint])
def test_a_new_owner_is_recorded_with_the_one_before(
    rf: RequestFactory, server: Server, bob: User, dana: User, kind: type[Server | Blueprint]
) -> None:
    request = rf.post("/")
    request.user = dana
    row = server if kind is Server else server.blueprint
    with request_context(request):
        row.owner = bob
        row.save()
    ((_kind, who, detail),) = recorded()
    assert (who, detail) == ("dana", f"{row.name}: owner, from alice to bob")
    change = find_last_change(row, ["owner"])
    assert change
    assert change.who == "dana"


def test_what_is_saved_of_a_server_is_recorded_by_name_and_not_by_value(
    as_alice: Client, server: Server
) -> None:
    edit(as_alice, server, config="hostname Secret", rcon_password="sesame-open-the-door")
    ((kind, who, detail),) = recorded()
    assert (kind, who) == ("server_changed", "alice")
    assert detail == "alpha: config, RCON password"
    assert AccountEvent.objects.get(kind=kind).server == server


def test_a_form_that_changes_nothing_is_no_event(as_alice: Client, server: Server) -> None:
    server.set_secret(ServerSecret.RCON_PASSWORD, "sesame-open-the-door")
    server.save()
    edit(as_alice, server)
    assert recorded() == []


def test_what_a_worker_writes_is_no_event(server: Server) -> None:
    server.port += 1
    server.save()
    Server.objects.create(
        name="b", owner=server.owner, host=server.host, blueprint=server.blueprint
    )
    server.delete()
    assert recorded() == []


def test_a_server_is_recorded_from_its_making_to_its_removal(
    as_alice: Client, blueprint: Blueprint
) -> None:
    as_alice.post(
        reverse("servers:create"),
        {"name": "beta", "blueprint": str(blueprint.pk), "port": "", "arguments": "", "config": ""},
    )
    as_alice.post(reverse("servers:remove", args=["beta"]))
    assert recorded() == [
        ("server_made", "alice", "beta"),
        ("server_removed", "alice", "beta"),
    ]


def test_a_blueprint_is_recorded_too(as_alice: Client) -> None:
    values = {"name": "versus", "arguments": "", "config": ""}
    as_alice.post(reverse("servers:blueprint_create"), values)
    edit_url = reverse("servers:blueprint_edit", args=["versus"])
    as_alice.post(edit_url, values | {"config": "sv_lan 0", "is_shared": "on"})
    as_alice.post(reverse("servers:blueprint_remove", args=["versus"]))
    assert recorded() == [
        ("blueprint_made", "alice", "versus"),
        ("blueprint_changed", "alice", "versus: sharing, config"),
        ("blueprint_removed", "alice", "versus"),
    ]


def test_other_overlays_of_a_blueprint_are_recorded_and_its_first_ones_are_not(
    as_alice: Client,
) -> None:
    one, two = (Overlay.objects.create(name=name, is_host_folder=True) for name in ("one", "two"))
    values = {"name": "versus", "arguments": "", "config": ""}
    as_alice.post(reverse("servers:blueprint_create"), values | {f"place_{one.pk}": "1"})
    assert recorded() == [("blueprint_made", "alice", "versus")]
    edit_url = reverse("servers:blueprint_edit", args=["versus"])
    changed = ("blueprint_changed", "alice", "versus: overlays")
    for count, order in enumerate(([one], [one, two], [two, one], [two])):
        places = {f"place_{overlay.pk}": str(place) for place, overlay in enumerate(order, 1)}
        as_alice.post(edit_url, values | places)
        assert recorded()[1:] == [changed] * count


def test_bans_are_recorded_when_they_are_made_and_lifted(as_alice: Client, server: Server) -> None:
    url = reverse("jobs:bans", args=["alpha"])
    typed = {"steam_id": "STEAM_1:0:33333", "reason": "griefing"}
    now = timezone.now()
    server.player_sessions.create(
        steam_id="STEAM_1:0:33333", name="Rochelle", joined_at=now, seen_at=now
    )
    as_alice.post(url, typed | {"length": "hour", "where": "server"})
    ban = Ban.objects.get()
    for _click in range(2):
        as_alice.post(reverse("jobs:ban_lift", args=["alpha", ban.pk]))
    assert recorded(*PLAYER_KINDS) == [
        ("player_banned", "alice", "alpha: Rochelle (STEAM_1:0:33333), for 1 hour"),
        ("ban_lifted", "alice", "alpha: Rochelle (STEAM_1:0:33333)"),
    ]
    page = as_alice.get(reverse("server_audit", args=["alpha"]) + "?kind=players")
    assert [entry.what for entry in page.context["entries"]] == ["Ban lifted", "Banned"]


def test_what_waits_until_a_server_is_empty_is_recorded_once(
    as_alice: Client, server: Server
) -> None:
    record_state(server, "running")
    ask = {"operation": "restart", "when": "empty"}
    forget = reverse("jobs:deferred_forget", args=["alpha"])
    as_alice.post(reverse("jobs:create", args=["alpha"]), ask)
    requested, called_off = (
        ("server_changed", "alice", f"alpha: Restart once nobody plays: {change}")
        for change in ("requested", "called off")
    )
    assert recorded() == [requested]
    for _click in range(2):
        as_alice.post(forget)
    assert recorded() == [requested, called_off]
    as_alice.post(reverse("jobs:create", args=["alpha"]), ask)
    DeferredAction.objects.update(ended_at=timezone.now(), outcome="It stopped.")
    as_alice.post(forget)  # Got it.
    assert not DeferredAction.objects.exists()
    assert recorded() == [requested, called_off, requested]


def test_an_overlay_and_its_versions_are_recorded_too(
    as_alice: Client, tmp_path: Path, settings: LazySettings
) -> None:
    settings.CONTENT_ROOT = tmp_path / "content"
    as_alice.post(reverse("servers:overlay_create"), {"name": "rules"})
    new = reverse("servers:overlay_file_new", args=["rules"])
    for name in ("a", "b"):
        as_alice.post(new, {"path": f"left4dead2/cfg/{name}.cfg", "text": "x"})
    as_alice.post(reverse("servers:overlay_edit", args=["rules"]), {"is_shared": "on"})
    as_alice.post(reverse("servers:overlay_version_remove", args=["rules", 1]))
    as_alice.post(reverse("servers:overlay_remove", args=["rules"]))
    assert recorded() == [
        ("overlay_made", "alice", "rules"),
        ("overlay_changed", "alice", "rules, version 1 made"),
        ("overlay_changed", "alice", "rules, version 2 made"),
        ("overlay_changed", "alice", "rules: sharing"),
        ("overlay_changed", "alice", "rules, version 1 removed"),
        ("overlay_removed", "alice", "rules"),
    ]


def test_every_kind_is_in_one_group_of_the_filters() -> None:
    grouped = [*DOOR_KINDS, *SETTING_KINDS, *PLAYER_KINDS, *PEOPLE_KINDS]
    assert sorted(grouped) == sorted(EventKind)


# --- The page ---------------------------------------------------------------------------------


@pytest.fixture
def history(as_alice: Client, server: Server, alice: User, bob: User) -> Job:
    """Return a failed start of Alice's server, beside a change of it, a role and a sign-in of Bob."""
    edit(as_alice, server, config="sv_lan 0")
    as_alice.post(reverse("member_add", args=["alpha"]), {"username": "bob", "role": "viewer"})
    sign_in(bob)
    return Job.objects.create(
        operation="start", server=server, requested_by=alice, state="failed", error="No map."
    )


def test_everything_is_told_the_newest_first(as_dana: Client, history: Job) -> None:
    page = read(as_dana)
    places = [
        page.index(text)
        for text in (f'href="{history.get_absolute_url()}"', "viewer of alpha", ">config<")
    ]
    assert places == sorted(places)
    assert "No map." in page
    assert "from 127.0.0.1" in page


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("kind=jobs", {"Start"}),
        ("kind=settings", {"Server changed"}),
        ("kind=people&server=alpha", {"Role changed"}),
        ("kind=door&who=BOB", {"Signed in"}),
        ("kind=jobs&who=bob", set()),
        ("server=alpha", {"Start", "Server changed", "Role changed"}),
        ("server=gone", set()),
        ("who=al%00ice&kind=settings", {"Server changed"}),
    ],
)
def test_it_is_narrowed_down(as_dana: Client, history: Job, query: str, shown: set[str]) -> None:
    page = as_dana.get(f"{AUDIT}?{query}")
    whats = {entry.what for entry in page.context["entries"]}
    assert whats == shown
    if not shown:
        assert "Nothing matches these filters." in page.content.decode()


def test_jobs_of_a_server_that_is_gone_are_found_by_its_name(
    as_dana: Client, history: Job, server: Server
) -> None:
    server.delete()
    page = as_dana.get(f"{AUDIT}?server=alpha&kind=jobs")
    assert [entry.job_id for entry in page.context["entries"]] == [history.pk]


def test_pages_go_through_all_of_it_once(
    as_dana: Client, history: Job, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "ENTRIES_PER_PAGE", 2)
    for _ in range(3):
        job = Job.objects.create(operation="stop", server=server)
        # Of entries with the same moment, some are on one page and some on the next.
        Job.objects.create(operation="stop", server=server, created_at=job.created_at)
        for _twice in range(2):
            ConsoleCommand.objects.create(server=server, text="say x", created_at=job.created_at)
    seen: list[tuple[int | None, int | None, int | None]] = []
    address = AUDIT
    while address:
        page = as_dana.get(address)
        entries = page.context["entries"]
        assert len(entries) <= 2
        assert len(seen) < 100  # Otherwise it goes round and round.
        seen += [(entry.job_id, entry.event_id, entry.command_id) for entry in entries]
        older = page.context["older_url"]
        address = AUDIT + older if older else ""
    everything: set[tuple[int | None, int | None, int | None]] = {
        (pk, None, None) for pk in Job.objects.values_list("pk", flat=True)
    }
    everything |= {(None, pk, None) for pk in AccountEvent.objects.values_list("pk", flat=True)}
    everything |= {(None, None, pk) for pk in ConsoleCommand.objects.values_list("pk", flat=True)}
    assert set(seen) == everything
    assert len(seen) == len(everything)


@pytest.mark.parametrize(
    "text", ["", "7", "7-1-1-", "a-b-c-d", "-1-2-3", "1-2-3", "9" * 30 + "-1-1-1"]
)
def test_a_place_that_is_none_is_the_newest(text: str) -> None:
    assert Place.parse(text) == Place()


def test_it_costs_the_same_with_more_of_it(as_dana: Client, history: Job, server: Server) -> None:
    def make_more() -> None:
        for number in range(5):
            Job.objects.create(operation="stop", server=server)
            ConsoleCommand.objects.create(server=server, text="status")
            AccountEvent.objects.create(
                kind=EventKind.ROLE_CHANGED,
                name=str(number),
                server=server,
                at=history.created_at,
                last_at=history.created_at,
            )

    assert_same_queries(as_dana, AUDIT, make_more)
    assert_same_queries(as_dana, reverse("server_audit", args=["alpha"]), make_more)


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("since=2026-03-02", {2, 3}),
        ("until=2026-03-02", {1, 2}),
        ("until=2026-03-01", {1}),
        ("since=2026-03-02&until=2026-03-02", {2}),
        ("since=2026-04-01", set()),
    ],
)
def test_days_narrow_it_down_in_the_time_zone_of_the_panel(
    as_dana: Client, server: Server, settings: LazySettings, query: str, shown: set[int]
) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    AccountEvent.objects.all().delete()
    zone = ZoneInfo("Europe/Berlin")
    for day in (1, 2, 3):
        # When a day begins in Berlin, it is still the day before in UTC.
        at = datetime(2026, 3, day, tzinfo=zone)
        Job.objects.create(operation="stop", server=server, created_at=at)
        ConsoleCommand.objects.create(server=server, text="status", created_at=at)
        AccountEvent.objects.create(kind=EventKind.SIGN_IN, name="bob", at=at, last_at=at)
    page = as_dana.get(f"{AUDIT}?{query}")
    days = [entry.at.astimezone(zone).day for entry in page.context["entries"]]
    assert sorted(days) == sorted([*shown, *shown, *shown])


def test_the_days_are_kept_by_the_other_filters_and_by_paging(
    as_dana: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "ENTRIES_PER_PAGE", 1)
    for _ in range(2):
        Job.objects.create(operation="stop", server=server)
    page = as_dana.get(f"{AUDIT}?since=2026-01-01")
    assert "since=2026-01-01" in page.context["older_url"]
    assert all("since=2026-01-01" in url for _label, url, _is_chosen in page.context["filters"])


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("since=yesterday", "Enter a day such as 2026-11-27."),
        ("until=9999-12-31", "Use 2999-12-30 or less."),
        ("since=0001-01-01", "Use 2000-01-01 or more."),
        ("since=2026-03-02&until=2026-03-01", "Choose the first day or a later one."),
        ("until=%01", "Enter a day such as 2026-11-27."),
    ],
)
def test_what_is_no_day_gets_a_sentence(as_dana: Client, query: str, sentence: str) -> None:
    assert sentence in read(as_dana, f"{AUDIT}?{query}")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("kickid STEAM_1:0:7 bye", "Kick"),
        ("changelevel c1m1_hotel", "Map change"),
        ("say hello", "Message to the players"),
        ("sm_cvar a 1", "Console command"),
        (" ", "Console command"),
    ],
)
def test_what_was_sent_to_a_console_is_told(
    as_dana: Client, server: Server, bob: User, text: str, what: str
) -> None:
    command = ConsoleCommand.objects.create(
        server=server, requested_by=bob, requested_by_name="bob", text=text, state="answered"
    )
    page = as_dana.get(f"{AUDIT}?kind=commands&who=bob")
    (entry,) = page.context["entries"]
    assert (entry.what, entry.who, entry.subject) == (what, "bob", "alpha")
    assert (entry.line, entry.detail) == (text, "answered")
    answers = as_dana.get(entry.url)
    assert next(iter(answers.context["commands"])) == command


def test_a_kick_names_the_player_by_the_last_name_on_that_server(
    as_dana: Client, server: Server
) -> None:
    for days, name in ((1, "Rochelle"), (2, "Zoey")):
        at = timezone.now() - timedelta(days=days)
        server.player_sessions.create(
            steam_id="STEAM_1:1:333", name=name, joined_at=at, seen_at=at, left_at=at
        )
    for text in (
        "kickid STEAM_1:1:333",
        'sm_psay "#STEAM_1:1:333" hi',
        "kickid STEAM_1:1:4",
        "say x",
    ):
        ConsoleCommand.objects.create(server=server, text=text)
    page = as_dana.get(f"{AUDIT}?kind=commands")
    whom = [entry.whom for entry in page.context["entries"]]
    assert whom == ["", "STEAM_1:1:4", "Rochelle", "Rochelle"]


def test_commands_of_servers_that_one_may_not_see_are_not_shown(server: Server, bob: User) -> None:
    ConsoleCommand.objects.create(server=server, text="status")
    assert not find_commands(bob, AuditQuery())
    assert find_commands(server.owner, AuditQuery())


def test_a_role_is_told_with_who_gave_it_and_to_whom(as_alice: Client, history: Job) -> None:
    page = as_alice.get(reverse("server_audit", args=["alpha"]) + "?kind=people")
    (entry,) = page.context["entries"]
    assert (entry.who, entry.whom, entry.detail) == ("alice", "bob", "viewer of alpha")


def test_who_changed_a_role_before_that_was_recorded_is_not_guessed(
    as_dana: Client, history: Job
) -> None:
    AccountEvent.objects.filter(kind=EventKind.ROLE_CHANGED).update(actor_name="")
    page = as_dana.get(f"{AUDIT}?kind=people&server=alpha")
    (entry,) = page.context["entries"]
    assert (entry.who, entry.whom, entry.detail) == (
        "not recorded",
        "bob",
        "viewer of alpha, by alice",
    )


def test_a_command_on_the_machine_is_told_as_one(as_dana: Client, bob: User) -> None:
    bob.is_staff = True
    bob.save()
    page = as_dana.get(f"{AUDIT}?kind=people&who=bob")
    entry = page.context["entries"][0]
    assert (entry.what, entry.who, entry.whom) == (
        "Role changed",
        "a command on the machine",
        "bob",
    )
    assert entry.detail == "staff"


# --- Of one server ----------------------------------------------------------------------------


def test_whoever_manages_a_server_reads_what_was_done_with_it(
    as_alice: Client, history: Job, server: Server, bob: User
) -> None:
    other = Server.objects.create(
        name="other", owner=bob, host=server.host, blueprint=server.blueprint
    )
    Job.objects.create(operation="restart", server=other, requested_by=bob)
    page = read(as_alice, reverse("server_audit", args=["alpha"]))
    for text in (history.get_absolute_url(), "viewer of alpha", ">config<"):
        assert text in page
    assert "Restart</a></td>" not in page
    assert "127.0.0.1" not in page.partition("Who did what</h2>")[2]
    assert reverse("server_audit", args=["alpha"]) in read(
        as_alice, reverse("server_people", args=["alpha"])
    )


def test_what_was_said_cannot_change_how_its_line_reads(as_dana: Client, server: Server) -> None:
    server.console_commands.create(text="say \u202eolleh \x9b2J café", state="answered")
    pages = (AUDIT, reverse("jobs:commands", args=["alpha"]))
    for page in (read(as_dana, address) for address in pages):
        assert r"say \u202eolleh \u009b2J café" in page
        assert page.isprintable()


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL reads few rows in any order")
def test_the_events_of_a_server_are_read_in_the_order_of_an_index(server: Server) -> None:
    rows = Place().read_from(find_events(AuditQuery(server="alpha")), "at", LARGEST_ID, 51)
    plan = rows.explain()
    assert "accounts_event_of_server" in plan, plan
    assert "TEMP B-TREE" not in plan, plan
