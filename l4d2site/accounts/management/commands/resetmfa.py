"""`manage.py resetmfa`: removes the second factors of a person who has lost them."""

from typing import Any

from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from hostops.command_ends import tell
from l4d2site.accounts.events import record_event
from l4d2site.accounts.models import EventKind
from l4d2site.accounts.password_changes import end_sessions


class Command(BaseCommand):
    """For a person who has lost both their second factor and their recovery codes."""

    help = "Remove a person's second factors and recovery codes, and sign them out everywhere."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the person's name."""
        parser.add_argument("username")

    def handle(self, *, username: str, **_options: Any) -> None:
        """Remove them."""
        user = User.objects.filter(username=username).first()
        if user is None:
            raise CommandError(f"There is no account called {username!r}.")
        found = list(Authenticator.objects.filter(user=user).order_by("pk"))
        for authenticator in found:
            what = str(authenticator)
            authenticator.delete()
            record_event(
                EventKind.SECOND_FACTOR_REMOVED, None, user=user, detail=f"{what}, by a command"
            )
        sessions = end_sessions(user)
        if not found:
            tell(f"{username} has no second factor. Ended sessions: {sessions}.", self.stdout)
            return
        what = ", ".join(str(authenticator) for authenticator in found)
        tell(
            f"Removed from {username}: {what}. Ended sessions: {sessions}. {describe_way_in(user)}",
            self.stdout,
        )


def describe_way_in(user: User) -> str:
    """Return what `user`, who has no second factor now, needs to sign in."""
    if not user.is_active:
        return "The account is deactivated: nobody can sign in."
    if not user.has_usable_password():
        return "Its password is disabled: a link for a new one is needed to sign in."
    return "The password alone signs in now."
