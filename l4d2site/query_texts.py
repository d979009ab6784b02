"""Takes NUL characters out of what addresses ask for: PostgreSQL refuses every text with one."""

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, QueryDict
from django.utils.decorators import sync_and_async_middleware


@sync_and_async_middleware
def drop_nul(get_response: Callable[[HttpRequest], Any]) -> Callable[..., Any]:
    """Give views `request.GET` without NUL. No name, search or number has one, so nothing is lost.

    Forms refuse it in what is posted. Both sync and async, so that a stream passes through without a thread.
    """
    middleware: Any
    if iscoroutinefunction(get_response):

        async def middleware(request: HttpRequest) -> Any:
            clean(request)
            return await get_response(request)
    else:

        def middleware(request: HttpRequest) -> Any:
            clean(request)
            return get_response(request)

    return middleware  # type: ignore[no-any-return]


def clean(request: HttpRequest) -> None:
    """Replace `request.GET` if a name or value there has a NUL. Addresses without one are not parsed for it."""
    if "%00" not in request.META.get("QUERY_STRING", ""):
        return
    cleaned = QueryDict(mutable=True)
    for name, values in request.GET.lists():
        for value in values:
            cleaned.appendlist(name.replace("\0", ""), value.replace("\0", ""))
    cleaned._mutable = False  # noqa: SLF001 - as QueryDict itself does
    request.GET = cleaned  # type: ignore[assignment]
