"""How file names are written on pages: they come from people, who may have made them to deceive."""

import re

from django import template
from django.utils.html import format_html_join
from django.utils.safestring import SafeString, mark_safe

register = template.Library()


@register.filter
def visible(name: str) -> str:
    r"""Return a name with invisible characters written as `\u202e`, such as marks that change its direction."""
    return "".join(
        character if character.isprintable() else f"\\u{ord(character):04x}" for character in name
    )


@register.filter
def breakable(name: str) -> SafeString:
    """Return a name as HTML that a narrow page breaks after `/`, `_`, `.` or `-`, before it breaks a word."""
    pieces = re.findall(r"[^/_.-]*[/_.-]+|[^/_.-]+", name)
    return format_html_join(mark_safe("<wbr>"), "{}", ((piece,) for piece in pieces))


@register.filter
def file_name(path: str) -> str:
    """Return the last name of a path."""
    return path.rpartition("/")[2]
