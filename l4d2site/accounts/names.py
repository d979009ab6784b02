"""Which names and mail addresses an account may get. Accounts from before these rules keep theirs."""

import unicodedata
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

LOOK_ALIKE_SCRIPTS = frozenset({"LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "CHEROKEE"})
"""Scripts with letters that look the same, as the names of their letters in Unicode begin."""


def require_free_name(name: str, person: User | None = None) -> None:
    """Raise `ValidationError` if `name` is another account's, ignoring case, or looks as if it might be one.

    `person` has an account already.
    """
    others = User.objects.filter(username__iexact=name)
    if person is not None:
        others = others.exclude(pk=person.pk)
    if others.exists():
        raise ValidationError(_("That name is taken. Choose another one."))
    # A name in only one script may still look like one in another: Unicode's table of those is not in Python.
    scripts = {unicodedata.name(character, "").partition(" ")[0] for character in name}
    if len(scripts & LOOK_ALIKE_SCRIPTS) > 1:
        raise ValidationError(
            _("That name has letters of several alphabets that look the same. Use those of one.")
        )


def require_mailable(address: str) -> None:
    """Raise `ValidationError` for an address that mail would not reach.

    Before the @, Django takes some letters for ASCII ones whose other case they are, such as a dotless i.
    """
    if not address.rpartition("@")[0].isascii():
        raise ValidationError(_("Before the @, use only letters from a to z, digits and signs."))


class FreeNameMixin:
    """A form whose field `username` takes no name that could be mistaken for another account's."""

    changed_data: list[str]
    cleaned_data: dict[str, Any]
    instance: User

    def clean_username(self) -> str:
        """Judge a name that was changed."""
        if "username" in self.changed_data:
            require_free_name(self.cleaned_data["username"], self.instance)
        return str(self.cleaned_data["username"])
