"""Sends files of overlays' versions to workers on other machines, at signed addresses."""

import asyncio
import re
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path

from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from servers.store import get_store, is_signed

PART_BYTES = 1024**2
"""How much is read at a time, in a thread that is then released: a slow client does not occupy one."""

_RANGE = re.compile(r"bytes=(\d{1,18})-", re.ASCII)
_HEADERS = {"Cache-Control": "no-store", "Accept-Ranges": "bytes"}


@require_safe
async def blob(request: HttpRequest, sha256: str) -> HttpResponseBase:
    """Send a blob, or with `Range: bytes=N-` the rest of it; 404 if anything is wrong with the address."""
    if not is_signed(sha256, request.GET.get("signed", "")):
        return refuse()
    path = get_store().path_of(sha256)
    try:
        size = (await asyncio.to_thread(path.stat)).st_size
    except FileNotFoundError:
        return refuse()
    begin, status, headers = 0, HTTPStatus.OK, dict(_HEADERS)
    if match := _RANGE.fullmatch(request.headers.get("Range", "")):
        begin, status = int(match[1]), HTTPStatus.PARTIAL_CONTENT
        if begin >= size:
            headers["Content-Range"] = f"bytes */{size}"
            return HttpResponse(status=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers=headers)
        headers["Content-Range"] = f"bytes {begin}-{size - 1}/{size}"
    headers |= {"Content-Length": str(size - begin), "X-Accel-Buffering": "no"}
    how = {"status": status, "headers": headers, "content_type": "application/octet-stream"}
    if request.method == "HEAD":
        return HttpResponse(**how)
    return StreamingHttpResponse(read_parts(path, begin), **how)


async def read_parts(path: Path, begin: int) -> AsyncIterator[bytes]:
    """Yield a file from `begin` on."""
    file = await asyncio.to_thread(path.open, "rb", buffering=0)
    try:
        await asyncio.to_thread(file.seek, begin)
        while part := await asyncio.to_thread(file.read, PART_BYTES):
            yield part
    finally:
        file.close()


def refuse() -> HttpResponse:
    """Answer that there is nothing here; strangers do not learn which blobs exist."""
    return HttpResponse(
        _("There is nothing at this address."),
        status=HTTPStatus.NOT_FOUND,
        content_type="text/plain; charset=utf-8",
        headers=_HEADERS,
    )
