"""The tag that writes the text of a console line that a search has found."""

from django import template
from django.utils.safestring import SafeString, mark_safe

from servers.logs import find_shown, to_pieces
from servers.templatetags.log_lines import MARKS_PER_LINE, write_marked

register = template.Library()


@register.simple_tag
def found_text(line: str, wanted: str) -> SafeString:
    """Return the text of `line` as HTML, with the `wanted` text marked."""
    pieces = to_pieces(line)
    text = "".join(piece.text for piece in pieces)
    marked = write_marked(pieces, find_shown(text, wanted, MARKS_PER_LINE))
    # Every piece was escaped where it was written.
    return mark_safe("".join(marked))  # noqa: S308
