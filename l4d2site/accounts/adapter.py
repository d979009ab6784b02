"""allauth as this panel uses it: sign-in by user name, accounts only by invitation, our own texts."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.stagekit import unstash_login
from allauth.core import context
from allauth.mfa.stages import AuthenticateStage
from allauth.mfa.webauthn.internal.flows import did_use_passwordless_login
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from l4d2site.accounts.addresses import client_address
from l4d2site.accounts.events import record_event
from l4d2site.accounts.models import EventKind
from l4d2site.gate.throttling import note_turned_away
from servers.access import LONGEST_ADDRESS

SILENT = frozenset({"account/messages/logged_in.txt", "account/messages/logged_out.txt"})
"""Messages about something that is visible anyway."""

SECOND_STEP = "l4d2site.accounts.second_step.SecondStep"


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc] # allauth has no types
    """Our differences from allauth's adapter."""

    error_messages = {
        **DefaultAccountAdapter.error_messages,
        "username_password_mismatch": gettext_lazy(
            "That username and password do not match. Try again."
        ),
        "incorrect_password": gettext_lazy("That is not your password."),
        "too_many_login_attempts": gettext_lazy(
            "Too many wrong codes. Wait five minutes, then try again."
        ),
        "rate_limited": gettext_lazy("Too many attempts. Wait a few minutes, then try again."),
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:  # noqa: ARG002 - as allauth calls it
        """Return False: accounts are created by invitation, or by an admin."""
        return False

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        """Count nothing: allauth counts by account, so strangers could lock one.

        Attempts are limited by address, before Django.
        """

    def pre_login(self, request: HttpRequest, user: User, **kwargs: Any) -> HttpResponse | None:
        """Refuse a deactivated account. Of a password, Django's backend reports that; of a passkey, nothing."""
        is_passkey = did_use_passwordless_login(request, user)
        refusal: HttpResponse | None = super().pre_login(request, user, **kwargs)
        if refusal is not None and is_passkey:
            record_event(EventKind.SIGN_IN_FAILED, request, user=user, detail="deactivated")
        return refusal

    def validation_error(self, code: str, *args: Any) -> ValidationError:
        """Return the error of a form; that there were too many wrong codes is recorded."""
        request: HttpRequest = context.request
        if code == "too_many_login_attempts":
            waiting = unstash_login(request, peek=True)
            person = waiting.user if waiting else request.user
            note_turned_away(request, person.get_username())
        error: ValidationError = super().validation_error(code, *args)
        return error

    def get_login_stages(self) -> list[str]:
        """Return what may keep a sign-in waiting: of the second factors, our own stage."""
        theirs, ours = (
            f"{AuthenticateStage.__module__}.{AuthenticateStage.__qualname__}",
            SECOND_STEP,
        )
        return [ours if stage == theirs else stage for stage in super().get_login_stages()]

    def is_safe_url(self, url: str) -> bool:
        """Return whether a sign-in may redirect to `url`: only on this same host."""
        request: HttpRequest = context.request
        is_short = bool(url) and len(url) <= LONGEST_ADDRESS  # Its page repeats it.
        return is_short and url_has_allowed_host_and_scheme(
            url, {request.get_host()}, require_https=request.is_secure()
        )

    def get_client_ip(self, request: HttpRequest) -> str:
        """Return the client's address as the panel knows it."""
        return client_address(request)

    def respond_user_inactive(self, request: HttpRequest, user: User) -> HttpResponse:  # noqa: ARG002
        """Redirect a person with the right password for a deactivated account back, and say why."""
        messages.error(request, _("This account is deactivated. An admin can reactivate it."))
        return HttpResponseRedirect(reverse("account_login"))

    def add_message(
        self,
        request: HttpRequest,
        level: int,
        message_template: str | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Show allauth's message, unless it is one of `SILENT`."""
        if message_template not in SILENT:
            super().add_message(request, level, message_template, *args, **kwargs)

    def get_reauthentication_methods(self, user: User) -> list[dict[str, str]]:
        """Return the ways to confirm one's identity, in our words."""
        words = {
            "reauthenticate": _("Use your password"),
            "mfa_reauthenticate": _("Use a code"),
            "mfa_reauthenticate:webauthn": _("Use a passkey"),
        }
        methods = super().get_reauthentication_methods(user)
        return [{**method, "description": words[method["id"]]} for method in methods]
