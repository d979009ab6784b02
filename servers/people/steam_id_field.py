"""The form field in which people name a player by Steam ID."""

from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from servers.people.steam_ids import to_steam_id


class SteamIdField(forms.CharField):
    """Takes a Steam ID in any notation; its value is in the game's notation, such as STEAM_1:0:12345."""

    def __init__(self, **options: Any) -> None:
        usual: dict[str, Any] = {
            "label": gettext_lazy("Player’s Steam ID"),
            "max_length": 64,
            "help_text": gettext_lazy(
                "Choose somebody who is on or was lately, or enter an ID such as STEAM_1:0:12345, [U:1:24690], "
                "76561197960290418, or a profile’s address that contains it."
            ),
            "widget": forms.TextInput(
                attrs={"list": "known-players", "autocomplete": "off", "spellcheck": "false"}
            ),
        }
        super().__init__(**usual | options)

    def clean(self, value: Any) -> str:
        """Return the ID in the game's notation. Raises ValidationError."""
        steam_id = to_steam_id(super().clean(value))
        if steam_id is None:
            raise forms.ValidationError(
                _(
                    "That is not a Steam ID. One looks like STEAM_1:0:12345, [U:1:24690] or "
                    "76561197960290418. A name is not enough: anybody can have it."
                )
            )
        return steam_id
