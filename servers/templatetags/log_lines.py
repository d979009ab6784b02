"""The tag that writes one line of a log as HTML; `static/js/log/row.js` does it for lines that come live."""

from collections import deque
from collections.abc import Iterable

from django import template
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from servers.logs import LogLine, Piece, find_shown, to_pieces

register = template.Library()

MARKS_PER_LINE = 100
"""Marks in one line: somebody may search for an “a” in a page of lines that contain nothing else."""


@register.simple_tag
def log_line(line: LogLine, wanted: str = "") -> SafeString:
    """Return the row of `line`: its number as a link to itself, and its text, with the `wanted` text marked."""
    stream = getattr(line, "stream", "")
    stream_attribute = f' data-stream="{escape(stream)}"' if stream else ""
    at = f"{localtime(line.created_at):%H:%M:%S}"
    pieces = to_pieces(line.line)
    if wanted:
        text = "".join(piece.text for piece in pieces)
        spans = find_shown(text, wanted, MARKS_PER_LINE)
        content = "".join(write_marked(pieces, spans))
    else:
        content = "".join(write(piece) for piece in pieces)
    seq = int(line.seq)
    label = escape(_("Line %(line)s") % {"line": seq})
    # Everything that is not a number was escaped above.
    return mark_safe(  # noqa: S308
        f'<div class="log-line" id="L{seq}" data-seq="{seq}"{stream_attribute}>'
        f'<a class="log-number" href="?line={seq}#L{seq}" tabindex="-1" aria-label="{label}"'
        f' data-seq="{seq}" data-at="{at}"></a>{content}</div>'
    )


@register.filter
def plain(text: str) -> str:
    """Return lines of a log without their colours, for use in quotations."""
    return "\n".join("".join(piece.text for piece in to_pieces(line)) for line in text.split("\n"))


@register.filter
def plain_lines(lines: Iterable[LogLine]) -> str:
    """Return the texts of lines without their colours, each with its end."""
    return "".join(f"{plain(line.line)}\n" for line in lines)


def write(piece: Piece, element: str = "span") -> str:
    """Return a piece as HTML."""
    if element == "span" and not piece.classes:
        return escape(piece.text)
    classes = f' class="{piece.classes}"' if piece.classes else ""
    return f"<{element}{classes}>{escape(piece.text)}</{element}>"


def write_marked(pieces: list[Piece], spans: list[tuple[int, int]]) -> list[str]:
    """Return the pieces as HTML, split where one of the spans of their whole text begins or ends.

    The spans are in order and do not overlap.
    """
    written = []
    rest = deque(spans)
    position = 0
    for piece in pieces:
        start, end = position, position + len(piece.text)
        while position < end:
            while rest and rest[0][1] <= position:
                rest.popleft()
            begin, finish = rest[0] if rest else (end, end)
            is_wanted = begin <= position
            cut = min(finish if is_wanted else begin, end)
            part = Piece(piece.text[position - start : cut - start], piece.classes)
            written.append(write(part, "mark" if is_wanted else "span"))
            position = cut
    return written
