"""Who last changed a row, and when: for people whose form was opened before that."""

from collections.abc import Collection
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
"""Hardly any form stays open for longer."""

EVENTS_READ = 20

KINDS: dict[type[Model], str] = {
    Server: "server_changed",
    Blueprint: "blueprint_changed",
    Overlay: "overlay_changed",
}
"""The kinds of recorded events that report changes of these rows."""


SETTING_WORDS: dict[type[Model], dict[str, str]] = {
    Server: {
        "port": "port",
        "blueprint_id": "blueprint",
        "arguments": "launch arguments",
        "config": "config",
        "bind_address": "bind address",
        "rcon_password_token": "RCON password",
        "join_password_token": "join password",
        "owner_id": "owner",
    },
    Blueprint: {
        "name": "name",
        "is_shared": "sharing",
        "arguments": "launch arguments",
        "config": "config",
        "memory_limit_mib": "memory",
        "tasks_limit": "processes and threads",
        "cpu_weight": "CPU weight",
        "owner_id": "owner",
    },
    Overlay: {
        "name": "name",
        "description": "description",
        "is_shared": "sharing",
        "owner_id": "owner",
    },
}
"""The columns that people change, with their names in the record of changes. The record has no values."""


@dataclass(frozen=True)
class LastChange:
    """A change in words: who made it, when, and what it changed. `is_own` if it was the reader's."""

    who: str
    at: datetime
    what: str
    is_own: bool = False

    @property
    def sentence(self) -> str:
        """Who changed it and when, for somebody who had it open meanwhile."""
        said = {"who": self.who, "what": self.what, "when": describe_moment(self.at)}
        if self.is_own:
            return _("You changed this in another tab %(when)s (%(what)s).") % said
        return _("%(who)s changed this %(when)s (%(what)s).") % said


def describe_moment(at: datetime) -> str:
    """Return a moment in words: the time of day, with the day if it is not today."""
    local = timezone.localtime(at)
    words = {"time": date_format(local, "H:i"), "day": date_format(local, "j M Y")}
    if local.date() == timezone.localdate():
        return _("at %(time)s") % words
    return _("on %(day)s at %(time)s") % words


def find_last_change(
    row: Any, fields: Collection[str], user: User | None = None
) -> LastChange | None:
    """Return the last recorded change of these fields of a row, as `user` is told it, or None. One query."""
    # The record belongs to the site, which imports this package, not the other way round.
    events: Any = Server.account_events.rel.related_model
    prefix = f"{row.name}: "
    recorded = events.objects.filter(
        kind=KINDS[type(row)],
        at__gt=timezone.now() - LOOKED_BACK,
        detail__startswith=prefix,
    )
    words = SETTING_WORDS[type(row)]
    wanted = {words.get(field) or words.get(f"{field}_id") or field for field in fields}
    for event in recorded.order_by("-at", "-pk")[:EVENTS_READ]:
        what = event.detail.removeprefix(prefix)
        if not wanted.isdisjoint(what.split(", ")):
            is_own = user is not None and event.user_id == user.pk
            return LastChange(event.name, event.at, what, is_own)
    return None
