"""What passkeys sign: a challenge counts for one purpose and one account, for minutes, and once.

allauth keeps one in the session and does not say what for: that of a second step would sign in alone. That
of a sign-in without a password is in a signed cookie: strangers ask for it, and they must not cause writes.
"""

from enum import StrEnum
from time import time

from allauth.mfa.webauthn.internal import auth
from django.conf import settings
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.http import HttpRequest, JsonResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from fido2.webauthn import UserVerificationRequirement

MOST_SECONDS = 900
"""As long as a sign-in may wait for its second factor."""

SIGN_IN_SECONDS = 300
"""Scripts ask for that challenge once somebody wants to sign in."""

COOKIE = "passkey_sign_in"
SALT = "saferoom.passkey.sign_in"


class Purpose(StrEnum):
    """What somebody is asked for a passkey for, besides a sign-in without a password."""

    SECOND_STEP = "second step"
    REAUTHENTICATION = "reauthentication"
    ADDITION = "addition"


def bind_challenge(purpose: Purpose, user: User) -> None:
    """Note what the challenge is for that allauth has just put into the session."""
    mark = {"purpose": purpose, "user": user.pk, "made_at": time()}
    auth.set_state({**auth.get_state(), **mark})


def require_challenge(purpose: Purpose, user: User) -> None:
    """Raise ValidationError unless the challenge in the session was made for this, minutes ago."""
    state = auth.get_state() or {}
    is_meant = {"purpose": purpose, "user": user.pk}.items() <= state.items()
    if not is_meant or time() - state["made_at"] > MOST_SECONDS:
        raise stale()


def offer_sign_in() -> JsonResponse:
    """Answer with what a browser needs to sign in with only a passkey. Writes nothing."""
    options, state = auth.get_server().authenticate_begin(
        credentials=[], user_verification=UserVerificationRequirement.REQUIRED
    )
    response = JsonResponse({"request_options": dict(options)})
    response.set_signed_cookie(
        COOKIE,
        state["challenge"],
        salt=SALT,
        max_age=SIGN_IN_SECONDS,
        path=reverse("mfa_login_webauthn"),
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Strict",
    )
    return response


def bring_sign_in_challenge(request: HttpRequest) -> str:
    """Put the challenge of `offer_sign_in` where allauth expects it, and return it. Raises ValidationError."""
    challenge = request.get_signed_cookie(COOKIE, "", salt=SALT, max_age=SIGN_IN_SECONDS)
    if not challenge:
        raise stale()
    # The device has to verify the person, by a PIN for example: there is no password.
    required = UserVerificationRequirement.REQUIRED
    auth.set_state({"challenge": challenge, "user_verification": required})
    return challenge


def use_up_sign_in_challenge(challenge: str) -> None:
    """Raise ValidationError if this challenge was answered before.

    Only for a right answer: strangers must not fill the cache, which also counts guesses.
    """
    if not cache.add(f"passkey_sign_in:{challenge}", True, SIGN_IN_SECONDS):
        raise stale()


def stale() -> ValidationError:
    """Return what is said of a challenge that is not, or no longer, one for this."""
    return ValidationError(_("This page was open for too long. Try again."), code="stale")
