"""The error pages.

They are Django's own, rendered from our templates. But Django renders them in a thread that belongs to no
request, so nothing would close the database connection that the page's head needs.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views import defaults

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
    response = render(request, "429.html", status=429)
    response.headers["Retry-After"] = "300"  # seconds: the longest of the limits
    return response
