"""Where the keyboard focus is after a page was loaded again: at what was done, or at what needs correcting."""

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client

from servers.models import Server

pytestmark = pytest.mark.django_db


def focused(page: str) -> list[str]:
    """Return the tags with `autofocus`; the browser focuses the first."""
    return re.findall(r"<[^>]* autofocus[^>]*>", page)


def test_what_was_done_has_the_focus(as_alice: Client, server: Server) -> None:
    url = f"/servers/{server.name}/bans/"
    ban = {"steam_id": "[U:1:2]", "length": "hour", "where": "server"}
    (done,) = focused(as_alice.post(url, ban, follow=True).content.decode())
    assert re.search(r'<li class="message"[^>]*\stabindex="-1"', done)
    assert focused(as_alice.get(url).content.decode()) == []


def test_the_first_field_to_correct_has_the_focus_in_place_of_the_form_s_first(
    as_alice: Client, server: Server
) -> None:
    url = "/blueprints/new/"
    (name,) = focused(as_alice.get(url).content.decode())
    assert 'name="name"' in name
    page = as_alice.post(url, {"name": "fine", "memory_limit_mib": "-1", "cpu_weight": "-1"})
    before, field, after = page.content.decode().partition(" autofocus")
    assert field
    assert 'name="memory_limit_mib"' in before.rpartition("<")[2]
    assert before.rpartition("<details")[2].partition(">")[0].endswith(" open"), "it can be seen"
    assert " autofocus" not in after


def test_what_no_field_is_to_blame_for_has_the_focus(client: Client, alice: User) -> None:
    sent = {"username": "alice", "password": "wrong"}
    (notice,) = focused(client.post("/accounts/login/", sent).content.decode())
    assert 'role="alert"' in notice
