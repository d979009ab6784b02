"""The form with which people name the admins of a server in the game."""

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from servers.models import MOST_ADMINS, NAME_CHARS, AdminPreset, GameAdmin, Server
from servers.people.steam_id_field import SteamIdField


class GameAdminForm(forms.Form):
    """Makes a person an admin of one server, or changes an admin's role."""

    steam_id = SteamIdField()
    name = forms.CharField(
        required=False,
        max_length=NAME_CHARS,
        help_text=gettext_lazy(
            "For the list on this page. Everybody who can see the server sees it."
        ),
    )
    preset = forms.ChoiceField(
        label=gettext_lazy("May"), choices=AdminPreset, initial=AdminPreset.MODERATOR
    )

    def __init__(self, *args: object, server: Server) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._server = server

    def clean_name(self) -> str:
        """Return the name. It becomes part of a line in a file, so it must be one line."""
        name: str = self.cleaned_data["name"]
        if not name.isprintable():
            raise forms.ValidationError(_("Use printable characters, on one line."))
        return name

    def save(self, made_by_name: str) -> GameAdmin:
        """Store the valid form's input, and return it. For an existing admin, name and preset change.

        Call it in a transaction. Raises ValidationError if there are already as many admins as allowed.
        """
        said = self.cleaned_data
        # People who name admins of the same server take turns, so that the count is right.
        this = Server.objects.select_for_update(no_key=True, of=("self",)).filter(
            pk=self._server.pk
        )
        if this.first() is None:
            raise forms.ValidationError(
                _("Server %(server)s was removed meanwhile.") % {"server": self._server}
            )
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
