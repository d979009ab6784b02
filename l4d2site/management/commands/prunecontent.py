"""`manage.py prunecontent`: removes everything from the panel's store that no overlay version needs."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from hostops.command_ends import tell
from servers.store import BlobError, ForeignStoreError, sweep_store, take_store


class Command(BaseCommand):
    """Sweeps the store, as the worker does once a day."""

    help = (
        "Remove the files from the panel's store that belong to no version of an overlay and are older than a "
        "day. The worker on the panel's machine does this daily."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the option."""
        parser.add_argument(
            "--claim",
            action="store_true",
            help="make the store that of the database of DATABASE_URL, whichever it belonged to",
        )

    def handle(self, **options: Any) -> None:
        """Sweep; exit code 1 and the reason if the store cannot determine what it needs."""
        try:
            if options["claim"]:
                take_store()
            swept = sweep_store()
        except ForeignStoreError as error:
            raise CommandError(f"Nothing was removed. {error}") from error
        except BlobError as error:
            raise CommandError(
                f"Nothing was removed. {error} Remove that version, or put the file back from a backup."
            ) from error
        except OSError as error:
            raise CommandError(f"The store could not be swept: {error}") from error
        tell(
            f"Removed {swept.removed} files, {swept.removed_bytes:,} bytes; {swept.kept} are needed.",
            self.stdout,
        )
