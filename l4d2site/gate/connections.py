"""Limits on connections: how many, in all and per address, and how long a request may take to begin."""

import asyncio
import resource
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from django.utils.translation import gettext as _
from gunicorn.asgi.protocol import ASGIProtocol

from l4d2site.gate.addresses import TrustedProxies, address_group, read_address
from l4d2site.gate.answers import RefusedError

KEPT_DESCRIPTORS = 256
"""Reserved for what pages need besides a connection: the database, templates, a burst of refusals."""
LINGER_SECONDS = 1.0
MOST_LINGERING = 64
RETRY_SECONDS = 10


@dataclass(frozen=True)
class ConnectionLimits:
    """`worker_connections`, `CONNECTIONS_PER_ADDRESS`, `HEADER_SECONDS` and `TRUSTED_PROXIES`."""

    most: int
    per_address: int
    header_seconds: float
    proxies: TrustedProxies


class Connections:
    """Counts open connections. Called in the worker's event loop."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.lingering = 0
        self._open = 0
        self._of_address: Counter[str] = Counter()

    def enter(self, peer: str) -> str:
        """Count a connection of `peer`; return the argument for `leave`. Raises `RefusedError`.

        A trusted proxy's connections do not count for its address: each stands for somebody else.
        """
        is_proxy = self.limits.proxies.trusts(peer)
        address = "" if is_proxy else address_group(peer)
        if not is_proxy and self._of_address[address] >= self.limits.per_address:
            raise RefusedError(
                HTTPStatus.TOO_MANY_REQUESTS,
                _(
                    "Your address already has %(most)d open connections. Close some pages, or try"
                    " again in %(seconds)d seconds."
                )
                % {"most": self.limits.per_address, "seconds": RETRY_SECONDS},
                retry_seconds=RETRY_SECONDS,
                ends_connection=True,
            )
        if self._open >= self.limits.most:
            raise RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                _("The panel has no connections left. Try again in %(seconds)d seconds.")
                % {"seconds": RETRY_SECONDS},
                retry_seconds=RETRY_SECONDS,
                ends_connection=True,
            )
        self._open += 1
        if not is_proxy:
            self._of_address[address] += 1
        return address

    def leave(self, address: str) -> None:
        """Count one connection less."""
        self._open -= 1
        if self._of_address[address]:
            self._of_address[address] -= 1
        if not self._of_address[address]:
            del self._of_address[address]


class GateProtocol(ASGIProtocol):  # type: ignore[misc]
    """gunicorn's connection, with limits that gunicorn's ASGI worker lacks.

    That worker counts `worker_connections` but does not stop at the limit, and waits forever for the first
    request.
    """

    def __init__(self, worker: Any) -> None:
        super().__init__(worker)
        # Data waiting for the application; a large form fits in.
        self._max_buffer_size = 64 * 1024
        self._connections: Connections = worker.connections
        self._address: str | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_refused = False

    def connection_made(self, transport: Any) -> None:
        """Accept the connection, or answer why not and end it."""
        peer = transport.get_extra_info("peername")
        try:
            self._address = self._connections.enter(read_address(peer[0]) if peer else "")
        except RefusedError as refusal:
            self._refuse(transport, refusal)
            return
        super().connection_made(transport)
        self._timer = self.worker.loop.call_later(
            self._connections.limits.header_seconds, self._end_for_silence
        )

    def data_received(self, data: bytes) -> None:
        """Handle the data, unless the connection was refused."""
        if not self._is_refused:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the connection."""
        self._stop_timer()
        if self._is_refused:
            self._connections.lingering -= 1
        else:
            super().connection_lost(exc)
        if self._address is not None:
            self._connections.leave(self._address)
            self._address = None

    def _feed_callback_parser(self, data: bytes) -> bool:
        """Parse the data; return whether the connection goes on.

        gunicorn reads Content-Length with `int`, which raises ValueError from 4,301 digits on. Nothing catches
        that, and asyncio would write a traceback into the log for each.
        """
        try:
            return bool(super()._feed_callback_parser(data))
        except ValueError:
            if not self._callback_parser or not has_endless_length(self._callback_parser.headers):
                raise
        self._send_error_response(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE.value, _("Content-Length has too many digits.")
        )
        self._close_transport()
        return False

    def _on_headers_complete(self) -> Any:
        self._stop_timer()
        return super()._on_headers_complete()

    def _refuse(self, transport: Any, refusal: RefusedError) -> None:
        """Answer before reading a request, without a task or a parser for it.

        The connection stays open a moment for the request to arrive: closing it earlier would reset it, and the
        client might lose the answer. In a flood there is no time for that.
        """
        self._is_refused = True
        self._connections.lingering += 1
        transport.write(refusal.as_http1())
        if self._connections.lingering > MOST_LINGERING:
            transport.close()
            return
        transport.write_eof()
        self._timer = self.worker.loop.call_later(LINGER_SECONDS, transport.abort)

    def _end_for_silence(self) -> None:
        seconds = self._connections.limits.header_seconds
        refusal = RefusedError(
            HTTPStatus.REQUEST_TIMEOUT,
            _("No complete request arrived within %(seconds)g seconds.") % {"seconds": seconds},
            ends_connection=True,
        )
        self._safe_write(refusal.as_http1())
        self._close_transport()
        # Its task is waiting for a request, and now sees that none will come.
        self._request_ready.set()

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None


def has_endless_length(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return whether a Content-Length has more digits than Python turns into a number."""
    most = sys.get_int_max_str_digits()
    return any(name.lower() == b"content-length" and len(value) > most for name, value in headers)


def most_connections(wanted: int) -> int:
    """Return how many connections this process can have: `wanted`, or what its descriptors allow."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(descriptors - KEPT_DESCRIPTORS, descriptors // 2))
