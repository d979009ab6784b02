"""How the gate refuses: with a status, a sentence, and when to try again."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from math import ceil
from typing import Any

from l4d2site.gate.refusal_pages import CONTENT_SECURITY_POLICY, render_page, wants_page

Scope = Mapping[str, Any]
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

UNKNOWN_REQUEST: Scope = {"method": "", "headers": []}
LINGER_SECONDS = 2.0
LINGER_BYTES = 8 * 1024**2


class RefusedError(Exception):
    """A request is refused; `str` gives the sentence for the client.

    `ends_connection` if part of the request has not been read: no other request can follow it.
    """

    def __init__(
        self,
        status: HTTPStatus,
        text: str,
        *,
        retry_seconds: float = 0,
        ends_connection: bool = False,
    ) -> None:
        super().__init__(text)
        self.status = status
        self.retry_seconds = retry_seconds
        self.ends_connection = ends_connection

    @property
    def extra_headers(self) -> list[tuple[bytes, bytes]]:
        """What a subclass adds to the headers of the answer."""
        return []

    def answer(self, scope: Scope = UNKNOWN_REQUEST) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Return the headers and the body: a page for a browser that asks for one, else plain text."""
        body, kind = f"{self}\n".encode(), b"text/plain; charset=utf-8"
        is_page = wants_page(scope)
        if is_page:
            body = render_page(str(self), is_post=scope["method"] == "POST")
            kind = b"text/html; charset=utf-8"
        headers = [
            (b"content-type", kind),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),  # The address may be a link that anybody can use.
        ]
        if is_page:
            headers.append((b"content-security-policy", CONTENT_SECURITY_POLICY.encode()))
        if self.retry_seconds:
            headers.append((b"retry-after", b"%d" % ceil(self.retry_seconds)))
        if self.ends_connection:
            headers.append((b"connection", b"close"))
        return headers + self.extra_headers, body

    def as_http1(self) -> bytes:
        """Return the whole answer as sent over a connection that no application has seen."""
        start = f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\n".encode()
        headers, body = self.answer()
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        return start + lines + b"\r\n" + body


async def send_refusal(refusal: RefusedError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with `refusal`, and give a client that is still sending the time to read it.

    Closing a connection while bytes arrive resets it, and many clients then lose the answer.
    """
    headers, body = refusal.answer(scope)
    await send({"type": "http.response.start", "status": refusal.status.value, "headers": headers})
    # gunicorn warns of each body of an answer to HEAD, whose headers are those of GET.
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
    if refusal.ends_connection:
        until = asyncio.get_running_loop().time() + LINGER_SECONDS
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await discard(receive, until)


async def discard(receive: Receive, until: float) -> None:
    """Read and discard the rest of a request, until a time of the loop's clock.

    If it exceeds `LINGER_BYTES`, nothing is read for the rest of the time: the client's sending then stalls,
    which may make it read.

    The time is looked at here as well. `asyncio.wait_for`, with which gunicorn waits for a body, swallows a
    cancellation that comes at the same moment as a part of the body (Python before 3.12).
    """
    loop = asyncio.get_running_loop()
    left = LINGER_BYTES
    while left > 0 and loop.time() < until:
        message = await receive()
        left -= len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return
    await asyncio.sleep(until - loop.time())
