"""The pages of one's own account: signing in, changing the password, the sessions."""

import uuid
from typing import Any, cast

from allauth.account.views import LoginView
from django.contrib import messages
from django.contrib.auth.models import User
from django.contrib.auth.views import PasswordChangeView
from django.contrib.messages.views import SuccessMessageMixin
from django.contrib.sessions.models import Session
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse_lazy
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from l4d2site.accounts.addresses import has_passkeys
from l4d2site.accounts.events import record_event
from l4d2site.accounts.forms import NewPasswordForm, SignInForm
from l4d2site.accounts.mail import has_mail
from l4d2site.accounts.models import EventKind, PersonSession
from l4d2site.accounts.password_changes import end_sessions
from l4d2site.accounts.sessions import find_second_steps, find_sessions, store_session
from servers.access import SignedInRequest, sign_in_required


class SignIn(LoginView):  # type: ignore[misc] # allauth has no types
    """The sign-in of the panel and of the admin. A person who is already signed in is redirected."""

    form_class = SignInForm
    template_name = "accounts/login.html"
    default_url = reverse_lazy("servers:list")

    def get_default_success_url(self) -> str:
        """Return where to go if there is no `next`."""
        return str(self.default_url)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Return the page's context."""
        return {
            **super().get_context_data(**kwargs),
            "can_reset": has_mail(),
            "has_passkeys": has_passkeys(self.request),
        }


class PasswordChange(SuccessMessageMixin, PasswordChangeView):  # type: ignore[type-arg]
    """Changes one's own password, and ends one's other sessions (`l4d2site.accounts.password_changes`)."""

    form_class = NewPasswordForm
    template_name = "accounts/password.html"
    success_url = reverse_lazy("servers:list")
    success_message = gettext_lazy("Your password was changed. You are signed out everywhere else.")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Return the page's context: also where links for a new password are mailed to."""
        context = super().get_context_data(**kwargs)
        return {**context, "mailed_to": cast("User", self.request.user).email if has_mail() else ""}

    def form_valid(self, form: Any) -> HttpResponse:
        """Change it. The session then has a new key, so its row is stored again."""
        response = super().form_valid(form)
        store_session(self.request, cast("User", self.request.user), timezone.now())
        return response


@require_safe
@never_cache
@sign_in_required
def sessions(request: SignedInRequest) -> HttpResponse:
    """Show where one is signed in."""
    current_key = request.session.session_key
    rows = find_sessions(request.user)
    context = {
        "sessions": [(row, row.session_id == current_key) for row in rows],
        "has_others": any(row.session_id != current_key for row in rows),
        "second_steps": find_second_steps(request.user),
    }
    return render(request, "accounts/sessions.html", context)


@require_POST
@sign_in_required
def session_revoke(request: SignedInRequest, pk: uuid.UUID) -> HttpResponse:
    """End one of one's own sessions."""
    row = get_object_or_404(PersonSession, pk=pk, user=request.user)
    if row.session_id == request.session.session_key:
        messages.info(request, _("That is your current session. Sign out to end it."))
        return redirect("sessions")
    Session.objects.filter(pk=row.session_id).delete()
    record_event(EventKind.SESSION_REVOKED, request, user=request.user, detail=row.browser)
    messages.success(request, _("Signed out: %(browser)s.") % {"browser": row.browser})
    return redirect("sessions")


@require_POST
@sign_in_required
def session_revoke_others(request: SignedInRequest) -> HttpResponse:
    """End all of one's own sessions except this one."""
    if count := end_sessions(request.user, except_key=request.session.session_key):
        detail = f"{count} others"
        record_event(EventKind.SESSION_REVOKED, request, user=request.user, detail=detail)
    messages.success(request, _("You are signed out everywhere else."))
    return redirect("sessions")
