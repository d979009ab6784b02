"""The pages of blueprints."""

import html
import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from jobs.models import DeferredAction, Job
from servers.models import (
    ActualState,
    Blueprint,
    Host,
    Membership,
    Overlay,
    OverlayVersion,
    Run,
    Server,
)
from servers.store import get_store, read_files
from tests.overlays import bring
from tests.pages.conftest import sign_in
from tests.pages.queries import assert_same_queries
from tests.states import record_state

LIST = reverse("servers:blueprint_list")
NEW = reverse("servers:blueprint_create")


@pytest.fixture
def overlays(db: None) -> list[Overlay]:
    """Return three shared overlays."""
    return [
        Overlay.objects.create(name=name, is_host_folder=True)
        for name in ("maps", "rules", "sourcemod")
    ]


def form_of(places: dict[Overlay, int | str] | None = None, **changes: str) -> dict[str, str]:
    """Return what the form for a blueprint sends."""
    place_values = {f"place_{overlay.pk}": str(at) for overlay, at in (places or {}).items()}
    return {"name": "versus", "arguments": "", "config": "", **place_values, **changes}


def names_of(blueprint: Blueprint) -> list[str]:
    """Return the names of the overlays, topmost first."""
    return list(blueprint.ordered_overlays().values_list("name", flat=True))


def test_an_owner_makes_a_blueprint_with_ordered_overlays(
    as_alice: Client, alice: User, overlays: list[Overlay]
) -> None:
    maps, rules, sourcemod = overlays
    as_alice.post(NEW, form_of({maps: 7, sourcemod: 2, rules: ""}, config="sv_lan 0"))
    made = Blueprint.objects.get(name="versus")
    assert (made.owner, made.config) == (alice, "sv_lan 0")
    assert names_of(made) == ["sourcemod", "maps"]


def test_an_edit_reorders_and_drops_overlays(
    as_alice: Client, blueprint: Blueprint, overlays: list[Overlay]
) -> None:
    maps, rules, sourcemod = overlays
    blueprint.set_overlays([maps, rules])
    url = reverse("servers:blueprint_edit", args=[blueprint.name])
    as_alice.post(url, form_of({rules: 1, sourcemod: 2}, name=blueprint.name))
    assert names_of(blueprint) == ["rules", "sourcemod"]


@pytest.fixture
def versioned(alice: User, tmp_path: Path, settings: LazySettings) -> list[Overlay]:
    """Return two overlays of Alice's with two versions each, which have a file in common."""
    settings.CONTENT_ROOT = tmp_path / "content"
    overlays = [Overlay.objects.create(name=name, owner=alice) for name in ("one", "two")]
    for overlay in overlays:
        for number in (1, 2):
            bring(overlay, alice, {"left4dead2/cfg/a.cfg": f"{overlay.name} {number}"})
    return overlays


def test_an_overlay_is_pinned_to_a_version_and_follows_the_latest_again(
    as_alice: Client, blueprint: Blueprint, versioned: list[Overlay]
) -> None:
    one, two = versioned
    url = reverse("servers:blueprint_edit", args=[blueprint.name])
    form = form_of({one: 1, two: 2}, name=blueprint.name)
    response = as_alice.post(url, {**form, f"pin_{one.pk}": "1", f"pin_{two.pk}": ""}, follow=True)
    blueprint = Blueprint.objects.get(pk=blueprint.pk)
    first, latest = one.versions.get(number=1), two.versions.get(number=2)
    assert blueprint.overlay_references == (first.reference, latest.reference)
    page = " ".join(response.content.decode().split())
    assert "version 1, pinned" in page
    assert "version 2, latest" in page
    assert "1 thing does not fit" in page
    assert f'value="above {two.pk} {one.pk}">Move two up, above one</button>' in page
    assert "1 file is in both one and two. The one in one is used" in page
    assert '<option value="1" selected>version 1</option>' in as_alice.get(url).content.decode()
    assert as_alice.post(url, {**form, f"pin_{one.pk}": "9"}).status_code == 200
    as_alice.post(url, form)
    assert Blueprint.objects.get(pk=blueprint.pk).read_pins() == {}


def test_overlays_change_places_by_buttons_and_nothing_is_saved_by_that(
    as_alice: Client, blueprint: Blueprint, versioned: list[Overlay]
) -> None:
    one, two = versioned
    blueprint.set_overlays([one, two])
    url = reverse("servers:blueprint_edit", args=[blueprint.name])
    form = form_of({one: 1, two: 2}, name="not yet saved", arguments="+map x", move=f"up {two.pk}")
    page = as_alice.post(url, form).content.decode()
    assert names_of(blueprint) == ["one", "two"]
    assert "not yet saved" in page
    assert "lower-case letters" not in page.split("<form")[0]
    values = dict(re.findall(r'name="place_(\d+)" value="(\d+)"', page))
    assert values == {str(two.pk): "1", str(one.pk): "2"}
    assert page.index(f'id="place-{two.pk}"') < page.index(f'id="place-{one.pk}"')
    assert len(re.findall(r"formnovalidate autofocus", page)) == 1
    added = as_alice.post(url, {**form_of({one: 1}), "move": f"add {two.pk}"}).content.decode()
    assert f'name="place_{two.pk}" value="2"' in added
    left = as_alice.post(
        url, {**form_of({one: 1, two: 2}), "move": f"out {one.pk}"}
    ).content.decode()
    assert f'name="place_{two.pk}" value="1"' in left
    assert f'name="place_{one.pk}" id=' in left
    assert left.index('data-places="rest"') < left.index(f'id="place-{one.pk}"')
    for wish in (f"up {one.pk}", "down 999", "", f"sideways {two.pk}", "up x"):
        assert as_alice.post(url, {**form, "move": wish}).status_code == 200
    assert as_alice.post(NEW, {**form, "name": "fresh"}).status_code == 200
    assert names_of(blueprint) == ["one", "two"]
    assert Blueprint.objects.count() == 1


def test_a_pin_that_somebody_else_has_set_is_not_overwritten_unseen(
    as_alice: Client, blueprint: Blueprint, versioned: list[Overlay]
) -> None:
    one, two = versioned
    blueprint.set_overlays([one, two])
    url = reverse("servers:blueprint_edit", args=[blueprint.name])
    [seen] = re.findall(r'name="version" value="([^"]*)"', as_alice.get(url).content.decode())
    blueprint.set_overlays([one, two], {one.pk: one.versions.get(number=1)})
    form = form_of({one: 1, two: 2}, name=blueprint.name, version=html.unescape(seen))
    response = as_alice.post(url, {**form, f"pin_{two.pk}": "1"})
    assert response.status_code == 409
    [theirs] = [conflict.theirs for conflict in response.context["form"].conflicts]
    assert theirs == "one, version 1\ntwo"
    assert "<del>one, version 1</del>" in response.content.decode()


def test_an_owners_overlay_without_files_does_not_stand_for_a_folder_of_a_host(
    as_alice: Client, alice: User, dana: User
) -> None:
    hers = Overlay.objects.create(name="hers", owner=alice, is_shared=False)
    response = as_alice.post(NEW, form_of({hers: 1}))
    assert "It has no files yet" in response.content.decode()
    assert not Blueprint.objects.exists()
    # Neither its owner nor having none makes it a folder: marking it as one takes the permission.
    for owner in (dana, None):
        Overlay.objects.update(owner=owner, is_shared=True)
        as_alice.post(NEW, form_of({hers: 1}))
    assert not Blueprint.objects.exists()
    theirs = Overlay.objects.create(name="theirs", owner=dana, is_host_folder=True)
    as_alice.post(NEW, form_of({theirs: 1}))
    assert names_of(Blueprint.objects.get()) == ["theirs"]


def test_two_overlays_at_one_place_are_refused(as_alice: Client, overlays: list[Overlay]) -> None:
    response = as_alice.post(NEW, form_of({overlays[0]: 1, overlays[1]: 1}))
    assert "maps also has place 1. Give each its own." in response.content.decode()
    assert not Blueprint.objects.exists()


@pytest.mark.parametrize("place", ["0", "-1", "one", "1000", "9" * 40])
def test_a_place_that_is_none_is_refused(
    as_alice: Client, overlays: list[Overlay], place: str
) -> None:
    assert as_alice.post(NEW, form_of({overlays[0]: place})).status_code == 200
    assert not Blueprint.objects.exists()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": "Versus"}, "lower-case letters"),
        ({"name": "new"}, "the address of a page of the panel"),
        ({"name": "coop"}, "That is already taken."),
        ({"arguments": "-game left4dead2"}, "Saferoom sets -game itself"),
        ({"config": "// ¡hola!"}, "plain ASCII only"),
    ],
)
def test_a_bad_value_is_told_in_the_form(
    as_alice: Client, blueprint: Blueprint, changes: dict[str, str], complaint: str
) -> None:
    response = as_alice.post(NEW, form_of({}, **changes))
    assert complaint in response.content.decode()
    assert Blueprint.objects.count() == 1


def test_an_overlay_that_is_not_shared_is_for_admins(
    as_alice: Client, as_dana: Client, overlays: list[Overlay]
) -> None:
    Overlay.objects.filter(name="rules").update(is_shared=False)
    rules = overlays[1]
    as_alice.post(NEW, form_of({rules: 1}, name="hers"))
    as_dana.post(NEW, form_of({rules: 1}, name="theirs"))
    assert names_of(Blueprint.objects.get(name="hers")) == []
    assert names_of(Blueprint.objects.get(name="theirs")) == ["rules"]


def test_saving_keeps_an_overlay_that_is_not_shared_any_more(
    as_alice: Client, blueprint: Blueprint, overlays: list[Overlay]
) -> None:
    blueprint.set_overlays(overlays[:1])
    Overlay.objects.update(is_shared=False)
    url = reverse("servers:blueprint_edit", args=[blueprint.name])
    assert 'value="1"' in as_alice.get(url).content.decode()
    as_alice.post(url, form_of({overlays[0]: 1}, name=blueprint.name))
    assert names_of(blueprint) == ["maps"]


def test_the_order_of_one_blueprint_does_not_disturb_another(
    blueprint: Blueprint, alice: User, overlays: list[Overlay]
) -> None:
    other = Blueprint.objects.create(name="other", owner=alice)
    blueprint.set_overlays(overlays)
    other.set_overlays(overlays[::-1])
    assert names_of(blueprint) == ["maps", "rules", "sourcemod"]
    assert names_of(other) == ["sourcemod", "rules", "maps"]


def test_the_page_shows_contents_and_own_servers_and_counts_the_others(
    as_bob: Client, bob: User, dana: User, host: Host, server: Server, overlays: list[Overlay]
) -> None:
    blueprint = server.blueprint
    blueprint.is_shared = True
    blueprint.config = "sv_lan 0"
    blueprint.save()
    blueprint.set_overlays(overlays[:2])
    Server.objects.create(name="bobs", owner=bob, host=host, blueprint=blueprint)
    page = as_bob.get(blueprint.get_absolute_url()).content.decode()
    for text in (
        "maps",
        "rules",
        "+map c1m1_hotel",
        "sv_lan 0",
        "bobs",
        "1 server of other owners",
    ):
        assert text in page
    assert "alpha" not in page


def test_a_launch_argument_stands_on_one_line_with_its_value(
    as_alice: Client, blueprint: Blueprint
) -> None:
    Blueprint.objects.update(arguments="-console +map c1m1_hotel\n-maxplayers 8 +sv_x -1 <b> +exec")
    page = as_alice.get(blueprint.get_absolute_url()).content.decode()
    unbroken = re.findall(r'<span class="unbroken">([^<]*)</span>', page)
    assert unbroken == [
        *("-console", "+map c1m1_hotel", "-maxplayers 8", "+sv_x -1 &lt;b&gt;", "+exec")
    ]
    shown = page.partition("Launch arguments</h2>")[2].partition("</pre>")[0]
    text = re.sub("<[^>]*>", "", shown).strip()
    assert text == "-console +map c1m1_hotel\n-maxplayers 8 +sv_x -1 &lt;b&gt; +exec"
    form = as_alice.get(reverse("servers:blueprint_edit", args=[blueprint.name])).content.decode()
    help_text = form.partition('id="id_arguments_helptext"')[2].partition("</div>")[0]
    assert '<span class="unbroken">-maxplayers 8.</span>' in help_text


def test_the_form_of_a_blueprint_says_what_an_edit_touches(
    as_alice: Client, server: Server
) -> None:
    url = reverse("servers:blueprint_edit", args=[server.blueprint.name])
    page = as_alice.get(url).content.decode()
    assert "alpha" in page


def test_one_that_servers_use_is_not_removed(as_alice: Client, server: Server) -> None:
    url = reverse("servers:blueprint_remove", args=[server.blueprint.name])
    response = as_alice.post(url)
    assert response.status_code == 409
    assert "Servers are made from this blueprint" in response.content.decode()
    assert Blueprint.objects.count() == 1


def test_one_that_no_server_uses_is_removed_after_asking(
    as_alice: Client, blueprint: Blueprint
) -> None:
    url = reverse("servers:blueprint_remove", args=[blueprint.name])
    assert "Remove the blueprint" in as_alice.get(url).content.decode()
    assert "Blueprint coop was removed." in as_alice.post(url, follow=True).content.decode()
    assert not Blueprint.objects.exists()


def test_an_empty_list_leads_to_the_first_one(as_bob: Client) -> None:
    assert "No blueprints yet" in as_bob.get(LIST).content.decode()


def test_the_list_costs_the_same_number_of_queries_with_more_rows(
    as_alice: Client, alice: User, server: Server, overlays: list[Overlay], host: Host
) -> None:
    server.blueprint.set_overlays(overlays)

    def make_more() -> None:
        for number in range(8):
            more = Blueprint.objects.create(name=f"more-{number}", owner=alice)
            more.set_overlays(overlays)
            Server.objects.create(name=f"s-{number}", owner=alice, host=host, blueprint=more)

    assert_same_queries(as_alice, LIST, make_more)


# --- Overlays that do not work as they are ----------------------------------------------------


PLUGIN = {"left4dead2/addons/sourcemod/plugins/fun.smx": "p"}
CORE = {
    "left4dead2/addons/sourcemod/bin/sourcemod_mm_i486.so": "s",
    "left4dead2/addons/metamod/bin/server.so": "m",
}


@pytest.fixture
def lacking(blueprint: Blueprint, dana: User, tmp_path: Path, settings: LazySettings) -> Blueprint:
    """Return a blueprint of Alice's with a plugin but no SourceMod, which another overlay has."""
    settings.CONTENT_ROOT = tmp_path / "content"
    fun, core = (Overlay.objects.create(name=name, owner=dana) for name in ("fun", "core"))
    bring(fun, dana, PLUGIN)
    bring(core, dana, CORE)
    blueprint.set_overlays([fun])
    return blueprint


def test_a_cure_changes_the_blueprint_and_leads_back_within_the_panel(
    as_alice: Client, lacking: Blueprint
) -> None:
    page = as_alice.get(lacking.get_absolute_url()).content.decode()
    core = Overlay.objects.get(name="core")
    assert f'name="cure" value="add {core.pk}">Add core below</button>' in page
    url = reverse("servers:blueprint_cure", args=[lacking.name])
    response = as_alice.post(
        url, {"cure": f"add {core.pk}", "next": "//evil.example/"}, follow=True
    )
    assert response.redirect_chain[-1][0] == lacking.get_absolute_url()
    page = response.content.decode()
    assert "Blueprint coop: core was added, below the others." in page
    assert "What does not fit" not in page
    assert names_of(lacking) == ["fun", "core"]
    again = as_alice.post(url, {"cure": f"add {core.pk}", "next": "/servers/"}, follow=True)
    assert again.redirect_chain[-1][0] == "/servers/"
    assert "That was done already" in again.content.decode()


def ask(client: Client, operation: str = "start", **fields: str) -> Any:
    return client.post("/servers/alpha/jobs/", {"operation": operation, **fields})


def test_a_start_of_what_cannot_work_is_refused_before_there_is_a_job_with_its_cures(
    as_alice: Client, server: Server, lacking: Blueprint
) -> None:
    response = ask(as_alice, next="/servers/alpha/")
    page = response.content.decode()
    assert response.status_code == 409
    assert "fun needs SourceMod, and none of these overlays contains it" in page
    assert ">Add core below</button>" in page
    program = as_alice.post(
        "/servers/alpha/jobs/", {"operation": "start"}, headers={"Accept": "application/json"}
    )
    assert (program.status_code, "fun needs SourceMod" in program.json()["error"]) == (409, True)
    assert not Job.objects.exists()
    assert ask(as_alice, "initialize").status_code == 303
    Job.objects.all().delete()
    core = Overlay.objects.get(name="core")
    lacking.set_overlays([Overlay.objects.get(name="fun"), core])
    assert ask(as_alice).status_code == 303


def test_who_may_configure_a_server_starts_it_all_the_same_and_an_operator_does_not(
    as_alice: Client, bob: User, server: Server, lacking: Blueprint
) -> None:
    membership = Membership.objects.create(server=server, user=bob, role="operator")
    refused = ask(sign_in(bob), despite_conflicts="1")
    assert refused.status_code == 409
    for hidden in ("all the same", "Add core below"):
        assert hidden not in refused.content.decode()
    membership.role = "manager"
    membership.save()
    assert "Start it all the same" in ask(sign_in(bob)).content.decode()
    assert ask(sign_in(bob), despite_conflicts="1").status_code == 303
    assert Job.objects.get().requested_by == bob


def test_what_came_up_with_just_these_overlays_is_not_refused_again(
    as_alice: Client, server: Server, lacking: Blueprint
) -> None:
    overlays = [[one, ""] for one in lacking.overlay_references]
    run = Run.objects.create(server=server, overlays=overlays, has_answered=False)
    assert ask(as_alice).status_code == 409
    run.has_answered = True
    run.save()
    assert ask(as_alice).status_code == 303
    run.overlays = [["other", ""]]
    run.save()
    Job.objects.all().delete()
    assert ask(as_alice).status_code == 409


def test_what_came_up_is_not_refused_for_a_version_that_lacks_no_more(
    as_alice: Client, dana: User, server: Server, lacking: Blueprint
) -> None:
    overlays = [[one, ""] for one in lacking.overlay_references]
    Run.objects.create(server=server, overlays=overlays, has_answered=True)
    fun = Overlay.objects.get(name="fun")
    files = {file.path: file.sha256 for file in read_files(fun.versions.get())}
    kept = {path: get_store().read(sha256, 10**6) for path, sha256 in files.items()}
    bring(fun, dana, kept | {"left4dead2/cfg/new.cfg": "echo"})
    assert ask(as_alice).status_code == 303
    Job.objects.all().delete()
    bring(fun, dana, kept | {"left4dead2/addons/metamod/more.vdf": "needs MetaMod"})
    response = ask(as_alice)
    assert response.status_code == 409
    assert "needs MetaMod" in response.content.decode()
    assert "needs SourceMod" not in response.content.decode()


def test_what_its_host_would_not_start_is_not_started_all_the_same(
    as_alice: Client, server: Server, lacking: Blueprint
) -> None:
    finding = {"code": "flat", "severity": "refused", "text": "It lies flat.", "path": ""}
    OverlayVersion.objects.filter(overlay__name="core").update(findings=[finding])
    lacking.set_overlays(list(Overlay.objects.all()))
    Run.objects.create(
        server=server,
        overlays=[[one, ""] for one in lacking.overlay_references],
        has_answered=True,
    )
    response = ask(as_alice, despite_conflicts="1")
    assert response.status_code == 409
    assert "core: It lies flat." in response.content.decode()
    assert "all the same" not in response.content.decode()


def test_a_restart_that_waits_is_refused_while_somebody_is_there_to_be_told(
    as_alice: Client, server: Server, lacking: Blueprint
) -> None:
    record_state(server, ActualState.RUNNING)
    page = ask(as_alice, "restart", when="empty", hours="3")
    assert page.status_code == 409
    assert '<input type="hidden" name="hours" value="3">' in page.content.decode()
    assert "Restart it all the same" in page.content.decode()
    assert not DeferredAction.objects.exists()
    accepted = ask(as_alice, "restart", when="empty", hours="3", despite_conflicts="1")
    assert accepted.status_code == 303
    assert ask(as_alice, "stop", when="empty").status_code == 303
