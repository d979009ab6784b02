"""The error pages, and what is refused before there could be another page.

The pages are Django's own, rendered from our templates. But Django renders them in a thread that belongs to no
request, so nothing would close the database connection that the page's head needs.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.core.exceptions import SuspiciousOperation
from django.db import connection
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBadRequest,
    HttpResponseBase,
    HttpResponseNotAllowed,
    QueryDict,
)
from django.shortcuts import render
from django.urls import is_valid_path
from django.utils.decorators import sync_and_async_middleware
from django.utils.translation import gettext as _
from django.views import defaults

from l4d2site.gate.throttling import note_turned_away

ErrorView = Callable[..., HttpResponse]


def releasing_connection(view: ErrorView) -> ErrorView:
    """Close the connection of the thread after `view`, unless a transaction is open on it."""

    @wraps(view)
    def render(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        finally:
            if not connection.in_atomic_block:
                connection.close()

    return render


bad_request = releasing_connection(defaults.bad_request)
permission_denied = releasing_connection(defaults.permission_denied)
page_not_found = releasing_connection(defaults.page_not_found)


@releasing_connection
def too_many_requests(request: HttpRequest) -> HttpResponse:
    """Answer a client that has tried too often (allauth's limits)."""
    note_turned_away(request, request.user.get_username())
    response = render(request, "429.html", status=429)
    response.headers["Retry-After"] = "300"  # seconds: the longest of the limits
    return response


@sync_and_async_middleware
def refuse_unreadable(get_response: Callable[[HttpRequest], Any]) -> Callable[..., Any]:
    """Refuse an address or a form that cannot be parsed, before anything else reads it.

    Otherwise a middleware would fail, and the error page, which reads it again, would fail too: once for each
    middleware on the way out, each time with a traceback in the log.
    """

    async def answer_async(request: HttpRequest) -> HttpResponseBase:
        refusal = (
            await sync_to_async(parse)(request) if request.method == "POST" else parse(request)
        )
        response: HttpResponseBase = refusal or await get_response(request)
        return response

    def answer(request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = parse(request) or get_response(request)
        return response

    return answer_async if iscoroutinefunction(get_response) else answer


def parse(request: HttpRequest) -> HttpResponse | None:
    """Parse what a request brings; return the answer if that is impossible.

    What Django refuses, such as too many fields, is raised, as there is a page for it. So is a full disk, where
    large files of a form are kept. Afterwards nothing is left to parse, so that the page does not fail as well.
    """
    try:
        request.GET  # noqa: B018 - Both are parsed when they are read first.
        request.POST  # noqa: B018
    except (SuspiciousOperation, OSError):
        request.GET = QueryDict()
        request._mark_post_parse_error()  # type: ignore[attr-defined] # noqa: SLF001 - as Django itself does
        raise
    except Exception:  # noqa: BLE001 - What a stranger sends can make a parser raise anything.
        text = _("The panel cannot read this request.")
        return HttpResponseBadRequest(f"{text}\n", content_type="text/plain; charset=utf-8")
    return None


@sync_and_async_middleware
def explain_refused_methods(get_response: Callable[[HttpRequest], Any]) -> Callable[..., Any]:
    """Give a 405 a page if a browser asked for one: a reload of an address that only takes forms, for example.

    Scripts and streams keep the short answer.
    """

    async def answer_async(request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await get_response(request)  # Only streams come this way.
        return response

    def answer(request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = get_response(request)
        if isinstance(response, HttpResponseNotAllowed) and wants_page(request):
            context = {"way_back": find_page_above(request.path_info)}
            response.content = render(request, "405.html", context).content
        return response

    return answer_async if iscoroutinefunction(get_response) else answer


def wants_page(request: HttpRequest) -> bool:
    """Return whether a browser asks for a page to show."""
    return request.method != "HEAD" and "text/html" in request.headers.get("Accept", "")


def find_page_above(path: str) -> str:
    """Return the nearest address above `path` that leads somewhere."""
    while path != "/":
        path = f"{path.rstrip('/').rpartition('/')[0]}/"
        if is_valid_path(path):
            break
    return path
