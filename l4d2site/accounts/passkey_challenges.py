"""What passkeys sign: a challenge counts for one purpose and one account, for minutes, and once.

allauth keeps one in the session and does not say what for, so one of the second step would sign in alone.
"""

from enum import StrEnum
from time import time

from allauth.mfa.webauthn.internal import auth
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

MOST_SECONDS = 900
"""As long as a sign-in may wait for its second factor."""


class Purpose(StrEnum):
    """What somebody is asked for a passkey for."""

    SECOND_STEP = "second step"
    SIGN_IN = "sign-in"
    REAUTHENTICATION = "reauthentication"
    ADDITION = "addition"


def bind_challenge(purpose: Purpose, user: User | None) -> None:
    """Note what the challenge is for that allauth has just put into the session."""
    mark = {"purpose": purpose, "user": user.pk if user else None, "made_at": time()}
    auth.set_state({**auth.get_state(), **mark})


def require_challenge(purpose: Purpose, user: User | None) -> None:
    """Raise ValidationError unless the challenge in the session was made for this, minutes ago."""
    state = auth.get_state() or {}
    meant = {"purpose": purpose, "user": user.pk if user else None}
    is_meant = meant.items() <= state.items()
    if not is_meant or time() - state["made_at"] > MOST_SECONDS:
        raise ValidationError(_("This page was open for too long. Try again."), code="stale")
