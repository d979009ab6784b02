"""`manage.py createsuperuser`: Django's, with our rules for names, and for a password from the environment."""

import os
from typing import Any

from django.contrib.auth.management.commands import createsuperuser
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError

from l4d2site.accounts.names import require_free_name


class Command(createsuperuser.Command):
    """Creates a superuser. Django judges only passwords that are typed."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Refuse a password in DJANGO_SUPERUSER_PASSWORD that no form would take."""
        password = os.environ.get("DJANGO_SUPERUSER_PASSWORD")
        if password is not None and not options["interactive"]:
            try:
                validate_password(password)
            except ValidationError as error:
                raise CommandError(
                    f"DJANGO_SUPERUSER_PASSWORD: {' '.join(error.messages)}"
                ) from None
        super().handle(*args, **options)

    def _validate_username(self, username: str, *args: Any) -> str | None:
        """Return what is wrong with a name, if anything is."""
        fault: str | None = super()._validate_username(username, *args)  # type: ignore[misc]
        if fault is None:
            try:
                require_free_name(username)
            except ValidationError as error:
                return f"Error: {error.messages[0]}"
        return fault
