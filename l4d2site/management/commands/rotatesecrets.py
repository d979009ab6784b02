"""`manage.py rotatesecrets`: encrypts every stored password anew with the first key of SECRETS_KEYS."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from servers.secret_moves import rotate_secrets
from servers.secrets import NO_KEYS, has_keys


class Command(BaseCommand):
    """Rotates the passwords, and says how many."""

    help = (
        "Encrypt every stored password anew with the first of SECRETS_KEYS, so that the others can be removed. "
        "It can be killed and run again."
    )

    def handle(self, **_options: Any) -> None:
        """Rotate; exit code 1 if a password could not be decrypted."""
        if not has_keys():
            raise CommandError(NO_KEYS)
        count, faults = rotate_secrets()
        self.stdout.write(f"Encrypted {count} passwords with the first key.")
        for fault in faults:
            self.stderr.write(fault)
        if faults:
            raise CommandError(
                f"{len(faults)} could not be decrypted and stay as they are: see above. Keep all keys."
            )
