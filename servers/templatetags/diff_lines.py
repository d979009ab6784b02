"""How the lines of two texts that differ are written on pages: each is an element of its own."""

from collections.abc import Iterable

from django import template
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

register = template.Library()

ELEMENTS = {"+": "ins", "-": "del"}


@register.filter
def as_elements(lines: Iterable[tuple[str, str]]) -> SafeString:
    """Return lines with their marks as HTML; a style sheet shows the marks."""
    return format_html_join(
        "", "<{0}>{1}</{0}>", ((ELEMENTS.get(mark, "span"), text) for mark, text in lines)
    )


@register.filter
def with_marks(lines: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return lines whose texts begin with their marks, so that they are copied too."""
    return [(mark, f"{mark} {text}") for mark, text in lines]
