"""The panel's own words for errors in forms: Django's sentences are about fields and values."""

from typing import Any

from django import forms
from django.core import validators
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

FIELD_WORDS: dict[str, str | Promise] = {
    "required": _("Fill this in."),
    "invalid_choice": _("Choose one from the list."),
    "invalid_pk_value": _("Choose one from the list."),
}
NUMBER_WORDS = _("Enter a whole number.")
UNIQUE_WORDS = _("That is already taken. Choose another one.")
VALIDATOR_WORDS: dict[type[Any], str | Promise] = {
    validators.MinValueValidator: _("Use %(limit_value)s or more."),
    validators.MaxValueValidator: _("Use %(limit_value)s or less."),
    validators.MaxLengthValidator: _(
        "Use at most %(limit_value)d characters. This has %(show_value)d."
    ),
    validators.ProhibitNullCharactersValidator: _("Remove the NUL character."),
}


class PlainForm(forms.BaseForm):
    """A form that reports errors in the panel's words. A field's own messages stay."""

    def full_clean(self) -> None:
        """Validate the input."""
        for field in self.fields.values():
            speak_plainly(field)
        super().full_clean()


def speak_plainly(field: forms.Field) -> None:
    """Replace Django's own messages with the panel's words."""
    for code, words in FIELD_WORDS.items():
        if field.error_messages.get(code) == default_words(field, code):
            field.error_messages[code] = str(words)
    if isinstance(field, forms.IntegerField):
        field.error_messages["invalid"] = str(NUMBER_WORDS)
    field.error_messages.setdefault("unique", str(UNIQUE_WORDS))
    field.validators = [to_plain(validator) for validator in field.validators]


def default_words(field: forms.Field, code: str) -> Any:
    """Return Django's messages for fields of this kind; None if it has none."""
    kinds = (vars(kind).get("default_error_messages", {}) for kind in type(field).__mro__)
    return next((words[code] for words in kinds if code in words), None)


def to_plain(validator: Any) -> Any:
    """Return `validator`, or one like it with the panel's words instead of Django's."""
    words = VALIDATOR_WORDS.get(type(validator))
    if words is None or validator.message != type(validator).message:
        return validator
    if isinstance(validator, validators.ProhibitNullCharactersValidator):
        return type(validator)(message=str(words))
    return type(validator)(validator.limit_value, message=str(words))
