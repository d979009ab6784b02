"""What follows every password change, whether by a page, the admin or `manage.py changepassword`."""

from allauth.core import context
from django.contrib.auth.models import User
from django.contrib.auth.password_validation import MinimumLengthValidator
from django.contrib.sessions.models import Session
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.translation import gettext as _

from l4d2site.accounts.events import record_event
from l4d2site.accounts.models import EventKind, FirstPassword, PendingSignIn, PersonSession

MUST_CHANGE = "saferoom_must_change_password"
"""Set in the session of a person who signed in with a first password."""


LONGEST_PASSWORD = 1024
"""In characters. A form with the old one and twice the new one stays well within the 64 KiB that the gate lets
through where passwords are checked: a character takes twelve bytes at most."""


class PasswordPolicy(MinimumLengthValidator):
    """Requires ten characters, and no more than `LONGEST_PASSWORD`. An older one that is longer keeps working.

    As a validator, it is called when a changed password has been saved.

    A mere rehash, as with more iterations, is no change.
    """

    def __init__(self, min_length: int = 10) -> None:
        super().__init__(min_length)

    def validate(self, password: str, user: User | None = None) -> None:
        """Refuse a password that is too short or too long."""
        super().validate(password, user)
        require_signable(password)

    def get_help_text(self) -> str:
        """Return both limits in a sentence."""
        return _(
            "Your password must contain at least %(least)d characters, and at most %(most)s."
        ) % {"least": self.min_length, "most": f"{LONGEST_PASSWORD:,}"}

    def password_changed(self, password: str, user: User) -> None:  # noqa: ARG002 - as Django calls it
        """Do what follows it."""
        follow_password_change(user)


def follow_password_change(user: User) -> None:
    """End the sessions that began with the old password, and record the change."""
    request = current_request()
    FirstPassword.objects.filter(user=user).delete()
    own_key = None
    if request is not None and request.user.pk == user.pk:
        request.session.pop(MUST_CHANGE, None)
        own_key = request.session.session_key
    end_sessions(user, except_key=own_key)
    detail = ["" if user.has_usable_password() else "disabled", said_by(request, user)]
    record_event(
        EventKind.PASSWORD_CHANGED, request, user=user, detail=", ".join(filter(None, detail))
    )


def is_silent_change(user: User, update_fields: frozenset[str] | None) -> bool:
    """Return whether Django tells validators nothing of the password that a save has just changed.

    It tells them of what `set_password` was given, so not that a password was disabled. It saves a mere rehash
    by itself.
    """
    is_rehash = update_fields == frozenset(["password"]) and user.has_usable_password()
    return user._password is None and not is_rehash  # type: ignore[attr-defined]  # noqa: SLF001


def require_signable(password: str) -> None:
    """Raise `ValidationError` for a password that is too long to sign in with."""
    if len(password) > LONGEST_PASSWORD:
        raise ValidationError(
            _("This password has %(count)s characters. Use at most %(most)s."),
            code="password_too_long",
            params={"count": f"{len(password):,}", "most": f"{LONGEST_PASSWORD:,}"},
        )


def current_request() -> HttpRequest | None:
    """Return the request that this thread is answering; None in a command or a worker."""
    request: HttpRequest | None = context.request
    return request if request is not None and hasattr(request, "user") else None


WITH_LINK = "with a link"
WITH_MAILED_LINK = "with a link that was mailed"


def note_link(request: HttpRequest, *, was_mailed: bool) -> None:
    """Have what `request` does recorded as done with a link."""
    request.link_words = WITH_MAILED_LINK if was_mailed else WITH_LINK  # type: ignore[attr-defined]


def said_by(request: HttpRequest | None, user: User) -> str:
    """Return who did it, unless it was `user` on a page of the panel; and with which link, if with one."""
    is_own = request is not None and request.user.is_authenticated and request.user.pk == user.pk
    by = "" if is_own else name_actor(request)
    link = getattr(request, "link_words", by)
    return by if link == by else ", ".join(filter(None, [link, by]))


def name_actor(request: HttpRequest | None) -> str:
    """Return who did it, even if they did it to themselves: who changed rights must always be clear."""
    if request is None:
        return "by a command"
    if not request.user.is_authenticated:
        return getattr(request, "link_words", WITH_LINK)
    return f"by {request.user.get_username()}"


def end_sessions(user: User, *, except_key: str | None = None) -> int:
    """End the sessions of `user`, except one; return how many. Their streams end within seconds.

    Sign-ins that wait for a second factor end with them.
    """
    PendingSignIn.objects.filter(user=user).delete()
    keys = PersonSession.objects.filter(user=user).exclude(session_id=except_key or "")
    _, counts = Session.objects.filter(
        pk__in=list(keys.values_list("session_id", flat=True))
    ).delete()
    return counts.get("sessions.Session", 0)
