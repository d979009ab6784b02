"""The outermost ASGI application: determines the client's address once, and refuses what is too much."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from l4d2site.gate.addresses import address_group, client_address
from l4d2site.gate.answers import Application, Receive, RefusedError, Scope, Send, send_refusal
from l4d2site.gate.bodies import (
    BodyLimits,
    BoundedBodies,
    check_encodings,
    check_transfer_encoding,
)
from l4d2site.gate.failures import Failures
from l4d2site.gate.sign_in import SignInGate

RETRY_SECONDS = 10


def behind_gate(
    application: Application, *, door: Callable[[Application], Application] = lambda rest: rest
) -> "Entrance":
    """Return `application` behind everything that the settings ask for.

    `door` comes before the body limits: requests that it handles itself must be limited by it.
    """
    failures = Failures(
        per_address=settings.SIGN_IN_FAILURES_PER_ADDRESS,
        per_account=settings.SIGN_IN_FAILURES_PER_ACCOUNT,
    )
    limits = BodyLimits(
        most_bytes=settings.BODY_MAX_BYTES,
        most_bytes_held=settings.BODIES_MAX_BYTES,
        idle_seconds=settings.BODY_IDLE_SECONDS,
        seconds=settings.BODY_SECONDS,
    )
    return Entrance(
        door(BoundedBodies(SignInGate(application, failures), limits)),
        requests_per_address=settings.CONNECTIONS_PER_ADDRESS,
        streams_per_address=settings.STREAMS_PER_ADDRESS,
    )


class Entrance:
    """Limits each address's simultaneous requests and streams, and sends the refusals raised inside.

    A connection carries one request at a time. So for clients behind a proxy, whose connections are not
    counted, the connection limit applies to requests. Django gets the client's address in `REMOTE_ADDR`.
    """

    def __init__(
        self, application: Application, *, requests_per_address: int, streams_per_address: int
    ) -> None:
        self._application = application
        self._requests = Places(requests_per_address)
        self._streams = Places(streams_per_address)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        elif scope["type"] != "http":
            await self._application(scope, receive, send)
        else:
            address = client_address(scope)
            client = (address, 0) if address else None
            try:
                await self._serve({**scope, "client": client}, address, receive, send)
            except RefusedError as refusal:
                await send_refusal(refusal, scope, receive, send)

    async def _serve(
        self, scope: dict[str, Any], address: str, receive: Receive, send: Send
    ) -> None:
        kind = self._streams if is_stream(scope) else self._requests
        with kind.taken(address_group(address)):
            check_transfer_encoding(scope)
            check_encodings(scope)
            await self._application(scope, receive, send)


class Places:
    """A limited number of places for each address."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: Counter[str] = Counter()

    @contextmanager
    def taken(self, address: str) -> Iterator[None]:
        """Run the block in a place of `address`. Raises `RefusedError`."""
        if self._taken[address] >= self._most:
            raise RefusedError(
                HTTPStatus.TOO_MANY_REQUESTS,
                _(
                    "Your address already has %(most)d open requests of this kind. Close some "
                    "pages, or try again in %(seconds)d seconds."
                )
                % {"most": self._most, "seconds": RETRY_SECONDS},
                retry_seconds=RETRY_SECONDS,
            )
        self._taken[address] += 1
        try:
            yield
        finally:
            self._taken[address] -= 1
            if not self._taken[address]:
                del self._taken[address]


def is_stream(scope: Scope) -> bool:
    """Return whether a request is for a stream, which may last for days.

    The addresses of all streams, and of nothing else, end in `/events`.
    """
    path: str = scope["path"]
    return path.endswith("/events")
