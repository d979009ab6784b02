"""Obstacles between a signed-in person and the pages: a password to change, a second factor to set up.

The middleware is both sync and async, so that a stream passes through without a thread of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from allauth.account.internal.flows.login import get_authentication_records
from allauth.mfa.utils import is_mfa_enabled
from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.urls import reverse
from django.utils.decorators import sync_and_async_middleware
from django.utils.functional import Promise
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy

from l4d2site.accounts.password_changes import MUST_CHANGE
from l4d2site.accounts.sessions import note_seen

ALWAYS_OPEN = frozenset({"healthz", "livez", "logout", "admin:logout", "account_login"})
"""Pages that nobody is kept from: signing out, and addresses that are not for people."""

REAUTHENTICATIONS = frozenset(
    {"account_reauthenticate", "mfa_reauthenticate", "mfa_reauthenticate_webauthn"}
)


@dataclass(frozen=True)
class Obstacle:
    """Something that has to be done first: where, and why in one sentence."""

    url_name: str
    sentence: str | Promise
    comes_back: bool = False


CHANGE_PASSWORD = Obstacle(
    "password_change",
    gettext_lazy("Saferoom made your password. Choose one of your own before you go on."),
)
SET_UP_SECOND_FACTOR = Obstacle(
    "mfa_index",
    gettext_lazy("This panel asks its staff for a second factor. Set one up before you go on."),
)
USE_SECOND_FACTOR = Obstacle(
    "mfa_reauthenticate",
    gettext_lazy("This panel asks its staff for a second factor. Use yours before you go on."),
    comes_back=True,
)


@sync_and_async_middleware
def hold_unready_accounts(get_response: Callable[[HttpRequest], Any]) -> Callable[..., Any]:
    """Redirect people who must do something first; for others, note that their session is in use.

    Streams are refused with 403. Reads only the session and the person, which a page needs anyway.
    """
    middleware: Any
    if iscoroutinefunction(get_response):

        async def middleware(request: HttpRequest) -> HttpResponseBase:
            response: HttpResponseBase = await get_response(request)
            return response
    else:

        def middleware(request: HttpRequest) -> HttpResponseBase:
            response: HttpResponseBase = get_response(request)
            return response

    middleware.process_view = check_readiness
    return middleware  # type: ignore[no-any-return]


def check_readiness(
    request: HttpRequest, _view: object, _args: object, _kwargs: object
) -> HttpResponse | None:
    """Return the response that `request` gets instead of its view's; None if it may pass."""
    name = request.resolver_match.view_name if request.resolver_match else ""
    if settings.SESSION_COOKIE_NAME not in request.COOKIES or name in ALWAYS_OPEN:
        return None
    if not request.user.is_authenticated:
        return None
    is_page = not is_for_programs(request)
    if obstacle := find_obstacle(request):
        if not leads_past(obstacle, name):
            return send_to(obstacle, request) if is_page else refuse(obstacle)
        request.account_obstacle = obstacle  # type: ignore[attr-defined] # The page says why.
    if is_page:
        note_seen(request)
    return None


def is_for_programs(request: HttpRequest) -> bool:
    """Return whether `request` is from a stream (`l4d2site.asgi`) or a program: these follow no redirect."""
    return request.path.endswith("/events") or request.path.startswith("/api/")


def find_obstacle(request: HttpRequest) -> Obstacle | None:
    """Return what the signed-in person has to do first."""
    if MUST_CHANGE in request.session:
        return CHANGE_PASSWORD
    if not (settings.REQUIRE_STAFF_MFA and getattr(request.user, "is_staff", False)):
        return None
    if has_used_second_factor(request):
        return None
    return USE_SECOND_FACTOR if is_mfa_enabled(request.user) else SET_UP_SECOND_FACTOR


def has_used_second_factor(request: HttpRequest) -> bool:
    """Return whether a second factor was used in this session."""
    records = get_authentication_records(request, request.user)
    return any(record.get("method") == "mfa" for record in records)


def leads_past(obstacle: Obstacle, url_name: str) -> bool:
    """Return whether the page with this name is needed to get past `obstacle`."""
    if obstacle is CHANGE_PASSWORD:
        return url_name == "password_change"
    if obstacle is USE_SECOND_FACTOR:
        return url_name in REAUTHENTICATIONS
    return url_name.startswith("mfa_") or url_name in REAUTHENTICATIONS


def send_to(obstacle: Obstacle, request: HttpRequest) -> HttpResponse:
    """Redirect to the page that resolves `obstacle`."""
    url = reverse(obstacle.url_name)
    if obstacle.comes_back and request.method in ("GET", "HEAD"):
        url += "?" + urlencode({REDIRECT_FIELD_NAME: request.get_full_path()})
    return HttpResponseRedirect(url)


def refuse(obstacle: Obstacle) -> HttpResponse:
    """Answer a request that cannot be redirected."""
    return HttpResponse(
        obstacle.sentence,
        status=403,
        content_type="text/plain; charset=utf-8",
        headers={"Cache-Control": "no-store"},
    )
