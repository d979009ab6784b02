"""A client of the upload door without a network: each request is one call of the ASGI application."""

import asyncio
import base64
from collections.abc import Iterable
from typing import Any

from django.contrib.auth.models import User
from django.test import Client

from l4d2site.gate.answers import Application, Receive, Scope, Send
from l4d2site.gate.entrance import behind_gate
from l4d2site.uploads import UploadDoor
from servers.models import Upload
from tests.site.gate.asgi import Exchange, make_scope

ORIGIN = "http://testserver"
BODY = "application/offset+octet-stream"


async def nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer everything that the door does not."""
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def encode(**metadata: str) -> str:
    """Return metadata as a header has it."""
    return ",".join(
        f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in metadata.items()
    )


class DoorClient:
    """Somebody who is signed in, at the door behind the gate as it is deployed."""

    def __init__(self, user: User | None, application: Application | None = None) -> None:
        self.application = application or behind_gate(nothing_here, door=UploadDoor)
        self.cookie = ""
        if user:
            client = Client()
            client.force_login(user)
            self.cookie = f"sessionid={client.cookies['sessionid'].value}"

    def scope(self, method: str, path: str, **headers: str) -> dict[str, object]:
        """Return the scope of one of their requests; a header that is "" is left out."""
        usual = {
            "host": "testserver",
            "origin": ORIGIN,
            "cookie": self.cookie,
            "tus_resumable": "1.0.0",
        }
        given = {name: value for name, value in {**usual, **headers}.items() if value}
        return make_scope(method, path, **given)

    def ask(
        self,
        method: str,
        path: str,
        parts: Iterable[bytes] = (),
        *,
        is_complete: bool = True,
        **headers: str,
    ) -> Exchange:
        """Return the exchange of one request. Its body ends with `parts`, or with the connection's end."""

        async def talk() -> Exchange:
            exchange = Exchange(parts, is_complete=is_complete)
            exchange.has_left.set()
            await exchange.run(self.application, self.scope(method, path, **headers))
            return exchange

        return asyncio.run(talk())

    def create(
        self, upload: Upload, path: str, size: int, parts: Iterable[bytes] = (), **headers: str
    ) -> Exchange:
        """Create a part, with its first bytes if there are any."""
        if parts:
            headers["content_type"] = BODY
        given: dict[str, Any] = {
            "upload_length": str(size),
            "upload_metadata": encode(path=path),
            **headers,
        }
        return self.ask(
            "POST",
            f"/uploads/{upload.pk}/",
            parts,
            **given,
        )

    def patch(
        self, location: str, offset: int, parts: Iterable[bytes], *, is_complete: bool = True
    ) -> Exchange:
        """Send bytes of a part; unless it `is_complete`, the connection ends before the body does."""
        return self.ask(
            "PATCH",
            location,
            parts,
            is_complete=is_complete,
            content_type=BODY,
            upload_offset=str(offset),
        )

    def offset(self, location: str) -> int:
        """Return how much of a part has arrived."""
        exchange = self.ask("HEAD", location, origin="")
        assert exchange.status == 200, exchange.sent
        return int(exchange.headers[b"upload-offset"])


def location_of(exchange: Exchange) -> str:
    """Return the address of the part that a request has created."""
    assert exchange.status == 201, exchange.sent
    return exchange.headers[b"location"].decode()


def text_of(exchange: Exchange) -> str:
    """Return the text of an answer."""
    return str(exchange.sent[1]["body"].decode())
