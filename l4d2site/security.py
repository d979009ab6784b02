"""Headers for browsers: what to refuse on the panel's pages, what not to cache, and what not to tell others."""

from collections.abc import Callable, MutableMapping
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.utils.cache import has_vary_header, patch_cache_control
from django.utils.decorators import sync_and_async_middleware

from l4d2site.log_filters import LINK

# Everything comes from the panel itself, and nothing is inline. The Django admin uses `data:` images.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)


@sync_and_async_middleware
def content_security_policy(get_response: Callable[[HttpRequest], Any]) -> Callable[..., Any]:
    """Send the policy with every answer, except Django's pages about an error in DEBUG.

    Both sync and async, so that a stream passes through without a thread.
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
def keep_links_from_referrers(get_response: Callable[[HttpRequest], Any]) -> Callable[..., Any]:
    """Have browsers tell no other address, such as that of a style sheet, which link a page was opened with.

    Servers log where a request came from, and anybody can use a link of an invitation. With `no-referrer`,
    browsers would send `Origin: null` with the page's form, which is then refused.
    """

    def hide(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if LINK.search(request.get_full_path()):
            response.headers["Referrer-Policy"] = "strict-origin"
        return response

    async def answer_async(request: HttpRequest) -> HttpResponseBase:
        return hide(request, await get_response(request))

    def answer(request: HttpRequest) -> HttpResponseBase:
        return hide(request, get_response(request))

    return answer_async if iscoroutinefunction(get_response) else answer


@sync_and_async_middleware
def keep_out_of_caches(get_response: Callable[[HttpRequest], Any]) -> Callable[..., Any]:
    """Keep answers that depend on the client, or on a secret in the address, out of all caches.

    Such an answer has read a cookie, and says so in `Vary`. Pages for strangers do too: their forms contain a
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
    """Return an answer's Cache-Control header."""
    return str(response.headers.get("Cache-Control", ""))


def add_static_headers(headers: MutableMapping[str, str], _path: str, _url: str) -> None:
    """Give a static file the protection of every page: nothing in it runs except as the type its name says.

    A file opened directly is a page of the panel's own origin, and an image may contain scripts (SVG).
    """
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
