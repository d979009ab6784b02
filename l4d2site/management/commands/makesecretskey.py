"""`manage.py makesecretskey`: prints a key for SECRETS_KEYS. It stores nothing."""

from typing import Any

from cryptography.fernet import Fernet
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    """Prints a line for the settings."""

    help = (
        "Print a line that sets SECRETS_KEYS to a new key, for the settings of the panel and of every worker. "
        "To replace a key, put the old ones after it, separated by commas, and run manage.py rotatesecrets."
    )

    requires_system_checks: list[str] = []  # One of them reports that there is no key.

    def handle(self, **_options: Any) -> None:
        """Print the line."""
        self.stdout.write(f"SECRETS_KEYS={Fernet.generate_key().decode()}")
