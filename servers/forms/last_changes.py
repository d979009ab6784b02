"""Who changed a row last, and when: told to somebody whose form was opened before that."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Model
from django.utils import timezone

from servers.models import Blueprint, Overlay, Server

LOOKED_BACK = timedelta(days=7)
"""No form stays open for longer, or hardly any."""

EVENTS_READ = 20

KINDS: dict[type[Model], str] = {
    Server: "server_changed",
    Blueprint: "blueprint_changed",
    Overlay: "overlay_changed",
}
"""The kinds of recorded events that tell of changes of these rows."""


@dataclass(frozen=True)
class LastChange:
    """A change as it is told: who made it, when, and of what, in words."""

    who: str
    at: datetime
    what: str


def find_last_change(row: Any) -> LastChange | None:
    """Return the last recorded change of a row's settings; None if none is recorded. One query."""
    # The record belongs to the site, which imports this package, not the other way round.
    events: Any = Server.account_events.rel.related_model
    prefix = f"{row.name}: "
    recorded = events.objects.filter(
        kind=KINDS[type(row)],
        at__gt=timezone.now() - LOOKED_BACK,
        detail__startswith=prefix,
    )
    for event in recorded.order_by("-at", "-pk")[:EVENTS_READ]:
        what = event.detail.removeprefix(prefix)
        # Bans and admins of a server are recorded as changes of it too, and are on no form.
        if "STEAM_" not in what:
            return LastChange(event.name, event.at, what)
    return None
