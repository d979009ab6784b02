"""Links for a new password. Each names who made it, signed, and works only while they may still make it."""

from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.contrib.auth.tokens import PasswordResetTokenGenerator, default_token_generator
from django.utils import timezone
from django.utils.http import base36_to_int

from l4d2site.accounts.models import AccountEvent, EventKind
from l4d2site.accounts.panel_roles import may_reset
from l4d2site.accounts.restored_backups import is_from_before_restore

BY_MAIL = "mail"
"""In the place of a maker: anybody may ask for this link, but only the account's address gets it."""


class ResetTokens(PasswordResetTokenGenerator):
    """Makes tokens in the name of one maker, and checks those of every maker.

    A token is the maker's id, or `BY_MAIL`, a dot, and one of Django's, which ends when the password, the mail
    address or the last sign-in changes. None outlives a restored backup, which would undo such a change.
    """

    def __init__(self, maker: User | None = None) -> None:
        super().__init__()
        self._maker = str(maker.pk) if maker else BY_MAIL

    def make_token(self, user: User) -> str:
        """Return a token for a new password of `user`."""
        return f"{self._maker}.{_tokens_of(self._maker).make_token(user)}"

    def check_token(self, user: User | None, token: str | None) -> bool:
        """Return whether the token is valid, and its maker may still make one for `user`."""
        if user is None or not token or not user.is_active:
            return False
        maker, dot, token_of_maker = token.partition(".")
        if not dot:
            return _is_backed_by_record(user, token)
        if not _tokens_of(maker).check_token(user, token_of_maker):
            return False
        if is_from_before_restore(_made_at(token_of_maker)):
            return False
        return maker == BY_MAIL or may_reset_still(User.objects.filter(pk=maker).first(), user)


def was_mailed(token: str) -> bool:
    """Return whether a valid token is from a link that was mailed."""
    return token.partition(".")[0] == BY_MAIL


def may_reset_still(maker: User | None, user: User) -> bool:
    """Return whether `maker`, whose account may be gone, may make a link for `user` now."""
    return maker is not None and may_reset(maker, user)


def _tokens_of(maker: str) -> PasswordResetTokenGenerator:
    """Return Django's generator with a key of this maker's own."""
    tokens = PasswordResetTokenGenerator()
    tokens.key_salt = f"saferoom.reset_link.{maker}"
    return tokens


def _made_at(token: str) -> datetime:
    """Return the second in which one of Django's tokens, which must be valid, was made."""
    seconds = base36_to_int(token.partition("-")[0])
    # Django counts in local time, also where that is not UTC.
    epoch = datetime(2001, 1, 1)  # noqa: DTZ001
    return timezone.make_aware(epoch + timedelta(seconds=seconds))


def _is_backed_by_record(user: User, token: str) -> bool:
    """Return whether a link from a version whose links did not name their makers is valid, by the record.

    The record has no mailed links: asking for another one is quick. Links live for three days, so the release
    after the next one can do without this.
    """
    if not default_token_generator.check_token(user, token):
        return False
    made_at = _made_at(token)
    if is_from_before_restore(made_at):
        return False
    names = set(
        AccountEvent.objects.filter(
            kind=EventKind.RESET_LINK_MADE,
            user=user,
            at__range=(made_at, made_at + timedelta(seconds=2)),
        ).values_list("actor_name", flat=True)
    )
    # Only accounts from then: somebody may have got the name since.
    present = User.objects.filter(date_joined__lt=made_at + timedelta(seconds=1))
    makers = present.in_bulk(names, field_name="username")
    return bool(names) and all(may_reset_still(makers.get(name), user) for name in names)
