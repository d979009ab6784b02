"""Who was on a server, and when."""

from datetime import timedelta

from django.db import models
from django.db.models import Count
from django.utils import timezone

from servers.models.servers import Server

SESSIONS_KEPT = timedelta(days=90)
SESSIONS_KEPT_OF_SERVER = 100_000
"""The newest ones. About sixty people an hour fill it while they are kept; a game can claim any number."""

NAME_CHARS = 64


class PlayerSessionQuerySet(models.QuerySet["PlayerSession"]):
    """Sessions, by whether they are open."""

    def open(self) -> "PlayerSessionQuerySet":
        """Return the sessions of people who are on."""
        return self.filter(left_at=None)

    def outdated(self) -> "PlayerSessionQuerySet":
        """Return the sessions that ended too long ago to be kept."""
        return self.filter(left_at__lt=timezone.now() - SESSIONS_KEPT)

    def forget_beyond(self, most: int) -> None:
        """Delete each server's oldest ended sessions if it has more than `most` of them."""
        ended = self.exclude(left_at=None).order_by()
        many = ended.values("server").annotate(count=Count("pk")).filter(count__gt=most)
        for server_id in many.values_list("server", flat=True):
            of_server = ended.filter(server=server_id)
            newest_doomed = of_server.order_by("-pk").values_list("pk", flat=True)[most]
            of_server.filter(pk__lte=newest_doomed).delete()


class PlayerSession(models.Model):
    """One person's time on a server, from when they connected until they were no longer seen.

    `seen_at` is when the server last listed them, with the `ping` (in milliseconds) and `loss` (in percent)
    that they had then.
    """

    server = models.ForeignKey(
        Server, models.CASCADE, related_name="player_sessions", db_index=False
    )
    steam_id = models.CharField(max_length=32)
    name = models.CharField(max_length=NAME_CHARS, blank=True)
    ping = models.PositiveIntegerField(default=0)
    loss = models.PositiveIntegerField(default=0)
    joined_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    left_at = models.DateTimeField(null=True)

    objects = PlayerSessionQuerySet.as_manager()

    class Meta:
        ordering = ["-joined_at", "-id"]
        indexes = [
            models.Index(fields=["server", "-joined_at"], name="sessions_of_server"),
            models.Index(fields=["left_at"], name="sessions_by_end"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["server", "steam_id"],
                condition=models.Q(left_at=None),
                name="one_open_session_each",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} on {self.server}"
