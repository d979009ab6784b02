"""The pages of second factors that differ from allauth's in more than their templates."""

from functools import wraps
from http import HTTPStatus
from typing import Any, cast

from allauth.account.adapter import get_adapter
from allauth.mfa.base.views import IndexView
from allauth.mfa.webauthn.views import (
    AddWebAuthnView,
    LoginWebAuthnView,
    ReauthenticateWebAuthnView,
)
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.translation import gettext as _

from l4d2site.accounts.addresses import has_passkeys
from l4d2site.accounts.events import record_event
from l4d2site.accounts.models import EventKind
from l4d2site.accounts.passkey_challenges import Purpose, bind_challenge, offer_sign_in
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
        """Return what the page shows, with a challenge for this."""
        context = super().get_context_data(**kwargs)
        bind_challenge(Purpose.ADDITION, self.request.user)
        # allauth would replace a form with faults by one that is checked again while it is rendered.
        return {**context, **kwargs, "has_passkeys": has_passkeys(self.request)}


class PasskeyReauthentication(ReauthenticateWebAuthnView):  # type: ignore[misc]
    """Asks for a passkey once more."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Return what the page shows, with a challenge for this."""
        context: dict[str, Any] = super().get_context_data(**kwargs)
        bind_challenge(Purpose.REAUTHENTICATION, self.request.user)
        return context


class PasskeySignIn(LoginWebAuthnView):  # type: ignore[misc]
    """Signs in with only a passkey. Scripts get the challenge when somebody wants to."""

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Answer scripts with a challenge, without a session; redirect others."""
        if get_adapter().is_ajax(request):
            return offer_sign_in()
        return super().get(request, *args, **kwargs)  # type: ignore[no-any-return]
