"""The page of bans: who may make and lift which, for how long, and lists in the game's own format."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from jobs.pages import ban_pages
from servers.models import Ban, Membership, Server
from servers.people import ban_forms
from tests.pages.conftest import sign_in

URL = "/servers/alpha/bans/"
FIELDS = {"steam_id": "[U:1:2]", "reason": "spits", "length": "hour", "where": "server"}

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("fields", "minutes"),
    [
        ({}, 60),
        ({"length": "day"}, 24 * 60),
        ({"length": "ever"}, None),
        ({"length": "own", "minutes": "90"}, 90),
    ],
)
def test_a_ban_has_who_why_by_whom_and_until_when(
    as_alice: Client, server: Server, fields: dict[str, str], minutes: int | None
) -> None:
    now = timezone.now()
    server.player_sessions.create(
        steam_id="STEAM_1:0:1", name="<i>Zoey", joined_at=now, seen_at=now, left_at=now
    )
    response = as_alice.post(URL, FIELDS | fields)
    assert (response.status_code, response["Location"]) == (303, URL)
    ban = Ban.objects.get()
    assert (ban.steam_id, ban.name, ban.reason) == ("STEAM_1:0:1", "<i>Zoey", "spits")
    assert (ban.made_by_name, ban.server) == ("alice", server)
    length = ban.ends_at and ban.ends_at - ban.created_at
    assert length == (minutes and timedelta(minutes=minutes))
    page = as_alice.get(URL).content.decode()
    assert "&lt;i&gt;Zoey" in page
    assert "<i>Zoey" not in page


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"steam_id": "alice"}, "That is not a Steam ID"),
        ({"length": "own"}, "Enter a number of minutes"),
        ({"length": "own", "minutes": "\N{ARABIC-INDIC DIGIT NINE}"}, "in the digits 0 to 9"),
        ({"length": "own", "minutes": "1_0"}, "in the digits 0 to 9"),
        ({"length": "own", "minutes": "0"}, "greater than or equal to 1"),
        ({"where": "everywhere"}, "not one of the available choices"),
    ],
)
def test_what_is_no_ban_is_told(
    as_alice: Client, server: Server, fields: dict[str, str], words: str
) -> None:
    assert words in as_alice.post(URL, FIELDS | fields).content.decode()
    assert not Ban.objects.exists()


def test_a_manager_bans_on_the_server_alone_and_lifts_no_ban_of_the_owner(
    as_alice: Client, as_bob: Client, bob: User, server: Server
) -> None:
    server.memberships.create(user=bob, role="manager")
    assert as_bob.post(URL, FIELDS | {"where": "all"}).status_code == 200
    assert not Ban.objects.exists()
    as_alice.post(URL, FIELDS | {"where": "all"})
    ban = Ban.objects.get()
    assert (ban.server, ban.owner) == (None, server.owner)
    as_bob.post(f"{URL}{ban.pk}/lift/")
    assert Ban.objects.in_force().exists()
    as_alice.post(f"{URL}{ban.pk}/lift/")
    ban.refresh_from_db()
    assert ban.lifted_at is not None
    assert ban.lifted_by_name == "alice"
    assert "lifted by alice" in as_alice.get(URL).content.decode()


def test_reasons_are_for_those_who_may_ban(as_alice: Client, bob: User, server: Server) -> None:
    Ban.objects.create(server=server, owner=server.owner, steam_id="STEAM_1:0:7", reason="Wallhack")
    Membership.objects.create(server=server, user=bob, role="operator")
    url = "/servers/alpha/bans/"
    as_bob = sign_in(bob)
    for query in ("", "?q=STEAM_1:0:7"):
        assert "Wallhack" in as_alice.get(url + query).content.decode()
        page = as_bob.get(url + query).content.decode()
        assert "STEAM_1:0:7" in page
        assert "Wallhack" not in page
    assert "STEAM_1:0:7" in as_alice.get(f"{url}?q=wallh").content.decode()
    assert "STEAM_1:0:7" not in as_bob.get(f"{url}?q=wallh").content.decode()


def test_a_ban_that_has_ended_is_not_lifted_and_stands_under_ended(
    as_alice: Client, server: Server
) -> None:
    past = timezone.now() - timedelta(minutes=1)
    ban = server.bans.create(owner=server.owner, steam_id="STEAM_1:0:1", ends_at=past)
    as_alice.post(f"{URL}{ban.pk}/lift/")
    ban.refresh_from_db()
    assert ban.lifted_at is None
    context = as_alice.get(URL).context
    assert (list(context["bans"]), list(context["ended"])) == ([], [ban])


def test_a_list_of_the_game_goes_in_and_comes_out(as_alice: Client, server: Server) -> None:
    server.bans.create(owner=server.owner, steam_id="STEAM_1:0:1")
    text = (
        "\ufeffbanid 0 STEAM_1:0:1\r\nbanid 0 STEAM_1:0:2 kick\n\n"
        "// x\nbanid 60 STEAM_0:1:3\rbanid 0 STEAM_1:0:2\n"
    )
    response = as_alice.post(f"{URL}import/", {"text": text}, follow=True)
    assert "2 imported, 2 already there." in response.content.decode()
    exported = as_alice.get(f"{URL}banned_user.cfg")
    assert exported.content.decode().split("\r\n") == [
        *("banid 0 STEAM_1:0:1", "banid 0 STEAM_1:0:2", "banid 60 STEAM_1:1:3", ""),
    ]
    Ban.objects.all().delete()
    as_alice.post(f"{URL}import/", {"text": exported.content.decode()})
    assert as_alice.get(f"{URL}banned_user.cfg").content == exported.content


def test_of_a_list_with_a_bad_line_nothing_is_taken_over_and_the_lines_are_named(
    as_alice: Client, server: Server
) -> None:
    lines = [
        *("banid 0 STEAM_1:0:1", "<b>junk", "", "banid 0 STEAM_1:0:2\x0bquit", "banid 0 7; exit"),
        *(f"banid {'9' * 8} STEAM_1:0:3", "addip 0 192.0.2.1", "banid 0 STEAM_1:0:4\u2028banid"),
    ]
    response = as_alice.post(f"{URL}import/", {"text": "\n".join([*lines, *["x" * 999] * 20])})
    page = response.content.decode()
    for number in (2, 4, 5, 7, 8):
        assert f"Line {number} is not a ban" in page
    assert "Line 6 bans for more than ten years" in page
    assert "Line 2 is not a ban: &lt;b&gt;junk" in page
    assert "16 more lines are not bans either" in page
    assert not Ban.objects.exists()


def test_nobody_has_bans_without_end(
    as_alice: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ban_forms, "MOST_BANS", 2)
    text = "banid 0 STEAM_1:0:1\nbanid 0 STEAM_1:0:2\nbanid 0 STEAM_1:0:3"
    response = as_alice.post(f"{URL}import/", {"text": text})
    assert "which is the limit" in response.content.decode()
    assert not Ban.objects.exists()
    for number in (2, 4):
        as_alice.post(URL, FIELDS | {"steam_id": f"[U:1:{number}]"})
    response = as_alice.post(URL, FIELDS | {"steam_id": "[U:1:6]"})
    assert "which is the limit" in response.content.decode()
    assert Ban.objects.count() == 2
    # A list of one-minute bans, imported every minute, would never end either.
    Ban.objects.update(ends_at=timezone.now())
    as_alice.post(f"{URL}import/", {"text": "banid 1 STEAM_1:0:4"})
    assert Ban.objects.count() == 2
    Ban.objects.update(created_at=timezone.now() - timedelta(days=1, minutes=1))
    as_alice.post(f"{URL}import/", {"text": "banid 1 STEAM_1:0:4"})
    assert Ban.objects.count() == 3


def test_of_many_bans_a_page_has_some_and_each_can_be_found(
    as_alice: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ban_pages, "BANS_PER_PAGE", 2)
    many = [Ban(owner=server.owner, server=server, steam_id=f"STEAM_1:0:{n}") for n in range(1, 6)]
    many[0].name, many[4].reason = "100% Zoey", "spam"
    Ban.objects.bulk_create(many)
    shown: list[str] = []
    query = "?"
    for _ in range(3):
        page = as_alice.get(URL + query)
        shown += [ban.steam_id for ban in page.context["bans"]]
        query = f"?before={page.context['older_before']}"
    assert shown == [f"STEAM_1:0:{n}" for n in (5, 4, 3, 2, 1)]
    assert page.context["older_before"] is None
    for text, found in (
        ("[U:1:6]", "STEAM_1:0:3"),
        ("100%", "STEAM_1:0:1"),
        ("SPAM", "STEAM_1:0:5"),
    ):
        page = as_alice.get(URL, {"q": text})
        assert [ban.steam_id for ban in page.context["bans"]] == [found]
    assert not as_alice.get(URL, {"q": "%", "before": "x"}).context["bans"][1:]
