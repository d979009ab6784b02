"""`manage.py createsuperuser`: Django's, with our rules for names, addresses and passwords."""

import os
from typing import Any

from django.contrib.auth.management.commands import createsuperuser
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError

from l4d2site.accounts.names import choose_name, require_mailable


class Command(createsuperuser.Command):
    """Creates a superuser. Django judges only passwords that are typed."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Refuse a password in DJANGO_SUPERUSER_PASSWORD, or an address, that no form would take."""
        password = os.environ.get("DJANGO_SUPERUSER_PASSWORD")
        if password is not None and not options["interactive"]:
            try:
                validate_password(password)
            except ValidationError as error:
                raise CommandError(
                    f"DJANGO_SUPERUSER_PASSWORD: {' '.join(error.messages)}"
                ) from None
        address = options.get("email") or ""
        if not options["interactive"]:
            address = address or os.environ.get("DJANGO_SUPERUSER_EMAIL", "")
        try:
            require_mailable(address)
        except ValidationError as error:
            raise CommandError(f"{address!a}: {error.messages[0]}") from None
        super().handle(*args, **options)

    def get_input_data(self, field: Any, message: str, default: Any = None) -> Any:
        """Ask for a value; return None for an address that mail would not reach."""
        value = super().get_input_data(field, message, default)
        if field.name == "email" and value:
            try:
                require_mailable(value)
            except ValidationError as error:
                self.stderr.write(f"Error: {error.messages[0]}")
                return None
        return value

    def _validate_username(self, username: str, *args: Any) -> str | None:
        """Return what is wrong with a name, if anything is."""
        fault: str | None = super()._validate_username(username, *args)  # type: ignore[misc]
        if fault is None:
            try:
                choose_name(username)
            except ValidationError as error:
                return f"Error: {' '.join(error.messages)}"
        return fault
