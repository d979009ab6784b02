"""Second factors: how they are stored, what staff need, and the ways back in."""

from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from time import time
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from urllib.parse import unquote

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal import auth
from cryptography.fernet import Fernet
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django.fixtures import Settings

from l4d2site.accounts.models import AccountEvent, EventKind, PendingSignIn, PersonSession
from l4d2site.accounts.passkey_forms import (
    CredentialField,
    PasskeyForm,
    PasskeyReauthenticationForm,
    PasskeySecondFactorForm,
    PasskeySignInForm,
)
from l4d2site.accounts.password_changes import end_sessions
from l4d2site.accounts.second_factors import NO_KEYS, rotate_second_factors
from tests.pages.accounts.totp import code_of

pytestmark = pytest.mark.django_db(transaction=True)

LOGIN = reverse("account_login")
OVERVIEW = reverse("mfa_index")
ACTIVATE = reverse("mfa_activate_totp")
CODES = reverse("mfa_view_recovery_codes")


@pytest.fixture(autouse=True)
def _one_step_of_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check a test's codes as of its beginning, so that none expires between an app and the form."""
    began_at = time()
    clock = SimpleNamespace(time=lambda: began_at)
    monkeypatch.setattr(auth, "time", clock)
    monkeypatch.setattr("tests.pages.accounts.totp.time", clock)


def sign_in(user: User, client: Client | None = None) -> Client:
    """Return a browser that has given the right password."""
    client = client or Client()
    name = user.get_username()
    client.post(LOGIN, {"username": name, "password": f"{name}-password"})
    return client


def confirm(client: Client, user: User) -> None:
    """Confirm one's identity again."""
    password = f"{user.get_username()}-password"
    client.post(reverse("account_reauthenticate"), {"password": password})


def set_up(user: User) -> tuple[Client, str]:
    """Return a browser in which `user` has set up an app, and its secret."""
    client = sign_in(user)
    confirm(client, user)
    secret: str = client.get(ACTIVATE).context["form"].secret
    response = client.post(ACTIVATE, {"code": code_of(secret)})
    assert response.headers["Location"] == CODES
    return client, secret


def codes_of(client: Client) -> list[str]:
    codes: list[str] = client.get(CODES).context["unused_codes"]
    return codes


def test_a_password_is_asked_for_before_one_is_set_up(alice: User) -> None:
    way = sign_in(alice).get(ACTIVATE).headers["Location"]
    assert unquote(way) == f"{reverse('account_reauthenticate')}?next={ACTIVATE}"


def test_the_password_alone_does_not_sign_in_any_more(alice: User) -> None:
    _, secret = set_up(alice)
    client = sign_in(alice)
    assert "_auth_user_id" not in client.session
    assert client.get(reverse("servers:list")).headers["Location"].startswith(LOGIN)
    assert client.get(reverse("jobs:change_events")).status_code == 403
    way = client.post(reverse("mfa_authenticate"), {"code": code_of(secret, time() + 3600)})
    assert "That code is wrong" in way.content.decode()
    response = client.post(reverse("mfa_authenticate"), {"code": code_of(secret)})
    assert response.headers["Location"] == reverse("servers:list")


def test_a_code_works_once(alice: User) -> None:
    _, secret = set_up(alice)
    code = code_of(secret)
    first, second = sign_in(alice), sign_in(alice)
    first.post(reverse("mfa_authenticate"), {"code": code})
    signed_in = AccountEvent.objects.filter(kind=EventKind.SIGN_IN).latest("pk")
    assert signed_in.detail == "password, code"
    page = second.post(reverse("mfa_authenticate"), {"code": code}).content.decode()
    assert "was already used" in page
    assert "_auth_user_id" not in second.session


def test_codes_cannot_be_guessed(alice: User) -> None:
    _, secret = set_up(alice)
    client = sign_in(alice)
    for number in range(10):
        client.post(reverse("mfa_authenticate"), {"code": f"00000{number}"})
    page = client.post(reverse("mfa_authenticate"), {"code": code_of(secret)}).content.decode()
    assert "Too many wrong codes." in page
    throttled = AccountEvent.objects.get(kind=EventKind.THROTTLED)
    assert (throttled.name, throttled.count) == ("alice", 1)
    event = AccountEvent.objects.filter(kind=EventKind.SECOND_FACTOR_FAILED).first()
    assert event
    assert (event.user, event.name, event.detail) == (alice, "alice", "TOTP Authenticator")


def test_the_secrets_are_stored_encrypted(alice: User, settings: Settings) -> None:
    client, secret = set_up(alice)
    stored = str(list(Authenticator.objects.values_list("data", flat=True)))
    assert secret not in stored
    totp = Authenticator.objects.get(type=Authenticator.Type.TOTP)
    (key,) = settings.SECRETS_KEYS
    assert Fernet(key).decrypt(totp.data["secret"].encode()).decode() == secret
    # A new key comes before the old one, which continues to decrypt.
    codes = codes_of(client)
    settings.SECRETS_KEYS = [Fernet.generate_key().decode(), key]
    assert codes_of(client) == codes


def test_the_secrets_are_encrypted_anew_with_a_new_key(
    alice: User, bob: User, settings: Settings
) -> None:
    client, _ = set_up(alice)
    set_up(bob)
    codes = codes_of(client)
    (old,) = settings.SECRETS_KEYS
    new = Fernet.generate_key().decode()
    settings.SECRETS_KEYS = [new, old]
    output = StringIO()
    call_command("rotatesecrets", stdout=output)
    assert "Encrypted 4 secrets of second factors with it." in output.getvalue()
    settings.SECRETS_KEYS = [new]
    assert codes_of(client) == codes
    lost = Authenticator.objects.get(user=bob, type=Authenticator.Type.TOTP)
    lost.data = {"secret": Fernet(old).encrypt(b"secret").decode()}
    lost.save()
    rotated, (fault,) = rotate_second_factors()
    assert rotated == 3
    assert fault.startswith("TOTP Authenticator of bob cannot be decrypted")


def test_without_keys_none_can_be_set_up_and_the_page_says_why(
    alice: User, settings: Settings
) -> None:
    settings.SECRETS_KEYS = []
    client = sign_in(alice)
    confirm(client, alice)
    for name in ("mfa_activate_totp", "mfa_add_webauthn", "mfa_generate_recovery_codes"):
        assert client.get(reverse(name)).headers["Location"] == OVERVIEW
    page = client.get(OVERVIEW).content.decode()
    assert NO_KEYS in page
    assert "manage.py makesecretskey" in page
    assert ACTIVATE not in page


def test_a_secret_that_no_key_decrypts_is_a_sentence(alice: User, settings: Settings) -> None:
    inside, secret = set_up(alice)
    for keys in ([], [Fernet.generate_key().decode()]):
        settings.SECRETS_KEYS = keys
        client = sign_in(alice)
        response = client.post(reverse("mfa_authenticate"), {"code": code_of(secret)})
        assert response.status_code == 200
        assert "Your second factor cannot be read" in response.content.decode()
        for name in ("mfa_view_recovery_codes", "mfa_download_recovery_codes"):
            page = inside.get(reverse(name), follow=True).content.decode()
            assert "Your second factor cannot be read" in page


def test_recovery_codes_are_downloaded_and_regenerated(alice: User) -> None:
    client, _ = set_up(alice)
    codes = codes_of(client)
    text = client.get(reverse("mfa_download_recovery_codes")).content.decode()
    assert text.split() == codes
    shown = AccountEvent.objects.filter(kind=EventKind.RECOVERY_CODES_SHOWN, user=alice)
    assert sum(row.count for row in shown) == 2
    for _ in range(5):
        codes_of(client)
    assert shown.all().count() <= 2  # One for each minute.
    client.post(reverse("mfa_generate_recovery_codes"))
    assert not set(codes) & set(codes_of(client))


def test_the_last_one_that_is_removed_takes_the_recovery_codes_along(alice: User) -> None:
    client, _ = set_up(alice)
    client.post(reverse("mfa_deactivate_totp"))
    assert not Authenticator.objects.exists()
    removed = AccountEvent.objects.filter(kind=EventKind.SECOND_FACTOR_REMOVED)
    assert removed.count() == 2
    assert sign_in(alice).get(reverse("servers:list")).status_code == 200


def test_resetmfa_removes_all_and_ends_the_sessions(alice: User) -> None:
    client, _ = set_up(alice)
    said = StringIO()
    call_command("resetmfa", "alice", stdout=said)
    assert said.getvalue().startswith("Removed from alice: TOTP Authenticator, Recovery codes.")
    assert client.get(OVERVIEW).status_code == 302
    assert sign_in(alice).get(reverse("servers:list")).status_code == 200
    details = AccountEvent.objects.filter(kind=EventKind.SECOND_FACTOR_REMOVED)
    assert set(details.values_list("detail", flat=True)) == {
        "TOTP Authenticator, by a command",
        "Recovery codes, by a command",
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "The password alone signs in now.\n"),
        (
            {"password": "!"},
            "Its password is disabled: a link for a new one is needed to sign in.\n",
        ),
        ({"is_active": False}, "The account is deactivated: nobody can sign in.\n"),
    ],
)
def test_resetmfa_says_how_the_person_can_sign_in_then(
    alice: User, change: dict[str, Any], words: str
) -> None:
    Authenticator.objects.create(user=alice, type=Authenticator.Type.WEBAUTHN, data={"name": "x"})
    User.objects.filter(pk=alice.pk).update(**change)
    said = StringIO()
    call_command("resetmfa", "alice", stdout=said)
    assert said.getvalue().endswith(f". {words}")


def test_resetmfa_says_who_is_not_there(db: None) -> None:
    with pytest.raises(CommandError, match="There is no account called 'nobody'"):
        call_command("resetmfa", "nobody")


# --- Asked of staff ---------------------------------------------------------------------------


@pytest.fixture
def required(settings: Settings) -> None:
    """Require a second factor of staff."""
    settings.REQUIRE_STAFF_MFA = True


def test_staff_are_led_to_the_set_up(required: None, dana: User) -> None:
    client = sign_in(dana)
    for name in ("servers:list", "admin:index", "sessions"):
        assert client.get(reverse(name)).headers["Location"] == OVERVIEW
    assert client.get(reverse("jobs:change_events")).status_code == 403
    page = client.get(OVERVIEW).content.decode()
    assert "This panel asks its staff for a second factor." in page
    assert client.get(ACTIVATE).headers["Location"].startswith(reverse("account_reauthenticate"))


def test_who_has_set_one_up_goes_on_at_once(required: None, dana: User) -> None:
    client, _ = set_up(dana)
    assert client.get(reverse("admin:index")).status_code == 200


def test_who_signs_in_with_one_goes_on(required: None, dana: User) -> None:
    _, secret = set_up(dana)
    client = sign_in(dana)
    client.post(reverse("mfa_authenticate"), {"code": code_of(secret)})
    assert client.get(reverse("admin:index")).status_code == 200


def test_a_session_from_before_asks_for_it(dana: User, settings: Settings) -> None:
    before = sign_in(dana)
    _, secret = set_up(dana)
    settings.REQUIRE_STAFF_MFA = True
    way = before.get(reverse("admin:index")).headers["Location"]
    assert way == f"{reverse('mfa_reauthenticate')}?next=%2Fadmin%2F"
    response = before.post(way, {"code": code_of(secret), "next": "/admin/"})
    assert response.headers["Location"] == "/admin/"
    assert before.get(reverse("admin:index")).status_code == 200


def test_others_are_not_asked(required: None, alice: User) -> None:
    assert sign_in(alice).get(reverse("servers:list")).status_code == 200


def test_by_default_nobody_is_asked(dana: User) -> None:
    assert sign_in(dana).get(reverse("admin:index")).status_code == 200


# --- While a sign-in waits --------------------------------------------------------------------


def failures_of(user: User) -> list[str]:
    rows = AccountEvent.objects.filter(kind=EventKind.SIGN_IN_FAILED, user=user)
    return list(rows.values_list("detail", flat=True))


def set_password(person: User) -> None:
    person = User.objects.get(pk=person.pk)
    person.set_password("another-password")
    person.save()


def disable_password(person: User) -> None:
    person = User.objects.get(pk=person.pk)
    person.set_unusable_password()
    person.save()


@pytest.mark.parametrize("change", [set_password, disable_password])
def test_it_does_not_outlive_a_change_of_the_password(
    alice: User, change: Callable[[User], None]
) -> None:
    _, secret = set_up(alice)
    client = sign_in(alice)
    change(alice)
    page = client.post(reverse("mfa_authenticate"), {"code": code_of(secret)}, follow=True)
    assert "Your password was changed while you were signing in." in page.content.decode()
    assert client.get(reverse("servers:list")).headers["Location"].startswith(LOGIN)
    assert client.get(LOGIN).status_code == 200
    assert failures_of(alice) == ["the password was changed meanwhile"]


def test_it_is_refused_while_the_account_is_deactivated(alice: User) -> None:
    _, secret = set_up(alice)
    client = sign_in(alice)
    known = AccountEvent.objects.filter(kind=EventKind.SIGN_IN).count()
    User.objects.filter(pk=alice.pk).update(is_active=False)
    page = client.post(reverse("mfa_authenticate"), {"code": code_of(secret)}, follow=True)
    assert page.redirect_chain == [(LOGIN, 302)]
    assert "This account is deactivated." in page.content.decode()
    assert failures_of(alice) == ["deactivated"]
    assert AccountEvent.objects.filter(kind=EventKind.SIGN_IN).count() == known
    assert PersonSession.objects.filter(user=alice).count() == 1  # Where it was set up.


@pytest.mark.parametrize("way", ["switched off and on", "signed out"])
def test_it_does_not_outlive_the_sessions(alice: User, dana: User, way: str) -> None:
    elsewhere, secret = set_up(alice)
    client = sign_in(alice)
    if way == "signed out":
        elsewhere.post(reverse("session_revoke_others"))
    else:
        as_dana = sign_in(dana)
        for value in ("false", "true"):
            as_dana.post(reverse("person_switch", args=[alice.pk]), {"active": value})
    page = client.post(reverse("mfa_authenticate"), {"code": code_of(secret)}, follow=True)
    assert "This sign-in was ended from elsewhere." in page.content.decode()
    assert client.get(reverse("servers:list")).headers["Location"].startswith(LOGIN)
    assert failures_of(alice) == ["ended meanwhile"]


@pytest.mark.parametrize("change", [set_password, end_sessions])
def test_a_refused_sign_in_uses_up_no_recovery_code(
    alice: User, change: Callable[[User], object]
) -> None:
    inside, _ = set_up(alice)
    codes = codes_of(inside)
    client = sign_in(alice)
    change(alice)
    client.post(reverse("mfa_authenticate"), {"code": codes[0]})
    assert len(failures_of(alice)) == 1
    row = Authenticator.objects.get(type=Authenticator.Type.RECOVERY_CODES)
    assert row.wrap().get_unused_codes() == codes


def test_nobody_else_has_the_session_in_which_it_waits(alice: User) -> None:
    """As somebody would who has planted a session in the browser."""
    set_up(alice)
    planted = SessionStore()
    planted.create()
    key = planted.session_key or ""
    client, thief = Client(), Client()
    for browser in (client, thief):
        browser.cookies["sessionid"] = key
    sign_in(alice, client)
    assert client.get(reverse("mfa_authenticate")).status_code == 200
    assert thief.get(reverse("mfa_authenticate")).headers["Location"] == LOGIN
    assert not planted.exists(key)


def test_rows_of_those_that_were_given_up_go(alice: User) -> None:
    set_up(alice)
    sign_in(alice)
    PendingSignIn.objects.update(begun_at=timezone.now() - timedelta(minutes=16))
    sign_in(alice)
    assert PendingSignIn.objects.count() == 1


def remove_factors(person: User) -> None:
    call_command("resetmfa", person.get_username(), stdout=StringIO())


@pytest.mark.parametrize("change", [remove_factors, lambda person: person.delete()])
def test_it_ends_if_there_is_nothing_left_to_wait_for(
    alice: User, change: Callable[[User], None]
) -> None:
    set_up(alice)
    client = sign_in(alice)
    change(alice)
    page = client.get(LOGIN, follow=True)
    assert "There is no second factor to ask for. Sign in again." in page.content.decode()
    assert 'name="password"' in page.content.decode()


def test_a_passkey_of_a_deactivated_account_is_recorded_as_refused(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    passkey = Authenticator.objects.create(
        user=alice, type=Authenticator.Type.WEBAUTHN, data={"name": "phone", "credential": {}}
    )
    User.objects.filter(pk=alice.pk).update(is_active=False)
    passkey = Authenticator.objects.get(pk=passkey.pk)
    monkeypatch.setattr(PasskeySignInForm, "clean_credential", lambda _form: passkey)
    monkeypatch.setattr(CredentialField, "to_python", lambda _field, _value: {"id": "a"})
    page = Client().post(reverse("mfa_login_webauthn"), {"credential": "{}"}, follow=True)
    assert "This account is deactivated." in page.content.decode()
    assert failures_of(alice) == ["deactivated"]


def test_a_right_password_is_recorded_before_the_second_factor(alice: User) -> None:
    """Its person sees who else knows it. One row a minute: a stolen password must not flood the record."""
    inside, _ = set_up(alice)
    thief = Client(REMOTE_ADDR="198.51.100.4", HTTP_USER_AGENT="Firefox/133.0 (Windows)")
    assert "198.51.100.4" not in inside.get(reverse("sessions")).content.decode()
    sign_in(alice, thief)
    thief.post(reverse("logout"))
    (event,) = AccountEvent.objects.filter(kind=EventKind.SECOND_FACTOR_ASKED)
    assert (event.user, event.name, event.address) == (alice, "alice", "198.51.100.4")
    assert event.minute
    page = inside.get(reverse("sessions")).content.decode()
    assert "198.51.100.4" in page
    assert "Firefox on Windows" in page


# --- What is sent -----------------------------------------------------------------------------


def test_a_long_code_is_refused_before_it_is_compared(alice: User) -> None:
    set_up(alice)
    client = sign_in(alice)
    with patch.object(auth, "hotp_value", side_effect=AssertionError):
        page = client.post(reverse("mfa_authenticate"), {"code": "1" * 65}).content.decode()
    assert "65" in page


def test_a_passkey_has_a_short_name_and_a_new_one_is_recorded(alice: User) -> None:
    client = sign_in(alice)
    confirm(client, alice)
    passkey = Authenticator.objects.create(
        user=alice, type=Authenticator.Type.WEBAUTHN, data={"name": "phone", "credential": {}}
    )
    address = reverse("mfa_edit_webauthn", args=[passkey.pk])
    assert client.post(address, {"name": "x" * 61}).status_code == 200
    assert client.post(address, {"name": "x" * 60}).status_code == 302
    renamed = AccountEvent.objects.get(kind=EventKind.SECOND_FACTOR_RENAMED)
    assert (renamed.user, renamed.detail) == (alice, f"from phone to {'x' * 60}")
    passkey.delete()
    page = client.post(reverse("mfa_add_webauthn"), {"name": "x" * 61})
    assert "name" in page.context["form"].errors


@pytest.mark.parametrize(
    "credential",
    [
        "1" * 5000,
        "[" * 60_000,
        '"' + "x" * 70_000 + '"',
        '{"id": 1}',
        "[]",
        "null",
        '{"id": "\u00e9", "rawId": "\u00e9", "response": {}}',
        '{"id": "AA", "rawId": "AA", "response": {"clientDataJSON": "AA"}}',
    ],
)
def test_a_credential_that_cannot_be_read_is_a_fault_of_the_form(
    client: Client, alice: User, credential: str
) -> None:
    sent = {"credential": credential}
    assert client.post(reverse("mfa_login_webauthn"), sent).status_code == 302
    set_up(alice)
    half_in = sign_in(alice)
    assert half_in.post(reverse("mfa_authenticate"), sent).status_code == 200


def test_a_credential_has_no_nul() -> None:
    class Anything:
        from_dict = dict

    field = CredentialField(Anything)  # type: ignore[arg-type]
    assert field.clean('{"id": "a"}') == {"id": "a"}
    with pytest.raises(ValidationError):
        field.clean('{"id": "\\u0000"}')


@pytest.mark.parametrize(
    "form", [PasskeySignInForm, PasskeySecondFactorForm, PasskeyReauthenticationForm, PasskeyForm]
)
def test_every_form_with_a_credential_reads_it_so(form: Any) -> None:
    field = form.base_fields["credential"]
    assert isinstance(field, CredentialField)
    with pytest.raises(ValidationError):
        field.clean('{"id": 1}')
