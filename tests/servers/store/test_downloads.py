"""Files of the store are sent in pieces, by both kinds of servers."""

import asyncio
import hashlib
from io import BytesIO

import pytest
from django.core.handlers.asgi import ASGIRequest
from django.http import StreamingHttpResponse

from hostops.specs import ManifestFile
from servers.store import BlobError, get_store, send_file
from servers.store.downloads import CHUNK_BYTES
from tests.overlays import lose

DATA = b"\0x" * CHUNK_BYTES  # Two pieces.


@pytest.fixture
def file() -> ManifestFile:
    """Return a file that the store has."""
    store = get_store()
    with store.adding():
        sha256 = store.add_bytes(DATA)
    assert sha256 == hashlib.sha256(DATA).hexdigest()
    return ManifestFile('left4dead2/addons/ä "b".vpk', sha256, len(DATA))


def asgi_request() -> ASGIRequest:
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
    return ASGIRequest(scope, BytesIO())


async def gather(response: StreamingHttpResponse) -> list[bytes]:
    return [chunk async for chunk in response]


def test_a_file_is_read_while_it_is_sent(file: ManifestFile) -> None:
    response = send_file(asgi_request(), file)
    assert response.is_async
    chunks = asyncio.run(gather(response))
    assert [len(chunk) for chunk in chunks] == [CHUNK_BYTES] * 2
    assert b"".join(chunks) == DATA
    assert response.headers["Content-Length"] == str(len(DATA))
    assert response.headers["Content-Disposition"] == (
        "attachment; filename*=utf-8''%C3%A4%20%22b%22.vpk"
    )


def test_a_lost_file_is_found_out_before_anything_is_sent(file: ManifestFile) -> None:
    lose(file.sha256)
    with pytest.raises(BlobError):
        send_file(asgi_request(), file)
