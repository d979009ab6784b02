"""The ways to a server's bans and admins in the game, from where people look for them."""

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from servers.models import AdminsNote, AdminsState, Server
from tests.pages.conftest import sign_in

BANS, ADMINS, PLAYERS = (f"/servers/alpha/{page}/" for page in ("bans", "admins", "players"))

pytestmark = pytest.mark.django_db


def words(client: Client, url: str) -> str:
    """Return a page with its blanks collapsed, as one reads it."""
    return " ".join(client.get(url).content.decode().split())


def test_the_people_tab_leads_to_both_and_says_what_is_there(
    as_alice: Client, server: Server
) -> None:
    page = words(as_alice, "/servers/alpha/people/")
    assert f'<a href="{BANS}">Bans</a>' in page
    assert f'<a href="{ADMINS}">Admins in the game</a>' in page
    assert "Nobody is banned." in page
    assert "<strong>Nobody yet.</strong>" in page
    server.bans.create(owner=server.owner, steam_id="STEAM_1:0:1")
    server.bans.create(owner=server.owner, steam_id="STEAM_1:0:2", lifted_at=timezone.now())
    server.game_admins.create(steam_id="STEAM_1:0:1", preset="full")
    page = words(as_alice, "/servers/alpha/people/")
    assert "1 ban is in force." in page
    assert "<strong>1 admin.</strong>" in page


def test_the_pages_about_players_lead_to_one_another(as_alice: Client, server: Server) -> None:
    server.bans.create(owner=server.owner, steam_id="STEAM_1:0:1")
    for url in (PLAYERS, BANS, ADMINS):
        page = words(as_alice, url)
        nav = page.partition('aria-label="Pages about players"')[2].partition("</nav>")[0]
        assert re.findall(r'href="([^"]+)"', nav) == [PLAYERS, BANS, ADMINS]
        assert f'href="{url}" aria-current="page"' in nav
        assert 'Bans <span class="filters-count">1</span>' in nav


@pytest.mark.parametrize(("role", "count"), [("viewer", 0), ("operator", 0), ("manager", 2)])
def test_a_players_row_leads_to_banning_them_and_to_making_them_an_admin(
    server: Server, bob: User, role: str, count: int
) -> None:
    server.memberships.create(user=bob, role=role)
    now = timezone.now()
    for number, left_at in ((1, None), (2, now)):
        server.player_sessions.create(
            steam_id=f"STEAM_1:0:{number}", name="Zoey", joined_at=now, seen_at=now, left_at=left_at
        )
    browser = sign_in(bob)
    page = words(browser, PLAYERS)
    assert page.count("#ban-heading") == page.count("#name-heading") == count
    if count:
        assert f"{ADMINS}?steam_id=STEAM_1%3A0%3A2#name-heading" in page
        form = words(browser, f"{ADMINS}?steam_id=STEAM_1%3A0%3A2")
        assert 'name="steam_id" value="STEAM_1:0:2"' in form


def test_a_missing_sourcemod_is_told_in_one_box(as_alice: Client, server: Server) -> None:
    AdminsNote.record(server, AdminsState.NO_SOURCEMOD, "This server has no SourceMod.")
    main = as_alice.get(ADMINS).content.decode().partition("<main")[2]
    assert main.count('class="notice"') == 1
    box = main.partition('class="notice" data-kind="warning"')[2].partition("</div>")[0]
    assert "This server has no SourceMod." in box
    assert "Upload MetaMod and SourceMod" in box
