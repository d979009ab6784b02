"""Invitations: who makes them, and that each makes only one account."""

import re
import unicodedata
from datetime import timedelta

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.core import mail
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone

from l4d2site.accounts import people_pages
from l4d2site.accounts.admin import PersonForm
from l4d2site.accounts.models import AccountEvent, EventKind, Invitation
from l4d2site.accounts.names import choose_name
from servers.models import Server
from tests.pages.conftest import sign_in
from tests.waiting import wait_until

PEOPLE = reverse("people")
MAKE = reverse("invitation_make")
EVE = {"username": "eve", "password1": "a-password-of-eve", "password2": "a-password-of-eve"}


@pytest.fixture
def invitation(dana: User) -> Invitation:
    """Return an open invitation."""
    return Invitation.objects.create(made_by=dana, note="Eve")


def test_an_admin_makes_one_and_sees_its_link(as_dana: Client, dana: User) -> None:
    page = as_dana.post(MAKE, {"note": "Eve"}, follow=True).content.decode()
    invitation = Invitation.objects.get()
    assert f'value="http://testserver{invitation.get_absolute_url()}"' in page
    assert invitation.made_by == dana
    assert AccountEvent.objects.get(kind=EventKind.INVITATION_MADE).detail == "Eve"


@pytest.mark.parametrize(
    ("most", "words"),
    [
        (1, "A new account may make 1 server of its own."),
        (3, "A new account may make up to 3 servers of its own."),
    ],
)
def test_who_invites_reads_how_many_servers_a_new_account_may_make(
    as_alice: Client, as_dana: Client, server: Server, most: int, words: str
) -> None:
    with override_settings(SERVERS_PER_OWNER=most):
        assert f"{words}\n    To set another number" in as_dana.get(PEOPLE).content.decode()
        page = as_alice.get(reverse("server_people", args=["alpha"])).content.decode()
    assert f"{words} Its role here does not change that." in page


def test_links_begin_with_the_address_of_the_panel(as_dana: Client, invitation: Invitation) -> None:
    with override_settings(PANEL_URL="https://panel.example.org"):
        page = as_dana.get(PEOPLE).content.decode()
    assert f'value="https://panel.example.org{invitation.get_absolute_url()}"' in page


def test_it_makes_one_account_that_is_signed_in(client: Client, invitation: Invitation) -> None:
    response = client.post(invitation.get_absolute_url(), EVE)
    assert response.headers["Location"] == reverse("servers:list")
    eve = User.objects.get(username="eve")
    assert client.session["_auth_user_id"] == str(eve.pk)
    assert (eve.is_staff, eve.is_superuser) == (False, False)
    invitation.refresh_from_db()
    assert invitation.accepted_by == eve
    kinds = list(
        AccountEvent.objects.filter(user=eve).order_by("pk").values_list("kind", flat=True)
    )
    assert kinds == [EventKind.ACCOUNT_MADE, EventKind.INVITATION_ACCEPTED, EventKind.SIGN_IN]
    accepted = AccountEvent.objects.get(kind=EventKind.INVITATION_ACCEPTED)
    assert accepted.detail == "Eve, made by dana"


def test_a_link_works_once(invitation: Invitation) -> None:
    Client().post(invitation.get_absolute_url(), EVE)
    for ask in (Client().get, Client().post):
        response = ask(invitation.get_absolute_url(), {**EVE, "username": "mallory"})
        assert response.status_code == 404
        assert "This invitation is no longer valid" in response.content.decode()
    assert not User.objects.filter(username="mallory").exists()


def test_two_that_accept_at_one_time_make_one_account(
    client: Client, invitation: Invitation, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both have seen it open; this one comes second.
    monkeypatch.setattr(Invitation, "of_token", classmethod(lambda _cls, _token: invitation))
    Invitation.objects.update(accepted_at=timezone.now())
    assert client.post(invitation.get_absolute_url(), EVE).status_code == 404
    assert not User.objects.filter(username="eve").exists()


def test_it_ends_after_seven_days(client: Client, invitation: Invitation) -> None:
    assert timedelta(days=6.9) < invitation.expires_at - timezone.now() < timedelta(days=7)
    Invitation.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert client.post(invitation.get_absolute_url(), EVE).status_code == 404


def test_a_revoked_one_leads_nowhere(
    as_dana: Client, client: Client, invitation: Invitation
) -> None:
    link = invitation.get_absolute_url()
    Invitation.objects.update(email="eve@example.org")
    as_dana.post(reverse("invitation_revoke", args=[invitation.pk]))
    assert client.get(link).status_code == 404
    revoked = AccountEvent.objects.get(kind=EventKind.INVITATION_REVOKED)
    assert revoked.detail == "Eve, mailed to eve@example.org, made by dana"


def test_one_that_was_accepted_cannot_be_revoked(as_dana: Client, invitation: Invitation) -> None:
    Client().post(invitation.get_absolute_url(), EVE)
    page = as_dana.post(
        reverse("invitation_revoke", args=[invitation.pk]), follow=True
    ).content.decode()
    assert "had already been accepted or revoked, or had expired" in page
    assert Invitation.objects.exists()


@pytest.mark.parametrize("change", [{"is_active": False}, {"is_staff": False}, None])
def test_a_link_ends_when_its_maker_could_not_make_it_any_more(
    change: dict[str, bool] | None, as_dana: Client, client: Client, bob: User
) -> None:
    link = Invitation.objects.create(made_by=bob).get_absolute_url()
    assert client.get(link).status_code == 404
    User.objects.filter(pk=bob.pk).update(is_staff=True)
    bob.user_permissions.add(Permission.objects.get(codename="add_user"))
    assert client.get(link).status_code == 200
    assert link in as_dana.get(PEOPLE).content.decode()
    if change:
        User.objects.filter(pk=bob.pk).update(**change)
    else:
        bob.delete()
    assert client.post(link, EVE).status_code == 404
    assert not User.objects.filter(username="eve").exists()
    page = as_dana.get(PEOPLE).content.decode()
    assert link not in page
    assert "It does not work: the person who made it may no longer make one." in page


def test_a_token_that_was_not_signed_here_is_none(client: Client, invitation: Invitation) -> None:
    for token in (invitation.pk.hex, f"{invitation.pk.hex}:forged", invitation.token[:-1]):
        assert client.get(reverse("invitation", args=[token])).status_code == 404


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"username": "Dana"}, "That name is taken."),
        ({"username": "\uff24\uff21\uff2e\uff21"}, "That name is taken."),
        ({"username": "d\u0430na"}, "letters of several alphabets"),
        ({"username": "\u0430\uff44min"}, "letters of several alphabets"),
        ({"username": "\ufdfa" * 150}, "at most 150 characters"),
        ({"username": "\ufdfa"}, "Enter a valid username"),
        ({"username": "dana\u3164"}, "letters that nobody can see"),
        ({"password1": "short", "password2": "short"}, "at least 10 characters"),
        ({"password2": "another-password"}, "didn’t match"),
    ],
)
def test_what_cannot_be_is_told_and_the_link_stays_open(
    client: Client, invitation: Invitation, values: dict[str, str], complaint: str
) -> None:
    page = client.post(invitation.get_absolute_url(), {**EVE, **values}).content.decode()
    assert complaint in page
    if "password1" in values:
        chosen, _, repeated = page.partition('name="password2"')
        assert ("too short" in chosen, "too short" in repeated) == (True, False)
    assert Invitation.objects.open().exists()
    assert User.objects.count() == 1


@pytest.mark.parametrize(
    ("existing", "name"),
    [
        ("ärger", "ÄRGER"),
        ("ΣΙΣΥΦΟΣ", "σισυφος"),
        ("strasse", "straße"),
        ("straße", "STRASSE"),
        ("izmir", "\u0130zmir"),
        ("admin", "adm\u0131n"),
        ("adm\u0131n", "Admin"),
        ("admin", "ad\u02bcmin"),
        ("coco", "\u0441\u043e\u0441\u043e"),
        ("\u0441\u043e\u0441\u043e", "coco"),
    ],
)
def test_no_name_differs_from_another_only_in_case_or_in_letters_of_the_same_look(
    db: None, existing: str, name: str
) -> None:
    owner = User.objects.create_user(existing)
    with pytest.raises(ValidationError, match=r"is taken|looks like another"):
        choose_name(name)
    assert choose_name(name, owner) == name


@pytest.mark.parametrize(
    "name",
    [
        *("\ua4eedmin", "\u2c9flga", "\u0561dmin", "\u13aadmin", "admin\u03b1"),
        *("\u115fadmin", "admin\u1160", "\uffa0admin"),
    ],
)
def test_letters_of_other_alphabets_and_invisible_ones_are_refused(db: None, name: str) -> None:
    with pytest.raises(ValidationError, match=r"several alphabets|nobody can see"):
        choose_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "олег",
            "Παύλος",
            "João",
            "Jürgen_99",
            "\u0131\u015f\u0131k",
            "王伟",
            "tom王",
            "たろう-サバー",
            "kim.김",
            "สมชาย",
            "ali.علی",
        ),
        *("דנה@home", "अमर", "Նարեկ", "ꮳꮃꭹ", "na\u02bbeau", "o+1"),
    ],
)
def test_honest_names_of_any_alphabet_are_taken(db: None, name: str) -> None:
    assert choose_name(name) == unicodedata.normalize("NFKC", name)


def test_no_ignorable_character_is_in_a_name(db: None) -> None:
    """Those that Unicode calls "default ignorable", in DerivedCoreProperties.txt."""
    ranges = [
        *((0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5)),
        *((0x180B, 0x180F), (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164)),
        *((0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8)),
        *((0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)),
    ]
    for first, last in ranges:
        for number in range(first, last + 1):
            with pytest.raises(ValidationError):
                choose_name(f"dana{chr(number)}")


def test_who_has_an_account_is_told_to_sign_out_first(
    as_alice: Client, invitation: Invitation
) -> None:
    for ask in (as_alice.get, as_alice.post):
        page = ask(invitation.get_absolute_url(), EVE).content.decode()
        assert "You are signed in as" in page
    assert not User.objects.filter(username="eve").exists()


def test_staff_need_the_permission_to_add_people(as_alice: Client, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    assert as_alice.get(PEOPLE).status_code == 403
    alice.user_permissions.add(Permission.objects.get(codename="add_user"))
    assert as_alice.post(MAKE, {"note": "Eve"}).status_code == 302
    assert Invitation.objects.count() == 1
    # Changing people takes a different permission.
    assert "Make a reset link" not in as_alice.get(PEOPLE).content.decode()


def test_without_mail_no_address_is_asked_for(as_dana: Client) -> None:
    assert 'name="email"' not in as_dana.get(PEOPLE).content.decode()
    as_dana.post(MAKE, {"note": "Eve", "email": "eve@example.org"})
    assert Invitation.objects.get().email == ""
    assert mail.outbox == []


OWN_ADDRESS = "eve@example.org is my own address"


def test_an_account_has_the_address_only_if_the_person_says_in_the_mail_s_link_that_it_is_theirs(
    client: Client, as_dana: Client, invitation: Invitation
) -> None:
    Invitation.objects.update(email="eve@example.org")
    invitation.refresh_from_db()
    assert OWN_ADDRESS in client.get(invitation.mailed_url).content.decode()
    assert invitation.mailed_url not in as_dana.get(PEOPLE).content.decode()
    client.post(invitation.mailed_url, {**EVE, "has_address": "on"})
    assert User.objects.get(username="eve").email == "eve@example.org"
    made = AccountEvent.objects.get(kind=EventKind.ACCOUNT_MADE, name="eve")
    assert made.detail == "eve@example.org, with a link"
    with override_settings(EMAIL_URL="smtp://mail"):
        page = client.get(reverse("password_change")).content.decode()
    assert "Links for a new password are mailed to eve@example.org." in page


@pytest.mark.parametrize("is_mailed", [True, False], ids=["passed on", "copied"])
def test_whoever_invites_somebody_gets_no_mail_for_their_account(
    client: Client, invitation: Invitation, is_mailed: bool
) -> None:
    Invitation.objects.update(email="mallory@example.org")
    invitation.refresh_from_db()
    values: dict[str, str] = EVE if is_mailed else {**EVE, "has_address": "on"}
    link = invitation.mailed_url if is_mailed else invitation.get_absolute_url()
    assert ("mallory" in client.get(link).content.decode()) == is_mailed
    assert client.post(link, values).status_code == 302
    assert User.objects.get(username="eve").email == ""


def test_nobody_is_flooded_with_invitations(
    as_dana: Client, dana: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people_pages, "send_invitation_mail", lambda _invitation: True)

    def invite(address: str, client: Client = as_dana) -> bool:
        page = client.post(MAKE, {"note": "", "email": address}, follow=True).content.decode()
        assert ("is on its way" in page) != ("Nothing was done. Within an hour" in page)
        return "is on its way" in page

    with override_settings(EMAIL_URL="smtp://mail", PANEL_URL="https://panel.example.org"):
        same = (
            "a@example.org",
            "A@example.org",
            "a@example.org",
            '"a"@example.org',
            '"\\a"@EXAMPLE.org',
        )
        assert [invite(address) for address in same] == [True, True, False, False, False]
        event = AccountEvent.objects.get(kind=EventKind.THROTTLED)
        assert (event.name, event.actor_name) == ("dana", "dana")
        idn = ("a@b\u00fccher.example", "a@xn--bcher-kva.example", "a@B\u00dcCHER.example")
        assert [invite(address) for address in idn] == [True, True, False]
        assert [invite(f"b{number}@example.org") for number in range(23)] == [True] * 22 + [False]
        other = User.objects.create_superuser("olga", password="olga-password")
        assert [
            invite("a@example.org", sign_in(other)),
            invite("c@example.org", sign_in(other)),
        ] == [
            False,
            True,
        ]
        assert (
            "The invitation is ready."
            in as_dana.post(MAKE, {"note": "x"}, follow=True).content.decode()
        )
    assert Invitation.objects.count() == 2 + 2 + 22 + 1 + 1


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("v\u0131ctim@example.org", "Before the @, use only letters"),
        ('"a\x01b"@example.org', "No mail can be sent to that address."),
        ("a@" + "\u00fc" * 60 + ".example", "No mail can be sent to that address."),
    ],
)
def test_an_address_that_no_mail_reaches_is_refused(
    as_dana: Client, alice: User, address: str, reason: str
) -> None:
    with override_settings(EMAIL_URL="smtp://mail", PANEL_URL="https://panel.example.org"):
        page = as_dana.post(MAKE, {"note": "", "email": address}, follow=True).content.decode()
    assert reason in page
    assert not Invitation.objects.exists()
    form = PersonForm({"username": "alice", "email": address}, instance=alice)
    assert "email" in form.errors
    with pytest.raises(CommandError, match=re.escape(reason)):
        call_command("createsuperuser", username="eve", email=address, interactive=False)
    alice.email = address
    assert "email" not in PersonForm({"username": "alice", "email": address}, instance=alice).errors


@pytest.mark.django_db(transaction=True)
def test_with_mail_the_link_is_sent(as_dana: Client) -> None:
    with override_settings(EMAIL_URL="smtp://mail", PANEL_URL="https://panel.example.org"):
        as_dana.post(MAKE, {"note": "Eve", "email": "eve@example.org"})
        wait_until(lambda: mail.outbox, 10, "no mail was sent")
    (sent,) = mail.outbox
    assert sent.to == ["eve@example.org"]
    made = AccountEvent.objects.get(kind=EventKind.INVITATION_MADE)
    assert made.detail == "Eve, mailed to eve@example.org"
    link = Invitation.objects.get().mailed_url
    assert f"https://panel.example.org{link}\n" in str(sent.body)
    assert sent.from_email == settings.DEFAULT_FROM_EMAIL
    connections.close_all()
