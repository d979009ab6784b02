"""How launch arguments are written on pages: a line is broken only between them."""

import re

from django import template
from django.template.defaultfilters import stringfilter
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

register = template.Library()

# A name, and the words up to the next one. A word such as -1 is a number. The group is not possessive: Python
# before 3.11.5, such as Debian 12's, gets those wrong.
ARGUMENT = re.compile(r"(?<!\S)[+-](?!\d)\S++(?:[ \t]++(?![+-](?!\d))\S++)*")


@register.filter
@stringfilter
def unbroken(arguments: str) -> SafeString:
    """Return launch arguments as HTML: each, with its value, moves to the next line as a whole."""
    pieces: list[str] = []
    end = 0
    for match in ARGUMENT.finditer(arguments):
        pieces.append(escape(arguments[end : match.start()]))
        pieces.append(f'<span class="unbroken">{escape(match[0])}</span>')
        end = match.end()
    pieces.append(escape(arguments[end:]))
    # Every piece was escaped above.
    return mark_safe("".join(pieces))  # noqa: S308
