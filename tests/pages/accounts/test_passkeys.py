"""Passkeys: what each challenge and each passkey is good for."""

import json
from contextlib import suppress
from time import time
from types import SimpleNamespace
from typing import Any

import pytest
from allauth.account.app_settings import LOGIN_TIMEOUT
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import Sum
from django.test import Client
from django.urls import reverse
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import AuthenticationResponse, AuthenticatorData
from pytest_django.fixtures import Settings

from l4d2site.accounts import passkey_challenges, passkey_forms
from l4d2site.accounts.models import AccountEvent, EventKind
from l4d2site.accounts.passkey_forms import CredentialField
from tests.pages.accounts import passkeys
from tests.pages.accounts.passkeys import SIGN_IN, SecurityKey, options_on, sign_in_options

pytestmark = pytest.mark.django_db

LOGIN = reverse("account_login")
SERVERS = reverse("servers:list")
SECOND_STEP = reverse("mfa_authenticate")
REAUTHENTICATE = reverse("mfa_reauthenticate_webauthn")


def sign_in(user: User) -> Client:
    """Return a browser that has given the right password."""
    client = Client()
    name = user.get_username()
    client.post(LOGIN, {"username": name, "password": f"{name}-password"})
    return client


def add_key(user: User, **how: Any) -> tuple[Client, SecurityKey]:
    """Return a browser in which `user` has added a passkey, and that."""
    client = sign_in(user)
    confirm(client, user)
    key = SecurityKey(f"the key of {user}".encode())
    assert passkeys.add(client, key, **how).status_code == 302
    return client, key


def confirm(client: Client, user: User) -> None:
    password = f"{user.get_username()}-password"
    client.post(reverse("account_reauthenticate"), {"password": password})


def is_inside(client: Client) -> bool:
    return client.get(SERVERS).status_code == 200


def use(client: Client, url: str, credential: str) -> bool:
    """Send a passkey's answer; return whether the person is signed in then."""
    client.post(url, {"credential": credential})
    return is_inside(client)


def outlast_wait(client: Client) -> None:
    """Let the sign-in of `client` wait for too long."""
    session = client.session
    session["account_login"]["initiated_at"] -= LOGIN_TIMEOUT + 1
    session.save()


def test_a_passkey_signs_in_alone_and_as_the_second_factor(alice: User) -> None:
    _, key = add_key(alice)
    client = Client()
    assert use(client, SIGN_IN, key.use(sign_in_options(client)))
    client = sign_in(alice)
    assert use(client, SECOND_STEP, key.use(options_on(client, SECOND_STEP), is_verified=False))


def test_a_challenge_of_the_second_step_signs_nobody_in_alone(alice: User, bob: User) -> None:
    """The device was not asked for a PIN, and the person not for a password."""
    _, alices = add_key(alice)
    add_key(bob)
    waiting = sign_in(bob)
    options = options_on(waiting, SECOND_STEP)
    outlast_wait(waiting)
    assert not use(waiting, SIGN_IN, alices.use(options, is_verified=False))
    waiting = sign_in(alice)
    options = options_on(waiting, SECOND_STEP)
    outlast_wait(waiting)
    assert not use(waiting, SIGN_IN, alices.use(options))


def test_a_sign_in_alone_demands_that_the_person_was_verified(alice: User) -> None:
    _, key = add_key(alice)
    client = Client()
    options = sign_in_options(client)
    assert not use(client, SIGN_IN, key.use(options, is_verified=False))


def test_a_challenge_signs_in_alone_once_and_for_minutes(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, key = add_key(alice)
    client, thief = Client(), Client()
    right = key.use(sign_in_options(client))
    thief.cookies.update(client.cookies)
    assert not use(Client(), SIGN_IN, right)
    assert use(client, SIGN_IN, right)
    assert not use(thief, SIGN_IN, right)
    right = key.use(sign_in_options(thief))
    later = SimpleNamespace(time=lambda: time() + 301)
    monkeypatch.setattr("django.core.signing.time", later)
    assert not use(thief, SIGN_IN, right)


def test_a_challenge_ends_with_the_wait_that_it_was_made_for(alice: User) -> None:
    _, key = add_key(alice)
    client = sign_in(alice)
    options = options_on(client, SECOND_STEP)
    outlast_wait(client)
    client.post(LOGIN, {"username": "alice", "password": "alice-password"})
    assert not use(client, SECOND_STEP, key.use(options))
    assert use(client, SECOND_STEP, key.use(options_on(client, SECOND_STEP)))


def test_a_challenge_is_good_for_minutes(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, key = add_key(alice)
    options = options_on(inside, REAUTHENTICATE)
    seconds = 901.0
    monkeypatch.setattr(passkey_challenges, "time", lambda: time() + seconds)
    page = inside.post(REAUTHENTICATE, {"credential": key.use(options)}, follow=True)
    assert "This page was open for too long. Try again." in page.content.decode()
    options = options_on(inside, REAUTHENTICATE)
    seconds += 899
    answer = inside.post(REAUTHENTICATE, {"credential": key.use(options)})
    assert answer.headers["Location"] == SERVERS


def test_a_challenge_is_good_for_one_purpose(alice: User) -> None:
    inside, key = add_key(alice)
    other = SecurityKey()
    for_addition = options_on(inside, passkeys.ADD)
    page = inside.post(REAUTHENTICATE, {"credential": key.use(for_addition)}, follow=True)
    assert "This page was open for too long." in page.content.decode()
    confirm(inside, alice)
    for_use = options_on(inside, REAUTHENTICATE)
    challenge = for_use["publicKey"]["challenge"]
    swapped = {"publicKey": {**for_addition["publicKey"], "challenge": challenge}}
    inside.post(passkeys.ADD, {"name": "x", "credential": other.create(swapped)})
    assert Authenticator.objects.filter(type=Authenticator.Type.WEBAUTHN).count() == 1


def test_a_challenge_is_used_up_by_a_wrong_answer(alice: User) -> None:
    inside, key = add_key(alice)
    options = options_on(inside, REAUTHENTICATE)
    right = key.use(options)
    inside.post(REAUTHENTICATE, {"credential": SecurityKey(key.name).use(options)})
    page = inside.post(REAUTHENTICATE, {"credential": right}, follow=True)
    assert "This page was open for too long." in page.content.decode()


@pytest.mark.parametrize("says_resident", [True, False])
def test_a_passkey_signs_in_alone_only_if_its_person_has_said_so(
    alice: User, bob: User, says_resident: bool
) -> None:
    """Whatever the browser says about it."""
    inside, key = add_key(alice, alone=False, says_resident=says_resident)
    client = Client()
    assert not use(client, SIGN_IN, key.use(sign_in_options(client)))
    assert "works only after your password" in client.get(LOGIN).content.decode()
    client = sign_in(alice)
    assert use(client, SECOND_STEP, key.use(options_on(client, SECOND_STEP)))
    assert "signing in" not in inside.get(reverse("mfa_list_webauthn")).content.decode()
    inside, key = add_key(bob, says_resident=says_resident)
    client = Client()
    assert use(client, SIGN_IN, key.use(sign_in_options(client)))
    assert "signing in" in inside.get(reverse("mfa_list_webauthn")).content.decode()


def test_the_page_that_reports_a_fault_takes_the_next_answer(alice: User) -> None:
    client = sign_in(alice)
    confirm(client, alice)
    key, options = SecurityKey(), options_on(client, passkeys.ADD)
    page = client.post(passkeys.ADD, {"name": "x" * 61, "credential": key.create(options)})
    assert list(page.context["form"].errors) == ["name"]
    (options,) = page.context["js_data"].values()
    sent = {"name": "stick", "credential": key.create(options)}
    assert client.post(passkeys.ADD, sent).status_code == 302


def failures_of(kind: EventKind) -> list[tuple[str, str, int]]:
    """Return how many there were of each, in whatever minutes they fell: each minute has a row of its own."""
    rows = AccountEvent.objects.filter(kind=kind).order_by("name")
    return list(rows.values("name", "detail").values_list("name", "detail", Sum("count")))


@pytest.mark.parametrize("url", [SECOND_STEP, REAUTHENTICATE])
def test_a_wrong_passkey_is_recorded(alice: User, url: str) -> None:
    inside, key = add_key(alice)
    client = sign_in(alice) if url == SECOND_STEP else inside
    stranger = SecurityKey(key.name)
    for wrong in (stranger.use(options_on(client, url)), "{}", "1" * 5000):
        client.post(url, {"credential": wrong})
    assert failures_of(EventKind.SECOND_FACTOR_FAILED) == [("alice", "passkey", 3)]


def test_a_passkey_that_is_not_checked_is_no_failure(alice: User) -> None:
    """As a code is none: too many were wrong before."""
    _, key = add_key(alice)
    client = sign_in(alice)
    for _attempt in range(11):
        wrong = SecurityKey(key.name).use(options_on(client, SECOND_STEP))
        client.post(SECOND_STEP, {"credential": wrong})
    assert not use(client, SECOND_STEP, key.use(options_on(client, SECOND_STEP)))
    assert failures_of(EventKind.SECOND_FACTOR_FAILED) == [("alice", "passkey", 10)]


def test_a_passkey_that_may_not_sign_in_alone_is_recorded_by_name(alice: User) -> None:
    _, key = add_key(alice, alone=False)
    client = Client()
    assert not use(client, SIGN_IN, key.use(sign_in_options(client)))
    client.post(SIGN_IN, {"credential": "{}"})
    assert set(failures_of(EventKind.SIGN_IN_FAILED)) == {
        ("alice", "passkey", 1),
        ("", "passkey", 1),
    }


def test_a_counter_that_does_not_grow_is_that_of_a_copy(alice: User) -> None:
    inside, key = add_key(alice)
    for count, is_right in ((80, True), (2, False), (80, False), (81, True)):
        client = Client()
        key.counter = count - 1
        assert use(client, SIGN_IN, key.use(sign_in_options(client))) == is_right
    key.counter = 7
    page = inside.post(
        REAUTHENTICATE, {"credential": key.use(options_on(inside, REAUTHENTICATE))}, follow=True
    )
    assert "there may be a copy of it" in page.content.decode()
    details = ("alice", "passkey, perhaps copied")
    assert failures_of(EventKind.SIGN_IN_FAILED) == [(*details, 2)]
    assert failures_of(EventKind.SECOND_FACTOR_FAILED) == [(*details, 1)]


def test_a_device_that_does_not_count_signs_in_again(alice: User) -> None:
    _, key = add_key(alice)
    for _time in range(2):
        client, key.counter = Client(), -1
        assert use(client, SIGN_IN, key.use(sign_in_options(client)))


# --- Once it is removed -----------------------------------------------------------------------


def test_it_takes_the_sessions_along_that_were_made_with_it(alice: User) -> None:
    here, key = add_key(alice)
    alone, second, other, password = Client(), sign_in(alice), SecurityKey(), Client()
    use(alone, SIGN_IN, key.use(sign_in_options(alone)))
    use(second, SECOND_STEP, key.use(options_on(second, SECOND_STEP)))
    confirm(here, alice)
    passkeys.add(here, other)
    use(password, SIGN_IN, other.use(sign_in_options(password)))
    assert all(is_inside(browser) for browser in (here, alone, second, password))
    passkey = Authenticator.objects.filter(type=Authenticator.Type.WEBAUTHN).earliest("pk")
    page = here.get(reverse("mfa_remove_webauthn", args=[passkey.pk])).content.decode()
    assert "signed out in other browsers where you have used it" in page
    here.post(reverse("mfa_remove_webauthn", args=[passkey.pk]))
    assert [is_inside(one) for one in (here, alone, second, password)] == [True, False, False, True]
    details = AccountEvent.objects.filter(kind=EventKind.SESSION_REVOKED)
    assert list(details.values_list("name", "detail")) == [("alice", "2 with stick")]


def test_new_recovery_codes_take_the_sessions_along_of_the_old_ones(alice: User) -> None:
    here, _ = add_key(alice)
    (code, *_) = here.get(reverse("mfa_view_recovery_codes")).context["unused_codes"]
    there = sign_in(alice)
    there.post(SECOND_STEP, {"code": code})
    assert is_inside(there)
    here.post(reverse("mfa_generate_recovery_codes"))
    assert [is_inside(here), is_inside(there)] == [True, False]


def test_an_account_with_passkeys_and_sessions_can_be_deleted(alice: User) -> None:
    here, _ = add_key(alice)
    alice.delete()
    assert not is_inside(here)


def test_staff_without_any_set_up_another(dana: User, settings: Settings) -> None:
    """A factor that was used and is gone does not count."""
    settings.REQUIRE_STAFF_MFA = True
    here, _ = add_key(dana)
    other = SecurityKey()
    confirm(here, dana)
    passkeys.add(here, other)
    first, second = Authenticator.objects.filter(type=Authenticator.Type.WEBAUTHN).order_by("pk")
    here.post(reverse("mfa_remove_webauthn", args=[first.pk]))
    assert is_inside(here)
    here.post(reverse("mfa_remove_webauthn", args=[second.pk]))
    assert here.get(SERVERS).headers["Location"] == reverse("mfa_index")


def make_deep(key: SecurityKey, options: dict[str, Any], alice: User, depth: int) -> str:
    """Return an answer of `key` with so many lists within each other, which needs no signature to be read."""
    sent = json.loads(key.use(options))
    data = bytearray(websafe_decode(sent["response"]["authenticatorData"]))
    data[32] |= AuthenticatorData.FLAG.ED
    sent["response"]["authenticatorData"] = websafe_encode(bytes(data) + b"\x81" * depth + b"\0")
    sent["response"]["userHandle"] = websafe_encode(str(alice.pk).encode())
    return json.dumps(sent)


def test_what_only_a_later_reading_cannot_read_is_a_fault_of_the_form(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, key = Client(), SecurityKey()
    deep = make_deep(key, sign_in_options(client), alice, 2000)
    monkeypatch.setattr(CredentialField, "to_python", lambda _field, value: json.loads(value))
    page = client.post(SIGN_IN, {"credential": deep}, follow=True)
    assert page.status_code == 200


def test_what_is_read_once_can_be_read_again_from_further_inside(alice: User) -> None:
    """Later readings have less room for calls within each other, such as that of a page that lists passkeys."""
    field, key = CredentialField(AuthenticationResponse), SecurityKey()
    options = sign_in_options(Client())

    def read_inside(calls: int, credential: Any) -> None:
        if calls:
            read_inside(calls - 1, credential)
        else:
            AuthenticationResponse.from_dict(credential)

    read = 0
    for depth in range(10, 480, 5):
        with suppress(ValidationError):
            credential = field.clean(make_deep(key, options, alice, depth))
            read_inside(passkey_forms.SPARE_CALLS - 50, credential)
            read += 1
    assert 5 < read < 90
