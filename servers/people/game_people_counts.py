"""How many people are banned from a server and how many are its admins, in words for pages that lead there."""

from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from servers.models import Ban, Server


@dataclass(frozen=True)
class GamePeopleCounts:
    """The bans in force and the admins of one server."""

    bans: int
    admins: int

    @property
    def bans_words(self) -> str:
        """Who is kept out, in a sentence."""
        if not self.bans:
            return _("Nobody is banned.")
        words = ngettext("%(count)d ban is in force.", "%(count)d bans are in force.", self.bans)
        return words % {"count": self.bans}

    @property
    def admins_words(self) -> str:
        """How many admins there are, in a sentence."""
        if not self.admins:
            return _("Nobody yet.")
        words = ngettext("%(count)d admin.", "%(count)d admins.", self.admins)
        return words % {"count": self.admins}


def count_game_people(server: Server) -> GamePeopleCounts:
    """Count the bans that apply on a server, and its admins. Two queries."""
    bans = Ban.objects.of_servers([server]).in_force().count()
    return GamePeopleCounts(bans, server.game_admins.count())
