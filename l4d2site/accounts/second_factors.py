"""Second factors: how their secrets are stored, and what people are told if that is impossible.

A TOTP secret and the seed of recovery codes must be readable, so they are encrypted with SECRETS_KEYS.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from allauth.mfa.adapter import DefaultMFAAdapter
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop

from servers.access import sign_in_required

NO_KEYS = gettext_noop(
    "A second factor cannot be set up yet: this panel has no key to encrypt it with. The "
    "machine’s admin can make one with manage.py makesecretskey and put the line it prints into "
    "the panel’s settings."
)
UNREADABLE = gettext_noop(
    "Your second factor cannot be read: none of the keys in SECRETS_KEYS is the one it was "
    "encrypted with. The machine’s admin has to put that key back, or run manage.py resetmfa for "
    "you."
)

View = Callable[..., HttpResponseBase]


class UnreadableSecondFactorError(ValidationError):
    """A stored secret that no key decrypts. Forms show its sentence."""


def has_keys() -> bool:
    """Return whether secrets can be encrypted."""
    return bool(settings.SECRETS_KEYS)


def make_fernet() -> MultiFernet:
    """Return the cipher that encrypts with the first key and decrypts with all. There must be a key."""
    return MultiFernet([Fernet(key) for key in settings.SECRETS_KEYS])


class SecondFactorAdapter(DefaultMFAAdapter):  # type: ignore[misc] # allauth has no types
    """allauth's adapter, with encrypted secrets and our own texts."""

    error_messages = {
        **DefaultMFAAdapter.error_messages,
        "incorrect_code": gettext_lazy("That code is wrong or was already used. Try the next one."),
    }

    def encrypt(self, text: str) -> str:
        """Return the token of `text`. Raises ValidationError if there is no key."""
        if not has_keys():
            raise ValidationError(_(NO_KEYS))
        return make_fernet().encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        """Return the text of a token. Raises `UnreadableSecondFactorError`."""
        if not has_keys():
            raise UnreadableSecondFactorError(_(UNREADABLE))
        try:
            return make_fernet().decrypt(encrypted_text.encode()).decode()
        except InvalidToken:  # Its own text is empty.
            raise UnreadableSecondFactorError(_(UNREADABLE)) from None

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        """Return what a passkey is for: this panel's host name."""
        return {**super().get_public_key_credential_rp_entity(), "name": "Saferoom"}

    def generate_authenticator_name(self, user: User, type: str) -> str:  # noqa: A002 - allauth's
        """Return the suggested name of a new passkey."""
        from allauth.mfa.models import Authenticator  # it imports this adapter

        count = Authenticator.objects.filter(user_id=user.pk, type=type).count()
        return f"Passkey {count + 1}"


def needing_keys(view: View) -> View:
    """Run `view` only if secrets can be stored; otherwise redirect to the page that says why they cannot.

    Only for those who are signed in: allauth would keep a stranger's form in a session.
    """

    @wraps(view)
    @sign_in_required
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not has_keys():
            return HttpResponseRedirect(reverse("mfa_index"))
        return telling_unreadable(view)(request, *args, **kwargs)

    return answer


def telling_unreadable(view: View) -> View:
    """Turn a secret that `view` cannot read into a sentence on the page of second factors."""

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            response = view(request, *args, **kwargs)
            # Templates are rendered after the view, and some of them decrypt secrets.
            return response.render() if hasattr(response, "render") else response
        except UnreadableSecondFactorError as error:
            messages.error(request, " ".join(error.messages))
            return HttpResponseRedirect(reverse("mfa_index"))

    return answer


def rotate_second_factors() -> tuple[int, list[str]]:
    """Re-encrypt each stored secret with the first key; return how many, and a sentence for each failure.

    Works one row at a time, each in its own transaction: it can be killed and run again. There must be a key.
    """
    from allauth.mfa.models import Authenticator  # It imports this module's adapter.

    rotated, faults = 0, []
    keyed = Authenticator.objects.exclude(type=Authenticator.Type.WEBAUTHN).order_by("pk")
    for pk in list(keyed.values_list("pk", flat=True)):
        with transaction.atomic():
            row = keyed.select_for_update().filter(pk=pk).first()
            if row is None:  # It was removed in the meantime.
                continue
            name = "secret" if row.type == Authenticator.Type.TOTP else "seed"
            try:
                token = make_fernet().rotate(row.data[name].encode()).decode()
            except InvalidToken:
                faults.append(
                    _(
                        "%(row)s of %(user)s cannot be decrypted: none of the keys in SECRETS_KEYS is "
                        "the one it was encrypted with."
                    )
                    % {"row": row, "user": row.user.get_username()}
                )
                continue
            # Keeps what a concurrent sign-in has changed, such as used codes.
            row.data[name] = token
            row.save(update_fields=["data"])
            rotated += 1
    return rotated, faults
