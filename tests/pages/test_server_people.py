"""The people of a server: who gives which role to whom, by name or by a link, and who takes it back."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from jobs.models import Job
from l4d2site.accounts import server_people_pages
from l4d2site.accounts.models import AccountEvent, EventKind, Invitation
from servers.models import Blueprint, Membership, Server
from servers.secrets.encryption import ServerSecret
from tests.pages.conftest import sign_in
from tests.pages.queries import assert_same_queries

PEOPLE = "/servers/alpha/people/"
LINKS = f"{PEOPLE}links/"
EVE = {"username": "eve", "password1": "a-password-of-eve", "password2": "a-password-of-eve"}


@pytest.fixture
def carol(db: None) -> User:
    """Return somebody who becomes a manager."""
    return User.objects.create_user("carol", password="carol-password")


def let_in(server: Server, user: User, role: str) -> Membership:
    return Membership.objects.create(server=server, user=user, role=role)


def add(client: Client, username: str, role: str = "operator") -> str:
    """Ask to let somebody in; return the page that follows."""
    response = client.post(f"{PEOPLE}add/", {"username": username, "role": role}, follow=True)
    return response.content.decode()


def make_link(client: Client, role: str = "viewer", **values: str) -> Invitation:
    """Make a link, and return its invitation."""
    client.post(LINKS, {"role": role, **values})
    return Invitation.objects.latest("made_at")


def said(kind: EventKind) -> list[tuple[str, str]]:
    """Return the people in the record's events of a kind, and the events' texts."""
    return list(AccountEvent.objects.filter(kind=kind).order_by("pk").values_list("name", "detail"))


# --- By name ----------------------------------------------------------------------------------


def test_the_owner_lets_somebody_in_by_name(as_alice: Client, bob: User, server: Server) -> None:
    page = add(as_alice, "Bob")
    assert "bob is now operator of alpha." in page
    assert server.role_of(bob) == "operator"
    assert said(EventKind.ROLE_CHANGED) == [("bob", "operator of alpha, by alice")]


@pytest.mark.parametrize(
    ("username", "role", "complaint"),
    [
        ("nobody", "viewer", "Nobody here is called nobody."),
        ("alice", "viewer", "alice is already owner of alpha."),
        ("carol", "viewer", "carol is already manager of alpha."),
        ("gone", "viewer", "Nobody here is called gone."),
        ("bob", "owner", "Choose one from the list."),
        ("bob", "", "Fill this in."),
    ],
)
def test_what_cannot_be_given_is_told(
    as_alice: Client,
    server: Server,
    bob: User,
    carol: User,
    username: str,
    role: str,
    complaint: str,
) -> None:
    let_in(server, carol, "manager")
    User.objects.create_user("gone", is_active=False)
    page = add(as_alice, username, role)
    assert complaint in page
    assert re.search(rf'<input[^>]* value="{username}"', page), "what was typed is kept"
    assert f'name="next" value="{PEOPLE}"' in page
    assert Membership.objects.count() == 1


def test_a_manager_gives_what_is_below_a_manager(server: Server, bob: User, carol: User) -> None:
    let_in(server, carol, "manager")
    as_carol = sign_in(carol)
    assert "Choose one from the list." in add(as_carol, "bob", "manager")
    assert "bob is now operator of alpha." in add(as_carol, "bob", "operator")
    page = as_carol.get(PEOPLE).content.decode()
    assert 'value="manager"' not in page


def test_a_role_is_changed_and_recorded_once(as_alice: Client, bob: User, server: Server) -> None:
    membership = let_in(server, bob, "viewer")
    for _ in range(2):
        as_alice.post(f"{PEOPLE}{membership.pk}/role/", {"role": "manager"})
    assert Server.objects.get().role_of(bob) == "manager"
    assert said(EventKind.ROLE_CHANGED) == [("bob", "manager of alpha, by alice")]


def test_a_manager_makes_nobody_a_manager_by_a_change(
    server: Server, bob: User, carol: User
) -> None:
    let_in(server, carol, "manager")
    membership = let_in(server, bob, "viewer")
    answer = sign_in(carol).post(f"{PEOPLE}{membership.pk}/role/", {"role": "manager"}, follow=True)
    assert "Nothing was done." in answer.content.decode()
    assert Server.objects.get().role_of(bob) == "viewer"


def test_a_role_is_taken_after_a_question(as_alice: Client, bob: User, server: Server) -> None:
    url = f"{PEOPLE}{let_in(server, bob, 'operator').pk}/remove/"
    page = as_alice.get(url).content.decode()
    assert "Their role is operator." in page
    assert server.role_of(bob) == "operator"
    page = as_alice.post(url, follow=True).content.decode()
    assert "bob no longer has a role on alpha." in page
    assert Server.objects.get().role_of(bob) is None
    assert said(EventKind.ROLE_CHANGED) == [("bob", "no role on alpha, by alice")]
    assert sign_in(bob).get("/servers/alpha/").status_code == 404


@pytest.mark.parametrize(("role", "is_told"), [("manager", True), ("operator", False)])
def test_what_a_manager_may_have_read_is_told_when_they_go(
    as_alice: Client, bob: User, server: Server, role: str, is_told: bool
) -> None:
    server.set_secret(ServerSecret.RCON_PASSWORD, "hunter2-of-rcon")
    server.save()
    url = f"{PEOPLE}{let_in(server, bob, role).pk}/remove/"
    assert ("may have read" in as_alice.get(url).content.decode()) == is_told


def test_one_leaves_oneself(as_bob: Client, bob: User, server: Server) -> None:
    membership = let_in(server, bob, "viewer")
    page = as_bob.get(PEOPLE).content.decode()
    assert f"{PEOPLE}{membership.pk}/remove/" in page
    answer = as_bob.post(f"{PEOPLE}{membership.pk}/remove/", follow=True)
    assert answer.redirect_chain == [("/servers/", 302)]
    assert "You have left server alpha." in answer.content.decode()
    assert not Membership.objects.exists()


def test_members_see_who_else_is_one_only_if_they_may_share(
    as_bob: Client, bob: User, carol: User, server: Server
) -> None:
    membership = let_in(server, bob, "operator")
    let_in(server, carol, "viewer")
    assert "carol" not in as_bob.get(PEOPLE).content.decode()
    Membership.objects.filter(pk=membership.pk).update(role="manager")
    assert "carol" in as_bob.get(PEOPLE).content.decode()


# --- By link ----------------------------------------------------------------------------------


def test_a_link_makes_an_account_with_the_role(
    as_alice: Client, server: Server, client: Client
) -> None:
    invitation = make_link(as_alice, "operator", note="Eve")
    assert (
        f"http://testserver{invitation.get_absolute_url()}" in as_alice.get(PEOPLE).content.decode()
    )
    page = client.get(invitation.get_absolute_url()).content.decode()
    assert "You will be operator of the server" in page
    client.post(invitation.get_absolute_url(), EVE)
    eve = User.objects.get(username="eve")
    assert (server.role_of(eve), eve.is_staff) == ("operator", False)
    assert said(EventKind.INVITATION_MADE) == [("alice", "operator of alpha: Eve")]
    assert ("eve", "operator of alpha, by alice") in said(EventKind.ROLE_CHANGED)
    assert client.get("/servers/alpha/").status_code == 200


def test_who_has_an_account_accepts_a_link_with_it(
    as_alice: Client, as_bob: Client, bob: User, server: Server
) -> None:
    link = make_link(as_alice).get_absolute_url()
    page = as_bob.get(link).content.decode()
    assert "alice makes you viewer of alice’s server." in page
    assert not Membership.objects.exists()
    assert as_bob.post(link).headers["Location"] == "/servers/alpha/"
    assert server.role_of(bob) == "viewer"
    assert User.objects.count() == 2
    assert as_bob.get(link).status_code == 404


def test_somebody_who_accepts_two_links_keeps_the_greater_role(
    as_alice: Client, as_bob: Client, bob: User, server: Server
) -> None:
    let_in(server, bob, "operator")
    less = make_link(as_alice, "viewer").get_absolute_url()
    assert "You are already its operator." in as_bob.post(less).content.decode()
    assert Invitation.objects.open().count() == 1
    as_bob.post(make_link(as_alice, "manager").get_absolute_url())
    assert Server.objects.get().role_of(bob) == "manager"


def test_two_who_accept_one_link_at_one_time_give_one_role(
    as_alice: Client, as_bob: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    invitation = make_link(as_alice)
    # Both have seen it open; this one comes second.
    monkeypatch.setattr(Invitation, "of_token", classmethod(lambda _cls, _token: invitation))
    Invitation.objects.filter(pk=invitation.pk).update(accepted_at=invitation.made_at)
    assert as_bob.post(invitation.get_absolute_url()).status_code == 404
    assert not Membership.objects.exists()


def test_a_link_ends_with_the_role_of_who_made_it(
    server: Server, carol: User, client: Client, as_alice: Client
) -> None:
    membership = let_in(server, carol, "manager")
    link = make_link(sign_in(carol)).get_absolute_url()
    assert client.get(link).status_code == 200
    membership.delete()
    assert client.post(link, EVE).status_code == 404
    assert not User.objects.filter(username="eve").exists()
    page = as_alice.get(PEOPLE).content.decode()
    assert link not in page
    assert "It does not work: the person who made it may no longer make one." in page


def test_an_owners_link_ends_when_only_admins_may_invite(
    as_alice: Client, client: Client, server: Server, settings: Any
) -> None:
    link = make_link(as_alice).get_absolute_url()
    settings.OWNERS_INVITE = False
    assert client.post(link, EVE).status_code == 404
    assert not User.objects.filter(username="eve").exists()


def test_a_new_link_stands_at_the_top_of_the_page_until_it_is_revoked(
    as_alice: Client, server: Server
) -> None:
    page = as_alice.post(LINKS, {"role": "viewer", "note": "Eve"}, follow=True)
    url, _status = page.redirect_chain[-1]
    invitation = Invitation.objects.get()
    news = page.content.decode().split("The link is ready.")[1].split("<h1")[0]
    assert f'{invitation.get_absolute_url()}" aria-label="The new link"' in news
    assert "The link is ready." not in as_alice.get(PEOPLE).content.decode()
    as_alice.post(f"{LINKS}{invitation.pk}/revoke/")
    assert "The link is ready." not in as_alice.get(url).content.decode()


def test_a_link_is_revoked(as_alice: Client, server: Server, client: Client) -> None:
    invitation = make_link(as_alice, note="Eve")
    as_alice.post(f"{LINKS}{invitation.pk}/revoke/")
    assert client.get(invitation.get_absolute_url()).status_code == 404
    assert said(EventKind.INVITATION_REVOKED) == [("alice", "viewer of alpha: Eve, made by alice")]
    again = as_alice.post(f"{LINKS}{invitation.pk}/revoke/", follow=True)
    assert "had already been used or revoked, or had expired" in again.content.decode()


def test_links_to_servers_are_no_business_of_who_invites_to_the_panel(
    as_alice: Client, as_dana: Client, server: Server
) -> None:
    invitation = make_link(as_alice)
    assert invitation.token not in as_dana.get(reverse("people")).content.decode()
    as_dana.post(reverse("invitation_revoke", args=[invitation.pk]))
    assert Invitation.objects.open().count() == 1


def test_a_manager_sees_no_link_that_makes_a_manager(
    as_alice: Client, server: Server, carol: User
) -> None:
    let_in(server, carol, "manager")
    greater, less = make_link(as_alice, "manager"), make_link(as_alice, "viewer")
    page = sign_in(carol).get(PEOPLE).content.decode()
    assert less.token in page
    assert greater.token not in page


def test_there_are_only_so_many_open_links(
    as_alice: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_people_pages, "MOST_INVITATIONS", 1)
    make_link(as_alice)
    page = as_alice.post(LINKS, {"role": "viewer"}, follow=True).content.decode()
    assert "Nothing was done. This server has reached its limit of open links (1)" in page
    assert Invitation.objects.count() == 1


def test_a_panel_can_leave_new_accounts_to_its_admins(
    as_alice: Client, as_dana: Client, server: Server, bob: User, settings: Any
) -> None:
    settings.OWNERS_INVITE = False
    assert "Make a link" not in as_alice.get(PEOPLE).content.decode()
    assert as_alice.post(LINKS, {"role": "viewer"}).status_code == 403
    assert "bob is now operator of alpha." in add(as_alice, "bob")
    assert as_dana.post(LINKS, {"role": "viewer"}).status_code == 302
    assert Invitation.objects.count() == 1


# --- What members see -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "shown", "hidden"),
    [
        ("viewer", "Console", "Start Restart Edit Config Remove Show"),
        ("operator", "Start", "Reset… Delete Edit Config Remove Show"),
        ("manager", "Start Reset… Edit Config Show", "Delete Remove"),
    ],
)
def test_a_page_has_the_buttons_that_work(
    as_bob: Client, bob: User, stopped_server: Server, role: str, shown: str, hidden: str
) -> None:
    let_in(stopped_server, bob, role)
    stopped_server.set_secret(ServerSecret.JOIN_PASSWORD, "sesame-to-join")
    stopped_server.config = "sv_lan 0"
    stopped_server.save()
    page = as_bob.get("/servers/alpha/").content.decode()
    main = page.partition("<main")[2]
    for words in shown.split():
        assert f">{words}" in main
    for words in hidden.split():
        assert not re.search(rf">{words}(?!\w)", main)
    assert f"<dt>Your role</dt><dd>{role}</dd>" in main
    assert ("sv_lan 0" in main) == (role == "manager")


def test_the_list_says_whose_a_server_is_and_as_what_one_sees_it(
    as_bob: Client, as_dana: Client, bob: User, stopped_server: Server
) -> None:
    let_in(stopped_server, bob, "viewer")
    page = as_bob.get("/servers/").content.decode()
    assert "owned by alice; you are its viewer" in page
    assert 'aria-label="Start alpha"' not in page
    assert "of alice</span>" in as_dana.get("/servers/").content.decode()
    Membership.objects.update(role="operator")
    assert 'aria-label="Start alpha"' in as_bob.get("/servers/").content.decode()


def test_shared_servers_cost_no_queries_of_their_own(
    as_bob: Client, bob: User, server: Server
) -> None:
    let_in(server, bob, "operator")

    def share_more() -> None:
        for number in range(5):
            more = Server.objects.create(
                name=f"more-{number}",
                owner=server.owner,
                host=server.host,
                blueprint=server.blueprint,
            )
            let_in(more, bob, "operator")
            Job.objects.create(operation="start", server=more)

    assert_same_queries(as_bob, "/servers/", share_more)


def test_members_of_a_server_cost_no_queries_of_their_own(
    as_alice: Client, server: Server, bob: User
) -> None:
    let_in(server, bob, "operator")
    make_link(as_alice)

    def let_more_in() -> None:
        for number in range(5):
            let_in(server, User.objects.create_user(f"more-{number}"), "viewer")
            make_link(as_alice)

    assert_same_queries(as_alice, PEOPLE, let_more_in)


def test_jobs_show_members_the_buttons_that_work(
    as_bob: Client, bob: User, server: Server, failed_job: Job
) -> None:
    let_in(server, bob, "viewer")
    assert ">Retry<" not in as_bob.get(failed_job.get_absolute_url()).content.decode()
    Membership.objects.update(role="operator")
    assert ">Retry<" in as_bob.get(failed_job.get_absolute_url()).content.decode()


def test_a_manager_cannot_put_a_server_on_a_blueprint_of_their_own(
    bob: User, as_bob: Client, server: Server
) -> None:
    let_in(server, bob, "manager")
    own = Blueprint.objects.create(name="bobs", owner=bob, is_shared=True)
    shared = Blueprint.objects.create(name="shared", owner=server.owner, is_shared=True)
    edit = reverse("servers:edit", args=["alpha"])
    values = {"port": str(server.port), "arguments": "", "config": ""}
    page = as_bob.post(edit, {**values, "blueprint": str(own.pk)}).content.decode()
    assert "Choose one from the list." in page
    assert as_bob.post(edit, {**values, "blueprint": str(shared.pk)}).status_code == 302
    server.refresh_from_db()
    assert server.blueprint == shared
