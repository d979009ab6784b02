"""Tags: what may be one, who sets them, and what the list, the record and open pages make of them."""

import re
import unicodedata
from unittest.mock import Mock
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from jobs.live.topics import ChangesTopic
from l4d2site.accounts.models import AccountEvent
from servers.fleet import tags
from servers.fleet.tags import MOST_PER_OWNER, TagsError, parse_tag, parse_tags, set_tags
from servers.models import Blueprint, Host, Membership, Server, ServerTag
from tests.pages.conftest import sign_in
from tests.pages.queries import assert_same_queries

pytestmark = pytest.mark.django_db

HOSTILE = "<img src=x>\"&' {{ x }} %s"


@pytest.fixture
def fleet(alice: User, host: Host, blueprint: Blueprint) -> dict[str, Server]:
    """Return three servers of Alice's: two in Europe, one of them for races, and one without a tag."""
    tags = {"able": ["EU", "race"], "baker": ["EU"], "charlie": []}
    servers = {}
    for name, names in tags.items():
        server = Server.objects.create(name=name, owner=alice, host=host, blueprint=blueprint)
        set_tags(server, names)
        servers[name] = server
    return servers


def tags_of(name: str) -> list[str]:
    return list(ServerTag.objects.filter(server__name=name).values_list("name", flat=True))


def text(browser: Client, query: str = "") -> str:
    return browser.get(f"/servers/{query}").content.decode()


def shown(browser: Client, query: str = "") -> list[str]:
    return re.findall('id="tick-([^"]*)"', text(browser, query))


def counts(browser: Client, query: str = "") -> dict[str, int]:
    found = re.findall(
        r'<bdi>([^<]*)</bdi>\s+<span class="filters-count">(\d+)<', text(browser, query)
    )
    return {name: int(count) for name, count in found}


def edit(browser: Client, server: Server, **changes: str) -> int:
    """Post the form of a server; return the status."""
    values = {"port": str(server.port), "blueprint": str(server.blueprint_id)}
    return browser.post(f"/servers/{server.name}/edit/", values | changes).status_code


# --- What may be one --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("", []),
        (" , ,\r\n", []),
        (" EU ,  late   night\nrace", ["EU", "late night", "race"]),
        ("EU, eu, Eu", ["EU"]),
        ("Cafe\u0301", ["Caf\u00e9"]),
        ("\u03b1\u0314\u0300\u0345" * 30, ["\u1f83" * 30]),
        (HOSTILE, [HOSTILE]),
        ("x" * 30, ["x" * 30]),
    ],
)
def test_commas_and_lines_separate_tags(typed: str, names: list[str]) -> None:
    assert parse_tags(typed) == names


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("x" * 31, "has 31 characters"),
        ("a\u202eb", "invisible"),
        ("a\0b", "invisible"),
        ("a\u200bb", "invisible"),
        (",".join(f"t{n}" for n in range(11)), "at most 10 tags, and these are 11"),
    ],
)
def test_what_misleads_or_is_too_much_is_no_tag(typed: str, reason: str) -> None:
    with pytest.raises(TagsError, match=reason):
        parse_tags(typed)


def test_a_name_is_not_normalized_if_it_is_too_long_for_a_tag(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    normalize = Mock(side_effect=unicodedata.normalize)
    monkeypatch.setattr(tags, "normalize", normalize)
    with pytest.raises(TagsError, match="has 8001 characters"):
        parse_tag("a" + "\u0301\u0316" * 4000)
    normalize.assert_not_called()


def test_an_owner_has_so_many_different_tags_and_no_more(
    alice: User, as_alice: Client, fleet: dict[str, Server], blueprint: Blueprint
) -> None:
    able = fleet["able"]
    for number in range(5):
        server = Server.objects.create(
            name=f"full{number}", owner=alice, host=able.host, blueprint=blueprint
        )
        set_tags(server, [f"t{number}-{n}" for n in range(10)][: 10 if number < 4 else 8])
    assert ServerTag.objects.values("name").distinct().count() == MOST_PER_OWNER
    assert edit(as_alice, fleet["charlie"], tags="one more") == 200
    assert tags_of("charlie") == []
    assert edit(as_alice, fleet["charlie"], tags="eu, T0-0") == 302
    assert tags_of("charlie") == ["EU", "t0-0"]


# --- Setting them -----------------------------------------------------------------------------


def test_the_form_sets_changes_and_takes_away(as_alice: Client, fleet: dict[str, Server]) -> None:
    page = as_alice.get("/servers/able/edit/").content.decode()
    assert 'name="tags" value="EU, race"' in page
    assert edit(as_alice, fleet["able"], tags="race, night") == 302
    assert tags_of("able") == ["night", "race"]
    assert edit(as_alice, fleet["able"], tags="") == 302
    assert tags_of("able") == []


def test_a_program_that_knows_no_tags_takes_none_away(
    as_alice: Client, fleet: dict[str, Server]
) -> None:
    assert edit(as_alice, fleet["able"]) == 302
    assert tags_of("able") == ["EU", "race"]


def test_a_new_server_can_have_tags(as_alice: Client, blueprint: Blueprint, host: Host) -> None:
    data = {"name": "dog", "blueprint": str(blueprint.pk), "tags": "EU, race"}
    assert as_alice.post("/servers/new/", data).status_code == 302
    assert tags_of("dog") == ["EU", "race"]


def test_tags_that_somebody_else_has_set_meanwhile_are_not_overwritten(
    as_alice: Client, fleet: dict[str, Server]
) -> None:
    page = as_alice.get("/servers/able/edit/").content.decode()
    version = re.search('name="version" value="([^"]*)"', page)
    assert version
    set_tags(fleet["able"], ["theirs"])
    seen = version.group(1).replace("&amp;", "&")
    assert edit(as_alice, fleet["able"], tags="mine", version=seen) == 409
    assert tags_of("able") == ["theirs"]


def test_hostile_tags_are_text_everywhere(as_alice: Client, fleet: dict[str, Server]) -> None:
    set_tags(fleet["able"], [HOSTILE])
    escaped = "<bdi>&lt;img src=x&gt;&quot;&amp;&#x27; {{ x }} %s</bdi>"
    query = urlencode({"tag": HOSTILE})
    for url in ("/servers/", f"/servers/?{query}", "/servers/able/", "/tags/"):
        page = as_alice.get(url).content.decode()
        assert escaped in page, url
        assert "<img" not in page, url
    assert shown(as_alice, f"?{query}") == ["able"]


# --- The list ---------------------------------------------------------------------------------


def test_the_list_counts_filters_and_finds_tags(as_alice: Client, fleet: dict[str, Server]) -> None:
    assert counts(as_alice) == {"EU": 2, "race": 1}
    assert shown(as_alice, "?tag=EU") == ["able", "baker"]
    assert shown(as_alice, "?tag=race") == ["able"]
    assert shown(as_alice, "?q=rac") == ["able"]
    # Together with the other filters: both have to hold, and each is counted with the other.
    Server.objects.filter(name="able").update(actual_state="running")
    assert counts(as_alice, "?state=running") == {"EU": 1, "race": 1}
    assert shown(as_alice, "?state=running&tag=EU") == ["able"]
    assert 'all <span class="filters-count">2<' in text(as_alice, "?tag=EU")
    assert counts(as_alice, "?tag=gone") == {"EU": 2, "gone": 0, "race": 1}
    assert shown(as_alice, "?tag=gone") == []


def test_a_tag_leads_to_its_servers_and_once_more_to_all(
    as_alice: Client, fleet: dict[str, Server]
) -> None:
    row = text(as_alice).partition('id="tick-able"')[2].partition("</tr>")[0]
    assert '<a class="tag" href="?tag=race"><bdi>race</bdi></a>' in row
    assert '<a href="?" aria-current="true"><bdi>race</bdi>' in text(as_alice, "?tag=race")


def test_nobody_learns_of_tags_on_servers_of_others(bob: User, fleet: dict[str, Server]) -> None:
    Membership.objects.create(server=fleet["baker"], user=bob, role="viewer")
    assert counts(sign_in(bob)) == {"EU": 1}


def test_tags_cost_the_list_the_same_queries_however_many_there_are(
    as_alice: Client, fleet: dict[str, Server]
) -> None:
    def make_more() -> None:
        for server in fleet.values():
            set_tags(server, [f"t{n}" for n in range(10)])

    assert_same_queries(as_alice, "/servers/", make_more)


def test_an_open_page_hears_of_it(alice: User, fleet: dict[str, Server]) -> None:
    topic = ChangesTopic(alice.pk)
    (before,) = ChangesTopic.read_snapshots([topic])
    set_tags(fleet["able"], ["race"])
    (after,) = ChangesTopic.read_snapshots([topic])
    assert before != after


# --- The page of them, and many at once -------------------------------------------------------


def test_a_tag_is_renamed_on_all_servers_that_have_it(
    as_alice: Client, fleet: dict[str, Server]
) -> None:
    answer = as_alice.post("/tags/rename/", {"tag": "EU", "name": " Europe "}, follow=True)
    assert "Tag EU is now Europe, on 2 servers." in answer.content.decode()
    assert (tags_of("able"), tags_of("baker")) == (["Europe", "race"], ["Europe"])


def test_a_new_name_that_is_a_tag_already_makes_them_one(
    as_alice: Client, fleet: dict[str, Server]
) -> None:
    as_alice.post("/tags/rename/", {"tag": "EU", "name": "RACE"})
    assert (tags_of("able"), tags_of("baker")) == (["race"], ["race"])
    as_alice.post("/tags/rename/", {"tag": "race", "name": "Race"})
    assert tags_of("able") == ["Race"]


@pytest.mark.parametrize("name", ["", "x" * 31, "a,b"])
def test_a_new_name_that_cannot_be_one_is_refused(
    as_alice: Client, fleet: dict[str, Server], name: str
) -> None:
    as_alice.post("/tags/rename/", {"tag": "EU", "name": name})
    assert tags_of("baker") == ["EU"]


def test_a_tag_is_taken_off_all_servers(as_alice: Client, fleet: dict[str, Server]) -> None:
    answer = as_alice.post("/tags/remove/", {"tag": "EU"}, follow=True)
    assert "Tag EU was removed from 2 servers." in answer.content.decode()
    assert (tags_of("able"), tags_of("baker")) == (["race"], [])


def test_the_ticked_servers_are_tagged_at_once(as_alice: Client, fleet: dict[str, Server]) -> None:
    data = {"server": ["baker", "charlie"], "next": "/servers/?q=r"}
    answer = as_alice.post("/tags/many/", {**data, "tag": "RACE", "way": "add"})
    assert (answer.status_code, answer["Location"]) == (303, "/servers/?q=r")
    assert (tags_of("baker"), tags_of("charlie")) == (["EU", "race"], ["race"])
    as_alice.post("/tags/many/", {**data, "tag": "race", "way": "take"})
    assert (tags_of("able"), tags_of("baker"), tags_of("charlie")) == (["EU", "race"], ["EU"], [])
    assert as_alice.post("/tags/many/", {"tag": "x", "way": "add"}).status_code == 409
    assert as_alice.post("/tags/many/", {**data, "tag": " ", "way": "add"}).status_code == 409


def test_a_server_that_is_full_of_tags_holds_up_no_other(
    as_alice: Client, fleet: dict[str, Server]
) -> None:
    set_tags(fleet["able"], [f"t{n}" for n in range(10)])
    data = {"server": ["able", "charlie"], "tag": "EU", "way": "add"}
    page = as_alice.post("/tags/many/", data, follow=True).content.decode()
    assert "Tag EU was added to 1 server." in page
    assert "able: A server can have at most 10 tags" in page
    assert tags_of("charlie") == ["EU"]


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_who_may_not_configure_a_server_leaves_its_tags_alone(
    bob: User, fleet: dict[str, Server], role: str
) -> None:
    Membership.objects.create(server=fleet["able"], user=bob, role=role)
    browser = sign_in(bob)
    browser.post("/tags/rename/", {"tag": "EU", "name": "mine"})
    browser.post("/tags/remove/", {"tag": "EU"})
    for way, tag in (("add", "mine"), ("take", "EU")):
        form = {"server": ["able", "baker"], "tag": tag, "way": way}
        page = browser.post("/tags/many/", form, follow=True).content.decode()
        # Of a server that is not shared with Bob, he learns nothing.
        assert "1 server was left out: your role on it does not allow" in page
    assert edit(browser, fleet["able"], tags="mine") == 403
    assert (tags_of("able"), tags_of("baker")) == (["EU", "race"], ["EU"])
    assert 'value="EU"' in sign_in(fleet["able"].owner).get("/tags/").content.decode()
    assert 'value="EU"' not in browser.get("/tags/").content.decode()


def test_a_manager_sets_them_on_that_server_alone(bob: User, fleet: dict[str, Server]) -> None:
    Membership.objects.create(server=fleet["able"], user=bob, role="manager")
    sign_in(bob).post("/tags/rename/", {"tag": "EU", "name": "Europe"})
    assert (tags_of("able"), tags_of("baker")) == (["Europe", "race"], ["EU"])


def test_the_record_tells_who_changed_tags(as_alice: Client, fleet: dict[str, Server]) -> None:
    edit(as_alice, fleet["able"], tags="race")
    as_alice.post("/tags/rename/", {"tag": "race", "name": "fast"})
    as_alice.post("/tags/many/", {"server": ["able", "baker"], "tag": "fast", "way": "take"})
    told = AccountEvent.objects.filter(kind="server_changed").order_by("pk")
    assert list(told.values_list("name", "server__name", "detail")) == [
        ("alice", "able", "able: tags"),
        ("alice", "able", "able: tag race renamed to fast"),
        ("alice", "able", "able: tag fast taken off"),
    ]


def test_a_nul_in_the_name_of_a_server_or_a_tag_is_no_fault_of_the_panels(
    as_alice: Client, server: Server
) -> None:
    """PostgreSQL accepts none, not even in a search."""
    for way in ("add", "take"):
        form = {"server": ["al\0pha", "alpha"], "tag": "night", "way": way}
        assert as_alice.post(reverse("jobs:tag_many"), form).status_code == 303
        assert server.tags.exists() == (way == "add")
    for path in (reverse("servers:tag_rename"), reverse("servers:tag_remove")):
        assert as_alice.post(path, {"tag": "ni\0ght", "name": "day"}).status_code == 302
    form = {"server": ["al\0pha"], "action": "stop"}
    assert as_alice.post(reverse("jobs:create_many"), form).status_code < 500


@pytest.mark.parametrize("way", ["rename", "remove"])
def test_a_tag_that_cannot_be_one_is_not_repeated_at_length(
    as_alice: Client, fleet: dict[str, Server], way: str
) -> None:
    name = "EU" + "x" * 5000
    page = as_alice.post(reverse(f"servers:tag_{way}"), {"tag": name, "name": "new"}, follow=True)
    assert page.status_code == 200
    assert "x" * 40 not in page.content.decode()
    assert tags_of("able") == ["EU", "race"]
