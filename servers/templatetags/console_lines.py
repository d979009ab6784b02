"""The tag that writes the text of a console's line that a search has found."""

import re

from django import template
from django.utils.safestring import SafeString, mark_safe

from servers.ansi import to_pieces
from servers.templatetags.log_lines import write_marked

register = template.Library()


@register.simple_tag
def found_text(line: str, wanted: re.Pattern[str]) -> SafeString:
    """Return the text of `line` as HTML; what is `wanted` is marked."""
    pieces = to_pieces(line)
    text = "".join(piece.text for piece in pieces)
    marked = write_marked(pieces, [found.span() for found in wanted.finditer(text)])
    # Every piece was escaped where it was written.
    return mark_safe("".join(marked))  # noqa: S308
