"""Changes of map: what somebody wanted a running server to play, and what it said it played afterwards."""

from datetime import datetime, timedelta

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy

from servers.models.commands import ConsoleCommand
from servers.models.servers import MAP_CHARS, MODE_CHARS, ActualState, Server

SETTLES_WITHIN = timedelta(seconds=60)
"""How long after the command a server may take until it plays what it should: a large map on a slow disk."""

RECENT = timedelta(hours=1)


class MapChangeState(models.TextChoices):
    """The state of a change: `asked`, and then finally one of the others."""

    ASKED = "asked", gettext_lazy("asked")
    PLAYING = "playing", gettext_lazy("plays it")
    OTHER = "other", gettext_lazy("plays something else")
    UNKNOWN = "unknown", gettext_lazy("says nothing")
    NOT_SENT = "not_sent", gettext_lazy("not sent")
    OVERTAKEN = "overtaken", gettext_lazy("overtaken by a later change")


class MapChangeQuerySet(models.QuerySet["MapChange"]):
    """Changes, by their state."""

    def unfinished(self) -> "MapChangeQuerySet":
        """Return those whose outcome is not known yet."""
        return self.filter(state=MapChangeState.ASKED)


class MapChange(models.Model):
    """One request to play another map now. `command` has what was sent, by whom, and the answer.

    `mode` is empty if it was to stay. `said_map` and `said_mode` are the server's answer when it was asked what
    it plays; `was_map` and `was_mode` are its previous answer.
    """

    server = models.ForeignKey(Server, models.CASCADE, related_name="map_changes")
    command = models.OneToOneField(ConsoleCommand, models.CASCADE, related_name="map_change")
    map = models.CharField(max_length=MAP_CHARS)
    mode = models.CharField(max_length=MODE_CHARS, blank=True)
    was_map = models.CharField(max_length=MAP_CHARS, blank=True)
    was_mode = models.CharField(max_length=MODE_CHARS, blank=True)
    said_map = models.CharField(max_length=MAP_CHARS, blank=True)
    said_mode = models.CharField(max_length=MODE_CHARS, blank=True)
    state = models.CharField(max_length=16, choices=MapChangeState, default=MapChangeState.ASKED)
    created_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True)

    objects = MapChangeQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            # The worker queries these every second.
            models.Index(
                fields=["server"], condition=Q(state="asked"), name="map_changes_unfinished"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.server} to {self.map}"

    @property
    def is_recent(self) -> bool:
        """Whether people still want to know its outcome."""
        return timezone.now() - self.created_at < RECENT

    def is_history(self, server: Server, up_since: datetime | None) -> bool:
        """Whether it no longer matters for what `server` plays: the server was restarted, or plays another map.

        `up_since` is when it was started, if it is running and that is known.
        """
        if self.state not in (MapChangeState.PLAYING, MapChangeState.OTHER, MapChangeState.UNKNOWN):
            return False
        if server.actual_state != ActualState.RUNNING or (up_since and up_since > self.created_at):
            return True
        is_other_map = self.said_map and server.map and server.map != self.said_map
        is_other_mode = self.said_mode and server.mode and server.mode != self.said_mode
        return bool(is_other_map or is_other_mode)

    @property
    def notice_kind(self) -> str:
        """How a notice about it looks: a warning if the server does not play what was wanted."""
        failed = (MapChangeState.OTHER, MapChangeState.UNKNOWN, MapChangeState.NOT_SENT)
        return "warning" if self.state in failed else ""

    @property
    def is_finished(self) -> bool:
        """Whether its outcome is known, or never will be."""
        return self.state != MapChangeState.ASKED
