"""Which account a password is checked against at sign-in."""

from allauth.account.auth_backends import AuthenticationBackend
from django.contrib.auth.models import User


class AccountBackend(AuthenticationBackend):  # type: ignore[misc] # allauth has no types
    """allauth's backend, but an exact user name wins over one that differs only in case.

    allauth alone would let in neither of `alice` and `Alice`, and a panel may have had both for years.
    """

    def _authenticate_by_username(self, username: str, password: str) -> User | None:
        exact = User.objects.filter(username=username).first()
        if exact is None:
            return super()._authenticate_by_username(username, password)  # type: ignore[no-any-return]
        return self._check_password(exact, password)  # type: ignore[no-any-return]
