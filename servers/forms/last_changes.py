"""Who changed a row last, and when: told to somebody whose form was opened before that."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Model
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

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
    """A change as it is told: who made it, when, and of what, in words. `is_own` if the reader made it."""

    who: str
    at: datetime
    what: str
    is_own: bool = False

    @property
    def sentence(self) -> str:
        """Who changed it and when, to somebody who had it open meanwhile."""
        said = {"who": self.who, "what": self.what, "when": describe_moment(self.at)}
        if self.is_own:
            return _("You changed this in another tab %(when)s (%(what)s).") % said
        return _("%(who)s changed this %(when)s (%(what)s).") % said


def describe_moment(at: datetime) -> str:
    """Return when something was, in words: the time of day, with the day if it is not today."""
    local = timezone.localtime(at)
    words = {"time": date_format(local, "H:i"), "day": date_format(local, "j M Y")}
    if local.date() == timezone.localdate():
        return _("at %(time)s") % words
    return _("on %(day)s at %(time)s") % words


def find_last_change(row: Any, user: User | None = None) -> LastChange | None:
    """Return the last recorded change of a row's settings, told to `user`; None if there is none. One query."""
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
            is_own = user is not None and event.user_id == user.pk
            return LastChange(event.name, event.at, what, is_own)
    return None
