"""The forms of overlays: their name and who may use them, and changes of their files."""

from http import HTTPStatus
from typing import Any, cast

from django import forms
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from hostops.specs import ManifestError, require_paths, require_readable_paths
from servers.forms.last_changes import LastChange
from servers.forms.model_forms import CODE, CodeArea, RowForm
from servers.forms.outdated import Conflict, read_version
from servers.forms.words import PlainForm
from servers.models import Overlay, OverlayReport
from servers.models.overlays import NOTE_CHARS
from servers.permissions import Verb, may
from servers.quotas import take_overlay_place
from servers.secrets import find_settings, has_keys
from servers.store import MAX_TEXT_BYTES, NEW_TEXT, TEXT_SUFFIXES, Text

MAX_PATH_CHARS = 512


class OverlayForm(RowForm):
    """An overlay as its owner makes or changes it. Its name is that of folders on hosts, so it stays."""

    class Meta:
        model = Overlay
        fields = ["name", "description", "is_shared"]
        widgets = {
            "name": forms.TextInput(attrs=CODE),
            "description": forms.Textarea(attrs={"rows": 2}),
        }
        help_texts = {
            "name": _("Lower-case letters, digits and dashes. It cannot be changed later."),
            "is_shared": _(
                "Every owner may then use it in blueprints, and read its files. Only you and admins can "
                "change it."
            ),
        }

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._user = self.reader = user
        self.fields["is_shared"].label = _("Shared")
        if self.instance.pk is not None:
            del self.fields["name"]
        else:
            self.fields["name"].widget.attrs["autofocus"] = True

    def clean_name(self) -> str:
        """Refuse the name of a host's folder, unless the user may name such folders."""
        name: str = self.cleaned_data["name"]
        is_folder = OverlayReport.objects.filter(name=name).exists()
        if is_folder and not may(self._user, Verb.BRING_NATIVE_CODE):
            raise ValidationError(
                _(
                    "A host has a folder of that name, and only an admin may make an overlay of it. Choose "
                    "another name."
                )
            )
        return name

    def save(self, commit: bool = True) -> Overlay:
        """Store it, if its owner may have another. Until it has files, its maker's rights decide what it is."""
        if self.instance.pk is None:
            take_overlay_place(self._user)
            self.instance.is_host_folder = may(self._user, Verb.BRING_NATIVE_CODE)
        overlay: Overlay = super().save(commit)
        return overlay


class FileForm(PlainForm, forms.Form):
    """What every change of a file has: what the file was when the form was opened, and a note."""

    note = forms.CharField(
        label=_("Note"),
        required=False,
        max_length=NOTE_CHARS,
        help_text=_("What is new in this version. It is shown in the list of versions."),
    )

    def __init__(self, *args: Any, opened: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen_version = read_version(self.data) if self.is_bound else opened
        self.conflicts: list[Conflict] = []
        self.last_change: LastChange | None = None

    @property
    def conflicts_heading(self) -> str:
        """What happened, in a line above both versions."""
        if self.seen_version:
            return gettext("Not saved: the file was changed since you opened it")
        return gettext("Not saved: the file was removed since you opened it")

    @property
    def status(self) -> HTTPStatus:
        """The status of the response that shows the form again."""
        return HTTPStatus.CONFLICT if self.conflicts else HTTPStatus.OK

    def show_conflict(self, yours: str, theirs: str, now: str) -> None:
        """Say that the file has changed since. The form counts as having seen that, so the next try saves."""
        self.conflicts = [Conflict(str(_("text")), yours, theirs)]
        self.seen_version = now


class PathForm(FileForm):
    """A change that gives a file a path."""

    path = forms.CharField(
        label=_("Path"),
        max_length=MAX_PATH_CHARS,
        widget=forms.TextInput(attrs=CODE),
        help_text=_("Starting from the game’s folder, such as left4dead2/cfg/my-rules.cfg."),
    )

    field_order = ("path", "text", "note")

    def clean_path(self) -> str:
        """Refuse what cannot be the path of a file."""
        path: str = self.cleaned_data["path"]
        try:
            require_paths([path])
            require_readable_paths([path])
        except ManifestError as error:
            raise ValidationError(str(error)) from error
        return path


class TextForm(FileForm):
    """The text of a file. `before` is the text it had."""

    text = forms.CharField(label=_("Text"), required=False, strip=False, widget=CodeArea(rows=24))

    field_order = ("path", "text", "note")

    def __init__(self, *args: Any, path: str, before: Text, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._path = path
        self._before = before
        # The error below counts bytes; of a longer text the page shows this much again.
        cast("forms.CharField", self.fields["text"]).max_length = MAX_TEXT_BYTES
        if not self.is_bound:
            self.initial.setdefault("text", before.shown)

    @property
    def bytes(self) -> bytes:
        """The file with the text that was typed."""
        return self._before.rewrite(self.cleaned_data["text"])

    def clean_text(self) -> str:
        """Refuse a text too long to be edited again, and new passwords: each server has fields for those."""
        text: str = self.cleaned_data["text"]
        try:
            data = self._before.rewrite(text)
        except UnicodeEncodeError as error:
            raise ValidationError(
                _("It contains a character that cannot be stored. Remove it.")
            ) from error
        if len(data) > MAX_TEXT_BYTES:
            raise ValidationError(
                _(
                    "It is larger than %(kib)d KiB, the most that can be edited here. Upload it instead."
                )
                % {"kib": MAX_TEXT_BYTES // 1024}
            )
        path = self._find_path()
        known = find_passwords(path, self._before.shown)
        refuse_passwords(find_passwords(path, text.replace("\r\n", "\n")), known)
        return text

    def _find_path(self) -> str:
        """Return where the text will be."""
        return self._path


class NewPathForm(PathForm):
    """A new path for a file; `text` is its content, if it is a text."""

    def __init__(self, *args: Any, path: str, text: Text | None, **kwargs: Any) -> None:
        super().__init__(*args, initial={"path": path}, **kwargs)
        self._path = path
        self._text = text.shown if text else ""

    def clean_path(self) -> str:
        """Refuse a config's path for a text with passwords, since nobody has checked it as a config before."""
        path = super().clean_path()
        known = find_passwords(self._path, self._text)
        refuse_passwords(find_passwords(path, self._text), known)
        return path


class NewTextForm(TextForm, PathForm):
    """A text file that does not exist yet."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, path="", before=NEW_TEXT, opened="", **kwargs)
        self.fields["path"].widget.attrs["autofocus"] = True

    def _find_path(self) -> str:
        return str(self.data.get("path", ""))

    def clean_path(self) -> str:
        """Refuse a name that the panel would not open again."""
        path = super().clean_path()
        if not path.lower().endswith(TEXT_SUFFIXES):
            raise ValidationError(
                _("The name of a text file has to end in one of these: %(suffixes)s.")
                % {"suffixes": ", ".join(TEXT_SUFFIXES)}
            )
        return path


def refuse_passwords(found: list[Any], known: list[Any]) -> None:
    """Raise ValidationError for the first place that sets a password and is not among those `known`."""
    secrets = {setting.secret for setting in known}
    for setting in found:
        if setting.secret not in secrets:
            raise ValidationError(
                _(
                    "%(place)s sets %(cvar)s, a password that everybody who may use this overlay could read. "
                    "Leave it out here, and fill in “%(label)s” on each server."
                )
                % {
                    "place": setting.place,
                    "cvar": setting.secret.cvar,
                    "label": setting.secret.label,
                }
            )


def find_passwords(path: str, text: str) -> list[Any]:
    """Return the places in a config of the game that set passwords, if the panel keeps passwords itself."""
    if not path.lower().endswith(".cfg") or not has_keys():
        return []
    return find_settings("", text)
