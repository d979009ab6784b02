"""The list of people, and one person's page: their role in the panel, their limits, and deactivating them."""

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client, override_settings
from django.urls import reverse

from l4d2site.accounts.models import AccountEvent, EventKind, OwnQuotas, PersonSession
from l4d2site.accounts.panel_roles import PanelRole, give_panel_role, panel_role_of
from servers.models import Server
from servers.quotas import most_servers
from tests.pages.conftest import sign_in
from tests.pages.kinds import host_admins
from tests.pages.queries import assert_same_queries

pytestmark = pytest.mark.django_db

PEOPLE = reverse("people")


def page_of(person: User, name: str = "person") -> str:
    return reverse(name, args=[person.pk])


def read(client: Client, address: str) -> str:
    """Return a page with each run of blanks collapsed."""
    return " ".join(client.get(address).content.decode().split())


def fresh(person: User) -> User:
    return User.objects.get(pk=person.pk)


# --- The list ---------------------------------------------------------------------------------


def test_people_are_found_by_name_and_kind(as_dana: Client, alice: User, bob: User) -> None:
    User.objects.filter(pk=bob.pk).update(is_active=False)
    for query, names in (
        ("", {"alice", "bob", "dana"}),
        ("q=AL", {"alice"}),
        ("kind=off", {"bob"}),
        ("kind=staff", {"dana"}),
        ("kind=nonsense&q=b%00o", {"bob"}),
    ):
        page = read(as_dana, f"{PEOPLE}?{query}")
        shown = {one.username for one in (alice, bob) if f'href="{page_of(one)}"' in page}
        shown |= {"dana"} if page.count("superuser") else set()
        assert shown == names, query
    assert "Nobody matches these filters." in read(as_dana, f"{PEOPLE}?q=zoe")


def test_the_list_costs_the_same_with_more_people(as_dana: Client, dana: User) -> None:
    def make_more() -> None:
        for number in range(5):
            person = User.objects.create_user(f"person-{number}", is_staff=True)
            person.groups.add(host_admins())

    make_more_once = User.objects.create_user("somebody", is_staff=True)
    make_more_once.groups.add(host_admins())
    assert_same_queries(as_dana, PEOPLE, make_more)


# --- Roles ------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [PanelRole.OWNER, PanelRole.HOST_ADMIN, PanelRole.SUPERUSER])
def test_a_role_is_given_whole(bob: User, role: PanelRole) -> None:
    host_admins()
    bob.user_permissions.add(Permission.objects.get(codename="add_user"))
    bob.groups.add(Group.objects.create(name="Odd ones"))
    give_panel_role(bob, role)
    assert panel_role_of(fresh(bob)) == role
    assert not bob.user_permissions.exists()


def test_permissions_of_their_own_are_told_and_kept(as_dana: Client, bob: User) -> None:
    bob.is_staff = True
    bob.save()
    bob.user_permissions.add(Permission.objects.get(codename="install"))
    assert panel_role_of(bob) == PanelRole.OTHER
    assert "staff with permissions of their own" in read(as_dana, page_of(bob))
    page = as_dana.post(page_of(bob, "person_role"), {"role": "other"}, follow=True)
    assert "Nothing was done" in page.content.decode()
    assert bob.user_permissions.count() == 1


def test_a_superuser_makes_a_host_admin_and_it_is_recorded(as_dana: Client, bob: User) -> None:
    host_admins()
    as_dana.post(page_of(bob, "person_role"), {"role": "host_admin"})
    assert panel_role_of(fresh(bob)) == PanelRole.HOST_ADMIN
    details = AccountEvent.objects.filter(kind=EventKind.ROLE_CHANGED, user=bob)
    assert any("staff, by dana" in event.detail for event in details)
    assert any("Host admins" in event.detail for event in details)


def test_a_promotion_records_what_was_given_and_taken_and_no_more(
    as_dana: Client, bob: User
) -> None:
    host_admins()
    for role in ("host_admin", "superuser"):
        as_dana.post(page_of(bob, "person_role"), {"role": role})
    events = AccountEvent.objects.filter(kind=EventKind.ROLE_CHANGED, user=bob).order_by("pk")
    assert list(events.values_list("detail", flat=True)) == [
        "staff, by dana",
        "groups given Host admins by dana",
        "superuser, by dana",
        "groups taken Host admins by dana",
    ]


def test_nobody_becomes_a_host_admin_without_its_group(as_dana: Client, bob: User) -> None:
    Group.objects.filter(name="Host admins").delete()
    assert "Nobody can become a host admin" in read(as_dana, page_of(bob))
    page = as_dana.post(page_of(bob, "person_role"), {"role": "host_admin"}, follow=True)
    assert "Nothing was done: choose a role." in page.content.decode()
    with pytest.raises(Group.DoesNotExist):
        give_panel_role(bob, PanelRole.HOST_ADMIN)
    assert panel_role_of(fresh(bob)) == PanelRole.OWNER


@pytest.mark.parametrize(("role", "is_asked"), [("superuser", True), ("owner", False)])
def test_who_promotes_is_asked_to_check_where_links_are_mailed(
    as_dana: Client, bob: User, role: str, is_asked: bool
) -> None:
    host_admins()
    give_panel_role(bob, PanelRole.HOST_ADMIN)
    User.objects.filter(pk=bob.pk).update(email="bob@example.org")
    with override_settings(EMAIL_URL="smtp://mail"):
        answer = as_dana.post(page_of(bob, "person_role"), {"role": role}, follow=True)
    asked = "Links for a new password are mailed to bob@example.org: check that this is theirs."
    assert (asked in answer.content.decode()) == is_asked


@pytest.mark.parametrize(
    ("values", "is_asked"),
    [
        ({"is_staff": "on", "is_superuser": "on"}, True),
        ({"is_staff": "on", "first_name": "Bob"}, False),
        ({}, False),
    ],
    ids=["promoted", "as before", "demoted"],
)
def test_who_promotes_on_the_admin_pages_is_asked_too(
    as_dana: Client, bob: User, values: dict[str, str], is_asked: bool
) -> None:
    User.objects.filter(pk=bob.pk).update(email="bob@example.org", is_staff=True)
    sent = {
        "username": "bob",
        "email": "bob@example.org",
        "is_active": "on",
        "date_joined_0": "2026-01-01",
        "date_joined_1": "00:00",
        "own_quotas-TOTAL_FORMS": "0",
        "own_quotas-INITIAL_FORMS": "0",
        **values,
    }
    with override_settings(EMAIL_URL="smtp://mail"):
        place = reverse("admin:auth_user_change", args=[bob.pk])
        answer = as_dana.post(place, sent, follow=True)
    assert fresh(bob).is_superuser == ("is_superuser" in values)
    asked = "Links for a new password are mailed to bob@example.org: check that this is theirs."
    assert (asked in answer.content.decode()) == is_asked


def test_nobody_changes_their_own_role(as_dana: Client, dana: User) -> None:
    answer = as_dana.post(page_of(dana, "person_role"), {"role": "owner"})
    assert answer.status_code == 403
    assert panel_role_of(fresh(dana)) == PanelRole.SUPERUSER
    assert "Change the role" not in read(as_dana, page_of(dana))


# --- Limits -----------------------------------------------------------------------------------


def test_one_person_is_given_other_limits(as_dana: Client, alice: User, server: Server) -> None:
    assert "1 of 20" in read(as_dana, page_of(alice))
    url = page_of(alice, "person_quotas")
    as_dana.post(url, {"servers": "3", "waiting_jobs": "", "streams": ""})
    assert most_servers(fresh(alice)) == 3
    assert "1 of 3" in read(as_dana, page_of(alice))
    assert AccountEvent.objects.get(kind=EventKind.QUOTAS_CHANGED).detail == "servers, by dana"
    as_dana.post(url, {"servers": "", "waiting_jobs": "", "streams": ""})
    assert most_servers(fresh(alice)) == 20


def test_a_bad_limit_is_told_in_the_form(as_dana: Client, alice: User) -> None:
    answer = as_dana.post(page_of(alice, "person_quotas"), {"servers": "-1"})
    assert "Use 0 or more." in answer.content.decode()
    assert not OwnQuotas.objects.exists()


def test_a_superuser_has_no_limits(as_dana: Client, dana: User) -> None:
    answer = as_dana.post(page_of(dana, "person_quotas"), {"servers": "1"}, follow=True)
    assert "a superuser has no limits" in answer.content.decode()
    assert not OwnQuotas.objects.exists()
    assert "no limit" in read(as_dana, page_of(dana))


# --- Switching off ----------------------------------------------------------------------------


def test_who_is_switched_off_is_out_at_once_and_comes_back(
    as_dana: Client, as_bob: Client, bob: User
) -> None:
    as_dana.post(page_of(bob, "person_switch"), {"active": "false"})
    assert as_bob.get("/servers/").status_code == 302
    assert "deactivated" in read(as_dana, page_of(bob))
    as_dana.post(page_of(bob, "person_switch"), {"active": "true"})
    assert as_bob.get("/servers/").status_code == 302  # The session is over.
    assert sign_in(fresh(bob)).get("/servers/").status_code == 200


def test_a_session_is_over_however_its_account_was_switched_off(bob: User) -> None:
    def switch_by_query(*, is_active: bool) -> None:
        User.objects.filter(pk=bob.pk).update(is_active=is_active)

    def switch_by_admin(*, is_active: bool) -> None:
        person = fresh(bob)
        person.is_active = is_active
        person.save()  # As the admin site's form does, and programs.

    for switch_off in (switch_by_admin, switch_by_query):
        client = sign_in(fresh(bob))
        switch_off(is_active=False)
        # A query sends no signal: these sessions end when the account is reactivated.
        assert PersonSession.objects.exists() == (switch_off == switch_by_query)
        switch_by_admin(is_active=True)
        assert client.get("/servers/").status_code == 302
        assert not PersonSession.objects.exists()


def test_nobody_switches_themselves_off_or_a_superuser_without_being_one(
    as_dana: Client, dana: User, bob: User
) -> None:
    helper = User.objects.create_user("helper", is_staff=True)
    helper.user_permissions.add(Permission.objects.get(codename="change_user"))
    for client in (as_dana, sign_in(helper)):
        answer = client.post(page_of(dana, "person_switch"), {"active": "false"})
        assert answer.status_code == 403
    assert fresh(dana).is_active
    answer = sign_in(helper).post(page_of(bob, "person_switch"), {"active": "false"})
    assert answer.status_code == 302
    assert not fresh(bob).is_active


# --- What is theirs ---------------------------------------------------------------------------


def test_servers_that_an_admin_of_people_may_not_see_are_only_counted(
    as_dana: Client, alice: User, server: Server
) -> None:
    assert server.get_absolute_url() in read(as_dana, page_of(alice))
    helper = User.objects.create_user("helper", is_staff=True)
    helper.user_permissions.add(Permission.objects.get(codename="change_user"))
    page = read(sign_in(helper), page_of(alice))
    assert server.name not in page
    assert "And 1 more server." in page
