"""Keeps NUL characters from the database: PostgreSQL refuses every text with one, but SQLite would store it."""

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import BadRequest
from django.db import connection
from django.http import HttpRequest, QueryDict
from django.utils.decorators import sync_and_async_middleware


@sync_and_async_middleware
def drop_nul(get_response: Callable[[HttpRequest], Any]) -> Callable[..., Any]:
    """Give views `request.GET` and cookies without NUL. No name, search or number has one, so nothing is lost.

    Forms refuse it in posted fields. If a view reads a posted field without a form, the database step answers
    with a 400. Both sync and async, so that a stream, to which nothing is posted, passes through without a
    thread.
    """
    middleware: Any
    if iscoroutinefunction(get_response):

        async def middleware(request: HttpRequest) -> Any:
            clean(request)
            return await get_response(request)
    else:

        def middleware(request: HttpRequest) -> Any:
            clean(request)
            with connection.execute_wrapper(refuse_nul):
                return get_response(request)

    return middleware  # type: ignore[no-any-return]


def clean(request: HttpRequest) -> None:
    """Clean cookies and `request.GET` if there may be a NUL. Requests without one are not parsed for this."""
    # A quoted cookie can have any character, as a backslash and three digits.
    if "\\" in request.META.get("HTTP_COOKIE", ""):
        request.COOKIES = {name: value.replace("\0", "") for name, value in request.COOKIES.items()}
    if "%00" not in request.META.get("QUERY_STRING", ""):
        return
    cleaned = QueryDict(mutable=True)
    for name, values in request.GET.lists():
        for value in values:
            cleaned.appendlist(name.replace("\0", ""), value.replace("\0", ""))
    cleaned._mutable = False  # noqa: SLF001 - as QueryDict itself does
    request.GET = cleaned  # type: ignore[assignment]


def refuse_nul(
    execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    """Execute a statement, unless one of its texts has a NUL. Raises `BadRequest`."""
    for row in params if many else (params,):
        values = row.values() if isinstance(row, dict) else row or ()
        if any(isinstance(value, str) and "\0" in value for value in values):
            raise BadRequest("A text for the database has a NUL character.")
    return execute(sql, params, many, context)
