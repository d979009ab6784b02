"""The forms that servers and blueprints are made and changed with."""

from servers.forms.last_changes import SETTING_WORDS, LastChange
from servers.forms.model_forms import BlueprintForm, ServerForm, find_port_obstacle
from servers.forms.new_server import NewServerForm
from servers.forms.outdated import VERSION_FIELD, VersionedAdminForm
from servers.forms.overlay_forms import (
    FileForm,
    NewPathForm,
    NewTextForm,
    OverlayForm,
    TextForm,
    find_passwords,
)
from servers.forms.secret_fields import SecretsForm
from servers.forms.words import PlainForm

__all__ = [
    "SETTING_WORDS",
    "VERSION_FIELD",
    "BlueprintForm",
    "FileForm",
    "LastChange",
    "NewPathForm",
    "NewServerForm",
    "NewTextForm",
    "OverlayForm",
    "PlainForm",
    "SecretsForm",
    "ServerForm",
    "TextForm",
    "VersionedAdminForm",
    "find_passwords",
    "find_port_obstacle",
]
