"""Sends files of the store as downloads, in pieces as they are read, so that none is held in memory."""

from collections.abc import AsyncIterator, Iterator
from typing import BinaryIO

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

from hostops.specs import ManifestFile
from servers.downloads import as_download
from servers.store.panel_store import get_store

CHUNK_BYTES = 256 * 1024


def send_file(request: HttpRequest, file: ManifestFile) -> StreamingHttpResponse:
    """Return a response that makes browsers save a file, not show it. Raises `BlobError` if it is lost."""
    get_store().open(file.sha256).close()
    chunks = _read_async(file) if isinstance(request, ASGIRequest) else _read(file)
    response = StreamingHttpResponse(chunks, content_type="application/octet-stream")
    response["Content-Length"] = str(file.size)
    return as_download(response, file.path.rpartition("/")[2])


def _read(file: ManifestFile) -> Iterator[bytes]:
    left = file.size  # Never more than was announced, in case the file is damaged.
    with get_store().open(file.sha256) as content:
        while chunk := content.read(min(CHUNK_BYTES, left)):
            left -= len(chunk)
            yield chunk


async def _read_async(file: ManifestFile) -> AsyncIterator[bytes]:
    left = file.size
    content: BinaryIO = await sync_to_async(get_store().open)(file.sha256)
    try:
        while chunk := await sync_to_async(content.read)(min(CHUNK_BYTES, left)):
            left -= len(chunk)
            yield chunk
    finally:
        content.close()
