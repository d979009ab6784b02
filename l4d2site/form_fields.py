"""How forms show their fields again: where the keyboard focus is, and how much of a refused text is shown."""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.forms.renderers import DjangoTemplates
from django.forms.utils import ErrorList
from django.utils.translation import gettext as _

AREA_CHARS = 64 * 1024
LINE_CHARS = 1_000
"""How much of a text is shown again if its field has no limit, or a lower one: what is slightly too long can
then be shortened in place.
"""

FAULT_CHARS = 1_000
"""A longer fault quotes what was typed."""


class PanelBoundField(forms.BoundField):
    """A field that has the focus if it is the first one with an error, and gives it up if another one is.

    What was typed is shown again, but little more of it than the field accepts: a page with all of it would
    be many times as large as what was sent, and use up the panel's memory. What is stored is always shown
    whole.
    """

    def build_widget_attrs(
        self, attrs: Mapping[str, Any], widget: forms.Widget | None = None
    ) -> dict[str, Any]:
        """Add `autofocus`, or remove the form's own if another field has an error."""
        built: dict[str, Any] = super().build_widget_attrs(dict(attrs), widget)
        if faults := self.form.errors:
            faulty = (field.name for field in self.form.visible_fields() if field.name in faults)
            built["autofocus"] = self.name == next(faulty, None)
        if isinstance(self.field.widget, forms.Textarea):
            built["data-most"] = self._most_chars()  # Scripts do not send more.
        return built

    def value(self) -> Any:
        """Return what to show: a list of texts, a text, or something else that was not typed as one."""
        typed = super().value()
        if not self.is_cut:
            return typed
        if isinstance(typed, list | tuple):
            return [self._cut(one) for one in typed]
        return self._cut(typed)

    @property
    def is_cut(self) -> bool:
        """Whether `value` has only the beginning of what was typed."""
        if not (self.form.is_bound and shows_text(self.field.widget)):
            return False
        typed = super().value()
        texts = typed if isinstance(typed, list | tuple) else [typed]
        return any(self._is_too_long(one) for one in texts)

    @property
    def errors(self) -> ErrorList:
        """Its errors, none of which quotes very much, and a note if what was typed is not shown in full."""
        faults = super().errors
        told = list(map(str, faults))
        if self.is_cut:
            words = _(
                "Only the first %(count)s characters are shown here; the rest of what you sent was not kept."
            )
            told.append(words % {"count": f"{self._most_chars():,}"})
        told = [one if len(one) <= FAULT_CHARS else f"{one[:FAULT_CHARS]}…" for one in told]
        if told != list(faults):
            faults = faults.copy()
            faults.data = [*told]
        return faults

    def _cut(self, typed: Any) -> Any:
        return to_lines(typed)[: self._most_chars()] if self._is_too_long(typed) else typed

    def _is_too_long(self, typed: Any) -> bool:
        most = self._most_chars()
        return isinstance(typed, str) and len(typed) > most and len(to_lines(typed)) > most

    def _most_chars(self) -> int:
        """Return how much is shown again: what the field accepts, or has stored since before its limit."""
        stored = self.initial
        own: int | None = getattr(self.field, "max_length", None)
        if own is None:
            is_area = isinstance(self.field.widget, forms.Textarea)
            own = AREA_CHARS if is_area else LINE_CHARS
        return max(own, LINE_CHARS, len(stored) if isinstance(stored, str) else 0)


class PanelRenderer(DjangoTemplates):
    """Django's renderer of forms, for all forms of the panel and of the admin site."""

    bound_field_class = PanelBoundField


def shows_text(widget: forms.Widget) -> bool:
    """Return whether a widget shows the text that was typed: those of passwords and choices do not."""
    if isinstance(widget, forms.PasswordInput):
        return bool(widget.render_value)
    return isinstance(widget, forms.Textarea | forms.widgets.Input | forms.MultiWidget)


def to_lines(typed: str) -> str:
    """Return a text with one character per line ending, as limits count it: browsers send two."""
    return typed.replace("\r\n", "\n")
