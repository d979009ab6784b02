"""What a restored backup must not bring back: sessions that have ended since, and links that were used."""

import logging
from datetime import datetime

from django.contrib.sessions.models import Session
from django.db import transaction

from l4d2site.accounts.events import log_line, record_event, tell
from l4d2site.accounts.models import AccountEvent, EventKind, Invitation, PendingSignIn


@transaction.atomic
def end_what_was_open() -> None:
    """Sign everybody out, and void every link: nobody knows which of them have ended since the backup.

    Links for new passwords have no rows: each is compared with the event that this records, which is never
    trimmed. It is not logged: the database in which this is done may not take the place of the panel's.
    """
    Session.objects.all().delete()
    PendingSignIn.objects.all().delete()
    Invitation.objects.open().delete()
    record_event(EventKind.BACKUP_RESTORED, None, is_logged=False)


def log_restored() -> None:
    """Log that a backup is restored, as soon as it is."""
    tell(logging.INFO, log_line(EventKind.BACKUP_RESTORED, "", "", "", 1))


def is_from_before_restore(made_at: datetime) -> bool:
    """Return whether a backup has been restored since `made_at`."""
    return AccountEvent.objects.filter(kind=EventKind.BACKUP_RESTORED, at__gt=made_at).exists()
