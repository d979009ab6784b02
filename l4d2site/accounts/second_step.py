"""A sign-in between the right password and the second factor: how it waits, and what ends it.

It may wait for a quarter of an hour (allauth's LOGIN_TIMEOUT), in a session that is nobody's yet.
"""

from typing import Any, NamedTuple

from allauth.account.adapter import get_adapter
from allauth.account.internal.stagekit import clear_login
from allauth.account.stages import LoginStageController
from allauth.mfa.base.views import AuthenticateView
from allauth.mfa.models import Authenticator
from allauth.mfa.stages import AuthenticateStage
from allauth.mfa.utils import is_mfa_enabled
from allauth.mfa.webauthn.internal.auth import clear_state
from django.contrib import messages
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext as _

from l4d2site.accounts.events import record_event
from l4d2site.accounts.models import EventKind, PendingSignIn
from l4d2site.accounts.passkey_challenges import Purpose, bind_challenge
from l4d2site.accounts.sessions import remove_expired


class Refusal(NamedTuple):
    """Why a sign-in is not completed: for the record, and for the person, who may get other words."""

    detail: str
    sentence: str = ""


class SecondStep(AuthenticateStage):  # type: ignore[misc] # allauth has no types
    """Keeps a sign-in waiting. What it began with has to be true when it is completed."""

    def handle(self) -> tuple[HttpResponse | None, bool]:
        """Begin to wait if the account has a second factor."""
        response, goes_on = super().handle()
        if response is not None:
            user: User = self.login.user
            # Somebody else may know the key that the session had before the password.
            self.request.session.cycle_key()
            clear_state()  # A passkey answers the challenge of this wait, not of one before it.
            self.state["begun_with"] = user.get_session_auth_hash()
            self.state["row"] = begin_waiting(user)
            # Recorded now: somebody with a stolen password would not finish the sign-in.
            record_event(EventKind.SECOND_FACTOR_ASKED, self.request, user=user)
        return response, goes_on

    def exit(self) -> HttpResponse:
        """Sign in, now that the second factor was right, or refuse it. A sign-in is completed once."""
        was_waiting = bool(self.rows.delete()[0])
        refusal = self.find_refusal(was_waiting)
        return self.refuse(refusal) if refusal else super().exit()

    def refuse_if_over(self) -> HttpResponse | None:
        """Refuse it before a second factor is checked, which could use up a recovery code for nothing."""
        refusal = self.find_refusal(self.rows.exists())
        return self.refuse(refusal) if refusal else None

    @property
    def rows(self) -> QuerySet[PendingSignIn]:
        """Its row, as long as it waits."""
        return PendingSignIn.objects.filter(pk=self.state.get("row"), user=self.login.user)

    def refuse(self, refusal: Refusal) -> HttpResponse:
        """End it, and say why."""
        user: User = self.login.user
        clear_login(self.request)
        record_event(EventKind.SIGN_IN_FAILED, self.request, user=user, detail=refusal.detail)
        if not user.is_active:
            return get_adapter().respond_user_inactive(self.request, user)  # type: ignore[no-any-return]
        messages.error(self.request, refusal.sentence)
        return HttpResponseRedirect(reverse("account_login"))

    def find_refusal(self, is_waiting: bool) -> Refusal | None:
        """Return why the person may not sign in with this any more."""
        user: User = self.login.user
        begun_with = self.state.get("begun_with", "")
        if not user.is_active:
            return Refusal("deactivated")
        if begun_with and not constant_time_compare(begun_with, user.get_session_auth_hash()):
            return Refusal(
                "the password was changed meanwhile",
                _("Your password was changed while you were signing in. Sign in with the new one."),
            )
        if not is_waiting:
            return Refusal(
                "ended meanwhile", _("This sign-in was ended from elsewhere. Sign in again.")
            )
        return None


class SecondStepPage(AuthenticateView):  # type: ignore[misc]
    """Asks for a code or a passkey after the password."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """End a sign-in that is over before allauth looks at it.

        Without an account or a second factor it would fail, or lead in a circle.
        """
        waiting = LoginStageController.enter(request, SecondStep.key)
        if waiting and not has_second_factor(waiting.login.user):
            messages.error(request, _("There is no second factor to ask for. Sign in again."))
            response: HttpResponseBase = waiting.abort()
            return response
        refusal = waiting.refuse_if_over() if waiting and request.method == "POST" else None
        return refusal or super().dispatch(request, *args, **kwargs)  # type: ignore[no-any-return]

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Return what the page shows, with a passkey's challenge for this."""
        context: dict[str, Any] = super().get_context_data(**kwargs)
        bind_challenge(Purpose.SECOND_STEP, self.stage.login.user)
        return context


def begin_waiting(user: User) -> str:
    """Store that a sign-in of `user` waits; return the key of its row."""
    remove_expired()
    return str(PendingSignIn.objects.create(user=user, begun_at=timezone.now()).pk)


def has_second_factor(user: User | None) -> bool:
    """Return whether `user`, whose account may be gone, can give a second factor."""
    asked_for = [Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN]
    return user is not None and bool(is_mfa_enabled(user, asked_for))
