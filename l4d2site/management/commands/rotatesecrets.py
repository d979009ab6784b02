"""`manage.py rotatesecrets`: re-encrypts every stored secret with the first key of SECRETS_KEYS."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from hostops.command_ends import tell
from l4d2site.accounts.second_factors import rotate_second_factors
from servers.config import rotate_secrets
from servers.secrets import NO_KEYS, has_keys


class Command(BaseCommand):
    """Rotates the servers' passwords and people's second factors, and reports how many."""

    help = (
        "Re-encrypt every stored password and second factor with the first of SECRETS_KEYS, so that the others "
        "can be removed. It can be killed and run again."
    )

    def handle(self, **_options: Any) -> None:
        """Rotate; exit code 1 if one could not be decrypted."""
        if not has_keys():
            raise CommandError(NO_KEYS)
        passwords, faults = rotate_secrets()
        second_factors, more_faults = rotate_second_factors()
        faults = [*faults, *more_faults]
        tell(f"Encrypted {passwords} passwords with the first key.", self.stdout)
        if second_factors:
            tell(f"Encrypted {second_factors} secrets of second factors with it.", self.stdout)
        for fault in faults:
            self.stderr.write(fault)
        if faults:
            raise CommandError(
                f"{len(faults)} could not be decrypted and stay as they are: see above. Keep all keys."
            )
