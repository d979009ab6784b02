"""Which names and mail addresses an account may get. Accounts from before these rules keep theirs."""

import re
import unicodedata
from contextlib import suppress
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.utils.encoding import punycode
from django.utils.translation import gettext as _

MIXED_SCRIPTS = frozenset(
    (
        *("LATIN", "CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "BOPOMOFO"),
        *("HANGUL", "ARABIC", "BENGALI", "DEVANAGARI", "ETHIOPIC", "GEORGIAN", "GUJARATI"),
        *("GURMUKHI", "HEBREW", "KANNADA", "KHMER", "LAO", "MALAYALAM", "MYANMAR", "ORIYA"),
        *("SINHALA", "TAMIL", "TELUGU", "THAANA", "THAI", "TIBETAN"),
    )
)
"""Scripts whose letters look unlike Latin ones, as the names of the letters begin in Unicode: a name may have
several of these. Letters of any other script may only be with their own kind."""

INVISIBLE = frozenset("\u115f\u1160")
"""Letters without a shape: the only ones of Unicode's “default ignorable” characters, once normalized."""

SAME_LOOK = str.maketrans(
    # A Latin dotless i, Cyrillic letters, Greek ones.
    "\u0131\u0430\u0441\u0435\u043e\u0440\u0445\u0443\u0456\u0458\u0455\u04bb\u03bf\u03bd",
    "iaceopxyijshov",
    # The dot that a dotted capital I has in lower case; apostrophes and accents that count as letters.
    "\u0307" + "".join(map(chr, range(0x2B0, 0x300))),
)
"""Small letters by what they look like. Far from all: Unicode's table of them is not in Python."""


def choose_name(name: str, person: User | None = None) -> str:
    """Return `name` as it is stored if an account may get it, or `person`, who has one already.

    Raises `ValidationError` if it is no name, or if it is another account's or looks as if it were: reads all
    names that are not ASCII.
    """
    field = User._meta.get_field("username")
    field.clean(name, None)  # Its length too: normalizing a long one takes time.
    name = unicodedata.normalize("NFKC", name)
    field.clean(name, None)
    if not INVISIBLE.isdisjoint(name):
        raise ValidationError(_("That name has letters that nobody can see. Leave them out."))
    letters = [one for one in name if one.isalpha() and SAME_LOOK.get(ord(one), one) is not None]
    scripts = {unicodedata.name(letter, "").partition(" ")[0] for letter in letters}
    if len(scripts) > 1 and not scripts <= MIXED_SCRIPTS:
        raise ValidationError(
            _("That name has letters of several alphabets that look the same. Use those of one.")
        )
    if (other := _find_similar(name, person)) is not None:
        if other.casefold() == name.casefold():
            raise ValidationError(_("That name is taken. Choose another one."))
        raise ValidationError(_("That name looks like another account’s. Choose another one."))
    return name


def _find_similar(name: str, person: User | None) -> str | None:
    """Return the name of another account that `name` could be mistaken for."""
    others = User.objects.all()
    if person is not None:
        others = others.exclude(pk=person.pk)
    looks = _look_of(name)
    # The database compares ASCII without case; SQLite no other letters.
    same = others.filter(Q(username__iexact=name) | Q(username__iexact=looks))
    if found := same.values_list("username", flat=True).first():
        return found
    beyond_ascii = others.filter(username__regex="[^ -~]").values_list("username", flat=True)
    return next((other for other in beyond_ascii.iterator() if _look_of(other) == looks), None)


def _look_of(name: str) -> str:
    """Return what names that could be mistaken for each other have in common."""
    small = unicodedata.normalize("NFKC", name).casefold()
    return unicodedata.normalize("NFKC", small).translate(SAME_LOOK)


def require_mailable(address: str) -> None:
    """Raise `ValidationError` for an address that mail would not reach.

    Before the @, Django takes some letters for ASCII ones whose other case they are, such as a dotless i.
    """
    local, _at, domain = address.rpartition("@")
    if not local.isascii():
        raise ValidationError(_("Before the @, use only letters from a to z, digits and signs."))
    try:
        punycode(domain)
    except UnicodeError:
        is_mailable = False
    else:
        is_mailable = address.isprintable()
    if not is_mailable:
        raise ValidationError(_("No mail can be sent to that address."))


def find_mailbox(address: str) -> str:
    """Return what all spellings of an address have in common.

    Mail ignores quotation marks before the @, and how a domain is written. Most servers also ignore case.
    """
    local, _at, domain = address.rpartition("@")
    if local.startswith('"'):
        local = re.sub(r"\\(.)", r"\1", local[1:-1])
    with suppress(UnicodeError):  # No mail can be sent there.
        domain = punycode(domain)
    return f"{local}@{domain}".lower()


class FreeNameMixin:
    """A form whose field `username` takes no name that could be mistaken for another account's."""

    changed_data: list[str]
    cleaned_data: dict[str, Any]
    instance: User

    def clean_username(self) -> str:
        """Judge a name that was changed."""
        name = str(self.cleaned_data["username"])
        return choose_name(name, self.instance) if "username" in self.changed_data else name
