"""Files of the store, as the panel sends them to workers on other machines: only at signed addresses."""

import asyncio
import hashlib
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from django.conf import LazySettings
from django.http import HttpResponseBase
from django.test import AsyncClient
from django.urls import reverse

from l4d2site.asgi import serve
from servers.pages.blob_pages import PART_BYTES
from servers.store import get_store, sign_blob_path

CONTENT = bytes(range(256)) * (3 * PART_BYTES // 256) + b"the end"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = hashlib.sha256(b"another").hexdigest()


@pytest.fixture(autouse=True)
def store(settings: LazySettings, tmp_path: Path) -> None:
    """Give the panel a store with two files."""
    settings.CONTENT_ROOT = tmp_path / "content"
    with get_store().adding():
        get_store().add_bytes(CONTENT)
        get_store().add_bytes(b"another")


def ask(path: str, method: str = "get", **headers: str) -> tuple[HttpResponseBase, bytes]:
    """Return the answer to an anonymous request, and its body."""

    async def scenario() -> tuple[HttpResponseBase, bytes]:
        response = await getattr(AsyncClient(), method)(path, headers=headers)
        if not response.streaming:
            return response, response.content
        return response, b"".join([part async for part in response])

    return asyncio.run(scenario())


def test_a_signed_address_gives_the_file_and_nothing_may_keep_it() -> None:
    response, body = ask(sign_blob_path(SHA256))
    assert (response.status_code, body) == (200, CONTENT)
    assert response.headers["Content-Length"] == str(len(CONTENT))
    assert response.headers["Cache-Control"] == "no-store"
    head, nothing = ask(sign_blob_path(SHA256), "head")
    assert (head.status_code, nothing) == (200, b"")
    assert head.headers["Content-Length"] == str(len(CONTENT))
    assert ask(sign_blob_path(SHA256), "post")[0].status_code == 405


def test_a_transfer_that_was_cut_goes_on() -> None:
    begin = len(CONTENT) - 10
    response, body = ask(sign_blob_path(SHA256), Range=f"bytes={begin}-")
    assert (response.status_code, body) == (206, CONTENT[begin:])
    place = f"bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}"
    assert response.headers["Content-Range"] == place
    response, _ = ask(sign_blob_path(SHA256), Range=f"bytes={len(CONTENT)}-")
    assert response.status_code == 416
    response, body = ask(sign_blob_path(SHA256), Range="bytes=0-1,5-6")
    assert (response.status_code, body) == (200, CONTENT)


def test_whatever_is_wrong_with_an_address_is_answered_alike() -> None:
    query = sign_blob_path(SHA256).partition("?")[2]
    gone = hashlib.sha256(b"not in the store").hexdigest()
    paths = [
        reverse("servers:blob", args=[SHA256]),
        f"{reverse('servers:blob', args=[SHA256])}?signed=",
        f"{reverse('servers:blob', args=[OTHER])}?{query}",
        sign_blob_path(SHA256).replace("signed=", "signed=1"),
        sign_blob_path(SHA256)[:-1] + ("A" if query[-1] != "A" else "B"),
        sign_blob_path(gone),
        sign_blob_path("incoming"),
        sign_blob_path("store.lock"),
    ]
    answers = {(response.status_code, body) for response, body in map(ask, paths)}
    assert answers == {(404, b"There is nothing at this address.")}


def test_an_address_is_good_for_an_hour() -> None:
    path = sign_blob_path(SHA256)
    now = time.time()
    with patch("django.core.signing.time.time", return_value=now + 3590):
        assert ask(path)[0].status_code == 200
    with patch("django.core.signing.time.time", return_value=now + 3610):
        assert ask(path)[0].status_code == 404


def test_panel_and_worker_need_the_same_secrets_keys_and_no_more(settings: LazySettings) -> None:
    old, new = settings.SECRETS_KEYS[0], "bmV3LWtleS10aGF0LW9ubHktdGhpcy10ZXN0LWhhcyE="
    path = sign_blob_path(SHA256)
    settings.SECRET_KEY = "another one"
    assert ask(path)[0].status_code == 200
    settings.SECRETS_KEYS = [new, old]  # Rotated; the worker has not heard of it.
    assert ask(path)[0].status_code == 200
    settings.SECRETS_KEYS = [new]
    assert ask(path)[0].status_code == 404


def test_slow_clients_hold_no_threads() -> None:
    async def scenario() -> int:
        path, _, query = sign_blob_path(SHA256).partition("?")
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "path": path,
            "query_string": query.encode(),
            "headers": [(b"host", b"localhost")],
        }
        begun, goes_on = asyncio.Semaphore(0), asyncio.Event()

        async def fetch_slowly() -> int:
            asked, received = iter([{"type": "http.request"}]), 0

            async def receive() -> dict[str, Any]:
                return next(asked, None) or await asyncio.get_running_loop().create_future()

            async def send(message: Mapping[str, Any]) -> None:
                nonlocal received
                received += len(message.get("body", b""))
                if message["type"] == "http.response.body" and not goes_on.is_set():
                    begun.release()
                    await goes_on.wait()

            await serve(scope, receive, send)
            return received

        before = threading.active_count()
        clients = [asyncio.create_task(fetch_slowly()) for _ in range(30)]
        for _ in clients:
            await asyncio.wait_for(begun.acquire(), 30)
        during = threading.active_count()
        goes_on.set()
        assert await asyncio.gather(*clients) == [len(CONTENT)] * len(clients)
        return during - before

    # The loop's threads, which read files for all of them, and asgiref's single one.
    assert asyncio.run(scenario()) <= 12
