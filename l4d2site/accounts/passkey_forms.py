"""The forms of passkeys. Scripts fill in their credential: what a browser says about a passkey."""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from allauth.core import context
from allauth.mfa.models import Authenticator
from allauth.mfa.webauthn.forms import (
    AddWebAuthnForm,
    AuthenticateWebAuthnForm,
    EditWebAuthnForm,
    LoginWebAuthnForm,
    ReauthenticateWebAuthnForm,
)
from allauth.mfa.webauthn.internal import auth
from django import forms
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.forms.fields import InvalidJSONInput
from django.utils.translation import gettext_lazy as _
from fido2.webauthn import AuthenticationResponse, RegistrationResponse

from l4d2site.accounts.events import record_event
from l4d2site.accounts.forms import limit_chars
from l4d2site.accounts.models import EventKind
from l4d2site.accounts.passkey_challenges import (
    Purpose,
    bring_sign_in_challenge,
    require_challenge,
    use_up_sign_in_challenge,
)
from servers.forms import PlainForm

PASSKEY_NAME_CHARS = 60
LONGEST_CREDENTIAL = 64 * 1024
"""In characters; a browser's answer has a few thousand."""
TOO_MANY = "too_many_login_attempts"
"""What allauth calls it."""
COPIED = "copied"
COUNTER = "counter"
"""In what allauth stores of a passkey: how many signatures the device has said that it made."""


UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, RuntimeError, struct.error)
"""What reading a credential raises, also for numbers of thousands of digits; a RuntimeError for thousands of
brackets within each other, or for a key of an unknown kind."""

SPARE_CALLS = 300
"""How many calls within each other are left when a credential is read first. Later there may be fewer."""


@contextmanager
def refusing_unreadable() -> Iterator[None]:
    """Make a fault of the form of a credential that cannot be read in the block."""
    try:
        yield
    except UNREADABLE:
        raise ValidationError(
            forms.JSONField.default_error_messages["invalid"], code="invalid"
        ) from None


class CredentialField(forms.JSONField):
    """What a browser says about a passkey. What cannot be read is a fault of the form."""

    widget = forms.HiddenInput

    def __init__(self, kind: type[AuthenticationResponse | RegistrationResponse]) -> None:
        super().__init__()
        self._kind = kind

    def to_python(self, value: Any) -> Any:
        """Parse it, and have the library read it: it raises more than allauth expects."""
        # allauth stores it as it is, and PostgreSQL takes no JSON with a NUL.
        if len(value or "") > LONGEST_CREDENTIAL or "\\u0000" in (value or ""):
            raise ValidationError(self.error_messages["invalid"], code="invalid")
        with refusing_unreadable():
            return self._read(value, SPARE_CALLS)

    def _read(self, value: Any, spare_calls: int) -> Any:
        if spare_calls:
            return self._read(value, spare_calls - 1)
        credential = super().to_python(value)
        if credential is not None:
            self._kind.from_dict(credential)
        return credential

    def bound_data(self, data: Any, initial: Any) -> Any:  # noqa: ARG002 - as Django calls it
        """Return what was sent: to show the form again, Django would parse it once more."""
        return data and InvalidJSONInput(data)


class PasskeyForm(PlainForm, AddWebAuthnForm):  # type: ignore[misc] # allauth has no types
    """Adds a passkey."""

    credential = CredentialField(RegistrationResponse)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["name"].label = _("Name")
        self.fields["name"].help_text = _("For example the device it is stored on.")
        limit_chars(self.fields["name"], PASSKEY_NAME_CHARS)
        self.fields["passwordless"].label = _("Sign in with it alone, without a password")
        self.fields["passwordless"].help_text = _(
            "The device then asks for a PIN or a fingerprint."
        )
        self.fields["passwordless"].initial = True

    def clean_credential(self) -> Any:
        """Check that the passkey was made for this page and person."""
        require_challenge(Purpose.ADDITION, self.user)
        return self.cleaned_data["credential"]

    def clean(self) -> dict[str, Any]:
        """Check the passkey. Its challenge is used up, whatever the outcome."""
        try:
            with refusing_unreadable():
                cleaned = super().clean() or {}
        finally:
            auth.clear_state()
        if credential := cleaned.get("credential"):
            # allauth reads here whether it signs in alone. Browsers may say nothing or something else: the
            # person decides.
            says = {"credProps": {"rk": cleaned["passwordless"]}}
            credential["clientExtensionResults"] = says
        return cleaned


class PasskeyNameForm(PlainForm, EditWebAuthnForm):  # type: ignore[misc]
    """Renames a passkey."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        limit_chars(self.fields["name"], PASSKEY_NAME_CHARS)

    def save(self) -> Authenticator:
        """Rename it, and record that."""
        before = str(self.instance)
        renamed: Authenticator = super().save()
        request, detail = context.request, f"from {before} to {renamed}"
        record_event(EventKind.SECOND_FACTOR_RENAMED, request, user=request.user, detail=detail)
        return renamed


class SignatureMixin:
    """Records a passkey that is refused, or that cannot be read."""

    failure = EventKind.SECOND_FACTOR_FAILED
    user: User | None
    has_error: Callable[..., bool]

    def clean(self) -> dict[str, Any]:
        """Record a failure. One that was not checked, after too many, is none."""
        if self.has_error("credential") and not self.has_error("credential", TOO_MANY):
            is_copied = self.has_error("credential", COPIED)
            detail = "passkey, perhaps copied" if is_copied else "passkey"
            record_event(self.failure, context.request, user=self.user, detail=detail)
        return super().clean() or {}  # type: ignore[misc]


class OwnSignatureMixin(SignatureMixin):
    """Accepts only the signature of a challenge that was made for this form's purpose and person."""

    purpose: Purpose
    user: User

    def clean_credential(self) -> Authenticator:
        """Return the passkey. Its challenge is used up, whatever the outcome."""
        require_challenge(self.purpose, self.user)
        credential = self.cleaned_data["credential"]  # type: ignore[attr-defined]
        try:
            with refusing_unreadable():
                passkey: Authenticator = super().clean_credential()  # type: ignore[misc]
        finally:
            auth.clear_state()
        require_growth(passkey, credential)
        return passkey


class PasskeySecondFactorForm(OwnSignatureMixin, AuthenticateWebAuthnForm):  # type: ignore[misc]
    """Asks for a passkey after the password."""

    credential = CredentialField(AuthenticationResponse)
    purpose = Purpose.SECOND_STEP


class PasskeyReauthenticationForm(OwnSignatureMixin, ReauthenticateWebAuthnForm):  # type: ignore[misc]
    """Asks for a passkey once more."""

    credential = CredentialField(AuthenticationResponse)
    purpose = Purpose.REAUTHENTICATION


class PasskeySignInForm(SignatureMixin, LoginWebAuthnForm):  # type: ignore[misc]
    """Signs in with only a passkey."""

    credential = CredentialField(AuthenticationResponse)
    failure = EventKind.SIGN_IN_FAILED

    def clean_credential(self) -> Authenticator:
        """Return the passkey, if it may sign in alone."""
        challenge = bring_sign_in_challenge(context.request)
        credential = self.cleaned_data["credential"]
        try:
            with refusing_unreadable():
                passkey: Authenticator = super().clean_credential()
        finally:
            auth.clear_state()
        use_up_sign_in_challenge(challenge)
        self.user = passkey.user
        if not passkey.wrap().is_passwordless:
            raise ValidationError(
                _("This passkey works only after your password. Enter that first.")
            )
        require_growth(passkey, credential)
        return passkey


def require_growth(passkey: Authenticator, credential: dict[str, Any]) -> None:
    """Raise ValidationError unless the counter of the passkey's signatures has grown; store it.

    A copy of the passkey counts on its own, so one of the two falls behind. Many devices always say 0.
    """
    counter = AuthenticationResponse.from_dict(credential).response.authenticator_data.counter
    with transaction.atomic():
        row = Authenticator.objects.select_for_update().get(pk=passkey.pk)
        last = row.data.get(COUNTER, row.wrap().authenticator_data.counter)
        if not counter and not last:
            return
        if counter <= last:
            raise ValidationError(
                _(
                    "The device has used this passkey less often than it said last time, so there may be "
                    "a copy of it. Sign in another way, and remove it."
                ),
                code=COPIED,
            )
        row.data[COUNTER] = counter
        row.save(update_fields=["data"])
