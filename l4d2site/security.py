"""What browsers are told to refuse on the panel's pages, whatever may have slipped into them."""

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
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
