"""`manage.py restore`: restores a backup, on a machine that has nothing to lose."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from hostops.command_ends import EXIT_FAILED, EXIT_INTERRUPTED, interrupted_like_ctrl_c, tell
from hostops.errors import HostError
from l4d2site.backups import archives, restoring
from l4d2site.backups.database_dumps import DumpError, advise, telling_of_waits
from l4d2site.backups.keeping import BusyError
from l4d2site.backups.passphrases import PassphraseError, read_passphrase


class Command(BaseCommand):
    """Restores a backup. The web process and the workers have to be stopped."""

    help = (
        "Restore a backup made by `manage.py backup`: the database, the servers' own files and the overlays. "
        "Servers that were running are started again once a worker runs and has installed the game. "
        "Everybody has to sign in again, and invitations and links for new passwords from before do not work. "
        "Jobs that waited or ran when it was made are cancelled."
    )
    requires_system_checks: list[str] = []  # There may be no table yet.

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("archive", type=Path, help="the backup file")
        parser.add_argument(
            "--passphrase-file",
            type=Path,
            default=settings.BACKUP_PASSPHRASE_FILE,
            help="a file with the passphrase (default: BACKUP_PASSPHRASE_FILE)",
        )
        parser.add_argument(
            "--replace", action="store_true", help="replace a database that has servers"
        )
        parser.add_argument(
            "--print-keys",
            action="store_true",
            help="only print the backup's SECRETS_KEYS",
        )

    def handle(self, **options: Any) -> None:
        """Restore it; exit code 1 and the reason if that failed."""
        path: Path = options["archive"]
        require_readable(path)
        try:
            passphrase = read_passphrase(options["passphrase_file"])
            if options["print_keys"]:
                _, keys = archives.read_head(path, passphrase)
                if not keys:
                    tell(
                        "The backup is not sealed, so it has no keys: SECRETS_KEYS have to be those of the "
                        "panel that made it.",
                        self.stderr,
                    )
                    return
                self.stdout.write(f"SECRETS_KEYS={keys}")
                return
            with interrupted_like_ctrl_c(), telling_of_waits(self._say):
                restored = restoring.restore(
                    path, passphrase, replaces=options["replace"], say=self._say
                )
        except restoring.RestoreUnfinished as error:
            raise CommandError(str(error), returncode=_exit_code(error)) from error
        except KeyboardInterrupt:
            raise CommandError(
                "The backup was not put back. This was interrupted before anything was changed.",
                returncode=EXIT_INTERRUPTED,
            ) from None
        except (
            archives.ArchiveError,
            restoring.RestoreRefused,
            BusyError,
            DumpError,
            PassphraseError,
            HostError,
            OSError,
            CommandError,  # of `migrate`
        ) as error:
            said = f"The backup was not put back. {error}"
            raise CommandError(said, returncode=_exit_code(error)) from error
        except DatabaseError as error:
            if not (advice := advise(error)):
                raise
            raise CommandError(
                f"The backup was not put back. The database cannot be used: {error}. {advice}"
            ) from error
        tell(
            "The backup is put back. Everybody has to sign in again, and invitations and links for new "
            "passwords from before do not work any more. Passwords, second factors, roles and deactivated "
            "accounts are as they were when it was made.",
            self.stdout,
        )
        if count := restored.cancelled_jobs:
            tell(
                f"Jobs that waited or ran when it was made, and are cancelled now: {count}.",
                self.stdout,
            )
        if restored.started:
            tell(f"Will be started once a worker runs: {', '.join(restored.started)}.", self.stdout)

    def _say(self, text: str) -> None:
        tell(text, self.stdout)


def require_readable(path: Path) -> None:
    """Raise `CommandError` if this account cannot read the archive, with what to do."""
    try:
        path.open("rb").close()
    except FileNotFoundError:
        # Commands of an installation run in another folder than the one they are called in.
        advice = "" if path.is_absolute() else " Name it by its whole path."
        raise CommandError(f"There is no backup {path}.{advice}") from None
    except OSError as error:
        raise CommandError(
            f"The backup {path} cannot be read: {error.strerror}. Give the account that runs this the right to."
        ) from None


def _exit_code(error: Exception) -> int:
    """Return the code for what failed, or was interrupted."""
    return EXIT_INTERRUPTED if isinstance(error.__cause__, KeyboardInterrupt) else EXIT_FAILED
