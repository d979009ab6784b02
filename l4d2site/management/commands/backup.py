"""`manage.py backup`: makes a backup of the panel and of this host, while both run."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from hostops.command_ends import EXIT_INTERRUPTED, interrupted_like_ctrl_c, tell
from l4d2site.backups.making import FAULTS, make_backup


class Command(BaseCommand):
    """Makes a backup in BACKUP_DIR. Old ones are removed only after it is verified."""

    help = (
        "Make a backup in BACKUP_DIR: the database, what the servers of this host wrote, and its overlays. "
        "With BACKUP_PASSPHRASE_FILE it is sealed, and contains SECRETS_KEYS. It does not contain the game."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--database-only",
            action="store_true",
            help="leave out the files of servers and overlays",
        )
        parser.add_argument(
            "--without-content",
            action="store_true",
            help="leave out the panel's store of overlays, as BACKUP_CONTENT=false does",
        )

    def handle(self, **options: Any) -> None:
        """Make it; exit code 1 and the reason if that failed."""
        try:
            with interrupted_like_ctrl_c():
                made = make_backup(
                    with_host_files=not options["database_only"],
                    with_content=settings.BACKUP_CONTENT
                    and not options["without_content"]
                    and not options["database_only"],
                    say=lambda text: tell(text, self.stdout),
                )
        except KeyboardInterrupt:
            raise CommandError(
                f"This was interrupted. A new backup in {settings.BACKUP_DIR}, if there is one, is complete.",
                returncode=EXIT_INTERRUPTED,
            ) from None
        except FAULTS as error:
            raise CommandError(f"No backup was made. {error}") from error
        for text in (*made.incomplete, *made.skipped[:20]):
            self.stderr.write(f"Left out: {text}")
        if len(made.skipped) > 20:
            self.stderr.write(f"Left out: {len(made.skipped) - 20} more.")
        if made.incomplete:
            self.stderr.write(
                f"Servers or overlays of which this backup lacks files: {len(made.incomplete)}. "
                "“Left out” says which."
            )
        tell(f"{made.path}: {made.bytes:,} bytes, {made.members} members, verified.", self.stdout)
        if not made.is_sealed:
            self.stderr.write(
                "It is not sealed, so SECRETS_KEYS is not in it: set BACKUP_PASSPHRASE_FILE, or keep them too."
            )
        for path in made.removed:
            tell(f"Removed {path.name}.", self.stdout)
