"""Answers about the panel's health: for monitoring programs, and for people who may see its hosts."""

import logging
import re
from http import HTTPStatus

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import Error as AnyDatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from l4d2site.accounts.middleware import find_obstacle
from l4d2site.health.facts import Facts, hanging, read_facts
from l4d2site.health.looks import Looks
from servers.access import SignedInRequest, sign_in_required
from servers.permissions import Verb, may

logger = logging.getLogger(__name__)

KEPT_SECONDS = 1.0
PATIENCE_SECONDS = 1.5
"""Half a second less than monitors are promised, because the answer needs time to arrive."""


# "Last heard from 12 s ago" is the same fault a second later.
_NUMBER = re.compile(r"(?<![\w-])\d[\d.,]*(?![\w-])")


class Health:
    """The facts, at most a second old. A change of the faults is logged once, but not one of their numbers."""

    def __init__(self) -> None:
        self.looks = Looks(read_facts, kept_seconds=KEPT_SECONDS, patience_seconds=PATIENCE_SECONDS)
        self._told: tuple[str, ...] = ()

    def current(self) -> Facts:
        """Return the facts within `PATIENCE_SECONDS`."""
        facts = self.looks.latest() or hanging()
        told = tuple(_NUMBER.sub("", fault) for fault in facts.faults)
        if told != self._told:
            self._told = told
            logger.warning("health: %s", " ".join(facts.faults) or "all is well again")
        return facts


health = Health()


@require_safe
@never_cache
def livez(request: HttpRequest) -> JsonResponse:  # noqa: ARG001 - every view takes it
    """Answer 200 whenever the web process answers at all: it checks nothing.

    For tools that restart the process, or take it out of a pool: neither fixes a database or a worker.
    """
    return JsonResponse({"status": "ok"})


@require_safe
@never_cache
def healthz(request: HttpRequest) -> JsonResponse:
    """Answer 200 if people get what they need, otherwise 503, within two seconds, whatever hangs.

    Strangers only get the word `status`. The facts are for clients with `HEALTH_TOKEN` in the header
    `Authorization`, and for signed-in people who may see hosts. The answer is 401 for a wrong token, and 400
    for a token in the address, where it would be logged.
    """
    if "token" in request.GET:
        return refuse(
            HTTPStatus.BAD_REQUEST,
            _("Send the token in the header Authorization: Bearer TOKEN. Addresses are logged."),
        )
    has_token = knows_token(request)
    if has_token is False:
        response = refuse(HTTPStatus.UNAUTHORIZED, _("The token is not HEALTH_TOKEN."))
        response.headers["WWW-Authenticate"] = "Bearer"
        return response
    facts = health.current()
    answer = {"status": "ok" if facts.is_well else "unhealthy"}
    if has_token or is_shown_facts(request, facts):
        answer |= facts.as_json()
    return JsonResponse(answer, status=200 if facts.is_well else 503)


@require_safe
@sign_in_required
def health_page(request: SignedInRequest) -> HttpResponse:
    """Show the facts to people who may see hosts; always 200, because the page itself works."""
    if not may(request.user, Verb.VIEW_HOSTS):
        raise PermissionDenied(_("Only an admin can see the panel’s health."))
    return render(request, "health.html", {"facts": health.current()})


def knows_token(request: HttpRequest) -> bool | None:
    """Return whether the request has `HEALTH_TOKEN`; None if it has no token."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    return bool(settings.HEALTH_TOKEN) and constant_time_compare(
        token.strip(), settings.HEALTH_TOKEN
    )


def is_shown_facts(request: HttpRequest, facts: Facts) -> bool:
    """Return whether the signed-in person gets the facts. Without the database nobody can be identified."""
    if settings.SESSION_COOKIE_NAME not in request.COOKIES or not facts.database.can_be_read:
        return False
    try:
        return may(request.user, Verb.VIEW_HOSTS) and find_obstacle(request) is None
    except AnyDatabaseError:  # It has just gone away.
        return False


def refuse(status: HTTPStatus, reason: str) -> JsonResponse:
    """Return the answer to an invalid request."""
    return JsonResponse({"status": "refused", "reason": reason}, status=status)
