"""Where the keyboard is on the page of a refused form: at the first field to correct, without scripts too."""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.forms.renderers import DjangoTemplates


class FocusingBoundField(forms.BoundField):
    """A field that has the focus if it is the first with an error, and leaves it to that one otherwise."""

    def build_widget_attrs(
        self, attrs: Mapping[str, Any], widget: forms.Widget | None = None
    ) -> dict[str, Any]:
        """Add `autofocus`, or take the form's own away if another field is to be corrected."""
        built: dict[str, Any] = super().build_widget_attrs(dict(attrs), widget)
        if self.form.errors:
            faulty = (field.name for field in self.form.visible_fields() if field.errors)
            built["autofocus"] = self.name == next(faulty, None)
        return built


class FocusingRenderer(DjangoTemplates):
    """Django's renderer of forms, for all forms of the panel and of the admin site."""

    bound_field_class = FocusingBoundField
