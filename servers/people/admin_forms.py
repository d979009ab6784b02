"""The form by which people name the admins of a server in the game."""

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from servers.models import MOST_ADMINS, NAME_CHARS, AdminPreset, GameAdmin, Server
from servers.people.steam_id_field import SteamIdField


class GameAdminForm(forms.Form):
    """Makes somebody an admin of one server, or makes an admin something else."""

    steam_id = SteamIdField()
    name = forms.CharField(
        required=False,
        max_length=NAME_CHARS,
        help_text=gettext_lazy("Only for those who manage the server."),
    )
    preset = forms.ChoiceField(
        label=gettext_lazy("May"), choices=AdminPreset, initial=AdminPreset.MODERATOR
    )

    def __init__(self, *args: object, server: Server) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._server = server

    def clean_name(self) -> str:
        """Return the name; it becomes part of a line of a file, so it is one line."""
        name: str = self.cleaned_data["name"]
        if not name.isprintable():
            raise forms.ValidationError(_("Use printable characters, on one line."))
        return name

    def save(self, made_by_name: str) -> GameAdmin:
        """Store what the valid form says, and return it. Of an admin that is there, the name and preset change.

        To be called in a transaction. Raises ValidationError if there are as many as may be.
        """
        said = self.cleaned_data
        # Those who name admins of one server take turns, so that the count holds.
        Server.objects.select_for_update(no_key=True, of=("self",)).get(pk=self._server.pk)
        admins = self._server.game_admins
        admin = admins.filter(steam_id=said["steam_id"]).first()
        if admin is None:
            if admins.count() >= MOST_ADMINS:
                raise forms.ValidationError(
                    _(
                        "%(server)s already has %(count)s admins, which is the limit. Remove one "
                        "first."
                    )
                    % {"server": self._server, "count": MOST_ADMINS}
                )
            admin = GameAdmin(server=self._server, steam_id=said["steam_id"])
            admin.made_by_name = made_by_name
        known = self._server.player_sessions.filter(steam_id=said["steam_id"]).first()
        admin.name = said["name"] or admin.name or (known.name if known else "")
        admin.preset = said["preset"]
        admin.save()
        return admin
