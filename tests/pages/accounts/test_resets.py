"""New passwords by link: made by an admin, or sent by mail."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.auth.tokens import default_token_generator
from django.contrib.sessions.backends.db import SessionStore
from django.core import mail
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from pytest_django.fixtures import Settings

from l4d2site.accounts import mail as mails
from l4d2site.accounts.audit import describe_event
from l4d2site.accounts.events import record_event, trim_events
from l4d2site.accounts.models import (
    BY_COMMAND,
    AccountEvent,
    EventKind,
    Invitation,
    PendingSignIn,
    PersonSession,
)
from l4d2site.accounts.panel_roles import PanelRole, give_panel_role
from l4d2site.accounts.reset_links import ResetTokens
from l4d2site.accounts.restored_backups import end_what_was_open
from l4d2site.accounts.second_step import begin_waiting
from tests.pages.accounts.test_sessions import browser
from tests.pages.conftest import sign_in
from tests.waiting import wait_until

LOGIN = reverse("account_login")
REQUEST = reverse("reset_request")
NEW = {"new_password1": "a-better-one-42", "new_password2": "a-better-one-42"}


def make_link(client: Client, person: User) -> str:
    """Return the link that an admin gets to see."""
    page = client.post(reverse("reset_link", args=[person.pk])).content.decode()
    return page.partition('value="http://testserver')[2].partition('"')[0]


def use(link: str, client: Client | None = None) -> str:
    """Set the new password by a link; return the page that this ends on."""
    client = client or Client()
    form = client.get(link)
    place = form.headers.get("Location", link)
    return client.post(place, NEW, follow=True).content.decode()


def test_an_admin_is_shown_a_link_with_which_the_person_sets_a_password(
    as_dana: Client, alice: User, client: Client
) -> None:
    phone = browser(alice)
    page = use(make_link(as_dana, alice), client)
    assert "Your password was changed. Sign in with it." in page
    assert "_auth_user_id" not in client.session  # A second factor is still required.
    alice.refresh_from_db()
    assert alice.check_password("a-better-one-42")
    assert phone.get(reverse("sessions")).status_code == 302
    events = AccountEvent.objects.filter(user=alice).order_by("pk")
    assert list(events.values_list("kind", "detail"))[-2:] == [
        (EventKind.RESET_LINK_MADE, "by dana"),
        (EventKind.PASSWORD_CHANGED, "with a link"),
    ]


@pytest.mark.parametrize("signed_in", ["", "bob", "alice"])
def test_a_link_is_good_only_where_it_was_opened(
    as_dana: Client, alice: User, bob: User, client: Client, signed_in: str
) -> None:
    """Not where somebody has the session that they planted in that browser, even one that is signed in."""
    thief = browser(User.objects.get(username=signed_in)) if signed_in else Client()
    if not signed_in:
        planted = SessionStore()
        planted.create()
        thief.cookies["sessionid"] = planted.session_key or ""
    client.cookies["sessionid"] = thief.cookies["sessionid"].value
    form = client.get(make_link(as_dana, alice)).headers["Location"]
    assert client.cookies["sessionid"].value != thief.cookies["sessionid"].value
    assert "This link is no longer valid" in thief.get(form).content.decode()
    assert thief.get(reverse("sessions")).status_code == 302
    if signed_in:
        assert "_auth_user_id" in client.session
        assert PersonSession.objects.filter(session_id=client.session.session_key).exists()
    client.post(form, NEW)
    alice.refresh_from_db()
    assert alice.check_password("a-better-one-42")


def test_a_link_works_once(as_dana: Client, alice: User) -> None:
    link = make_link(as_dana, alice)
    use(link)
    assert "This link is no longer valid" in use(link)


def test_a_link_is_kept_by_nobody(as_dana: Client, alice: User) -> None:
    response = as_dana.post(reverse("reset_link", args=[alice.pk]))
    assert "no-store" in response.headers["Cache-Control"]


def test_a_link_ends_with_the_next_sign_in(as_dana: Client, alice: User) -> None:
    link = make_link(as_dana, alice)
    browser(alice)
    assert "This link is no longer valid" in use(link)


def test_only_a_superuser_makes_one_for_a_superuser(
    as_alice: Client, alice: User, bob: User, dana: User
) -> None:
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    alice.user_permissions.add(Permission.objects.get(codename="change_user"))
    assert as_alice.post(reverse("reset_link", args=[bob.pk])).status_code == 200
    assert as_alice.post(reverse("reset_link", args=[dana.pk])).status_code == 403
    page = as_alice.get(reverse("people")).content.decode()
    assert reverse("reset_link", args=[bob.pk]) in page
    assert reverse("reset_link", args=[dana.pk]) not in page
    assert reverse("invitation_make") not in page


def test_there_is_none_for_an_account_that_is_switched_off(as_dana: Client, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert as_dana.post(reverse("reset_link", args=[alice.pk])).status_code == 404


@pytest.fixture
def helper(bob: User) -> User:
    """Return a staff member who may change accounts, and nothing else."""
    User.objects.filter(pk=bob.pk).update(is_staff=True)
    bob.user_permissions.add(Permission.objects.get(codename="change_user"))
    return User.objects.get(pk=bob.pk)


def give_a_permission(person: User) -> None:
    """Make `person` staff, with a permission that the helper lacks."""
    User.objects.filter(pk=person.pk).update(is_staff=True)
    person.user_permissions.add(Permission.objects.get(codename="delete_user"))


@pytest.mark.parametrize(
    "change",
    [
        lambda person, _maker: give_panel_role(person, PanelRole.SUPERUSER),
        lambda person, _maker: give_a_permission(person),
        lambda person, _maker: User.objects.filter(pk=person.pk).update(is_active=False),
        lambda _person, maker: User.objects.filter(pk=maker.pk).update(is_active=False),
        lambda _person, maker: User.objects.filter(pk=maker.pk).update(is_staff=False),
        lambda _person, maker: maker.user_permissions.clear(),
        lambda _person, maker: maker.delete(),
    ],
    ids=["superuser", "permission", "off", "maker off", "no staff", "no right", "maker gone"],
)
def test_a_link_ends_when_its_maker_could_not_make_it_any_more(
    change: Callable[[User, User], object], alice: User, helper: User, client: Client
) -> None:
    link = make_link(sign_in(helper), alice)
    place = client.get(link).headers["Location"]
    assert "Choose a new password" in client.get(place).content.decode()
    change(alice, helper)
    assert "This link is no longer valid" in client.post(place, NEW).content.decode()
    assert "This link is no longer valid" in use(link)
    alice.refresh_from_db()
    assert not alice.check_password("a-better-one-42")


def test_a_link_names_no_other_maker(as_dana: Client, alice: User, dana: User, bob: User) -> None:
    link = make_link(as_dana, alice)
    for maker in ("mail", "", str(bob.pk), f"0{dana.pk}", "9" * 5000, "\0"):
        forged = link.replace(f"/{dana.pk}.", f"/{maker}.")
        assert forged != link
        assert "This link is no longer valid" in use(forged)
    assert "Sign in with it." in use(link)


@pytest.mark.parametrize(
    ("actor", "is_staff", "works"),
    [("bob", True, True), ("bob", False, False), ("nobody", True, False), (None, True, False)],
)
def test_a_link_from_before_they_named_their_makers_works_if_the_record_does(
    actor: str | None, is_staff: bool, works: bool, alice: User, helper: User
) -> None:
    place = [
        urlsafe_base64_encode(force_bytes(alice.pk)),
        default_token_generator.make_token(alice),
    ]
    if actor:
        record_event(EventKind.RESET_LINK_MADE, None, user=alice)
        AccountEvent.objects.update(actor_name=actor)
    User.objects.filter(pk=helper.pk).update(is_staff=is_staff)
    assert ("Sign in with it." in use(reverse("reset", args=place))) == works


@pytest.mark.parametrize(("days", "works"), [(1, True), (-1, False)], ids=["then", "later"])
def test_such_a_link_is_not_backed_by_somebody_who_has_got_the_name_since(
    dana: User, alice: User, days: int, works: bool
) -> None:
    token = default_token_generator.make_token(alice)
    place = [urlsafe_base64_encode(force_bytes(alice.pk)), token]
    record_event(EventKind.RESET_LINK_MADE, None, user=alice)
    AccountEvent.objects.update(actor_name="dana")
    User.objects.filter(pk=dana.pk).update(date_joined=timezone.now() - timedelta(days=days))
    assert ("Sign in with it." in use(reverse("reset", args=place))) == works


# --- By mail ----------------------------------------------------------------------------------


@pytest.mark.parametrize("is_old", [True, False])
def test_a_restored_backup_leaves_nobody_signed_in_and_no_link(
    as_dana: Client, alice: User, dana: User, is_old: bool
) -> None:
    phone = browser(alice)
    waiting = begin_waiting(alice)
    reset_link = make_link(as_dana, alice)
    if is_old:
        place = [
            urlsafe_base64_encode(force_bytes(alice.pk)),
            default_token_generator.make_token(alice),
        ]
        reset_link = reverse("reset", args=place)
    invitation = Invitation.objects.create(made_by=dana).get_absolute_url()
    end_what_was_open()
    assert phone.get(reverse("sessions")).status_code == 302
    assert not PendingSignIn.objects.filter(pk=waiting).exists()
    assert Client().get(invitation).status_code == 404
    assert "This link is no longer valid" in use(reset_link)
    AccountEvent.objects.update(at=timezone.now() - timedelta(days=4000))
    trim_events()
    event = AccountEvent.objects.get()
    assert event.kind == EventKind.BACKUP_RESTORED
    assert (event.actor_name, describe_event(event).who) == (BY_COMMAND, "a command on the machine")
    AccountEvent.objects.filter(pk=event.pk).update(at=timezone.now() - timedelta(seconds=2))
    as_dana.force_login(dana)
    assert "Sign in with it." in use(make_link(as_dana, alice))


@pytest.fixture
def has_mail(settings: Settings, transactional_db: None) -> Iterator[None]:
    """Let the panel send mails."""
    settings.EMAIL_URL = "smtp://mail"
    settings.PANEL_URL = "https://panel.example.org"
    yield
    mails._sender.submit(lambda: None).result(10)  # All mails have been sent.


def test_without_mail_there_is_no_such_page(client: Client, db: None) -> None:
    assert client.get(REQUEST).status_code == 404
    assert client.post(REQUEST, {"email": "alice@example.org"}).status_code == 404
    assert "Forgot" not in client.get(LOGIN).content.decode()


def test_a_link_is_mailed(client: Client, has_mail: None, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(email="alice@example.org")
    assert REQUEST in client.get(LOGIN).content.decode()
    client.post(REQUEST, {"email": "Alice@example.org"})
    wait_until(lambda: mail.outbox, 10, "no mail was sent")
    (sent,) = mail.outbox
    assert sent.to == ["alice@example.org"]
    link = str(sent.body).partition("https://panel.example.org")[2].partition("\n")[0]
    assert "Sign in with it." in use(link)
    event = AccountEvent.objects.get(kind=EventKind.PASSWORD_CHANGED)
    assert (event.name, event.detail) == ("alice", "with a link that was mailed")


def test_the_record_says_with_which_link_and_who_was_signed_in_when_it_was_used(
    alice: User, bob: User, dana: User, has_mail: None
) -> None:
    links = ((ResetTokens(), "with a link that was mailed"), (ResetTokens(dana), "with a link"))
    for person, by, (tokens, words) in (
        (person, by, link) for person, by in ((alice, ""), (bob, ", by bob")) for link in links
    ):
        client = Client()
        client.force_login(person)
        alice.refresh_from_db()
        place = [urlsafe_base64_encode(force_bytes(alice.pk)), tokens.make_token(alice)]
        use(reverse("reset", args=place), client)
        event = AccountEvent.objects.filter(kind=EventKind.PASSWORD_CHANGED).latest("pk")
        assert (event.name, event.detail) == ("alice", f"{words}{by}")


def test_an_address_that_nobody_has_is_answered_the_same(
    client: Client, has_mail: None, alice: User
) -> None:
    User.objects.filter(pk=alice.pk).update(email="alice@example.org")
    pages = [
        client.post(REQUEST, {"email": email}).content
        for email in ("alice@example.org", "nobody@example.org")
    ]
    assert pages[0] == pages[1]
    wait_until(lambda: mail.outbox, 10, "no mail was sent")
    mails._sender.submit(lambda: None).result(10)
    assert len(mail.outbox) == 1


def test_the_answer_does_not_wait_for_the_mail(
    client: Client, has_mail: None, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[object] = []
    with monkeypatch.context() as patched:
        patched.setattr(mails._sender, "submit", waiting.append)
        assert client.post(REQUEST, {"email": "alice@example.org"}).status_code == 200
    assert len(waiting) == 1
    mails._places.release()  # A mail that is never sent would have.


def test_nobody_is_flooded_with_mails(client: Client, has_mail: None, alice: User) -> None:
    answers = [
        client.post(REQUEST, {"email": "alice@example.org"}, REMOTE_ADDR=f"192.0.2.{number}")
        for number in range(4)
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[-1].headers["Retry-After"] == "300"
    assert "Too many attempts" in answers[-1].content.decode()


def test_one_address_asks_for_five_at_the_most(client: Client, has_mail: None) -> None:
    answers = [
        client.post(REQUEST, {"email": f"{number}@example.org"}).status_code for number in range(6)
    ]
    assert answers == [200] * 5 + [429]
    throttled = AccountEvent.objects.get(kind=EventKind.THROTTLED)
    assert (throttled.name, throttled.address, throttled.count) == ("", "127.0.0.1", 1)


def test_what_cannot_be_sent_any_more_is_told(
    client: Client, has_mail: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mails._places, "acquire", lambda **_kwargs: False)
    response = client.post(REQUEST, {"email": "alice@example.org"})
    assert response.status_code == 503
    assert "Too many mails are waiting to be sent." in response.content.decode()


def test_a_mail_that_fails_is_logged_and_the_next_one_is_sent(
    client: Client, has_mail: None, alice: User, caplog: pytest.LogCaptureFixture
) -> None:
    User.objects.filter(pk=alice.pk).update(email="alice@example.org")

    def break_down() -> None:
        raise OSError("no route to the mail server")

    assert mails.send_soon(break_down)
    client.post(REQUEST, {"email": "alice@example.org"})
    wait_until(lambda: mail.outbox, 10, "no mail was sent")
    assert "a mail could not be sent" in caplog.text
