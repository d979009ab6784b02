"""A form that was opened before somebody else saved does not overwrite their changes unseen."""

import re
from datetime import datetime

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from servers.forms.last_changes import LastChange, find_last_change
from servers.models import Blueprint, Membership, Overlay, Server
from servers.secrets.encryption import ServerSecret
from tests.pages.conftest import sign_in

pytestmark = pytest.mark.django_db


def open_form(client: Client, url: str) -> str:
    """Open a form; return the version that it carries."""
    return version_in(client.get(url).content.decode())


def version_in(page: str) -> str:
    match = re.search(r'name="version" value="([^"]+)"', page)
    assert match, page
    return match[1].replace("&amp;", "&")


def form_of(server: Server, **changes: str) -> dict[str, str]:
    values = {"port": str(server.port), "blueprint": str(server.blueprint.pk)}
    return {**values, "arguments": "", "config": "", **changes}


def test_a_server_that_somebody_saved_meanwhile_is_not_overwritten(
    as_alice: Client, as_dana: Client, server: Server
) -> None:
    url = f"/servers/{server.name}/edit/"
    version = open_form(as_alice, url)
    as_dana.post(url, form_of(server, config="hostname Danas", version=open_form(as_dana, url)))
    mine = form_of(server, config="hostname Mine", version=version)
    response = as_alice.post(url, mine)
    page = response.content.decode()
    server.refresh_from_db()
    assert (response.status_code, server.config) == (409, "hostname Danas")
    happened = page.index("Not saved: this was changed since you opened the form")
    assert page.count("since you opened") == 1
    assert "omebody else" not in page
    assert happened < page.index("To keep yours, press “Save mine anyway”") < page.index("<del>")
    assert "<ins>hostname Mine</ins>" in page
    assert "<del>hostname Danas</del>" in page
    assert re.search(r"<p>dana changed this at \d\d:\d\d \(config\)\.", page)
    # The input is not saved: leaving this page asks.
    assert 'data-unsaved="refused"' in page
    # Somebody who has seen it may save it all the same.
    assert "Save mine anyway" in page
    response = as_alice.post(url, {**mine, "version": version_in(page)})
    server.refresh_from_db()
    assert (response.status_code, server.config) == (302, "hostname Mine")


def test_a_change_of_ones_own_in_another_tab_is_told_as_such(
    as_alice: Client, server: Server, alice: User
) -> None:
    url = f"/servers/{server.name}/edit/"
    version = open_form(as_alice, url)
    as_alice.post(url, form_of(server, config="hostname One"))
    page = as_alice.post(url, form_of(server, config="hostname Two", version=version))
    shown = page.content.decode()
    assert re.search(r"<p>You changed this in another tab at \d\d:\d\d \(config\)\.", shown)
    assert "<h4>Saved version</h4>" in shown
    assert "alice changed" not in shown


def test_who_changed_something_else_is_not_named(
    as_alice: Client, server: Server, bob: User
) -> None:
    Membership.objects.create(server=server, user=bob, role="manager")
    url = f"/servers/{server.name}/edit/"
    version = open_form(as_alice, url)
    sign_in(bob).post(url, form_of(server, config="hostname Bob"))
    as_alice.post(url, form_of(server, config="hostname Bob", tags="EU"))
    page = as_alice.post(url, form_of(server, config="hostname Two", version=version))
    shown = page.content.decode()
    assert re.search(r"<p>bob changed this at \d\d:\d\d \(config\)\.", shown)
    assert "another tab" not in shown


def test_a_change_of_another_day_is_told_with_its_day() -> None:
    at = timezone.make_aware(datetime(2026, 3, 9, 14, 3))  # noqa: DTZ001
    sentence = LastChange("dana", at, "port").sentence
    assert sentence == "dana changed this on 9 Mar 2026 at 14:03 (port)."


def test_a_ban_is_no_change_that_a_form_tells_of(server: Server, as_alice: Client) -> None:
    url = f"/servers/{server.name}/edit/"
    as_alice.post(url, form_of(server, config="sv_lan 0"))
    banned = {"steam_id": "STEAM_1:0:33333", "reason": "", "length": "hour", "where": "server"}
    as_alice.post(f"/servers/{server.name}/bans/", banned)
    change = find_last_change(server, ["config"])
    assert change
    assert (change.who, change.what) == ("alice", "config")


@pytest.mark.parametrize(("role", "status"), [("operator", 403), ("", 404)])
def test_who_may_change_it_no_more_is_not_shown_what_others_saved(
    bob: User, server: Server, role: str, status: int
) -> None:
    url = f"/servers/{server.name}/edit/"
    Membership.objects.create(server=server, user=bob, role="manager")
    browser = sign_in(bob)
    mine = form_of(server, config="hostname Mine", version=open_form(browser, url))
    Server.objects.update(config="hostname Theirs")
    if role:
        Membership.objects.update(role=role)
    else:
        Membership.objects.all().delete()
    for address in (url, f"/servers/{server.name}/save-and-restart"):
        response = browser.post(address, mine)
        assert response.status_code == status
        assert "hostname Theirs" not in response.content.decode()


def test_it_is_refused_again_if_they_save_once_more(as_alice: Client, server: Server) -> None:
    url = f"/servers/{server.name}/edit/"
    mine = form_of(server, config="hostname Mine", version=open_form(as_alice, url))
    Server.objects.update(config="hostname First")
    seen = version_in(as_alice.post(url, mine).content.decode())
    Server.objects.update(config="hostname Second")
    assert as_alice.post(url, {**mine, "version": seen}).status_code == 409


@pytest.mark.parametrize(("button", "status"), [("edit/", 302), ("save-and-restart", 409)])
def test_what_changes_by_itself_is_no_conflict(
    as_alice: Client, server: Server, button: str, status: int
) -> None:
    version = open_form(as_alice, f"/servers/{server.name}/edit/")
    server.actual_state, server.players = "running", 4
    server.save()
    url = f"/servers/{server.name}/{button}"
    response = as_alice.post(url, form_of(server, config="hostname Mine", version=version))
    assert response.status_code == status  # Before a restart it asks, as four people are on.
    server.refresh_from_db()
    assert server.config == "hostname Mine"


def test_the_same_value_from_two_is_no_conflict(as_alice: Client, server: Server) -> None:
    url = f"/servers/{server.name}/edit/"
    version = open_form(as_alice, url)
    Server.objects.update(config="hostname Same")
    form = form_of(server, config="hostname Same", version=version)
    assert as_alice.post(url, form).status_code == 302


def test_a_form_without_a_version_is_saved_as_ever(as_alice: Client, server: Server) -> None:
    open_form(as_alice, f"/servers/{server.name}/edit/")
    Server.objects.update(config="hostname Theirs")
    response = as_alice.post(f"/servers/{server.name}/edit/", form_of(server, config="x 1"))
    assert response.status_code == 302


def test_save_and_restart_restarts_nothing_that_was_not_saved(
    as_alice: Client, server: Server
) -> None:
    version = open_form(as_alice, f"/servers/{server.name}/edit/")
    Server.objects.update(config="hostname Theirs", actual_state="running")
    form = form_of(server, config="hostname Mine", version=version)
    assert as_alice.post(f"/servers/{server.name}/save-and-restart", form).status_code == 409
    assert not server.jobs.exists()


def test_a_password_that_somebody_set_meanwhile_is_told_and_not_shown(
    as_alice: Client, server: Server
) -> None:
    url = f"/servers/{server.name}/edit/"
    version = open_form(as_alice, url)
    server.set_secret(ServerSecret.JOIN_PASSWORD, "their-secret")
    server.save()
    token = server.join_password_token
    form = form_of(server, version=version, join_password="my-secret")
    page = as_alice.post(url, form).content.decode()
    assert "set to another one" in page
    for secret in ("their-secret", "my-secret", token):
        assert secret not in page
    # A form without a typed password does not overwrite it.
    assert as_alice.post(url, form_of(server, version=version)).status_code == 302
    server.refresh_from_db()
    assert server.join_password_token == token


def test_a_password_that_was_typed_is_asked_for_again_rather_than_lost(
    as_alice: Client, server: Server
) -> None:
    url = f"/servers/{server.name}/edit/"
    version = open_form(as_alice, url)
    Server.objects.update(config="hostname Theirs")
    mine = form_of(server, config="hostname Mine", version=version, join_password="my-secret")
    page = as_alice.post(url, mine).content.decode()
    assert page.count("Enter it again: it is not saved yet.") == 1
    assert "my-secret" not in page


def test_a_blueprints_overlays_and_config_are_compared(
    as_alice: Client, blueprint: Blueprint, alice: User
) -> None:
    maps, rules = (
        Overlay.objects.create(name=name, is_host_folder=True) for name in ("maps", "rules")
    )
    url = "/blueprints/coop/edit/"
    version = open_form(as_alice, url)
    blueprint.set_overlays([rules, maps])
    Blueprint.objects.update(config="sv_lan 0")
    mine = {"name": "coop", "arguments": "+map c1m1_hotel", f"place_{maps.pk}": "1"}
    response = as_alice.post(url, {**mine, "config": "sv_lan 1", "version": version})
    page = response.content.decode()
    assert response.status_code == 409
    assert "<del>rules</del><span>maps</span></pre>" in page
    assert "><span>maps</span></pre>" in page
    assert "><del>sv_lan 0</del></pre>" in page
    assert "Who saved it is not recorded." in page  # No page did.
    assert "Launch arguments</h3>" not in page  # They are the same.
    blueprint.refresh_from_db()
    assert (blueprint.config, blueprint.overlay_references) == ("sv_lan 0", ("rules", "maps"))


@pytest.mark.parametrize("kind", ["server", "blueprint", "overlay"])
def test_the_admins_forms_are_refused_too_with_both_texts(
    as_dana: Client, server: Server, kind: str
) -> None:
    rows: dict[str, Server | Blueprint | Overlay] = {
        "server": server,
        "blueprint": server.blueprint,
        "overlay": Overlay.objects.create(name="maps", is_host_folder=True),
    }
    row = rows[kind]
    column = "description" if kind == "overlay" else "config"
    url = f"/admin/servers/{kind}/{row.pk}/change/"
    page = as_dana.get(url)
    form = page.context["adminform"].form
    data = {name: value for name, value in form.initial.items() if value is not None}
    data |= {
        "version": form.seen_version,
        "blueprint_overlays-TOTAL_FORMS": "0",
        "blueprint_overlays-INITIAL_FORMS": "0",
    }
    type(row)._default_manager.update(**{column: "theirs 1"})
    response = as_dana.post(url, {**data, column: "mine 1"})
    text = response.content.decode()
    row.refresh_from_db()
    assert getattr(row, column) == "theirs 1"
    assert "yours is “mine 1”, the saved one “theirs 1”." in text
    again = {**data, column: "mine 1", "version": version_in_hidden(text)}
    assert as_dana.post(url, again).status_code == 302
    row.refresh_from_db()
    assert getattr(row, column) == "mine 1"


def version_in_hidden(page: str) -> str:
    match = re.search(r'<input type="hidden" name="version" value="([^"]+)"', page)
    assert match
    return match[1].replace("&amp;", "&")
