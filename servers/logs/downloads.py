"""Long texts as files, sent in chunks as they are read, so that they tie up neither memory nor a connection."""

from collections.abc import AsyncIterator, Callable, Iterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import connection
from django.http import HttpRequest, StreamingHttpResponse

from servers.downloads import as_download

ReadChunk = Callable[[int], tuple[str, int | None]]
"""Reads the text after a position; returns it with the position at its end, or None if there is no more."""


def send_text(
    request: HttpRequest, read: ReadChunk, filename: str, after: int = 0
) -> StreamingHttpResponse:
    """Return a response that downloads the results of `read`, from after position `after`, as `filename`."""
    chunks = read_async(read, after) if isinstance(request, ASGIRequest) else read_all(read, after)
    response = StreamingHttpResponse(chunks, content_type="text/plain; charset=utf-8")
    return as_download(response, filename)


def read_all(read: ReadChunk, after: int) -> Iterator[str]:
    """Yield all chunks."""
    position: int | None = after
    while position is not None:
        chunk, position = read(position)
        yield chunk


async def read_async(read: ReadChunk, after: int) -> AsyncIterator[str]:
    """Yield all chunks; a slow client ties up no database connection between them."""
    position: int | None = after
    while position is not None:
        chunk, position = await sync_to_async(read_and_disconnect)(read, position)
        yield chunk


def read_and_disconnect(read: ReadChunk, after: int) -> tuple[str, int | None]:
    """Read a chunk, and release the thread's connection."""
    try:
        return read(after)
    finally:
        if not connection.in_atomic_block:
            connection.close()
