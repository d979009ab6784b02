"""How the ASGI application lets Django answer a page."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from l4d2site.asgi import serve

MOST_TRIPS = 3
"""Django's signal that a request has begun, the answer, and its end."""


def test_the_middlewares_of_a_page_run_in_one_trip_to_its_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trips: list[object] = []
    submit: Any = ThreadPoolExecutor.submit

    def count(self: ThreadPoolExecutor, *args: Any) -> Any:
        trips.append(args)
        return submit(self, *args)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", count)
    assert asyncio.run(fetch("/livez")) == 200
    assert len(trips) <= MOST_TRIPS, trips


async def fetch(path: str) -> int:
    """Fetch a page as a web server would, and return its status."""
    sent: list[Mapping[str, Any]] = []
    requests = [{"type": "http.request", "body": b"", "more_body": False}]
    is_over = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if requests:
            return requests.pop()
        await is_over.wait()
        return {"type": "http.disconnect"}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            is_over.set()

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
    }
    await serve(scope, receive, send)
    return int(sent[0]["status"])
