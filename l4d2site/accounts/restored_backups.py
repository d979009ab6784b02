"""What a restored backup must not bring back: sessions that have ended since, and links that were used."""

from datetime import datetime

from django.contrib.sessions.models import Session
from django.db import transaction

from l4d2site.accounts.events import record_event
from l4d2site.accounts.models import AccountEvent, EventKind, Invitation, PendingSignIn


@transaction.atomic
def end_what_was_open() -> None:
    """Sign everybody out, and void every link: nobody knows which of them have ended since the backup.

    Links for new passwords have no rows: each is compared with the event that this records, which is never
    trimmed.
    """
    Session.objects.all().delete()
    PendingSignIn.objects.all().delete()
    Invitation.objects.open().delete()
    record_event(EventKind.BACKUP_RESTORED, None)


def is_from_before_restore(made_at: datetime) -> bool:
    """Return whether a backup has been restored since `made_at`."""
    return AccountEvent.objects.filter(kind=EventKind.BACKUP_RESTORED, at__gt=made_at).exists()
