"""Keeps a form from overwriting what was saved since it was opened, by others or in another tab.

A form has a hidden field `version`: for each of its fields, a digest of what was stored when the page was
made. A form sent without it, as by scripts, is saved as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode

from django import forms
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.http import QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from servers.forms.last_changes import LastChange, find_last_change
from servers.models.validation import CONFIG_CHARS, DESCRIPTION_CHARS, require_length
from servers.store import Sides, compare_sides

VERSION_FIELD = "version"
VERSION_CHARS = 4_000
"""More than twice the length of any of our forms' versions."""
OUTDATED = gettext_lazy(
    "Other values were saved since you opened this form, so yours were not saved. "
    "Compare them, and save again to replace the saved ones with yours."
)
REMOVED = gettext_lazy("This was removed since you opened the form. Nothing was saved.")


@dataclass(frozen=True)
class Conflict:
    """A field whose value has been changed since to something other than what the form would save."""

    label: str
    yours: str
    theirs: str

    @cached_property
    def sides(self) -> Sides:
        """Both values by lines; lines that only one of them has are marked."""
        return compare_sides(self.theirs, self.yours)


class OutdatedFormError(ValidationError):
    """What the form was opened with is no longer what is stored."""


class VersionedForm(forms.ModelForm):  # type: ignore[type-arg]
    """A form that knows what was stored when it was opened.

    After `refuse_outdated` has raised, `conflicts` says what differs, and `last_change` who changed it, if
    that is recorded. From then on the form counts as having seen that: the next try saves it.
    """

    reader: User | None = None
    """Who is filling it in, if that is known: their own change is reported as theirs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conflicts: list[Conflict] = []
        self.last_change: LastChange | None = None
        self._seen: str | None = None

    def clean_config(self) -> str:
        """Refuse a config that is too long, before anything reads it."""
        return self._require_length("config", CONFIG_CHARS)

    def clean_description(self) -> str:
        """Refuse a description that is too long."""
        return self._require_length("description", DESCRIPTION_CHARS)

    def _require_length(self, name: str, most: int) -> str:
        """Return the text of a field. One that was stored before there was a limit may stay as it is."""
        text: str = self.cleaned_data[name]
        require_length(text, most, stored=getattr(self.instance, name))
        return text

    @property
    def seen_version(self) -> str:
        """The value of the page's hidden field; empty for a row that is not stored yet."""
        if self._seen is not None:
            return self._seen
        if self.is_bound:
            return read_version(self.data)
        return to_version(self.read_values(self.instance)) if self.instance.pk else ""

    @property
    def conflicts_heading(self) -> str:
        """What happened, in a line above both versions."""
        return _("Not saved: this was changed since you opened the form")

    @property
    def status(self) -> HTTPStatus:
        """The status of the response that shows the form again."""
        return HTTPStatus.CONFLICT if self.conflicts else HTTPStatus.OK

    def read_values(self, row: Any) -> dict[str, str]:
        """Return the values of a row in the fields of this form, as texts for people, by name."""
        names = {field.name for field in row._meta.fields}
        return {name: show_value(getattr(row, name)) for name in self.fields if name in names}

    def read_own_values(self) -> dict[str, str]:
        """Return the same for what was typed, which must be valid."""
        return self.read_values(self.instance)

    def label_of(self, name: str) -> str:
        """Return what a value is called on the page."""
        return str(self.fields[name].label or name) if name in self.fields else name.capitalize()

    def show(self, name: str, yours: str, theirs: str) -> tuple[str, str]:  # noqa: ARG002
        """Return both values in a form that may be shown."""
        return yours, theirs

    def refuse_outdated(self) -> None:
        """Raise `OutdatedFormError` if somebody has stored what this form would overwrite unseen.

        Call it in the transaction that saves the form: the row stays locked until its end.
        """
        seen = dict(parse_qsl(read_version(self.data)))
        if not seen or self.instance.pk is None:
            return
        rows = type(self.instance)._default_manager.select_for_update(no_key=True)  # noqa: SLF001
        row = rows.filter(pk=self.instance.pk).first()
        if row is None:
            raise OutdatedFormError(REMOVED)
        stored, own = self.read_values(row), self.read_own_values()
        outdated = {
            name: theirs
            for name, theirs in stored.items()
            if name in seen and seen[name] != to_digest(theirs) and own.get(name, theirs) != theirs
        }
        self.conflicts = [
            Conflict(self.label_of(name), *self.show(name, own[name], theirs))
            for name, theirs in outdated.items()
        ]
        if self.conflicts:
            self._seen = to_version(stored)
            self.last_change = find_last_change(row, outdated, self.reader)
            raise OutdatedFormError(OUTDATED)


class VersionField(forms.CharField):
    """The hidden field, for forms on pages that are not our own. It never counts as changed."""

    widget = forms.HiddenInput

    def has_changed(self, initial: Any, data: Any) -> bool:  # noqa: ARG002
        """Return False."""
        return False


class VersionedAdminForm(VersionedForm):
    """The same for the admin site, whose transaction is already open, and which shows errors as sentences."""

    version = VersionField(required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if VERSION_FIELD in self.fields:
            self.fields[VERSION_FIELD].initial = self.seen_version

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        if self.errors:
            return
        try:
            self.refuse_outdated()
        except OutdatedFormError as error:
            self.add_error(None, error)
            for one in self.conflicts:
                text = _("%(label)s: yours is “%(yours)s”, the saved one “%(theirs)s”.") % {
                    "label": one.label,
                    "yours": one.yours,
                    "theirs": one.theirs,
                }
                self.add_error(None, text)
            data = cast("QueryDict", self.data).copy()
            data[VERSION_FIELD] = self.seen_version
            self.data = data


def read_version(data: Mapping[str, Any]) -> str:
    """Return the version that a form was sent with; of an invalid one, only the beginning."""
    return str(data.get(VERSION_FIELD, ""))[:VERSION_CHARS]


def to_version(values: Mapping[str, str]) -> str:
    """Return the version of a form with these values."""
    return urlencode({name: to_digest(value) for name, value in values.items()})


def to_digest(value: str) -> str:
    """Return what distinguishes a value from others. Anybody who gets it may read the value as well."""
    return sha256(value.encode()).hexdigest()[:16]


def show_value(value: Any) -> str:
    """Return the value of a column as a text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    # Browsers send line breaks as CR and LF, whatever they were given.
    return str(value).replace("\r\n", "\n") if not isinstance(value, Model) else str(value)
