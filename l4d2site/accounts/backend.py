"""Which account a password is checked against at sign-in."""

from allauth.account.auth_backends import AuthenticationBackend
from allauth.core import context
from django.contrib.auth.models import User


class AccountBackend(AuthenticationBackend):  # type: ignore[misc] # allauth has no types
    """allauth's backend, but an exact user name wins over one that differs only in case.

    allauth alone would let in neither of `alice` and `Alice`, and a panel may have had both for years.
    """

    def user_can_authenticate(self, user: User) -> bool:
        """Return whether `user`, whose password was right, may sign in; if not, note it for the record."""
        is_allowed: bool = super().user_can_authenticate(user)
        if not is_allowed and context.request is not None:
            context.request.is_deactivated = True
        return is_allowed

    def _authenticate_by_username(self, username: str, password: str) -> User | None:
        exact = User.objects.filter(username=username).first()
        if exact is None:
            return super()._authenticate_by_username(username, password)  # type: ignore[no-any-return]
        return self._check_password(exact, password)  # type: ignore[no-any-return]
