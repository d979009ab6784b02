"""The ASGI application for `/uploads/`: tus 1.0 for people who upload files to overlays, and nothing else.

    OPTIONS  /uploads/<upload>/            what it can do
    POST     /uploads/<upload>/            makes a part, and takes its bytes if they are sent along
    HEAD     /uploads/<upload>/<token>     how much of a part has arrived
    PATCH    /uploads/<upload>/<token>     takes more of it
    DELETE   /uploads/<upload>/<token>     removes it

It stands behind the gate's limits on addresses and in front of those on bodies: here a body is never held in
memory but written as it arrives. Every other request is passed on to the application behind it.
"""

import asyncio
import io
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, TypeVar

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest
from django.utils.http import http_date
from django.utils.translation import gettext as _

from l4d2site.gate.answers import Application, Receive, Send
from l4d2site.uploads import access, tus_headers
from l4d2site.uploads.access import Found
from l4d2site.uploads.tus_headers import TusRefusedError
from l4d2site.uploads.writing import PartWriter, Places

PREFIX = "/uploads/"
_UPLOAD = re.compile(r"/uploads/([1-9][0-9]{0,17})/", re.ASCII)
_PART = re.compile(r"/uploads/([1-9][0-9]{0,17})/([0-9a-f]{32})", re.ASCII)

DATABASE_THREADS = 2
WRITING_THREADS = 4

T = TypeVar("T")


class UploadDoor:
    """Answers requests about uploads; `application` answers all others."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._database = ThreadPoolExecutor(DATABASE_THREADS, "uploads-database")
        self._disk = ThreadPoolExecutor(WRITING_THREADS, "uploads-disk")
        self._places = Places()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve a request. Raises `RefusedError` before anything was sent."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._application(scope, receive, send)
            return
        request = ASGIRequest(scope, io.BytesIO())
        status, headers = await self._answer(request, receive)
        headers = {"Tus-Resumable": tus_headers.VERSION, "Cache-Control": "no-store", **headers}
        if status != HTTPStatus.NO_CONTENT:
            headers["Content-Length"] = "0"
        encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status.value, "headers": encoded})
        await send({"type": "http.response.body", "body": b""})

    async def _answer(
        self, request: ASGIRequest, receive: Receive
    ) -> tuple[HTTPStatus, dict[str, str]]:
        of_upload, of_part = _UPLOAD.fullmatch(request.path), _PART.fullmatch(request.path)
        if not (of_upload or of_part):
            raise TusRefusedError(
                HTTPStatus.NOT_FOUND, _("There is nothing at this address."), ends_connection=True
            )
        if request.method == "OPTIONS":
            return HTTPStatus.NO_CONTENT, describe()
        tus_headers.require_version(request.headers)
        if of_part:
            upload_id, token = int(of_part[1]), of_part[2]
            if request.method == "HEAD":
                return await self._tell_offset(request, upload_id, token)
            if request.method == "PATCH":
                require_own_origin(request)
                return await self._take(request, receive, upload_id, token)
            if request.method == "DELETE":
                require_own_origin(request)
                return await self._remove(request, upload_id, token)
        elif of_upload and request.method == "POST":
            require_own_origin(request)
            return await self._create(request, receive, int(of_upload[1]))
        raise TusRefusedError(
            HTTPStatus.METHOD_NOT_ALLOWED,
            _("%(method)s is not something that can be done here.")
            % {"method": str(request.method)[:20]},
            ends_connection=True,
        )

    async def _tell_offset(
        self, request: ASGIRequest, upload_id: int, token: str
    ) -> tuple[HTTPStatus, dict[str, str]]:
        found = await self._in_database(access.find_part, request, upload_id, token)
        if found.offset == found.part.size and not found.part.received_at:
            # The process was killed after the last byte was written and before that was recorded.
            await self._write(found, found.offset, None)
        told = {"Upload-Offset": str(found.offset), "Upload-Length": str(found.part.size)}
        return HTTPStatus.OK, told | expiry(found)

    async def _take(
        self, request: ASGIRequest, receive: Receive, upload_id: int, token: str
    ) -> tuple[HTTPStatus, dict[str, str]]:
        offset = tus_headers.read_offset(request.headers)
        if not tus_headers.has_body_of_file(request.headers):
            raise TusRefusedError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                _("A file’s bytes come as %(type)s.") % {"type": tus_headers.BODY_TYPE},
                ends_connection=True,
            )
        found = await self._in_database(access.find_part, request, upload_id, token)
        if not found.upload.is_receiving:
            raise TusRefusedError(
                HTTPStatus.GONE, _("This upload takes no more files."), ends_connection=True
            )
        require_room(request, found, offset)
        now_at = await self._write(found, offset, receive)
        return HTTPStatus.NO_CONTENT, {"Upload-Offset": str(now_at)} | expiry(found)

    async def _create(
        self, request: ASGIRequest, receive: Receive, upload_id: int
    ) -> tuple[HTTPStatus, dict[str, str]]:
        new = tus_headers.read_new_part(request.headers)
        has_body = tus_headers.has_body_of_file(request.headers)
        found = await self._in_database(access.create_part, request, upload_id, new)
        told = {"Location": f"{PREFIX}{upload_id}/{found.part.token.hex}"} | expiry(found)
        if has_body:
            require_room(request, found, 0)
        if has_body or not new.size:
            told["Upload-Offset"] = str(await self._write(found, 0, receive if has_body else None))
        return HTTPStatus.CREATED, told

    async def _remove(
        self, request: ASGIRequest, upload_id: int, token: str
    ) -> tuple[HTTPStatus, dict[str, str]]:
        found = await self._in_database(access.find_part, request, upload_id, token)
        writer = PartWriter(found.part)
        try:
            # Nobody may be writing to it. A request that starts to write later finds no row.
            await self._on_disk(writer.open_at, found.offset)
            await self._in_database(access.remove_part, request, upload_id, token)
        finally:
            writer.close()
        return HTTPStatus.NO_CONTENT, {}

    async def _write(self, found: Found, offset: int, receive: Receive | None) -> int:
        """Write a body at the end of a part, and record a part that is complete. Return where it now ends."""
        part = found.part
        with self._places.taken(found.user_id):
            writer = PartWriter(part)
            try:
                await self._on_disk(writer.open_at, offset)
                if receive:
                    await writer.write_body(
                        receive, self._disk, self._places, idle_seconds=settings.BODY_IDLE_SECONDS
                    )
                if writer.offset == part.size and not part.received_at:
                    await self._on_disk(writer.sync)
                    await self._in_database(access.note_received, part)
            finally:
                writer.close()
        return writer.offset

    async def _in_database(self, step: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._database, step, *args)

    async def _on_disk(self, step: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, step, *args)


def describe() -> dict[str, str]:
    """Return what a tus client expects to be told first."""
    return {
        "Tus-Version": tus_headers.VERSION,
        "Tus-Extension": tus_headers.EXTENSIONS,
        "Tus-Max-Size": str(tus_headers.MAX_PART_BYTES),
    }


def expiry(found: Found) -> dict[str, str]:
    """Return until when a part is kept."""
    return {"Upload-Expires": http_date(found.upload.expires_at.timestamp())}


def require_room(request: ASGIRequest, found: Found, offset: int) -> None:
    """Refuse a body whose declared length is too long for its part."""
    length = request.headers.get("Content-Length", "")
    if length.isascii() and length.isdecimal() and int(length) > found.part.size - offset:
        raise TusRefusedError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            _("These are %(more)s bytes from %(offset)s on, and %(path)s has %(size)s in all.")
            % {
                "more": f"{int(length):,}",
                "offset": f"{offset:,}",
                "path": found.part.path,
                "size": f"{found.part.size:,}",
            },
            ends_connection=True,
        )


def require_own_origin(request: ASGIRequest) -> None:
    """Refuse a cross-origin request sent with the visitor's cookie. Browsers always send the origin."""
    try:
        own = f"{request.scheme}://{request.get_host()}"
    except DisallowedHost:
        raise TusRefusedError(
            HTTPStatus.BAD_REQUEST,
            _("The panel does not know itself by this name: see ALLOWED_HOSTS."),
            ends_connection=True,
        ) from None
    if request.headers.get("Origin", "") not in (own, *settings.CSRF_TRUSTED_ORIGINS):
        raise TusRefusedError(
            HTTPStatus.FORBIDDEN,
            _("This comes from a page of another site, or from no page at all."),
            ends_connection=True,
        )
