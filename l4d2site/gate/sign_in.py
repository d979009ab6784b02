"""Limits on sign-in attempts: how many may fail, how many run at a time, and a queue that needs no threads."""

import asyncio
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO
from math import ceil
from typing import Any

from django.contrib.auth.signals import user_logged_in, user_login_failed
from django.core.handlers.asgi import ASGIRequest
from django.db import connection
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from l4d2site.gate.addresses import address_group, client_address
from l4d2site.gate.answers import Application, Message, Receive, RefusedError, Scope, Send
from l4d2site.gate.failures import Failures
from l4d2site.gate.password_hashing import HASHES_AT_ONCE, MOST_WAITING, busy
from l4d2site.gate.throttling import count_turned_away, turned_away
from l4d2site.gate.turns import TooManyWaitError, Turns, TurnsOfEach

PATHS = frozenset(
    {"/accounts/login/", "/admin/login/", "/accounts/password/", "/accounts/reauthenticate/"}
)
"""Where passwords are checked. The last two check a signed-in person's: a stolen session must not help to guess
it."""
MOST_BODY_BYTES = 64 * 1024
ANSWER_SECONDS = 0.5
"""The minimum duration of a failed attempt. An account that has not signed in since PBKDF2 hashed passwords
takes longer to check than an unknown name: without this, the duration would reveal which names exist."""
MOST_OF_ADDRESS_WAITING = 8
LONGEST_NAME = 150
KEY = "saferoom.sign_in"


@dataclass
class Attempt:
    """The outcome of an attempt, according to Django's signals."""

    has_failed: bool = False
    has_succeeded: bool = False


class SignInGate:
    """Lets attempts at `PATHS` through to the application: one per address, and two in all, at a time.

    Each address first has a queue of its own, so that a flood from one takes no place from the others.
    """

    def __init__(self, application: Application, failures: Failures) -> None:
        self._application = application
        self._failures = failures
        self._turns_of_address = TurnsOfEach(most_waiting=MOST_OF_ADDRESS_WAITING)
        self._turns = Turns(at_once=HASHES_AT_ONCE, most_waiting=MOST_WAITING)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve a request. Raises `RefusedError` before anything was sent."""
        if not is_attempt(scope):
            await self._application(scope, receive, send)
            return
        body = await read_body(receive)
        if body is None:
            return
        address = address_group(client_address(scope))
        # An address that may try no account is refused before its form is parsed.
        await self._require_few_failures(scope, address, account=None)
        account = account_in(scope, body)
        await self._require_few_failures(scope, address, account)
        try:
            async with self._turns_of_address.take(address):
                # The attempts before it in the queue may have used up the limit.
                await self._require_few_failures(scope, address, account)
                answer = await self._attempt(scope, body, address, account)
        except TooManyWaitError:
            raise busy() from None
        for message in answer:
            await send(message)

    async def _attempt(
        self, scope: Scope, body: bytes, address: str, account: str
    ) -> list[Message]:
        """Have the application answer; return the answer, and count the outcome.

        The answer is collected first, so that no slow reader keeps the others waiting.
        """
        attempt = Attempt()
        scope = {**scope, "state": {**scope.get("state", {}), KEY: attempt}}
        answer: list[Message] = []

        async def keep(message: Message) -> None:
            answer.append(message)

        async with self._turns.take():
            began = asyncio.get_running_loop().time()
            try:
                await self._application(scope, replay(body), keep)
            except asyncio.CancelledError:
                # The client left without learning the outcome, but it was an attempt.
                self._failures.add(address, account)
                raise
        if attempt.has_failed:
            self._failures.add(address, account)
            await asyncio.sleep(began + ANSWER_SECONDS - asyncio.get_running_loop().time())
        elif attempt.has_succeeded:
            self._failures.forgive(address, account)
        return answer

    async def _require_few_failures(self, scope: Scope, address: str, account: str | None) -> None:
        seconds = self._failures.wait_seconds(address, account)
        if seconds:
            await report_turned_away(scope, account or "")
            minutes = ceil(seconds / 60)
            raise RefusedError(
                HTTPStatus.TOO_MANY_REQUESTS,
                ngettext(
                    "Too many attempts to sign in from your address have failed. Try again in "
                    "%(minutes)d minute.",
                    "Too many attempts to sign in from your address have failed. Try again in "
                    "%(minutes)d minutes.",
                    minutes,
                )
                % {"minutes": minutes},
                retry_seconds=seconds,
            )


async def report_turned_away(scope: Scope, account: str) -> None:
    """Count a refused attempt. Report it in a thread, if that is due: receivers use the database."""
    request = ASGIRequest(dict(scope), BytesIO())
    if not (count := count_turned_away(request)):
        return

    def report() -> None:
        try:
            turned_away.send(sender=__name__, request=request, account=account, count=count)
        finally:
            connection.close()

    await asyncio.to_thread(report)


def is_attempt(scope: Scope) -> bool:
    """Return whether a request may make Django check a password."""
    return scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in PATHS


async def read_body(receive: Receive) -> bytes | None:
    """Return the body of an attempt; None if the client left. Raises `RefusedError`."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > MOST_BODY_BYTES:
            raise RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                _("The sign-in form can be at most %(kibibytes)d KiB.")
                % {"kibibytes": MOST_BODY_BYTES // 1024},
                ends_connection=True,
            )
        if not message.get("more_body", False):
            return bytes(body)


def replay(body: bytes) -> Receive:
    """Return a `receive` that yields `body`, and then nothing.

    It does not even report that the client left: Django would abandon a check that its thread continues, and
    the next check would run at the same time.
    """
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_kept() -> dict[str, Any]:
        if not messages:
            await asyncio.get_running_loop().create_future()
        return messages.pop()

    return receive_kept


def account_in(scope: Scope, body: bytes) -> str:
    """Return the account that an attempt names, parsed from its form exactly as Django will.

    This runs in the event loop. Normalizing takes time quadratic in the length of a run of combining marks, so
    the name is cut first. Django does not normalize a longer one, and refuses it.
    """
    try:
        name = ASGIRequest(dict(scope), BytesIO(body)).POST.get("username", "")
    except Exception:  # noqa: BLE001 - What a stranger sends can make a parser raise anything.
        return ""  # Django will refuse it without checking a password.
    name = str(name).strip()[:LONGEST_NAME]
    return unicodedata.normalize("NFKC", name).strip().casefold()[:LONGEST_NAME]


def attempt_of(request: HttpRequest | None) -> Attempt:
    """Return the attempt of `request`; a throwaway one if it did not come through the gate."""
    scope: Mapping[str, Any] = getattr(request, "scope", {})
    attempt: Attempt = scope.get("state", {}).get(KEY) or Attempt()
    return attempt


@receiver(user_login_failed)
def note_failure(request: HttpRequest | None = None, **_: Any) -> None:
    """Count the attempt of `request` as failed. Views may call this for failures without a signal."""
    attempt_of(request).has_failed = True


@receiver(user_logged_in)
def note_success(request: HttpRequest | None = None, **_: Any) -> None:
    """Let the attempt of `request` forgive earlier failures."""
    attempt_of(request).has_succeeded = True
