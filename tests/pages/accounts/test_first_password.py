"""A password that Saferoom generated and printed must be changed before anything else."""

import errno
import os
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from l4d2site.accounts.first_admin import make_first_admin
from l4d2site.accounts.models import FirstPassword, Invitation
from l4d2site.management.commands import serve
from tests.hostops.test_command_ends import Failing, run, stream_on
from tests.pages.accounts.test_resets import make_link
from tests.pages.conftest import sign_in

LOGIN = reverse("account_login")
PASSWORD = reverse("password_change")
NEW = {"new_password1": "a-better-one-42", "new_password2": "a-better-one-42"}


@pytest.fixture
def first_admin(db: None) -> tuple[User, str]:
    """Return the admin that `manage.py makefirstadmin` makes, and the password it prints."""
    output = StringIO()
    call_command("makefirstadmin", stdout=output)
    said = output.getvalue().splitlines()
    assert "You choose your own then." in said[0]
    # Its line has nothing else that could be copied with it.
    return User.objects.get(), said[2].strip()


@pytest.fixture
def newcomer(first_admin: tuple[User, str], client: Client) -> Client:
    """Return a browser that has signed in with the first password."""
    client.post(LOGIN, {"username": "admin", "password": first_admin[1]})
    return client


@pytest.mark.parametrize(
    "name", ["servers:list", "jobs:hosts", "admin:index", "sessions", "people", "mfa_index"]
)
def test_every_page_leads_to_the_change(newcomer: Client, name: str) -> None:
    response = newcomer.get(reverse(name))
    assert response.headers["Location"] == PASSWORD
    page = newcomer.get(PASSWORD).content.decode()
    assert "Saferoom made your password." in page
    assert "data-live-from" not in page  # Its stream would be refused.


def test_nothing_can_be_posted_and_no_stream_followed(newcomer: Client) -> None:
    assert newcomer.post(reverse("admin:install")).headers["Location"] == PASSWORD
    for url in (reverse("jobs:change_events"), "/jobs/1/events"):
        response = newcomer.get(url)
        assert response.status_code == 403
        assert "Choose one of your own" in response.content.decode()


def test_one_can_sign_out(newcomer: Client) -> None:
    assert newcomer.post(reverse("logout")).headers["Location"] == LOGIN


def test_the_change_opens_the_panel(newcomer: Client, first_admin: tuple[User, str]) -> None:
    response = newcomer.post(PASSWORD, {"old_password": first_admin[1], **NEW})
    assert response.headers["Location"] == reverse("servers:list")
    assert newcomer.get(reverse("servers:list")).status_code == 200
    assert not FirstPassword.objects.exists()


def test_the_same_password_is_no_change(newcomer: Client, first_admin: tuple[User, str]) -> None:
    old = first_admin[1]
    page = newcomer.post(
        PASSWORD, {"old_password": old, "new_password1": old, "new_password2": old}
    ).content.decode()
    assert "That is your current password." in page
    assert newcomer.get(reverse("servers:list")).headers["Location"] == PASSWORD


def test_a_change_by_another_way_counts_too(
    first_admin: tuple[User, str], client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getpass", lambda prompt: "a-better-one-42")
    call_command("changepassword", "admin")
    client.post(LOGIN, {"username": "admin", "password": "a-better-one-42"})
    assert client.get(reverse("servers:list")).status_code == 200


def test_a_hash_that_is_renewed_is_no_change(
    first_admin: tuple[User, str], client: Client, settings: object
) -> None:
    settings.PASSWORD_HASHERS = [  # type: ignore[attr-defined]
        "django.contrib.auth.hashers.ScryptPasswordHasher",
        "django.contrib.auth.hashers.MD5PasswordHasher",
    ]
    client.post(LOGIN, {"username": "admin", "password": first_admin[1]})
    assert User.objects.get().password.startswith("scrypt")
    assert client.get(reverse("servers:list")).headers["Location"] == PASSWORD


def test_a_first_admin_is_made_once(first_admin: tuple[User, str]) -> None:
    output = StringIO()
    call_command("makefirstadmin", "--name", "another", stdout=output)
    assert output.getvalue() == ""
    assert User.objects.get() == first_admin[0]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPIPE])
@pytest.mark.parametrize("command", ["makefirstadmin", "serve"])
def test_an_admin_whose_password_nobody_can_read_is_not_made(
    db: None,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    tmp_path: Path,
    command: str,
    number: int,
) -> None:
    settings.VAR_DIR = tmp_path
    monkeypatch.setattr(serve, "call_command", lambda *_arguments, **_options: None)
    monkeypatch.setattr(serve, "supervise", lambda **_options: None)
    monkeypatch.delenv("SAFEROOM_ADMIN_PASSWORD", raising=False)

    def main() -> None:
        try:
            call_command(command)
        except CommandError as error:
            sys.exit(str(error))

    code, said = run(main, stream_on(Failing(number)))
    assert code == 1
    assert f"the password could not be shown: {os.strerror(number)}." in said
    assert not User.objects.exists()
    # One that was given is known.
    monkeypatch.setenv("SAFEROOM_ADMIN_PASSWORD", "given-password")
    if command == "serve":
        assert run(main, stream_on(Failing(number)))[0] == 0
        assert User.objects.get().check_password("given-password")


def test_a_password_that_was_given_need_not_be_changed(db: None, client: Client) -> None:
    assert make_first_admin("admin", lambda _text: None, given="given-password")
    client.post(LOGIN, {"username": "admin", "password": "given-password"})
    assert client.get(reverse("servers:list")).status_code == 200


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a" * 151, "at most 150 characters"),
        ("two words", "Enter a valid username"),
        ("ALICE", "That name is taken."),
        ("\uff21\uff2c\uff29\uff23\uff25", "That name is taken."),
        ("\u0430dmin", "letters of several alphabets"),
        ("\u043e\uff53car", "letters of several alphabets"),
        ("\ufdfa" * 150, "at most 150 characters"),
    ],
)
def test_an_admin_who_could_not_sign_in_or_could_be_confused_is_not_made(
    alice: User, name: str, reason: str
) -> None:
    with pytest.raises(CommandError, match=reason):
        call_command("makefirstadmin", "--name", name)
    with pytest.raises(CommandError, match="taken" if "taken" in reason else reason):
        call_command("createsuperuser", username=name, email="", interactive=False)
    assert User.objects.get() == alice


@pytest.mark.parametrize(
    ("password", "reason"), [("short", "at least 10 characters"), ("ß" * 1025, "at most 1,024")]
)
def test_a_password_in_the_environment_is_judged_as_in_a_form(
    db: None, monkeypatch: pytest.MonkeyPatch, password: str, reason: str
) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", password)
    with pytest.raises(CommandError, match=f"DJANGO_SUPERUSER_PASSWORD: .*{reason}"):
        call_command("createsuperuser", username="eve", email="", interactive=False)
    with pytest.raises(ValidationError, match=f"SAFEROOM_ADMIN_PASSWORD: .*{reason}"):
        make_first_admin("admin", lambda _text: None, given=password)
    assert not User.objects.exists()
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "a-better-one-42")
    call_command("createsuperuser", username="eve", email="", interactive=False)
    assert User.objects.get().check_password("a-better-one-42")


def test_a_command_refuses_a_password_that_is_too_long(
    first_admin: tuple[User, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getpass", lambda prompt: "a-better-one-42" * 100)
    errors = StringIO()
    with pytest.raises(CommandError):
        call_command("changepassword", "admin", stderr=errors)
    assert "This password has 1,500 characters. Use at most 1,024." in errors.getvalue()


def open_invitation(as_dana: Client, alice: User) -> tuple[Client, str]:
    made_by = User.objects.get(username="dana")
    return Client(), Invitation.objects.create(made_by=made_by).get_absolute_url()


def open_reset(as_dana: Client, alice: User) -> tuple[Client, str]:
    client = Client()
    return client, client.get(make_link(as_dana, alice)).headers["Location"]


FORMS: dict[str, Callable[[Client, User], tuple[Client, str]]] = {
    "own": lambda _as_dana, alice: (sign_in(alice), PASSWORD),
    "invitation": open_invitation,
    "reset": open_reset,
    "admin adds": lambda as_dana, _alice: (as_dana, reverse("admin:auth_user_add")),
    "admin sets": lambda as_dana, alice: (
        as_dana,
        reverse("admin:auth_user_password_change", args=[alice.pk]),
    ),
}
"""Each form that sets a password: who has it open, and where."""


@pytest.mark.parametrize("form", FORMS)
def test_every_form_tells_and_holds_the_longest_password(
    form: str, as_dana: Client, alice: User
) -> None:
    client, address = FORMS[form](as_dana, alice)
    page = client.get(address).content.decode()
    assert "at least 10 characters, and at most 1,024." in page
    new = "new_" if "new_password1" in page else ""
    for password, is_taken in (("√ab" + "ß" * 1022, False), ("√ab" + "ß" * 1021, True)):
        values = {f"{new}password1": password, f"{new}password2": password}
        answer = client.post(
            address, {"username": "eve", "old_password": "alice-password", **values}
        )
        assert (answer.status_code == 302) == is_taken
        if not is_taken:
            assert "This password has 1,025 characters. Use at most" in answer.content.decode()


def test_an_older_password_that_is_longer_keeps_working(client: Client, alice: User) -> None:
    alice.set_password("ß" * 2000)
    alice.save()
    answer = client.post(LOGIN, {"username": "alice", "password": "ß" * 2000})
    assert answer.headers["Location"] == reverse("servers:list")


def test_a_password_has_ten_characters(as_alice: Client) -> None:
    short = {"new_password1": "short-one", "new_password2": "short-one"}
    response = as_alice.post(PASSWORD, {"old_password": "alice-password", **short})
    assert "at least 10 characters" in response.content.decode()
