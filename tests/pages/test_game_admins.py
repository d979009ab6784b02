"""The page of a server's admins in the game: who appoints whom, what came of it, and the record of it."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from jobs import operations
from jobs.claimed_jobs import ClaimedJob
from jobs.queue.requests import enqueue
from l4d2site.accounts.models import AccountEvent
from servers.models import (
    AdminPreset,
    AdminsNote,
    AdminsState,
    Ban,
    GameAdmin,
    Overlay,
    Server,
)
from servers.people import admin_forms
from servers.people.game_people import with_people
from tests.fakes import FakeHost
from tests.overlays import bring
from tests.pages.queries import assert_same_queries

URL = "/servers/alpha/admins/"
FIELDS = {"steam_id": "76561197960265730", "name": "", "preset": "moderator"}

pytestmark = pytest.mark.django_db


def test_a_manager_names_an_admin_changes_what_they_may_and_removes_them(
    as_alice: Client, as_bob: Client, bob: User, server: Server
) -> None:
    as_alice.get("/")
    server.memberships.create(user=bob, role="manager")
    response = as_bob.post(URL, FIELDS | {"name": '<i>Zoey" // z'})
    assert (response.status_code, response["Location"]) == (303, URL)
    as_alice.post(URL, FIELDS | {"steam_id": "[U:1:2]", "preset": "full"})
    admin = GameAdmin.objects.get()
    assert (admin.steam_id, admin.preset, admin.made_by_name) == ("STEAM_1:0:1", "full", "bob")
    assert admin.name == '<i>Zoey" // z'
    page = as_alice.get(URL).content.decode()
    assert "&lt;i&gt;Zoey" in page
    assert "<i>Zoey" not in page
    as_alice.post(f"{URL}{admin.pk}/remove/")
    assert not GameAdmin.objects.exists()
    events = AccountEvent.objects.filter(server=server, kind="game_admin_changed").order_by("pk")
    assert list(events.values_list("name", "detail")) == [
        ("bob", 'alpha: <i>Zoey" // z (STEAM_1:0:1), now Moderator'),
        ("alice", 'alpha: <i>Zoey" // z (STEAM_1:0:1), now Full admin'),
        ("alice", 'alpha: <i>Zoey" // z (STEAM_1:0:1), no more'),
    ]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"steam_id": "zoey"}, "That is not a Steam ID"),
        ({"preset": "z"}, "not one of the available choices"),
        ({"name": "Zoey\n\u2028z"}, "on one line"),
    ],
)
def test_what_is_no_admin_is_told(
    as_alice: Client, server: Server, fields: dict[str, str], words: str
) -> None:
    assert words in as_alice.post(URL, FIELDS | fields).content.decode()
    assert not GameAdmin.objects.exists()


def test_before_anybody_is_named_it_says_that_there_is_no_sourcemod(
    as_alice: Client, server: Server, dana: User, tmp_path: Path, settings: LazySettings
) -> None:
    settings.CONTENT_ROOT = tmp_path / "content"
    missing = "no overlay of this server contains it"
    assert missing in as_alice.get(URL).content.decode()
    stack = Overlay.objects.create(name="stack", owner=dana, is_shared=True)
    bring(stack, dana, {"left4dead2/addons/sourcemod/bin/sourcemod.so": "x"})
    server.blueprint.set_overlays([stack])
    assert as_alice.get(URL).context["sourcemod_note"] is None
    server.blueprint.set_overlays([])
    page = as_alice.get(URL)
    assert list(page.context["sourcemod_note"].overlays) == [stack]
    assert "/edit/?overlay=stack" in page.content.decode()


def test_of_a_folder_on_a_host_it_says_that_this_is_not_known(
    as_alice: Client, server: Server
) -> None:
    server.blueprint.set_overlays([Overlay.objects.create(name="by-hand", is_host_folder=True)])
    page = as_alice.get(URL).content.decode()
    assert "not all files of by-hand are known here" in page
    AdminsNote.record(server, AdminsState.IN_FORCE)
    assert as_alice.get(URL).context["sourcemod_note"] is None
    AdminsNote.record(server, AdminsState.NO_SOURCEMOD)
    server.blueprint.set_overlays([])
    assert as_alice.get(URL).context["sourcemod_note"].sentence == ""


def test_who_was_on_can_be_chosen(as_alice: Client, server: Server) -> None:
    now = timezone.now()
    for name, steam_id, left_at in (("Zoey", "STEAM_1:0:1", None), ("Bill", "STEAM_1:0:2", now)):
        for hours in (3, 2):
            server.player_sessions.create(
                steam_id=steam_id,
                name=f"{name}{hours}",
                joined_at=now - timedelta(hours=hours),
                seen_at=now,
                left_at=left_at if hours == 2 else now,
            )
    for url in (URL, "/servers/alpha/bans/"):
        known = as_alice.get(url).context["known_players"]
        assert [(one.name, one.is_on) for one in known] == [("Zoey2", True), ("Bill2", False)]
        page = as_alice.get(url).content.decode()
        assert 'list="known-players"' in page
        assert '<option value="STEAM_1:0:1">Zoey2, on now</option>' in page


def test_who_comes_from_a_players_row_is_named(as_alice: Client, server: Server) -> None:
    now = timezone.now()
    for name, joined_at, left_at in (
        ("Zoey", now - timedelta(hours=2), now),
        ("<Zoey2>", now, None),
    ):
        server.player_sessions.create(
            steam_id="STEAM_1:0:1", name=name, joined_at=joined_at, seen_at=now, left_at=left_at
        )
    page = as_alice.get(f"{URL}?steam_id=STEAM_1:0:1").content.decode()
    assert 'name="name" value="&lt;Zoey2&gt;"' in page
    bans = "/servers/alpha/bans/"
    whom = "<code>STEAM_1:0:1</code> is <strong><bdi>&lt;Zoey2&gt;</bdi></strong>."
    assert whom in as_alice.get(f"{bans}?steam_id=STEAM_1:0:1").content.decode()
    for unknown in ("", "STEAM_1:0:2", "zoey"):
        assert "</bdi></strong>." not in as_alice.get(f"{bans}?steam_id={unknown}").content.decode()


def test_an_operator_sees_them_and_has_no_form(as_bob: Client, bob: User, server: Server) -> None:
    server.memberships.create(user=bob, role="operator")
    admin = server.game_admins.create(steam_id="STEAM_1:0:1", preset="full")
    page = as_bob.get(URL).content.decode()
    assert admin.steam_id in page
    assert "Add an admin" not in page
    assert "/remove/" not in page
    assert as_bob.post(URL, FIELDS).status_code == 403


def test_a_server_has_not_more_admins_than_there_may_be(
    as_alice: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_forms, "MOST_ADMINS", 1)
    as_alice.post(URL, FIELDS)
    response = as_alice.post(URL, FIELDS | {"steam_id": "[U:1:4]"})
    assert "which is the limit" in response.content.decode()
    assert as_alice.post(URL, FIELDS | {"preset": "full"}).status_code == 303
    assert GameAdmin.objects.get().preset == "full"


def test_the_page_says_what_has_come_of_them_and_not_what_was_before_a_change(
    as_alice: Client, server: Server
) -> None:
    as_alice.post(URL, FIELDS)
    response = as_alice.get(URL)
    assert "Not written yet" in response.content.decode()
    assert not list(response.context["messages"])
    AdminsNote.record(server, AdminsState.NO_SOURCEMOD, "There is no SourceMod.")
    page = as_alice.get(URL).content.decode()
    assert (
        "They are not written to the server, so they have no effect. There is no SourceMod." in page
    )
    AdminsNote.record(server, AdminsState.IN_FORCE)
    assert "SourceMod has read them" in as_alice.get(URL).content.decode()
    as_alice.post(f"{URL}{GameAdmin.objects.get().pk}/remove/")
    response = as_alice.get(URL)
    assert "Not written yet" in response.content.decode()
    assert not list(response.context["messages"])


def test_more_admins_are_not_more_queries(as_alice: Client, server: Server) -> None:
    def make_more() -> None:
        for number in range(1, 20):
            server.game_admins.create(steam_id=f"STEAM_1:0:{number}", preset="head")

    server.game_admins.create(steam_id="STEAM_1:1:1", preset="head")
    assert_same_queries(as_alice, URL, make_more)


def test_every_preset_has_letters_of_sourcemod_and_words() -> None:
    # SourceMod's admin_levels.cfg: b generic, c kick, d ban, e unban, f slay, g map, j chat, k vote, z root.
    for preset in AdminPreset:
        assert preset.flags == "z" or preset.flags.startswith("b")
        assert set(preset.flags) <= set("bcdefgjkz")
        assert preset.short
        assert "z" not in preset.flags or preset is AdminPreset.FULL


def test_a_start_is_given_bans_and_admins_also_one_as_it_was(
    server: Server, bob: User, fake_host: FakeHost
) -> None:
    server.bans.create(owner=server.owner, steam_id="STEAM_1:0:1")
    newer = server.bans.create(owner=server.owner, steam_id="STEAM_1:0:2")
    server.bans.create(owner=server.owner, steam_id="STEAM_1:0:3", lifted_at=newer.created_at)
    server.game_admins.create(steam_id="STEAM_1:0:4", preset="moderator", name="Zoey")
    spec = with_people(server.to_spec(), server)
    assert [ban.steam_id for ban in spec.bans] == ["STEAM_1:0:2", "STEAM_1:0:1"]
    assert [(one.steam_id, one.flags, one.name) for one in spec.admins] == [
        ("STEAM_1:0:4", "bcdefj", "Zoey")
    ]
    assert spec.lifted == ("STEAM_1:0:3",)
    for days in (3, 2):
        server.runs.create(started_at=newer.created_at - timedelta(days=days))
    Ban.objects.filter(steam_id="STEAM_1:0:3").update(
        lifted_at=newer.created_at - timedelta(days=4)
    )
    assert with_people(server.to_spec(), server).lifted == ()
    spec = replace(spec, lifted=())
    job = enqueue("start", server=server, requested_by=None)
    operations.prepare(ClaimedJob.of(job), lambda *_: None).operate()
    assert fake_host.specs == [spec]
