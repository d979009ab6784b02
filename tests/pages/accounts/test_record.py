"""The record of sign-ins: what is stored and logged, how long, who reads it, and what fail2ban makes of it."""

import configparser
import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from allauth.account.internal.flows.login import record_authentication
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import call_command
from django.db import OperationalError, transaction
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone
from pytest_django.fixtures import Settings

from l4d2site.accounts import events, receivers
from l4d2site.accounts.events import log_line, make_printable, record_event, trim_events
from l4d2site.accounts.models import AccountEvent, EventKind, FirstPassword, PersonSession
from l4d2site.accounts.receivers import describe_sign_in
from l4d2site.gate.throttling import note_turned_away

LOGIN = reverse("account_login")


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Return what the logger of accounts writes, in the format of the product."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    plain = settings.LOGGING["formatters"]["plain"]
    handler.setFormatter(logging.Formatter(plain["format"], style=plain["style"]))
    logger = logging.getLogger("saferoom.accounts")
    logger.addHandler(handler)
    yield text
    logger.removeHandler(handler)


def fail(client: Client, name: str = "alice", address: str = "203.0.113.9") -> None:
    client.post(LOGIN, {"username": name, "password": "wrong"}, REMOTE_ADDR=address)


def failures() -> list[tuple[str, str, int]]:
    rows = AccountEvent.objects.filter(kind=EventKind.SIGN_IN_FAILED).order_by("pk")
    return list(rows.values_list("name", "address", "count"))


def told(kind: EventKind) -> list[tuple[str, str]]:
    rows = AccountEvent.objects.filter(kind=kind).order_by("pk")
    return list(rows.values_list("name", "detail"))


# --- What is stored ---------------------------------------------------------------------------


def test_signing_in_and_out_is_recorded(client: Client, alice: User) -> None:
    client.post(
        LOGIN,
        {"username": "alice", "password": "alice-password"},
        REMOTE_ADDR="203.0.113.9",
        HTTP_USER_AGENT="Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
    )
    event = AccountEvent.objects.get(kind=EventKind.SIGN_IN)
    assert (event.user, event.name, event.address) == (alice, "alice", "203.0.113.9")
    assert event.detail == "password"
    assert event.browser == "Firefox on Linux"
    client.post(reverse("logout"))
    client.post(reverse("logout"))  # Nobody signs out.
    assert told(EventKind.SIGN_OUT) == [("alice", "")]


def test_failures_are_one_row_per_address_account_and_minute(
    client: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = timezone.now().replace(second=10)
    monkeypatch.setattr("django.utils.timezone.now", lambda: now)
    for _ in range(3):
        fail(client)
    fail(client, "nobody")
    fail(client, address="198.51.100.4")
    expected = [
        ("alice", "203.0.113.9", 3),
        ("nobody", "203.0.113.9", 1),
        ("alice", "198.51.100.4", 1),
    ]
    assert failures() == expected
    now += timedelta(minutes=1)
    fail(client)
    assert failures() == [*expected, ("alice", "203.0.113.9", 1)]


def test_two_that_fail_at_one_time_are_both_counted(
    rf: RequestFactory, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = timezone.now()
    monkeypatch.setattr("django.utils.timezone.now", lambda: now)
    record_event(EventKind.SIGN_IN_FAILED, rf.get("/"), name="alice")
    # The other one's row does not exist yet when this one looks.
    real = events.add_to_minute
    has_looked: list[bool] = []

    def look(event: AccountEvent) -> bool:
        is_first = not has_looked
        has_looked.append(True)
        return False if is_first else real(event)

    monkeypatch.setattr(events, "add_to_minute", look)
    record_event(EventKind.SIGN_IN_FAILED, rf.get("/"), name="alice")
    assert failures() == [("alice", "127.0.0.1", 2)]


def test_a_wrong_password_is_a_failure_wherever_it_is_asked_for(
    as_alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = timezone.now()
    monkeypatch.setattr("django.utils.timezone.now", lambda: now)
    values = {"old_password": "wrong", "new_password1": "x", "new_password2": "x"}
    as_alice.post(reverse("password_change"), values)
    as_alice.post(reverse("account_reauthenticate"), {"password": "wrong"})
    assert failures() == [("alice", "127.0.0.1", 2)]


@pytest.mark.parametrize("is_away", [True, False])
def test_who_is_turned_away_is_so_without_a_database_too(
    client: Client, db: None, rf: RequestFactory, monkeypatch: pytest.MonkeyPatch, is_away: bool
) -> None:
    monkeypatch.setattr(receivers, "record_event", Mock(side_effect=OperationalError))
    monkeypatch.setattr(receivers, "is_away", lambda error: is_away)
    with nullcontext() if is_away else pytest.raises(OperationalError):
        note_turned_away(rf.get("/"))


def test_a_name_that_was_tried_is_cut_and_made_printable(client: Client, db: None) -> None:
    fail(client, "a\x1b[31m\u202e\n" + "b" * 100)
    ((name, _, _),) = failures()
    assert name.isprintable()
    assert len(name) == events.NAME_CHARS


def test_what_admins_change_of_an_account_is_recorded(as_dana: Client, alice: User) -> None:
    change = reverse("admin:auth_user_change", args=[alice.pk])
    group = Group.objects.create(name="Night shift")
    values = {
        "username": "alice",
        "is_active": "on",
        "is_staff": "on",
        "groups": [group.pk],
        "date_joined_0": "2026-01-01",
        "date_joined_1": "00:00",
        "own_quotas-TOTAL_FORMS": "0",
        "own_quotas-INITIAL_FORMS": "0",
    }
    assert as_dana.post(change, values).status_code == 302
    assert told(EventKind.ROLE_CHANGED) == [
        ("alice", "staff, by dana"),
        ("alice", "groups given Night shift by dana"),
    ]
    group.permissions.add(Permission.objects.get(codename="add_user"))
    assert told(EventKind.ROLE_CHANGED)[-1][0] == "group Night shift"
    del values["is_active"], values["is_staff"]
    as_dana.post(change, {**values, "groups": []})
    assert ("alice", "not active, not staff, by dana") in told(EventKind.ROLE_CHANGED)
    as_dana.post(reverse("admin:auth_user_delete", args=[alice.pk]), {"post": "yes"})
    assert told(EventKind.ACCOUNT_REMOVED) == [("alice", "by dana")]


def test_a_group_that_is_renamed_or_removed_is_recorded_with_its_people(
    as_dana: Client, alice: User
) -> None:
    group = Group.objects.create(name="Night shift")
    alice.groups.add(group)
    as_dana.post(reverse("admin:auth_group_change", args=[group.pk]), {"name": "Day shift"})
    as_dana.post(reverse("admin:auth_group_delete", args=[group.pk]), {"post": "yes"})
    assert told(EventKind.ROLE_CHANGED)[1:] == [
        ("group Night shift", "from Night shift to Day shift, by dana"),
        ("group Day shift", "removed from alice by dana"),
    ]


def test_permissions_that_are_cleared_are_named(alice: User) -> None:
    alice.user_permissions.clear()
    assert told(EventKind.ROLE_CHANGED) == []
    group = Group.objects.create(name="Night shift")
    group.user_set.add(alice)
    group.user_set.clear()
    assert told(EventKind.ROLE_CHANGED)[1:] == [
        ("group Night shift", "users taken alice by a command")
    ]


def test_what_leads_into_an_account_is_recorded_from_whichever_page_or_save(
    as_dana: Client, alice: User
) -> None:
    change = reverse("admin:auth_user_change", args=[alice.pk])
    values = {
        "username": "alice",
        "is_active": "on",
        "date_joined_0": "2026-01-01",
        "date_joined_1": "00:00",
        "own_quotas-TOTAL_FORMS": "0",
        "own_quotas-INITIAL_FORMS": "0",
    }
    as_dana.post(change, {**values, "email": "mallory@example.org"})
    as_dana.post(change, {**values, "email": "mallory@example.org", "username": "alicia"})
    as_dana.post(change, {**values, "username": "alicia"})
    assert told(EventKind.EMAIL_CHANGED) == [
        ("alice", "from none to mallory@example.org, by dana"),
        ("alicia", "from mallory@example.org to none, by dana"),
    ]
    assert told(EventKind.USERNAME_CHANGED) == [("alice", "from alice to alicia, by dana")]
    for name in ("alice", "alicia"):
        page = as_dana.get(reverse("audit"), {"who": name}).content.decode()
        assert "from alice to alicia" in page
    alice.refresh_from_db()
    alice.email, alice.username = f"{'a' * 150}@example.org", "not stored"
    alice.save(update_fields=["email"])
    name, detail = told(EventKind.EMAIL_CHANGED)[-1]
    assert (name, detail[:20], detail[-14:]) == ("alicia", "from none to aaaaaaa", ", by a command")
    assert len(told(EventKind.USERNAME_CHANGED)) == 1


def test_a_password_that_is_disabled_is_a_change(as_dana: Client, alice: User) -> None:
    FirstPassword.objects.create(user=alice)
    phone = Client()
    phone.post(LOGIN, {"username": "alice", "password": "alice-password"})
    assert PersonSession.objects.filter(user=alice).exists()
    place = reverse("admin:auth_user_password_change", args=[alice.pk])
    disabling = {"usable_password": "false", "unset-password": "1"}
    assert as_dana.post(place, disabling).status_code == 302
    assert told(EventKind.PASSWORD_CHANGED) == [("alice", "disabled, by dana")]
    assert not FirstPassword.objects.exists()
    assert not PersonSession.objects.filter(user=alice).exists()


def test_a_password_that_was_hashed_elsewhere_is_a_change(alice: User) -> None:
    alice.password = make_password("another-password")
    alice.save()
    assert told(EventKind.PASSWORD_CHANGED) == [("alice", "by a command")]


def test_a_rehash_is_no_change(client: Client, alice: User, settings: Settings) -> None:
    former = "django.contrib.auth.hashers.ScryptPasswordHasher"
    settings.PASSWORD_HASHERS = [*settings.PASSWORD_HASHERS, former]
    old = make_password("alice-password", hasher="scrypt")
    User.objects.filter(pk=alice.pk).update(password=old)
    client.post(LOGIN, {"username": "alice", "password": "alice-password"})
    assert User.objects.get(pk=alice.pk).password != old
    assert told(EventKind.PASSWORD_CHANGED) == []


def test_a_sign_in_changes_no_role(client: Client, alice: User) -> None:
    client.post(LOGIN, {"username": "alice", "password": "alice-password"})
    assert told(EventKind.ROLE_CHANGED) == []


@pytest.mark.parametrize("email", ["", "eve@example.org", f"{'e' * 200}@example.org"])
def test_a_new_superuser_is_recorded_with_the_address(db: None, email: str) -> None:
    call_command("createsuperuser", username="eve", email=email, interactive=False)
    told_address = f"{make_printable(email, 80)}, " if email else ""
    assert told(EventKind.ACCOUNT_MADE) == [
        ("eve", f"staff, superuser, {told_address}by a command")
    ]


def test_the_right_password_of_a_deactivated_account_is_told_apart(
    client: Client, alice: User
) -> None:
    User.objects.filter(pk=alice.pk).update(is_active=False)
    client.post(LOGIN, {"username": "alice", "password": "alice-password"})
    fail(client)
    details = [detail for _name, detail in told(EventKind.SIGN_IN_FAILED)]
    assert details[0] == "deactivated"
    assert client.get(LOGIN).status_code == 200


def test_nobody_writes_when_somebody_signed_in(as_dana: Client, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(last_login=timezone.now())
    change = reverse("admin:auth_user_change", args=[alice.pk])
    values = {
        "username": "alice",
        "is_active": "on",
        "last_login_0": "",
        "last_login_1": "",
        "date_joined_0": "2001-01-01",
        "date_joined_1": "00:00",
        "own_quotas-TOTAL_FORMS": "0",
        "own_quotas-INITIAL_FORMS": "0",
    }
    assert as_dana.post(change, values).status_code == 302
    alice.refresh_from_db()
    assert alice.last_login
    assert alice.date_joined.year > 2001


def test_a_sign_in_is_recorded_with_what_it_was_by(rf: RequestFactory, alice: User) -> None:
    request = rf.get("/")
    request.session = SessionStore()
    record_authentication(request, alice, "password")
    record_authentication(request, alice, "mfa", type="recovery_codes")
    assert describe_sign_in(request, alice) == "password, recovery code"
    record_authentication(request, alice, "mfa", type="webauthn", passwordless=True)
    assert describe_sign_in(request, alice) == "passkey alone"


def test_the_record_outlives_the_account(client: Client, alice: User) -> None:
    client.post(LOGIN, {"username": "alice", "password": "alice-password"})
    alice.delete()
    event = AccountEvent.objects.get(kind=EventKind.SIGN_IN)
    assert (event.user, event.name) == (None, "alice")


# --- How long ---------------------------------------------------------------------------------


def store(count: int, *, kind: EventKind = EventKind.SIGN_IN, days: int = 0) -> None:
    at = timezone.now() - timedelta(days=days)
    minute = at if kind in events.COUNTED_KINDS else None
    AccountEvent.objects.bulk_create(
        AccountEvent(kind=kind, name=str(number), minute=minute, at=at, last_at=at)
        for number in range(count)
    )


def test_old_rows_go_in_passing(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "TRIM_EVERY", 10)
    store(9, days=settings.ACCOUNT_EVENTS_KEEP_DAYS + 1)
    store(5)
    for _ in range(10):
        record_event(EventKind.SIGN_IN, None)
    assert AccountEvent.objects.count() == 15


def test_there_are_never_more_rows_than_that(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TRIM_EVERY", 10), ("MAX_ROWS", 50), ("MAX_COUNTED_ROWS", 30)):
        monkeypatch.setattr(events, name, value)
    for number in range(130):
        record_event(EventKind.SIGN_IN, None, name=str(number))
        assert AccountEvent.objects.count() <= 50
    assert AccountEvent.objects.order_by("-pk").values_list("name", flat=True)[0] == "129"


def test_a_flood_of_failures_does_not_push_the_rest_out(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("TRIM_EVERY", 10), ("MAX_ROWS", 50), ("MAX_COUNTED_ROWS", 30)):
        monkeypatch.setattr(events, name, value)
    store(10)
    for number in range(200):
        record_event(EventKind.SIGN_IN_FAILED, None, name=str(number))
    assert len(told(EventKind.SIGN_IN)) == 10
    assert len(told(EventKind.SIGN_IN_FAILED)) <= 30


def test_nobody_pushes_out_what_others_did(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TRIM_EVERY", 10), ("MAX_ROWS", 50)):
        monkeypatch.setattr(events, name, value)
    store(10)
    record_event(EventKind.BACKUP_RESTORED, None)
    now = timezone.now()
    for number in range(200):
        change = {
            "kind": EventKind.SERVER_CHANGED,
            "detail": str(number),
            "at": now,
            "last_at": now,
        }
        AccountEvent.objects.create(actor_name="mallory", **change)
        if number % 5 == 0:
            trim_events()
    assert len(told(EventKind.SIGN_IN)) == 10
    assert len(told(EventKind.BACKUP_RESTORED)) == 1
    assert told(EventKind.SERVER_CHANGED)[-1] == ("", "199")


def test_many_small_groups_are_trimmed_too(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TRIM_EVERY", 1), ("MAX_ROWS", 20)):
        monkeypatch.setattr(events, name, value)
    store(30)
    for event in AccountEvent.objects.all():
        AccountEvent.objects.filter(pk=event.pk).update(actor_name=str(event.pk))
    trim_events()
    assert AccountEvent.objects.count() == 19


@pytest.mark.parametrize("days", [0, 1000], ids=["too many", "too old"])
def test_one_look_deletes_a_bounded_number(
    db: None, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    most = 5 if days == 0 else 100
    for name, value in (("TRIM_EVERY", 1), ("MAX_ROWS", most), ("TRIM_AT_ONCE", 4)):
        monkeypatch.setattr(events, name, value)
    store(20, days=days)
    trim_events()
    assert AccountEvent.objects.count() == 16


# --- Who reads it -----------------------------------------------------------------------------


def test_admins_read_it_and_change_nothing(as_dana: Client, client: Client, db: None) -> None:
    fail(client)
    event = AccountEvent.objects.get(kind=EventKind.SIGN_IN_FAILED)
    listed = reverse("admin:accounts_accountevent_changelist")
    page = as_dana.get(listed, {"kind__exact": "sign_in_failed"}).content.decode()
    assert "203.0.113.9" in page
    assert as_dana.get(reverse("admin:accounts_accountevent_add")).status_code == 403
    place = [event.pk]
    change = reverse("admin:accounts_accountevent_change", args=place)
    assert as_dana.get(change).status_code == 200
    assert as_dana.post(change, {"name": "someone else"}).status_code == 403
    delete = reverse("admin:accounts_accountevent_delete", args=place)
    assert as_dana.post(delete, {"post": "yes"}).status_code == 403


def test_the_admin_shows_no_secrets_of_second_factors(as_dana: Client) -> None:
    for place in ("mfa/authenticator", "account/emailaddress"):
        assert as_dana.get(f"/admin/{place}/").status_code == 404


# --- For programs -----------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_change_is_logged_once_it_is_committed(log: io.StringIO) -> None:
    with transaction.atomic():
        record_event(EventKind.ACCOUNT_MADE, None, name="ghost")
        transaction.set_rollback(True)
    assert log.getvalue() == ""
    with transaction.atomic():
        record_event(EventKind.ACCOUNT_MADE, None, name="carol")
        assert log.getvalue() == ""
    record_event(EventKind.ACCOUNT_MADE, None, name="dave")
    assert [line.rpartition("=")[2] for line in log.getvalue().splitlines()] == [
        '"carol"',
        '"dave"',
    ]


@pytest.mark.django_db(transaction=True)
def test_an_attempt_is_logged_whatever_becomes_of_its_transaction(log: io.StringIO) -> None:
    with transaction.atomic():
        record_event(EventKind.SIGN_IN_FAILED, None, name="alice")
        transaction.set_rollback(True)
    assert "sign_in_failed" in log.getvalue()


def test_each_event_is_one_line_in_the_documented_form(
    client: Client,
    alice: User,
    log: io.StringIO,
    django_capture_on_commit_callbacks: Callable[..., Any],
) -> None:
    fail(client, 'a "quoted"\nname')
    form = {"username": "alice", "password": "alice-password"}
    with django_capture_on_commit_callbacks(execute=True):
        client.post(LOGIN, form, REMOTE_ADDR="2001:db8::7")
    failed, signed_in = log.getvalue().splitlines()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} WARNING saferoom\.accounts: sign_in_failed "
        r'address=203\.0\.113\.9 count=1 account="a \\"quoted\\"\\ufffdname"',
        failed,
    )
    assert signed_in.endswith(
        'INFO saferoom.accounts: sign_in address=2001:db8::7 count=1 account="alice" detail="password"'
    )


def test_every_kind_is_documented() -> None:
    page = (settings.BASE_DIR / "docs/security.md").read_text()
    for kind in EventKind:
        assert f"`{kind.value}`" in page


def test_a_line_is_ascii_and_can_be_read_back() -> None:
    line = log_line(EventKind.SIGN_IN_FAILED, "", make_printable("Müller\u2028", 64), "x", 2)
    assert line.isascii()
    assert line.startswith("sign_in_failed address=- count=2 account=")
    name = line.partition("account=")[2].partition(" detail=")[0]
    assert json.loads(name) == "Müller\ufffd"


# fail2ban's own pattern for <HOST>, except names: an address of IPv4 or IPv6.
HOST = r"(?P<host>(?:\d{1,3}\.){3}\d{1,3}|[0-9a-fA-F:]*:[0-9a-fA-F:.]+)"


def match_as_fail2ban(line: str) -> str | None:
    """Return the address that the filter takes from a line of a log file or of the journal."""
    filters = configparser.RawConfigParser()
    filters.read(settings.BASE_DIR / "deploy/fail2ban/filter.d/saferoom.conf")
    pattern = filters["Definition"]["failregex"].replace("<HOST>", HOST)
    found = re.search(pattern, line)
    return found["host"] if found else None


def as_fail2ban_sees_it(line: str) -> list[str]:
    """Return a line as it comes from a log file, without its time, and as it comes from the journal."""
    return [line[len("2026-11-26 00:49:33,241") :], f"panel saferoom-web[4312]: {line}"]


def test_fail2ban_takes_the_address_of_each_failure(
    client: Client, alice: User, log: io.StringIO, rf: RequestFactory
) -> None:
    fail(client)
    fail(client, address="2001:db8::7")
    record_event(EventKind.THROTTLED, None, address="198.51.100.4", count=7)
    record_event(EventKind.SECOND_FACTOR_FAILED, rf.get("/"), user=alice, detail="TOTP")
    lines = log.getvalue().splitlines()
    assert len(lines) == 4
    wanted = ["203.0.113.9", "2001:db8::7", "198.51.100.4", "127.0.0.1"]
    for line, address in zip(lines, wanted, strict=True):
        assert [match_as_fail2ban(seen) for seen in as_fail2ban_sees_it(line)] == [address] * 2


def test_fail2ban_takes_nothing_that_a_stranger_made_up(
    client: Client,
    alice: User,
    log: io.StringIO,
    django_capture_on_commit_callbacks: Callable[..., Any],
) -> None:
    forged = 'WARNING saferoom.accounts: sign_in_failed address=192.0.2.1 count=1 account="x"'
    fail(client, f'" {forged}')
    with django_capture_on_commit_callbacks(execute=True):
        client.post(LOGIN, {"username": "alice", "password": "alice-password"})
    first, second = log.getvalue().splitlines()
    assert match_as_fail2ban(first[23:]) == "203.0.113.9"
    assert match_as_fail2ban(second[23:]) is None
    # Django logs the address of a page that does not exist, as it was requested.
    other = f"2026-11-26 00:49:33,241 WARNING django.request: Not Found: /{forged}"
    for seen in (*as_fail2ban_sees_it(other), f" WARNING django.request: Not Found: / {forged}"):
        assert match_as_fail2ban(seen) is None
