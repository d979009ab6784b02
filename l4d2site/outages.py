"""Requests during a database outage: they wait a moment, and are then answered with a 503 and a sentence.

Most outages that an operator causes (a restart, a failover) take a second or two, and a page can wait that
long. A change that may already have been made is not repeated.
"""

import asyncio
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from time import monotonic, sleep
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.core.signals import got_request_exception
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.template.loader import render_to_string
from django.utils.decorators import sync_and_async_middleware
from django.utils.translation import gettext as _

from jobs.database import (
    BEHIND,
    Outage,
    find_outage,
    find_write_outage,
    is_schema_behind,
    write_watch,
)
from l4d2site.log_filters import LONGEST_PATH

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 2.0
"""How long a request waits for the database altogether."""

PAUSE_SECONDS = 0.1
DOUBT_SECONDS = 10.0
"""For how long after a failure a changing request is held back until the database answers."""

RETRY_SECONDS = 5
"""How long a client is told to wait."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class Doubt:
    """Whether the database recently failed a request of this process."""

    def __init__(self) -> None:
        self._failed_at: float | None = None

    def begin(self) -> None:
        """Record a failure."""
        self._failed_at = monotonic()

    def __bool__(self) -> bool:
        """Return whether there was one within `DOUBT_SECONDS`."""
        return self._failed_at is not None and monotonic() - self._failed_at < DOUBT_SECONDS


doubt = Doubt()


def note_outage(request: HttpRequest | None = None, **_: object) -> None:
    """Note on `request`, whose exception is about to become a 500, that the database is to blame."""
    error = sys.exc_info()[1]
    if request is None or error is None:
        return
    if outage := find_outage(error) or find_unfinished_upgrade(error):
        write_watch.note(error)
        request.outage = outage  # type: ignore[attr-defined] # The log filter in the settings reads it too.
        if (
            outage is not Outage.OLDER
        ):  # An outdated database accepts writes, so a check before the next change would find nothing.
            doubt.begin()
        reason = " ".join(str(error).split())
        request.outage_words = f"the database {outage}: {reason}"  # type: ignore[attr-defined]


def find_unfinished_upgrade(error: BaseException) -> Outage | None:
    """Return `Outage.OLDER` if a statement failed and the database is older than the code."""
    if not isinstance(error, DatabaseError) or connection.in_atomic_block:
        return None
    try:
        return Outage.OLDER if is_schema_behind() else None
    except DatabaseError as another:
        logger.info("cannot tell whether the database is older than the panel: %s", another)
        return None
    finally:
        connection.close()  # Django may call this in a thread that nothing else uses.


def describe_outage(error: Exception) -> str:
    """Return what to print when `error` has ended a command; empty if the cause is a wrong statement."""
    if outage := find_outage(error):
        return f"The database {outage}: {' '.join(str(error).split())}"
    if find_unfinished_upgrade(error):
        return BEHIND
    if type(error) is DatabaseError:  # SQLite's for a file that is damaged, or is none of its own.
        return _("The database cannot be used: %(error)s.") % {"error": error}
    return ""


# Django turns an exception into a 500 inside each middleware, so no other middleware ever sees it.
got_request_exception.connect(note_outage, dispatch_uid="l4d2site.outages")


@dataclass
class Patience:
    """How long one request may be retried, and its answer after that."""

    request: HttpRequest
    _until: float = field(default_factory=lambda: monotonic() + PATIENCE_SECONDS)

    @property
    def is_to_change_something(self) -> bool:
        """Whether the request is not one of those that may be repeated freely."""
        return self.request.method not in SAFE_METHODS

    def begin(self) -> None:
        """Forget the result of an earlier try."""
        self.request.outage = None  # type: ignore[attr-defined]
        self.request.has_reached_view = False  # type: ignore[attr-defined]
        for name in ("_cached_user", "_acached_user"):
            vars(self.request).pop(name, None)

    def end(self) -> None:
        """Log what an answered request has waited for: one line, however often it was tried."""
        if words := getattr(self.request, "outage_words", ""):
            logger.info("%s: answered after a while, as %s", describe(self.request), words)

    def judge(self, outage: Outage | None) -> HttpResponse | None:
        """Return the refusal for a request that met `outage`, or None if it should be retried."""
        if outage is None:
            return None
        # Once its view was reached, one of its transactions may be committed.
        has_begun = self.is_to_change_something and getattr(self.request, "has_reached_view", False)
        is_worth_a_try = outage is not Outage.OLDER and not has_begun
        if monotonic() + PAUSE_SECONDS < self._until and is_worth_a_try:
            return None
        self.request.outage = outage  # type: ignore[attr-defined]
        is_uncertain = has_begun and outage in (Outage.AWAY, Outage.OLDER)
        return refuse(self.request, outage, is_uncertain=is_uncertain)


@sync_and_async_middleware
def outlast_outages(get_response: Callable[[HttpRequest], Any]) -> Callable[..., Any]:
    """Let requests wait for a database that is away; see this module. Streams wait without a thread."""

    async def answer_async(request: HttpRequest) -> HttpResponseBase:
        patience = Patience(request)
        while patience.is_to_change_something and doubt:
            if (outage := await sync_to_async(find_write_outage)()) is None:
                break
            if refusal := patience.judge(outage):
                return refusal
            await asyncio.sleep(PAUSE_SECONDS)
        while True:
            patience.begin()
            response: HttpResponseBase = await get_response(request)
            if (outage := getattr(request, "outage", None)) is None:
                patience.end()
                return response
            await sync_to_async(release_connection)()  # In the thread that the view ran in.
            if refusal := patience.judge(outage):
                return refusal
            await asyncio.sleep(PAUSE_SECONDS)

    def answer(request: HttpRequest) -> HttpResponseBase:
        patience = Patience(request)
        while patience.is_to_change_something and doubt:
            if (outage := find_write_outage()) is None:
                break
            if refusal := patience.judge(outage):
                return refusal
            sleep(PAUSE_SECONDS)
        while True:
            patience.begin()
            response: HttpResponseBase = get_response(request)
            if (outage := getattr(request, "outage", None)) is None:
                patience.end()
                return response
            release_connection()
            if refusal := patience.judge(outage):
                return refusal
            sleep(PAUSE_SECONDS)

    return answer_async if iscoroutinefunction(get_response) else answer


@sync_and_async_middleware
def note_view_reached(get_response: Callable[[HttpRequest], Any]) -> Callable[..., Any]:
    """Note on the request that its view begins. This must be the last middleware."""
    middleware: Any
    process_view: Any
    if iscoroutinefunction(get_response):

        async def middleware(request: HttpRequest) -> HttpResponseBase:
            response: HttpResponseBase = await get_response(request)
            return response

        async def process_view(request: HttpRequest, *_: object) -> None:
            request.has_reached_view = True  # type: ignore[attr-defined]
    else:

        def middleware(request: HttpRequest) -> HttpResponseBase:
            response: HttpResponseBase = get_response(request)
            return response

        def process_view(request: HttpRequest, *_: object) -> None:
            request.has_reached_view = True  # type: ignore[attr-defined]

    middleware.process_view = process_view
    return middleware  # type: ignore[no-any-return]


def describe(request: HttpRequest) -> str:
    """Return which request it is, for the log. Its sender chose the path."""
    return f"{request.method} {ascii(request.path[:LONGEST_PATH])[1:-1]}"


def release_connection() -> None:
    """Close this thread's database connection, which may be broken; not while a test's transaction is open."""
    if not connection.in_atomic_block:
        connection.close()


def refuse(request: HttpRequest, outage: Outage, *, is_uncertain: bool) -> HttpResponse:
    """Answer that the database is away, in the format that the client reads. Needs no database itself."""
    what = _("The panel's database %(outage)s.") % {"outage": outage}
    if request.method in SAFE_METHODS:
        then = _("Nothing is lost.")
    elif is_uncertain:
        then = _(
            "The panel cannot tell whether your request was carried out. Check before you try "
            "again."
        )
    else:
        then = _("Your request was not carried out.")
    words = getattr(request, "outage_words", f"the database {outage}")
    logger.warning("%s: refused, %s", describe(request), words)
    headers = {"Retry-After": str(RETRY_SECONDS), "Cache-Control": "no-store"}
    status = HTTPStatus.SERVICE_UNAVAILABLE.value
    kind = "application/json"
    if not request.path.startswith("/api/"):
        kind = request.get_preferred_type(["text/html", "application/json"]) or "text/plain"
    if kind == "application/json":
        told = {"error": f"{what} {then}", "retry_after_seconds": RETRY_SECONDS}
        return JsonResponse(told, status=status, headers=headers)
    if kind == "text/html":
        page = render_to_string("503.html", {"what": what, "then": then})
        return HttpResponse(page, status=status, headers=headers)
    again = _("Try again in %(seconds)s seconds.") % {"seconds": RETRY_SECONDS}
    plain = f"{what} {then} {again}"
    return HttpResponse(
        plain, status=status, headers=headers, content_type="text/plain; charset=utf-8"
    )
