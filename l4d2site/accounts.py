"""Signing in, and changing one's own password. Making accounts is the admin's part."""

from django.contrib.auth.views import LoginView, PasswordChangeView
from django.contrib.messages.views import SuccessMessageMixin
from django.urls import reverse_lazy


class SignIn(LoginView):
    """The login page; somebody who is signed in is led on."""

    template_name = "accounts/login.html"
    redirect_authenticated_user = True


class PasswordChange(SuccessMessageMixin, PasswordChangeView):  # type: ignore[type-arg]
    """Changes one's own password."""

    template_name = "accounts/password.html"
    success_url = reverse_lazy("servers:list")
    success_message = "Your password is changed."
