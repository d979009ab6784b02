"""The pages of second factors that differ from allauth's in more than their templates."""

from functools import wraps
from http import HTTPStatus
from typing import Any, cast

from allauth.mfa.base.views import IndexView
from allauth.mfa.webauthn.views import AddWebAuthnView
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponseBase
from django.utils.translation import gettext as _

from l4d2site.accounts.addresses import has_passkeys
from l4d2site.accounts.events import record_event
from l4d2site.accounts.models import EventKind
from l4d2site.accounts.second_factors import NO_KEYS, View, has_keys


def recording_shown_codes(view: View) -> View:
    """Record that `view` has shown somebody their recovery codes."""

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = view(request, *args, **kwargs)
        if response.status_code == HTTPStatus.OK and request.method == "GET":
            record_event(EventKind.RECOVERY_CODES_SHOWN, request, user=cast("User", request.user))
        return response

    return answer


class Overview(IndexView):  # type: ignore[misc] # allauth has no types
    """Shows one's second factors, and says so if the panel cannot store any."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Return what the page shows."""
        context = super().get_context_data(**kwargs)
        return {**context, "has_keys": has_keys(), "no_keys": _(NO_KEYS)}


class PasskeyAddition(AddWebAuthnView):  # type: ignore[misc]
    """Adds a passkey, and says so if browsers do not support them here."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Return what the page shows."""
        context = super().get_context_data(**kwargs)
        return {**context, "has_passkeys": has_passkeys(self.request)}
