"""The sign-in: one for panel and admin, by user name, and nothing that reveals who has an account."""

from contextlib import ExitStack
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from l4d2site.accounts.models import AccountEvent
from tests.jobs.live.stream_server import Panel, Watcher, cookie_of

LOGIN = reverse("account_login")
ADMIN_LOGIN = reverse("admin:login")
ALICE = {"username": "alice", "password": "alice-password"}
DANA = {"username": "dana", "password": "dana-password"}


def test_both_doors_take_user_name_and_password(client: Client, dana: User) -> None:
    for door, leads_to in ((LOGIN, "servers:list"), (ADMIN_LOGIN, "admin:index")):
        response = client.post(door, DANA)
        assert response.headers["Location"] == reverse(leads_to)
        client.logout()


def test_the_admin_door_leads_to_where_one_wanted_to_go(client: Client, dana: User) -> None:
    wanted = reverse("admin:jobs_job_changelist")
    way = client.get(wanted).headers["Location"]
    page = client.get(way).content.decode()
    assert f'name="next" value="{wanted}"' in page
    assert client.post(way, {**DANA, "next": wanted}).headers["Location"] == wanted


def test_who_is_no_admin_is_told_so_instead_of_being_sent_in_a_circle(
    client: Client, alice: User
) -> None:
    response = client.post(ADMIN_LOGIN, {**ALICE, "next": reverse("admin:index")}, follow=True)
    assert response.status_code == 403
    assert "Only an admin can see the admin pages." in response.content.decode()


def test_the_admin_changes_passwords_on_the_page_of_the_panel(as_dana: Client) -> None:
    response = as_dana.get(reverse("admin:password_change"))
    assert response.headers["Location"] == reverse("password_change")


@pytest.mark.parametrize(
    "path",
    [
        "signup/",
        "email/",
        "login/code/",
        "social/signup/",
        "2fa/",
        "second-factor/passkeys/signup/",
    ],
)
def test_there_is_no_sign_up_and_nothing_else_of_allauth(
    client: Client, path: str, db: None
) -> None:
    for ask in (client.get, client.post):
        assert ask(f"/accounts/{path}").status_code == 404


def test_the_case_of_a_user_name_does_not_matter(client: Client, alice: User) -> None:
    response = client.post(LOGIN, {**ALICE, "username": "Alice"})
    assert response.headers["Location"] == reverse("servers:list")


def test_two_names_that_differ_only_in_case_are_two_accounts(client: Client, alice: User) -> None:
    other = User.objects.create_user("Alice", password="another-password")
    for name, password, user in (
        ("alice", "alice-password", alice),
        ("Alice", "another-password", other),
    ):
        client.post(LOGIN, {"username": name, "password": password})
        assert client.session["_auth_user_id"] == str(user.pk)
        client.logout()
    page = client.post(LOGIN, {"username": "alice", "password": "another-password"})
    assert page.status_code == 200
    assert "_auth_user_id" not in client.session


def test_a_name_that_nobody_has_is_answered_as_a_wrong_password(
    client: Client, alice: User
) -> None:
    pages = [
        client.post(LOGIN, {"username": name, "password": "wrong"}).content.decode()
        for name in ("alice", "nobody")
    ]
    for page in pages:
        assert "That username and password do not match. Try again." in page
    assert without_tokens(pages[0], "alice") == without_tokens(pages[1], "nobody")


def without_tokens(page: str, name: str) -> list[str]:
    """Return the lines of `page` except those that differ with each request."""
    lines = page.replace(name, "NAME").splitlines()
    return [line for line in lines if "csrfmiddlewaretoken" not in line]


def test_an_account_that_is_switched_off_is_told_to_who_knows_its_password(
    client: Client, alice: User
) -> None:
    User.objects.update(is_active=False)
    page = client.post(LOGIN, ALICE, follow=True).content.decode()
    assert "This account is deactivated." in page
    assert "_auth_user_id" not in client.session
    page = client.post(LOGIN, {**ALICE, "password": "wrong"}, follow=True).content.decode()
    assert "deactivated" not in page


def test_strangers_do_not_lock_an_account(client: Client, alice: User) -> None:
    for _ in range(30):
        client.post(LOGIN, {**ALICE, "password": "wrong"})
    assert client.post(LOGIN, ALICE).status_code == 302


def test_one_stays_signed_in_when_the_browser_is_closed(client: Client, alice: User) -> None:
    client.post(LOGIN, ALICE)
    assert client.cookies["sessionid"]["max-age"] == settings.SESSION_COOKIE_AGE


def test_signing_out_leads_to_the_sign_in(as_alice: Client) -> None:
    assert as_alice.post(reverse("logout")).headers["Location"] == LOGIN
    assert as_alice.get(reverse("servers:list")).status_code == 302


def test_a_session_from_before_the_upgrade_is_over(as_alice: Client, alice: User) -> None:
    session = as_alice.session
    session["_auth_user_backend"] = "django.contrib.auth.backends.ModelBackend"
    session.save()
    way = as_alice.get(reverse("servers:list")).headers["Location"]
    assert way.startswith(LOGIN)


@pytest.mark.django_db(transaction=True)
def test_streams_pass_the_door_without_a_thread_each(tmp_path: Path, alice: User) -> None:
    (tmp_path / "var/static").mkdir(parents=True)
    panel = Panel(tmp_path / "var")
    panel.start(STREAMS_PER_ADDRESS="1000", STREAMS_PER_PERSON="1000")
    try:
        cookie = cookie_of(alice)
        with ExitStack() as stack:
            for number in range(201):
                response = stack.enter_context(Watcher(panel.port, "/events", cookie).open())
                assert response.readline() == b"retry: 1000\n"
                if number == 0:
                    before = count_threads(panel.pid)
            assert count_threads(panel.pid) <= before + 2
    finally:
        panel.stop()
    assert AccountEvent.objects.count() == 2  # Her account and her sign-in: a stream is no event.


def count_threads(pid: int) -> int:
    """Return how many threads a process has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))
