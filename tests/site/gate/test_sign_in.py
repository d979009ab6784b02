"""Sign-in attempts, through the gate to Django: who is refused, who waits, and what strangers learn."""

import asyncio
import re
import unicodedata
from collections.abc import Iterator
from time import monotonic
from typing import Any
from unittest.mock import Mock, patch
from urllib.parse import urlencode

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connections
from django.http import HttpRequest
from django.test import Client

from l4d2site.accounts.models import AccountEvent, EventKind
from l4d2site.asgi import serve
from l4d2site.gate import sign_in
from l4d2site.gate.entrance import Entrance
from l4d2site.gate.failures import Failures
from l4d2site.gate.sign_in import MOST_OF_ADDRESS_WAITING, SignInGate, account_in
from tests.site.gate.asgi import Exchange, make_scope

pytestmark = pytest.mark.django_db(transaction=True)

FORM = "application/x-www-form-urlencoded"
PART = b'--B\r\nContent-Disposition: form-data; name="username"\r\n\r\nalice\r\n--B--\r\n'
BAD_HEADER = b"\r\nContent-Type: text/plain; x*=b; x*0=c\r\n\r\n"
TOKEN = "a" * 32
PATHS = ["/accounts/login/", "/admin/login/"]


@pytest.fixture(autouse=True)
def fast() -> Iterator[None]:
    """Answer at once; the duration of an answer has a test of its own."""
    with patch.object(sign_in, "ANSWER_SECONDS", 0.0):
        yield


class Door:
    """The panel behind the gate, with a limit of 3 failures for an address and 2 for an account there."""

    def __init__(self, application: Any = serve) -> None:
        failures = Failures(per_address=3, per_account=2)
        self._entrance = Entrance(
            SignInGate(application, failures), requests_per_address=1000, streams_per_address=10
        )

    async def post(
        self, name: str, password: str, *, address: str = "198.51.100.7", path: str = PATHS[0]
    ) -> Exchange:
        """Try to sign in."""
        return await self.send({"username": name, "password": password}, address, path)

    async def send(
        self, form: dict[str, str], address: str, path: str, session: str = ""
    ) -> Exchange:
        """Send a form with the session that it belongs to."""
        form["csrfmiddlewaretoken"] = TOKEN
        body = urlencode(form).encode()
        scope = make_scope(
            path=path,
            content_type=FORM,
            content_length=str(len(body)),
            host="localhost",
            cookie=f"csrftoken={TOKEN}; {session}",
        )
        scope["client"] = (address, 1)
        exchange = Exchange([body])
        await exchange.run(self._entrance, scope)
        return exchange


def run(scenario: Any) -> Any:
    """Run a scenario; no thread keeps a connection afterwards."""

    async def run_and_close() -> Any:
        try:
            return await scenario
        finally:
            await sync_to_async(connections.close_all)()

    return asyncio.run(run_and_close())


@pytest.mark.parametrize("path", PATHS)
def test_who_fails_too_often_waits_and_nobody_else(alice: User, path: str) -> None:
    async def scenario() -> list[Exchange]:
        door = Door()
        return [
            await door.post("alice", "wrong", path=path),
            await door.post(" ALICE ", "wrong", path=path),
            # The account has failed twice from here: its password is not even checked.
            await door.post("alice", "alice-password", path=path),
            await door.post("bob", "wrong", path=path),
            # And the address three times.
            await door.post("carol", "wrong", path=path),
            await door.post("alice", "alice-password", path=path, address="203.0.113.9"),
        ]

    exchanges = run(scenario())
    statuses = [exchange.status for exchange in exchanges]
    assert statuses == [200, 200, 429, 200, 429, 302]
    assert 290 <= int(exchanges[2].headers[b"retry-after"]) <= 300
    assert b"Try again in 5 minutes" in exchanges[2].sent[1]["body"]


def test_what_is_turned_away_is_recorded_once_a_minute_with_its_number(alice: User) -> None:
    cache.clear()  # Earlier tests were turned away from the same address.
    throttled = AccountEvent.objects.filter(kind=EventKind.THROTTLED).order_by("pk")

    def read() -> list[tuple[str, str, str, int]]:
        return list(throttled.values_list("name", "actor_name", "address", "count"))

    async def scenario() -> list[Any]:
        door = Door()
        for _ in range(2):
            await door.post("alice", "wrong")
        assert not await sync_to_async(throttled.exists)()
        flood = [(await door.post("alice", "wrong")).status for _ in range(5)]
        first = await sync_to_async(read)()
        cache.delete("turned-away-reported:198.51.100.7")  # As after a minute.
        await door.post("alice", "wrong")
        return [flood, first, await sync_to_async(throttled.values_list("count", flat=True).last)()]

    flood, first, count = run(scenario())
    assert flood == [429] * 5
    assert first == [("alice", "alice", "198.51.100.7", 1)]
    assert count in (5, 1 + 5)  # In the row of a new minute, or of the same one.


@pytest.mark.parametrize(
    ("path", "field"),
    [("/accounts/password/", "old_password"), ("/accounts/reauthenticate/", "password")],
)
def test_who_found_a_session_open_does_not_guess_its_password(
    alice: User, path: str, field: str
) -> None:
    client = Client()
    client.force_login(alice)
    session = f"sessionid={client.cookies['sessionid'].value}"

    async def scenario() -> list[int | None]:
        door = Door()
        forms = [{field: f"guess {number}"} for number in range(3)]
        return [(await door.send(form, "198.51.100.7", path, session)).status for form in forms]

    assert run(scenario()) == [200, 200, 429]


def test_who_signs_in_is_forgiven(alice: User) -> None:
    async def scenario() -> list[int | None]:
        door = Door()
        passwords = ["wrong", "alice-password"] * 4
        return [(await door.post("alice", password)).status for password in passwords]

    assert run(scenario()) == [200, 302] * 4


def test_one_address_tries_one_after_another_and_two_try_at_a_time(alice: User) -> None:
    trying: list[str] = []
    most: list[int] = []

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        address = scope["client"][0]
        assert address not in trying
        trying.append(address)
        most.append(len(trying))
        await asyncio.sleep(0.01)
        trying.remove(address)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async def scenario() -> list[Exchange]:
        door = Door(slow)
        return await asyncio.gather(
            *(door.post("alice", "wrong") for _ in range(50)),
            *(door.post("alice", "wrong", address=f"203.0.113.{n}") for n in range(5)),
        )

    exchanges = run(scenario())
    flood = [exchange.status for exchange in exchanges[:50]]
    assert flood.count(200) == 1 + MOST_OF_ADDRESS_WAITING
    assert flood.count(429) == 50 - 1 - MOST_OF_ADDRESS_WAITING
    # The flood has a queue of its own, and takes no place from others.
    assert [exchange.status for exchange in exchanges[50:]] == [200] * 5
    assert max(most) == 2
    refused = next(exchange for exchange in exchanges if exchange.status == 429)
    assert int(refused.headers[b"retry-after"]) > 0


def test_beyond_two_and_eight_more_the_answer_is_429() -> None:
    release = asyncio.Event()

    async def held(scope: Any, receive: Any, send: Any) -> None:
        await release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async def scenario() -> list[int | None]:
        door = Door(held)
        tries = [
            asyncio.create_task(door.post("alice", "wrong", address=f"203.0.113.{n}"))
            for n in range(30)
        ]
        done, _ = await asyncio.wait(tries[10:])
        assert len(done) == 20
        assert not any(one.done() for one in tries[:10])
        release.set()
        return [(await one).status for one in tries]

    assert run(scenario()) == [200] * 10 + [429] * 20


def test_an_attempt_whose_client_leaves_counts_and_frees_its_place() -> None:
    begun = asyncio.Event()

    async def never(*_: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def scenario() -> int | None:
        door = Door(never)
        for _ in range(2):
            attempt = asyncio.create_task(door.post("alice", "wrong"))
            await begun.wait()
            begun.clear()
            attempt.cancel()
            await asyncio.gather(attempt, return_exceptions=True)
        async with asyncio.timeout(5):  # Attempts that are let through are never answered here.
            return (await door.post("alice", "wrong")).status

    assert run(scenario()) == 429


def test_a_name_that_nobody_has_is_answered_as_one_that_somebody_has(alice: User) -> None:
    async def scenario() -> list[tuple[int | None, str, float]]:
        door = Door()
        answers = []
        for name in ("alice", "nobody"):
            began = monotonic()
            exchange = await door.post(name, "wrong")
            body = b"".join(message.get("body", b"") for message in exchange.sent).decode()
            page = re.sub(r'value="\w{64}"', "", body.replace(name, "NAME"))
            answers.append((exchange.status, page, monotonic() - began))
        return answers

    with patch.object(sign_in, "ANSWER_SECONDS", 0.3):
        known, unknown = run(scenario())
    assert known[:2] == unknown[:2]
    assert min(known[2], unknown[2]) >= 0.3


def test_a_form_that_is_too_large_is_refused_before_django_sees_it() -> None:
    exchange = run(Door(application=None).post("alice", "x" * 70_000))
    assert exchange.status == 413


@pytest.mark.parametrize(
    ("content_type", "body", "account"),
    [
        (FORM, b"username=Alice&password=x", "alice"),
        (FORM, b"username=bob&username=Alice", "alice"),
        (FORM, "username=\uff41\uff4c\uff49\uff43\uff45".encode(), "alice"),
        (FORM, b"username=%FF", "\ufffd"),
        (FORM, b"", ""),
        (FORM, b"&".join(b"a=1" for _ in range(2000)), ""),
        ("application/json", b'{"username": "alice"}', ""),
        ("multipart/form-data; boundary=B", PART, "alice"),
        ("multipart/form-data", b"username=alice", ""),
        ("multipart/form-data; boundary=B", b"--B\r\nbroken", ""),
        ("multipart/form-data; boundary=B; charset=base64", PART, ""),
        ("multipart/form-data; boundary=B", PART.replace(b"\r\n\r\n", BAD_HEADER), ""),
        (f"{FORM}; charset=no-such-charset", b"username=alice", "alice"),
        (FORM, b"username=" + b"a" * 5000, "a" * 150),
    ],
)
def test_the_account_is_what_django_will_read(content_type: str, body: bytes, account: str) -> None:
    scope = make_scope(content_type=content_type, content_length=str(len(body)))
    assert account_in(scope, body) == account


@pytest.mark.parametrize("blanks", ["", " " * 300])
def test_only_the_beginning_of_a_name_is_normalized(
    monkeypatch: pytest.MonkeyPatch, blanks: str
) -> None:
    normalize = Mock(side_effect=unicodedata.normalize)
    monkeypatch.setattr(unicodedata, "normalize", normalize)
    body = urlencode({"username": blanks + "A" + "\u0301\u0316" * 5000}).encode()
    scope = make_scope(content_type=FORM, content_length=str(len(body)))
    assert account_in(scope, body).startswith("\u00e1")
    assert [len(call.args[1]) for call in normalize.call_args_list] == [150]


def test_an_address_that_may_try_nothing_is_refused_before_its_form_is_parsed() -> None:
    async def scenario() -> Exchange:
        door = Door()
        for name in ("alice", "bob", "carol"):
            await door.post(name, "wrong")
        with patch.object(sign_in, "account_in", side_effect=AssertionError):
            return await door.post("dave", "wrong")

    assert run(scenario()).status == 429


def test_a_sign_in_outside_of_the_gate_works(alice: User) -> None:
    request = HttpRequest()
    assert authenticate(request, username="alice", password="wrong") is None
    assert authenticate(request, username="alice", password="alice-password") == alice
