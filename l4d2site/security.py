"""What browsers are told: what to refuse on the panel's pages, and what not to keep."""

from collections.abc import Callable, MutableMapping
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.utils.cache import has_vary_header, patch_cache_control
from django.utils.decorators import sync_and_async_middleware

# Everything comes from the panel itself, and nothing is inline. `data:` images are the Django admin's.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)


@sync_and_async_middleware
def content_security_policy(get_response: Callable[[HttpRequest], Any]) -> Callable[..., Any]:
    """Send the policy with every answer, but for the pages with which Django explains an error in DEBUG.

    Of both kinds, so that a stream needs no thread to pass through it.
    """

    def add_policy(response: HttpResponseBase) -> HttpResponseBase:
        if not (settings.DEBUG and response.status_code >= 400):
            response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        return response

    async def answer_async(request: HttpRequest) -> HttpResponseBase:
        return add_policy(await get_response(request))

    def answer(request: HttpRequest) -> HttpResponseBase:
        return add_policy(get_response(request))

    return answer_async if iscoroutinefunction(get_response) else answer


@sync_and_async_middleware
def keep_out_of_caches(get_response: Callable[[HttpRequest], Any]) -> Callable[..., Any]:
    """Let no browser and no proxy keep an answer that depends on who asks, or on a secret in its address.

    Such an answer has looked at a cookie, and says so in `Vary`. Pages for strangers do too: their forms hold a
    token."""

    def forbid(response: HttpResponseBase) -> HttpResponseBase:
        if has_vary_header(response, "Cookie") and "no-store" not in cache_control(response):
            patch_cache_control(response, no_store=True, private=True)
        return response

    async def answer_async(request: HttpRequest) -> HttpResponseBase:
        return forbid(await get_response(request))

    def answer(request: HttpRequest) -> HttpResponseBase:
        return forbid(get_response(request))

    return answer_async if iscoroutinefunction(get_response) else answer


def cache_control(response: HttpResponseBase) -> str:
    """Return what an answer says of caches."""
    return str(response.headers.get("Cache-Control", ""))


def add_static_headers(headers: MutableMapping[str, str], _path: str, _url: str) -> None:
    """Give a static file what every page has: nothing in it is run but as what its name says it is.

    A file opened by itself is a page of the panel's own origin; an image may hold scripts (SVG).
    """
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
