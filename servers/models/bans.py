"""Bans: who may not play, why, until when, and on which servers. They are Saferoom's, not the game's."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.dispatch import Signal
from django.utils import timezone

from servers.models.players import NAME_CHARS
from servers.models.servers import Server

REASON_CHARS = 200

bans_changed = Signal()
"""Sent when somebody has made `bans` on the page of a `server`, or lifted them if `is_lifted`."""


class BanQuerySet(models.QuerySet["Ban"]):
    """Bans, by place and by whether they apply."""

    def of_servers(self, servers: Iterable[Server]) -> "BanQuerySet":
        """Return the bans that affect any of `servers`: their own, and their owners' bans for all servers."""
        servers = list(servers)
        own = Q(server__in=[server.pk for server in servers])
        return self.filter(own | Q(server=None, owner__in={server.owner_id for server in servers}))

    def in_force(self) -> "BanQuerySet":
        """Return the bans that apply now."""
        return self.filter(Q(ends_at=None) | Q(ends_at__gt=timezone.now()), lifted_at=None)

    def ended_since(self, moment: datetime) -> "BanQuerySet":
        """Return the bans that were lifted or have expired since `moment`."""
        has_ended = Q(lifted_at=None, ends_at__lte=timezone.now(), ends_at__gte=moment)
        return self.filter(has_ended | Q(lifted_at__gte=moment))


class Ban(models.Model):
    """A person may not play on `server`, or, if None, on any server of `owner`, until it ends or is lifted."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    server = models.ForeignKey(Server, models.CASCADE, null=True, related_name="bans")
    steam_id = models.CharField(max_length=32)
    name = models.CharField(max_length=NAME_CHARS, blank=True)
    reason = models.CharField(max_length=REASON_CHARS, blank=True)
    made_by_name = models.CharField(max_length=150, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    ends_at = models.DateTimeField(null=True)
    lifted_at = models.DateTimeField(null=True)
    lifted_by_name = models.CharField(max_length=150, blank=True)

    objects = BanQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["owner", "lifted_at", "ends_at"], name="bans_of_owner"),
        ]

    def __str__(self) -> str:
        return f"ban of {self.steam_id}"

    def holds_on(self, server: Server) -> bool:
        """Return whether it concerns `server`; it may have ended."""
        return self.server_id == server.pk if self.server_id else self.owner_id == server.owner_id

    @property
    def ended_at(self) -> datetime | None:
        """When it was lifted, or else when it expires; None if it does not."""
        return self.lifted_at or self.ends_at

    def ends_later_than(self, other: "Ban") -> bool:
        """Return whether it ends later than another."""
        if other.ends_at is None:
            return False
        return self.ends_at is None or self.ends_at > other.ends_at

    def minutes_left(self, now: datetime) -> int:
        """Return the remaining minutes in the game's form: 0 means permanently, and the minimum is 1."""
        if self.ends_at is None:
            return 0
        return max(1, -(-(self.ends_at - now) // timedelta(minutes=1)))


def find_lasting(bans: Iterable[Ban]) -> dict[str, Ban]:
    """Return by Steam ID each person's ban that ends last."""
    lasting: dict[str, Ban] = {}
    for ban in bans:
        other = lasting.get(ban.steam_id)
        if other is None or ban.ends_later_than(other):
            lasting[ban.steam_id] = ban
    return lasting
