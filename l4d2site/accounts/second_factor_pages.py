"""The pages of second factors that differ from allauth's in more than their templates."""

from typing import Any

from allauth.mfa.base.views import IndexView
from allauth.mfa.webauthn.views import AddWebAuthnView
from django.utils.translation import gettext as _

from l4d2site.accounts.addresses import has_passkeys
from l4d2site.accounts.second_factors import NO_KEYS, has_keys


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
