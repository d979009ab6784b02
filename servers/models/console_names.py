"""What can be typed into a game's console: its cvars and commands, as one of its servers lists them."""

from typing import TypedDict

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

NAMES_KEY_CHARS = 64


class ConsoleName(TypedDict):
    """One cvar or command. `help` is a line of text, perhaps from a stranger's plugin."""

    name: str
    help: str
    is_command: bool


class ConsoleNames(models.Model):
    """The names of one game: of a build with certain overlays, identified by `key`.

    See `servers.console.completion.find_key`. They need to be asked for only once.
    """

    key = models.CharField(max_length=NAMES_KEY_CHARS, unique=True)
    names = models.JSONField(default=list)
    has_private_say = models.BooleanField(
        default=False,
        help_text=_("Whether sm_psay is among them: SourceMod says something to one."),
    )
    made_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name_plural = _("console names")

    def __str__(self) -> str:
        return self.key
