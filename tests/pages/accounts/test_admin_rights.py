"""The admin site gives nobody more than they have: roles, passwords, groups, and what few may do on pages."""

import re

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.test import Client, RequestFactory
from django.urls import reverse

from l4d2site.accounts import receivers
from l4d2site.accounts.models import AccountEvent, EventKind, Invitation, OwnQuotas
from servers.models import Blueprint, ConsoleCommand, Host, Overlay, Server, Upload
from tests.pages.conftest import sign_in
from tests.pages.kinds import host_admins

pytestmark = pytest.mark.django_db

NEW_PASSWORD = {
    "password1": "another-password",
    "password2": "another-password",
    "usable_password": "true",
}


def make_staff(*codenames: str, name: str = "helper") -> User:
    """Return somebody with these permissions who may enter the admin site."""
    helper = User.objects.create_user(name, password="helper-password", is_staff=True)
    helper.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    assert helper.user_permissions.count() == len(codenames)
    return helper


def address(page: str, row: User | Group | Host | Server | Blueprint | Overlay) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_{page}", args=[row.pk])


def person_form(person: User, **changes: object) -> dict[str, object]:
    """Return what the admin's form for a person sends, with everything that would give them more power."""
    return {
        "username": person.username,
        "is_active": "on",
        "is_staff": "on",
        "is_superuser": "on",
        "groups": [group.pk for group in Group.objects.all()],
        "user_permissions": [Permission.objects.get(codename="install").pk],
        "date_joined_0": "2026-01-01",
        "date_joined_1": "00:00",
        "own_quotas-TOTAL_FORMS": "0",
        "own_quotas-INITIAL_FORMS": "0",
        **changes,
    }


def rights_of(person: User) -> tuple[bool, bool, int, int]:
    row = User.objects.get(pk=person.pk)
    return row.is_staff, row.is_superuser, row.groups.count(), row.user_permissions.count()


# --- Roles ------------------------------------------------------------------------------------


def test_whoever_may_change_accounts_gives_no_role_to_anybody(bob: User) -> None:
    helper = make_staff("change_user", "add_user", "view_user")
    host_admins()
    client = sign_in(helper)
    for person in (helper, bob):
        before = rights_of(person)
        client.post(address("change", person), person_form(person, first_name="Somebody"))
        assert User.objects.get(pk=person.pk).first_name == "Somebody"
        assert rights_of(person) == before
    client.post(reverse("admin:auth_user_add"), person_form(bob, username="zoe", **NEW_PASSWORD))
    assert rights_of(User.objects.get(username="zoe")) == (False, False, 0, 0)


def test_a_superuser_gives_roles_but_not_to_themselves(
    as_dana: Client, dana: User, bob: User
) -> None:
    host_admins()
    as_dana.post(address("change", bob), person_form(bob))
    assert rights_of(bob) == (True, True, 1, 1)
    as_dana.post(address("change", dana), {"username": "dana", "date_joined_0": "2026-01-01"})
    assert rights_of(dana) == (True, True, 0, 0)
    assert User.objects.get(pk=dana.pk).is_active


# --- Accounts of people with more rights ------------------------------------------------------


@pytest.mark.parametrize("is_active", [True, False])
@pytest.mark.parametrize("kind", ["superuser", "host admin", "installer"])
def test_an_account_with_more_rights_is_changed_by_none_with_fewer(
    kind: str, is_active: bool, dana: User
) -> None:
    mighty = make_staff("install", name="installer") if kind == "installer" else dana
    if kind == "host admin":
        mighty = make_staff(name="hostess")
        mighty.groups.add(host_admins())
    User.objects.filter(pk=mighty.pk).update(is_active=is_active)
    client = sign_in(make_staff("change_user", "delete_user", "view_user"))
    before = User.objects.get(pk=mighty.pk).password
    answers = [
        client.post(address("change", mighty), person_form(mighty, email="me@example.org")),
        client.post(reverse("admin:auth_user_password_change", args=[mighty.pk]), NEW_PASSWORD),
        client.get(reverse("admin:auth_user_password_change", args=[mighty.pk])),
        client.post(address("delete", mighty), {"post": "yes"}),
        client.post(
            reverse("admin:auth_user_changelist"),
            {"action": "delete_selected", "_selected_action": [mighty.pk], "post": "yes"},
        ),
        client.post(reverse("person_switch", args=[mighty.pk]), {"active": "true"}),
    ]
    if is_active:
        answers.append(client.post(reverse("reset_link", args=[mighty.pk])))
    assert [answer.status_code for answer in answers] == [403] * len(answers)
    row = User.objects.get(pk=mighty.pk)
    assert (row.email, row.password, row.is_active) == ("", before, is_active)
    # It can be read, with its history, and nothing there can be sent.
    page = client.get(address("change", mighty)).content.decode()
    assert 'name="email"' not in page
    assert 'name="_save"' not in page
    assert client.get(address("history", mighty)).status_code == 200


def test_whoever_has_the_same_rights_helps_with_an_account() -> None:
    helper = make_staff("change_user", "add_user")
    colleague = make_staff("add_user", name="colleague")
    client = sign_in(helper)
    url = reverse("admin:auth_user_password_change", args=[colleague.pk])
    assert client.post(url, NEW_PASSWORD).status_code == 302
    assert User.objects.get(pk=colleague.pk).check_password("another-password")
    assert client.post(reverse("reset_link", args=[colleague.pk])).status_code == 200


def test_one_s_own_password_takes_the_old_one(as_dana: Client, dana: User) -> None:
    for row in (str(dana.pk), f"0{dana.pk}"):
        url = reverse("admin:auth_user_password_change", args=[row])
        answer = as_dana.post(url, NEW_PASSWORD)
        assert answer.headers["Location"] == reverse("password_change")
    assert User.objects.get(pk=dana.pk).check_password("dana-password")


@pytest.mark.parametrize(
    ("name", "is_free"),
    [
        ("Dana", False),
        ("victim", True),
        ("Victim", True),
        ("d\u0430na", False),
        ("\u0434\u0430\u043d\u0430", True),
        ("\u7530\u4e2d-tanaka", True),
    ],
)
def test_nobody_gets_a_name_that_could_be_taken_for_another_one(
    as_dana: Client, dana: User, name: str, is_free: bool
) -> None:
    victim = User.objects.create_user("victim", password="victim-password")
    change = {**person_form(victim), "username": name}
    assert (as_dana.post(address("change", victim), change).status_code == 302) == is_free
    assert (User.objects.get(pk=victim.pk).username == name) == is_free
    if name.lower() == "victim":
        return
    victim.delete()
    answer = as_dana.post(reverse("admin:auth_user_add"), {"username": name, **NEW_PASSWORD})
    assert (answer.status_code == 302) == is_free


def test_an_account_keeps_a_name_from_before_there_were_rules(as_dana: Client) -> None:
    old = User.objects.create_user("DANA")
    change = {**person_form(old), "email": "old@example.org"}
    assert as_dana.post(address("change", old), change).status_code == 302


def test_nobody_deletes_their_own_account(as_dana: Client, dana: User, alice: User) -> None:
    assert as_dana.post(address("delete", dana), {"post": "yes"}).status_code == 403
    several = {"action": "delete_selected", "_selected_action": [dana.pk, alice.pk], "post": "yes"}
    as_dana.post(reverse("admin:auth_user_changelist"), several)
    assert User.objects.filter(pk__in=[dana.pk, alice.pk]).count() == 2
    assert as_dana.post(address("delete", alice), {"post": "yes"}).status_code == 302


# --- Groups, limits, the record ---------------------------------------------------------------


def test_groups_are_changed_by_superusers_alone(as_dana: Client) -> None:
    group = host_admins()
    client = sign_in(make_staff("add_group", "change_group", "delete_group", "view_group"))
    values = {"name": "Mighty ones", "permissions": [Permission.objects.first().pk]}  # type: ignore[union-attr]
    action = {"action": "delete_selected", "_selected_action": [group.pk], "post": "yes"}
    for url, data in (
        (reverse("admin:auth_group_add"), values),
        (address("change", group), values),
        (address("delete", group), {"post": "yes"}),
        (reverse("admin:auth_group_changelist"), action),
    ):
        client.post(url, data)
        assert [one.name for one in Group.objects.all()] == ["Host admins"]
    assert client.get(address("change", group)).status_code == 200
    assert as_dana.post(address("change", group), values).status_code == 302
    assert Group.objects.get().name == "Mighty ones"


def test_limits_take_the_right_to_set_them_and_are_recorded(bob: User) -> None:
    limits = {
        "own_quotas-TOTAL_FORMS": "1",
        "own_quotas-0-user": str(bob.pk),
        "own_quotas-0-servers": "500",
    }
    helper = make_staff("change_user", "add_ownquotas")
    sign_in(helper).post(address("change", bob), person_form(bob, **limits))
    assert not OwnQuotas.objects.exists()
    helper.user_permissions.set(
        Permission.objects.filter(codename__in=("change_user", "change_ownquotas"))
    )
    sign_in(helper).post(address("change", bob), person_form(bob, **limits))
    assert OwnQuotas.objects.get().servers == 500
    event = AccountEvent.objects.get(kind=EventKind.QUOTAS_CHANGED)
    assert (event.user, event.detail) == (bob, "servers, by helper")


def test_the_record_takes_the_right_to_read_it() -> None:
    client = sign_in(make_staff("change_accountevent"))
    assert client.get(reverse("admin:accounts_accountevent_changelist")).status_code == 403


def test_a_changed_role_names_who_did_it_however_long_it_is(as_dana: Client) -> None:
    permissions = list(Permission.objects.all()[:10])
    as_dana.post(
        reverse("admin:auth_group_add"),
        {"name": "Night shift", "permissions": [one.pk for one in permissions]},
    )
    event = AccountEvent.objects.get(kind=EventKind.ROLE_CHANGED, name="group Night shift")
    assert event.detail.startswith("permissions given ")
    assert event.detail.endswith("… by dana")
    assert event.actor_name == "dana"


def test_a_role_that_one_gave_oneself_names_them_too(
    dana: User, rf: RequestFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = rf.post("/")
    request.user = dana
    monkeypatch.setattr(receivers, "current_request", lambda: request)
    dana.is_superuser = False
    dana.save()
    event = AccountEvent.objects.get(kind=EventKind.ROLE_CHANGED)
    assert event.detail == "not superuser, by dana"


# --- Servers, blueprints, overlays, hosts -----------------------------------------------------


def test_whoever_may_only_change_a_server_or_blueprint_does_not_take_it(
    server: Server, blueprint: Blueprint, alice: User, dana: User
) -> None:
    secret = Blueprint.objects.create(name="secret", owner=dana)
    helper = make_staff("change_server", "change_blueprint")
    client = sign_in(helper)
    values = {
        "name": "alpha",
        "owner": str(helper.pk),
        "host": str(server.host_id),
        "port": str(server.port),
        "blueprint": str(blueprint.pk),
        "arguments": "+map c1m2_streets",
        "config": "",
    }
    client.post(address("change", server), values)
    server.refresh_from_db()
    assert (server.owner, server.arguments) == (alice, "+map c1m2_streets")
    places = {
        "blueprint_overlays-TOTAL_FORMS": "0",
        "blueprint_overlays-INITIAL_FORMS": "0",
        "config": "",
        "arguments": "",
    }
    client.post(address("change", blueprint), {**places, "name": "other", "owner": str(helper.pk)})
    blueprint.refresh_from_db()
    assert (blueprint.owner, blueprint.name) == (alice, "other")
    # Nor put it on a blueprint that they may not read.
    helper.user_permissions.set(
        Permission.objects.filter(codename__in=("change_server", "add_server"))
    )
    client = sign_in(helper)
    client.post(address("change", server), {**values, "blueprint": str(secret.pk)})
    server.refresh_from_db()
    assert server.blueprint == blueprint
    assert client.get(reverse("admin:servers_server_add")).status_code == 403


def test_a_blueprint_gets_no_overlay_that_its_changer_may_not_use(
    blueprint: Blueprint, dana: User
) -> None:
    hidden = Overlay.objects.create(name="hidden", owner=dana, is_shared=False)
    helper = make_staff("change_blueprint", "add_blueprintoverlay", "change_blueprintoverlay")
    places = {
        "name": "coop",
        "owner": str(blueprint.owner_id),
        "arguments": "",
        "config": "",
        "blueprint_overlays-TOTAL_FORMS": "1",
        "blueprint_overlays-INITIAL_FORMS": "0",
        "blueprint_overlays-0-blueprint": str(blueprint.pk),
        "blueprint_overlays-0-overlay": str(hidden.pk),
        "blueprint_overlays-0-position": "1",
    }
    sign_in(helper).post(address("change", blueprint), places)
    assert not blueprint.blueprint_overlays.exists()
    for codename in ("view_overlay", "bring_native_code"):
        helper.user_permissions.add(Permission.objects.get(codename=codename))
    sign_in(helper).post(address("change", blueprint), places)
    assert blueprint.blueprint_overlays.get().overlay == hidden


def test_only_who_may_bring_native_code_makes_an_overlay_a_folder_of_hosts(
    alice: User, bob: User, dana: User
) -> None:
    overlay = Overlay.objects.create(name="maps", owner=alice)
    helper = make_staff("view_overlay", "change_overlay")
    sent = {"name": "maps", "owner": bob.pk, "is_shared": "on", "is_host_folder": "on"}
    sign_in(helper).post(address("change", overlay), sent)
    overlay.refresh_from_db()
    assert (overlay.owner, overlay.is_host_folder) == (bob, False)
    sign_in(dana).post(address("change", overlay), {**sent, "owner": ""})
    overlay.refresh_from_db()
    assert (overlay.owner, overlay.is_host_folder) == (None, True)
    page = sign_in(dana).get(reverse("admin:servers_overlay_add")).content.decode()
    assert re.search(r'name="is_host_folder"[^>]* checked', page)


def test_drains_and_removals_take_what_the_pages_ask_for(host: Host) -> None:
    helper = make_staff("change_host", "delete_overlay")
    client = sign_in(helper)
    client.post(address("change", host), {"address": "play.example.org", "is_draining": "on"})
    host.refresh_from_db()
    assert (host.address, host.is_draining) == ("play.example.org", False)
    overlay = Overlay.objects.create(name="maps", is_host_folder=True)
    assert client.post(address("delete", overlay), {"post": "yes"}).status_code == 403


def test_the_way_to_a_row_s_page_tells_no_private_overlay(alice: User) -> None:
    hidden = Overlay.objects.create(name="hidden", owner=alice, is_shared=False)
    place = [ContentType.objects.get_for_model(Overlay).pk, hidden.pk]
    client = sign_in(make_staff())
    assert client.get(reverse("admin:view_on_site", args=place)).status_code == 404


def test_the_way_to_a_row_s_page_leads_to_no_secret_and_names_nothing(
    alice: User, dana: User, server: Server
) -> None:
    """An invitation's address lets people in; those of uploads and commands have names in them."""
    overlay = Overlay.objects.create(name="hidden", owner=alice)
    rows = [
        Invitation.objects.create(made_by=dana, note="Eve"),
        Upload.objects.create(overlay=overlay, by=alice),
        ConsoleCommand.objects.create(server=server, text="status", requested_by=alice),
        server.host,
    ]
    as_dana, as_helper = sign_in(dana), sign_in(make_staff())
    for row in rows:
        kind = ContentType.objects.get_for_model(type(row)).pk
        number = getattr(row.pk, "int", row.pk)
        where = reverse("admin:view_on_site", args=[kind, number])
        has_page = row is server.host
        assert as_dana.get(where).status_code == (302 if has_page else 404)
        assert as_helper.get(where).status_code == 404
        # Django would take these for the same key.
        for key in (f"%20{number}", f"+{number}", getattr(row.pk, "hex", "x")):
            assert as_dana.get(f"/admin/r/{kind}/{key}/").status_code == 404
