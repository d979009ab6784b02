"""ASGI without a server: what an application receives, and what it answers."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from l4d2site.gate.answers import Application


def make_scope(method: str = "POST", path: str = "/", **headers: str) -> dict[str, Any]:
    """Return the scope of a request from 198.51.100.7."""
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [
            (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
        ],
        "client": ("198.51.100.7", 4711),
    }


class Exchange:
    """One request: the parts of its body that have arrived, and the answer so far."""

    def __init__(self, parts: Iterable[bytes] = (), *, is_complete: bool = True) -> None:
        parts = list(parts) or [b""]
        last = len(parts) - 1
        self._messages = [
            {"type": "http.request", "body": part, "more_body": index < last or not is_complete}
            for index, part in enumerate(parts)
        ]
        self.sent: list[Mapping[str, Any]] = []
        self.has_left = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        """Return the next part; after the last one wait until the client leaves."""
        if self._messages:
            return self._messages.pop(0)
        await self.has_left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Mapping[str, Any]) -> None:
        """Accept a part of the answer."""
        self.sent.append(message)

    @property
    def parts_left(self) -> int:
        """How many parts of the body have not been requested."""
        return len(self._messages)

    @property
    def status(self) -> int | None:
        """The status of the answer, if it has begun."""
        return self.sent[0]["status"] if self.sent else None

    @property
    def headers(self) -> dict[bytes, bytes]:
        """The headers of the answer."""
        return dict(self.sent[0]["headers"])

    async def run(self, application: Application, scope: dict[str, Any]) -> None:
        """Have the application serve the request."""
        await application(scope, self.receive, self.send)


async def read_all(scope: Mapping[str, Any], receive: Any, send: Any) -> None:
    """Answer with the number of bytes received: the simplest possible application."""
    count, has_more = 0, True
    while has_more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        count += len(message["body"])
        has_more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % count})
