"""The list of one's own sessions: what it shows, and what ending one does."""

import re
from datetime import timedelta

import pytest
from allauth.core.context import request_context
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.db import connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import get_resolver, reverse
from django.utils import timezone

from jobs.live.stream_access import Permit, find_revoked
from l4d2site.accounts.browsers import describe_browser
from l4d2site.accounts.models import AccountEvent, EventKind, PendingSignIn, PersonSession
from l4d2site.accounts.sessions import find_sessions
from tests.pages.addresses import walk

LOGIN = reverse("account_login")
SESSIONS = reverse("sessions")
PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
    " Version/18.1 Mobile/15E148 Safari/604.1"
)
WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0"


def browser(user: User, agent: str = FIREFOX, address: str = "203.0.113.9") -> Client:
    """Return a browser in which `user` has signed in through the form."""
    client = Client(HTTP_USER_AGENT=agent, REMOTE_ADDR=address)
    name = user.get_username()
    client.post(LOGIN, {"username": name, "password": f"{name}-password"})
    return client


def session_of(client: Client) -> PersonSession:
    return PersonSession.objects.get(session_id=client.cookies["sessionid"].value)


def test_the_sessions_of_a_removed_account_are_deleted(alice: User, bob: User) -> None:
    browser(alice), browser(alice)
    kept = session_of(browser(bob)).session_id
    alice.delete()
    assert list(Session.objects.values_list("pk", flat=True)) == [kept]
    browser(User.objects.create_user("eve", password="eve-password"))
    User.objects.filter(username="eve").delete()
    assert list(Session.objects.values_list("pk", flat=True)) == [kept]


def test_it_shows_where_one_is_signed_in(alice: User, bob: User) -> None:
    here = browser(alice)
    browser(alice, PHONE, "2001:db8::7")
    browser(bob, address="198.51.100.4")
    page = here.get(SESSIONS).content.decode()
    assert 'Firefox on Linux <span class="tag">this one</span>' in page
    assert "Safari on iPhone" in page
    assert "203.0.113.9" in page
    assert "2001:db8::7" in page
    assert "198.51.100.4" not in page
    for row in PersonSession.objects.all():
        assert row.session_id not in page


def test_one_is_ended_and_its_streams_with_it(alice: User) -> None:
    here, phone = browser(alice), browser(alice, PHONE)
    permit = Permit(session_of(phone).session_id, alice.pk, False)
    assert find_revoked([permit]) == set()
    here.post(reverse("session_revoke", args=[session_of(phone).pk]))
    assert phone.get(SESSIONS).status_code == 302
    assert here.get(SESSIONS).status_code == 200
    assert find_revoked([permit]) == {permit}
    assert AccountEvent.objects.filter(kind=EventKind.SESSION_REVOKED, user=alice).count() == 1


def test_the_own_one_is_ended_by_signing_out_alone(alice: User) -> None:
    here = browser(alice)
    page = here.post(
        reverse("session_revoke", args=[session_of(here).pk]), follow=True
    ).content.decode()
    assert "Sign out to end it." in page
    assert here.get(SESSIONS).status_code == 200


def test_all_others_are_ended_at_once(alice: User, bob: User) -> None:
    here, others, bobs = browser(alice), [browser(alice) for _ in range(3)], browser(bob)
    here.post(reverse("session_revoke_others"))
    assert all(other.get(SESSIONS).status_code == 302 for other in others)
    assert here.get(SESSIONS).status_code == bobs.get(SESSIONS).status_code == 200
    assert find_sessions(alice) == [session_of(here)]
    here.post(reverse("session_revoke_others"))
    ended = AccountEvent.objects.filter(kind=EventKind.SESSION_REVOKED)
    assert [event.detail for event in ended] == ["3 others"]


def test_a_changed_password_ends_all_others(alice: User) -> None:
    here, phone = browser(alice), browser(alice, PHONE)
    signed_in_at = session_of(here).signed_in_at
    values = {
        "old_password": "alice-password",
        "new_password1": "a-better-one-42",
        "new_password2": "a-better-one-42",
    }
    here.post(reverse("password_change"), values)
    # They are gone at once, not only when their browsers come back.
    (row,) = PersonSession.objects.filter(user=alice)
    assert phone.get(SESSIONS).status_code == 302
    assert here.get(SESSIONS).status_code == 200
    # The session has another key then, but it did not begin again.
    assert row == session_of(here)
    assert abs(row.signed_in_at - signed_in_at) < timedelta(milliseconds=1)
    assert not Session.objects.exclude(pk=row.session_id).exists()


def test_the_session_in_which_the_password_is_changed_is_not_ended(
    alice: User, rf: RequestFactory
) -> None:
    here = browser(alice)
    request = rf.post("/")
    request.user, request.session = alice, here.session
    with request_context(request):
        alice.set_password("a-better-one-42")
        alice.save()
    assert Session.objects.filter(pk=request.session.session_key).exists()


def test_a_password_that_an_admin_changes_ends_all(alice: User, as_dana: Client) -> None:
    phone = browser(alice, PHONE)
    values = {
        "password1": "a-better-one-42",
        "password2": "a-better-one-42",
        "usable_password": "true",
    }
    as_dana.post(reverse("admin:auth_user_password_change", args=[alice.pk]), values)
    assert phone.get(SESSIONS).status_code == 302
    assert find_sessions(alice) == []
    event = AccountEvent.objects.get(kind=EventKind.PASSWORD_CHANGED)
    assert (event.user, event.detail) == (alice, "by dana")


def test_signing_out_takes_it_off_the_list(alice: User) -> None:
    here = browser(alice)
    here.post(reverse("logout"))
    assert not PersonSession.objects.exists()


def test_one_that_has_run_out_is_not_shown(alice: User) -> None:
    browser(alice)
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
    assert find_sessions(alice) == []


def test_it_is_seen_at_most_once_a_minute(alice: User) -> None:
    here = browser(alice)
    with CaptureQueriesContext(connection) as captured:
        here.get(SESSIONS)
    assert not any("UPDATE" in query["sql"] for query in captured.captured_queries)
    long_ago = timezone.now() - timedelta(hours=1)
    PersonSession.objects.update(last_seen_at=long_ago)
    cache.clear()  # A minute has passed.
    here.get(SESSIONS)
    seen = session_of(here).last_seen_at
    assert seen > long_ago
    cache.clear()  # Another process, or a full cache: the row itself says that it is early.
    here.get(SESSIONS)
    assert session_of(here).last_seen_at == seen


@pytest.mark.django_db(transaction=True)
def test_a_stream_does_not_count_as_seen(as_alice: Client) -> None:
    long_ago = timezone.now() - timedelta(hours=1)
    PersonSession.objects.update(last_seen_at=long_ago)
    cache.clear()
    response = as_alice.get(reverse("jobs:change_events"))
    assert response.status_code == 200
    response.close()
    assert session_of(as_alice).last_seen_at == long_ago


def test_a_row_that_is_missing_is_made_again(alice: User) -> None:
    here = browser(alice)
    PersonSession.objects.all().delete()
    cache.clear()
    assert here.get(SESSIONS).status_code == 200
    assert session_of(here).user == alice


def test_a_database_that_refuses_the_note_does_not_cost_the_page(
    alice: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from django.db import OperationalError

    here = browser(alice)
    cache.clear()

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OperationalError("database is locked")

    monkeypatch.setattr("django.db.models.query.QuerySet.update", refuse)
    assert here.get(SESSIONS).status_code == 200
    assert "could not be stored: database is locked" in caplog.text


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        (PHONE, "Safari on iPhone"),
        (FIREFOX, "Firefox on Linux"),
        (
            f"Mozilla/5.0 (Windows NT 10.0) {WEBKIT} Chrome/131.0 Safari/537.36 Edg/131.0",
            "Edge on Windows",
        ),
        (
            f"Mozilla/5.0 (Linux; Android 14) {WEBKIT} Chrome/131.0 Mobile Safari/537.36",
            "Chrome on Android",
        ),
        (f"Mozilla/5.0 (Macintosh) {WEBKIT} Version/18.1 Safari/605.1.15", "Safari on macOS"),
        ("curl/8.5.0", "curl"),
        ("Mozilla/5.0 (X11; Linux x86_64)", "A browser on Linux"),
        ("", "Unknown browser"),
        ("\x00<script>", "Unknown browser"),
    ],
)
def test_a_browser_is_named_in_words(agent: str, words: str) -> None:
    assert describe_browser(agent) == words


def test_a_stranger_makes_no_session(db: None) -> None:
    """Nor writes anything else, at any address of accounts, whatever asks."""
    routes = [route for _, route in walk(get_resolver()) if route.startswith("/accounts/")]
    addresses = {re.sub("<.*?>", "1", route) for route in routes}
    assert len(addresses) > 30
    with CaptureQueriesContext(connection) as queries:
        for address in addresses:
            Client().get(address)
            Client().get(address, headers={"accept": "application/json"})
            Client().post(address, {"credential": "{}", "code": "1", "next": "/"})
    writes = re.compile(
        r"(INSERT|UPDATE|DELETE)\b(?!.*accounts_accountevent)"
    )  # The record is bounded.
    assert [query["sql"] for query in queries if writes.match(query["sql"])] == []
    assert not Session.objects.exists()


def test_signing_in_removes_what_is_over(alice: User) -> None:
    now = timezone.now()
    over, current = browser(alice), browser(alice)
    Session.objects.filter(pk=session_of(over).session_id).update(expire_date=now)
    PendingSignIn.objects.create(user=alice, begun_at=now - timedelta(minutes=16))
    waits = PendingSignIn.objects.create(user=alice, begun_at=now - timedelta(minutes=14))
    newest = browser(alice)
    left = {session_of(current).session_id, session_of(newest).session_id}
    assert set(Session.objects.values_list("pk", flat=True)) == left
    assert PersonSession.objects.count() == 2
    assert list(PendingSignIn.objects.all()) == [waits]
