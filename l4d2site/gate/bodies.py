"""Limits on request bodies: their encoding, size and speed, and how much of them is held in memory at once."""

import asyncio
import re
from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from django.utils.http import parse_header_parameters
from django.utils.translation import gettext as _

from l4d2site.gate.addresses import address_group, client_address
from l4d2site.gate.answers import Application, Message, Receive, RefusedError, Scope, Send

FREE_BYTES = 16 * 1024
"""Bytes of each body that do not count against the budget: a normal form is accepted even when it is spent."""
SHARE_OF_ADDRESS = 4
"""One address may hold a quarter of the budget."""
RETRY_SECONDS = 10
CHARSET = "utf-8"
CHARSET_PATTERN = r"[a-z0-9_.:+-]{1,40}"
"""What names of charsets look like. Django asks Python for a charset by any name; some raise errors."""
FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")
"""Of other bodies Django decodes nothing."""


@dataclass(frozen=True)
class BodyLimits:
    """`BODY_MAX_BYTES`, `BODIES_MAX_BYTES`, `BODY_IDLE_SECONDS` and `BODY_SECONDS`: see docs/settings.md."""

    most_bytes: int
    most_bytes_held: int
    idle_seconds: float
    seconds: float


class Budget:
    """The bytes held of all bodies, by address."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._held: Counter[str] = Counter()
        self._total = 0

    @property
    def held(self) -> int:
        """How many bytes are held."""
        return self._total

    def take(self, address: str, count: int) -> None:
        """Hold `count` more bytes for `address`. Raises `RefusedError`."""
        if self._held[address] + count > self._most_bytes // SHARE_OF_ADDRESS:
            raise RefusedError(
                HTTPStatus.TOO_MANY_REQUESTS,
                _(
                    "Your address is sending too much at once. Let the current uploads finish "
                    "first."
                ),
                retry_seconds=RETRY_SECONDS,
                ends_connection=True,
            )
        if self._total + count > self._most_bytes:
            raise RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                _("The panel is receiving more than it can hold. Try again in %(seconds)d seconds.")
                % {"seconds": RETRY_SECONDS},
                retry_seconds=RETRY_SECONDS,
                ends_connection=True,
            )
        self._held[address] += count
        self._total += count

    def give_back(self, address: str, count: int) -> None:
        """Release `count` bytes."""
        self._total -= count
        self._held[address] -= count
        if not self._held[address]:
            del self._held[address]


class BoundedBodies:
    """Passes requests to the application with a `receive` that refuses bodies beyond the limits.

    Django reads a whole body, into memory or a file, before it looks at anything else in a request, and
    keeps it until the request has ended.
    """

    def __init__(self, application: Application, limits: BodyLimits) -> None:
        self._application = application
        self._limits = limits
        self.budget = Budget(limits.most_bytes_held)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve a request. Raises `RefusedError` before anything was sent."""
        length = 0 if scope["type"] != "http" else declared_length(scope)
        if length == 0:
            await self._application(scope, receive, send)
            return
        if scope["method"] in ("GET", "HEAD"):
            raise RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                _("A %(method)s request cannot have a body here.") % {"method": scope["method"]},
                ends_connection=True,
            )
        if length is not None and length > self._limits.most_bytes:
            raise too_large(self._limits.most_bytes)
        address = address_group(client_address(scope))
        body = Body(self._limits, self.budget, address, receive, send)
        try:
            await self._application(scope, body.receive, body.send)
        finally:
            body.release()


class Body:
    """The body of one request, as the application receives it."""

    def __init__(
        self, limits: BodyLimits, budget: Budget, address: str, receive: Receive, send: Send
    ) -> None:
        self._limits = limits
        self._budget = budget
        self._address = address
        self._receive = receive
        self._send = send
        self._until = asyncio.get_running_loop().time() + limits.seconds
        self._bytes = 0
        self._counted = 0
        self._is_complete = False
        self._is_answered = False

    async def receive(self) -> dict[str, Any]:
        """Return the next part. Raises `RefusedError`, or `ConnectionAbortedError` if the answer has begun."""
        if self._is_complete:
            return await self._receive()
        try:
            message = await self._receive_in_time()
            self._take(len(message.get("body", b"")))
        except RefusedError:
            if self._is_answered:
                raise ConnectionAbortedError("a limit was broken after the answer began") from None
            raise
        self._is_complete = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Pass on a part of the answer."""
        self._is_answered = True
        await self._send(message)

    def release(self) -> None:
        """Return this body's bytes to the budget."""
        self._budget.give_back(self._address, self._counted)

    async def _receive_in_time(self) -> dict[str, Any]:
        until = min(self._until, asyncio.get_running_loop().time() + self._limits.idle_seconds)
        try:
            async with asyncio.timeout_at(until):
                return await self._receive()
        except TimeoutError:
            raise RefusedError(
                HTTPStatus.REQUEST_TIMEOUT,
                _(
                    "What you sent did not arrive in time: nothing came for %(idle)g seconds, or "
                    "the whole took more than %(all)g. Send it again."
                )
                % {"idle": self._limits.idle_seconds, "all": self._limits.seconds},
                ends_connection=True,
            ) from None

    def _take(self, count: int) -> None:
        self._bytes += count
        if self._bytes > self._limits.most_bytes:
            raise too_large(self._limits.most_bytes)
        more = max(0, self._bytes - FREE_BYTES) - self._counted
        if more:
            self._budget.take(self._address, more)
            self._counted += more


def declared_length(scope: Scope) -> int | None:
    """Return the length that a request declares for its body; None if it comes in chunks."""
    headers = dict(scope["headers"])
    if b"transfer-encoding" in headers:
        return None
    return int(headers.get(b"content-length", 0))


def check_transfer_encoding(scope: Scope) -> None:
    """Refuse a body that is compressed on its way: it would be read as if it were not (RFC 9112, 6.1).

    Raises `RefusedError`.
    """
    encodings = [
        value.strip().lower() for name, value in scope["headers"] if name == b"transfer-encoding"
    ]
    if encodings not in ([], [b"chunked"]):
        raise RefusedError(
            HTTPStatus.NOT_IMPLEMENTED,
            _("The panel takes what you send as it is, and not compressed on its way."),
            ends_connection=True,
        )


def check_encodings(scope: Scope) -> None:
    """Refuse a request that Django could not make an object of, and a form in another charset than UTF-8.

    It would log a traceback of each, with some of them for each middleware. Raises `RefusedError`.
    """
    types = b",".join(value for name, value in scope["headers"] if name == b"content-type")
    try:
        scope.get("query_string", b"").decode()
        kind, parameters = parse_header_parameters(types.decode("latin-1"))
        charset = str(parameters.get("charset") or CHARSET).lower()
        is_readable = re.fullmatch(CHARSET_PATTERN, charset) is not None
    except Exception:  # noqa: BLE001 - The parser of mails that Django uses for this raises anything.
        is_readable = False
    if not is_readable:
        raise RefusedError(
            HTTPStatus.BAD_REQUEST,
            _("The panel cannot read this request."),
            ends_connection=True,
        )
    if kind.lower() in FORM_TYPES and charset != CHARSET:
        raise RefusedError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            _("The panel takes only UTF-8."),
            ends_connection=True,
        )


def too_large(most_bytes: int) -> RefusedError:
    """Return the refusal of a body that is too large."""
    return RefusedError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        _("What you sent is too large: the panel takes at most %(mebibytes)g MiB in one request.")
        % {"mebibytes": most_bytes / 1024**2},
        ends_connection=True,
    )
