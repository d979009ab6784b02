"""The lines of files that differ between two versions, as far as a page shows them at once."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from hostops.specs import ManifestFile
from servers.store.panel_store import BlobError
from servers.store.texts import NoTextError, Text, diff_texts, may_be_text, read_text
from servers.store.versions import FileChange

FEW_FILES = 5
FEW_LINES = 200
"""A comparison of at most this many files and lines is shown as it is; a larger one, when somebody asks for
it.
"""

MOST_FILES = 30
MOST_LINES = 5_000
"""The most lines shown then; the other files have pages of their own."""

EMPTY = Text((), (), has_bom=False)

Lines = list[tuple[str, str]]


@dataclass(frozen=True)
class ShownChange:
    """A file that differs. If `is_read`, `lines` are the lines that differ, or None if it is no text."""

    change: FileChange
    is_read: bool = False
    lines: Lines | None = None


def label_lines(count: int) -> str:
    """Return the label of the link that shows the lines of `count` files."""
    if count > MOST_FILES:
        return _("Show the lines of the first %(most)d of %(count)d files") % {
            "most": MOST_FILES,
            "count": count,
        }
    words = ngettext("Show the lines of %(count)d file", "Show the lines of %(count)d files", count)
    return words % {"count": count}


def show_changes(changes: Sequence[FileChange], *, is_asked: bool = False) -> list[ShownChange]:
    """Return changes with their lines: all if they are few, or the first ones if somebody asked for them."""
    if is_asked:
        shown = read_first(changes[:MOST_FILES], MOST_LINES)
    else:
        shown = read_first(changes, FEW_LINES) if len(changes) <= FEW_FILES else []
        shown = shown if len(shown) == len(changes) else []
    return [*shown, *(ShownChange(change) for change in changes[len(shown) :])]


def read_first(changes: Sequence[FileChange], most_lines: int) -> list[ShownChange]:
    """Return the first of `changes` with their lines, as many as have at most `most_lines` together."""
    shown = []
    for change in changes:
        try:
            lines = diff_change(change)
        except BlobError:  # The file's own page reports that.
            shown.append(ShownChange(change))
            continue
        most_lines -= len(lines or ())
        if most_lines < 0:
            break
        shown.append(ShownChange(change, is_read=True, lines=lines))
    return shown


def diff_change(change: FileChange) -> Lines | None:
    """Return the lines of a file that differ; None if it is no text, before or now."""
    before, after = read_if_text(change.before), read_if_text(change.after)
    if (change.before and before is None) or (change.after and after is None):
        return None
    return diff_texts(before or EMPTY, after or EMPTY)


def read_if_text(file: ManifestFile | None) -> Text | None:
    """Return a file as a text; None if it is none."""
    if file is None or not may_be_text(file):
        return None
    try:
        return read_text(file)
    except NoTextError:
        return None
