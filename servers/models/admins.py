"""A server's admins in the game: people with a Steam ID, and what SourceMod lets them do."""

from typing import Any, Self

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from hostops.specs import SpecAdmin
from servers.models.players import NAME_CHARS
from servers.models.servers import Server

MOST_ADMINS = 100
"""The limit for one server."""


class AdminPreset(models.TextChoices):
    """What an admin may do, in words; `flags` has the letters for it from SourceMod's `admin_levels.cfg`."""

    MODERATOR = "moderator", _("Moderator: kick, ban, unban, slay, admin chat")
    MAP_CHOOSER = "map_chooser", _("Map chooser: change the map, start votes")
    HEAD = "head", _("Head moderator: what moderators and map choosers may")
    FULL = "full", _("Full admin: everything, with the server’s settings and its RCON")

    @property
    def flags(self) -> str:
        """The letters; SourceMod requires `b` of every admin."""
        return {"moderator": "bcdefj", "map_chooser": "bgk", "head": "bcdefgjk", "full": "z"}[self]

    @property
    def short(self) -> str:
        """Only the word for it."""
        return str(self.label).partition(":")[0]


class GameAdmin(models.Model):
    """A person who is an admin of one server in the game."""

    server = models.ForeignKey(Server, models.CASCADE, related_name="game_admins", db_index=False)
    steam_id = models.CharField(max_length=32)
    name = models.CharField(max_length=NAME_CHARS, blank=True)
    preset = models.CharField(max_length=16)
    made_by_name = models.CharField(max_length=150, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["server", "steam_id"], name="one_admin_per_steam_id"),
        ]

    def __str__(self) -> str:
        return f"{self.name or self.steam_id} on {self.server}"

    @property
    def preset_words(self) -> str:
        """Their role, in a word or two."""
        return AdminPreset(self.preset).short

    def to_spec(self) -> SpecAdmin:
        """Return them in the host layer's form."""
        return SpecAdmin(self.steam_id, AdminPreset(self.preset).flags, self.name)


class AdminsState(models.TextChoices):
    """What became of a server's admins. `pending` until its worker has handled the latest change."""

    PENDING = "pending", _("Saved. Not written yet: the worker of the server’s host will do it.")
    IN_FORCE = "in_force", _("Written, and SourceMod has read them.")
    TYPED = "typed", _("Written. SourceMod was told to reload them, but did not answer.")
    WAITING = "waiting", _("The server’s next start writes them.")
    NO_SOURCEMOD = "no_sourcemod", _("They are not written to the server, so they have no effect.")
    NOT_LOADED = (
        "not_loaded",
        _("Written, but SourceMod does not read them. The console may say why it is not loaded."),
    )
    REFUSED = "refused", _("They are not written.")


FAULTY_STATES = (AdminsState.NO_SOURCEMOD, AdminsState.NOT_LOADED, AdminsState.REFUSED)


class AdminsNote(models.Model):
    """What is known about a server's admins: the state, and more sentences for people."""

    server = models.OneToOneField(Server, models.CASCADE, related_name="admins_note")
    state = models.CharField(max_length=16)
    remark = models.TextField(blank=True)
    at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"admins of {self.server}: {self.state}"

    @property
    def words(self) -> str:
        """The state in a sentence."""
        return str(AdminsState(self.state).label)

    @property
    def kind(self) -> str:
        """The kind of notice."""
        return "error" if self.state in FAULTY_STATES else "info"

    @classmethod
    def record(cls, server: Server, state: AdminsState, remark: str = "") -> Self:
        """Store the current state."""
        said: dict[str, Any] = {"state": state, "remark": remark, "at": timezone.now()}
        return cls.objects.update_or_create(server=server, defaults=said)[0]
