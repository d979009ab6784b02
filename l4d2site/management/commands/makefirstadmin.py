"""`manage.py makefirstadmin`: creates an admin if there is none, and prints its first password."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from hostops.command_ends import tell_or_raise
from l4d2site.accounts.first_admin import UnreadPasswordError, make_first_admin


class Command(BaseCommand):
    """Creates the admin. Prints nothing if there already is one."""

    help = "Make an admin if there is none, and print a password that must be changed at the first sign-in."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--name", default="admin", help="the admin's name (default: admin)")

    def handle(self, **options: Any) -> None:
        """Create the admin."""
        try:
            make_first_admin(options["name"], lambda text: tell_or_raise(text, self.stdout))
        except ValidationError as error:
            reason = " ".join(error.messages)
            raise CommandError(f"{options['name']!r} cannot be the name: {reason}") from None
        except UnreadPasswordError as error:
            raise CommandError(str(error)) from None
