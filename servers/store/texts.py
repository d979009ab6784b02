"""Text files of overlays: which files are texts, how they are read and written, and how two of them differ.

A text keeps its byte order mark and its line endings when it goes through a form, which knows neither.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from hostops.specs import ManifestFile
from servers.store.panel_store import get_store

MAX_TEXT_BYTES = 256 * 1024

TEXT_SUFFIXES = (
    *(".cfg", ".conf", ".css", ".csv", ".htm", ".html", ".inc", ".ini", ".json", ".kv", ".log"),
    *(
        ".lua",
        ".lst",
        ".md",
        ".nut",
        ".res",
        ".sp",
        ".txt",
        ".vdf",
        ".vmt",
        ".xml",
        ".yaml",
        ".yml",
    ),
)
"""What the panel offers to edit. Any other file is a text only by accident."""

DIFF_BUDGET = 400_000
"""How many pairs of lines are compared for one difference; past that, lines count as replaced."""

CONTEXT_LINES = 3
MAX_DIFF_LINES = 2_000
"""The most lines of a difference that are shown."""

_BOM = b"\xef\xbb\xbf"


class NoTextError(ValueError):
    """A file that is not a text, or not one that can be edited."""


@dataclass(frozen=True)
class Text:
    """A text file: its lines, and how it was written. `lines` do not include their line endings."""

    lines: tuple[str, ...]
    ends: tuple[str, ...]
    has_bom: bool

    @classmethod
    def decode(cls, data: bytes) -> "Text":
        """Read a file. Raises `NoTextError` if it is not UTF-8, or if no form would return it unchanged."""
        has_bom = data.startswith(_BOM)
        try:
            text = data.removeprefix(_BOM).decode()
        except UnicodeDecodeError as error:
            raise NoTextError from error
        if "\0" in text or "\r" in text.replace("\r\n", ""):
            raise NoTextError
        parts = text.split("\n")
        lines = tuple(part.removesuffix("\r") for part in parts[:-1])
        ends = tuple("\r\n" if part.endswith("\r") else "\n" for part in parts[:-1])
        return cls((*lines, parts[-1]), ends, has_bom)

    @property
    def shown(self) -> str:
        """The text for a page."""
        return "\n".join(self.lines)

    @property
    def usual_end(self) -> str:
        """The line ending that most of its lines have."""
        return "\r\n" if 2 * self.ends.count("\r\n") > len(self.ends) else "\n"

    def rewrite(self, shown: str) -> bytes:
        """Return the file with another text. Its lines keep their endings; new ones get the usual ending."""
        lines = shown.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        ends = [self.usual_end] * (len(lines) - 1)
        if len(set(self.ends)) > 1:
            for mine, theirs in match_lines(self.lines[:-1], lines[:-1]):
                ends[theirs] = self.ends[mine]
        text = "".join(line + end for line, end in zip(lines, [*ends, ""], strict=True))
        return (_BOM if self.has_bom else b"") + text.encode()


NEW_TEXT = Text(("",), (), has_bom=False)


def may_be_text(file: ManifestFile) -> bool:
    """Return whether a file can be shown as a text, judging by its name and size."""
    return file.path.lower().endswith(TEXT_SUFFIXES) and file.size <= MAX_TEXT_BYTES


def read_text(file: ManifestFile) -> Text:
    """Return a file as a text. Raises `NoTextError` if it is not one, and `BlobError` if it is lost."""
    if not may_be_text(file):
        raise NoTextError
    return Text.decode(get_store().read(file.sha256, MAX_TEXT_BYTES))


def diff_texts(before: Text, after: Text) -> list[tuple[str, str]]:
    """Return the lines that differ, marked `+` or `-`, with some lines around them; `…` stands for a gap.

    Bounded in time and length, whatever the texts are.
    """
    return diff_lines(before.lines, after.lines)


def diff_lines(
    before: Sequence[str],
    after: Sequence[str],
    *,
    context: int = CONTEXT_LINES,
    most: int = MAX_DIFF_LINES,
) -> list[tuple[str, str]]:
    """Return the same for lines: `context` lines around each that differs, and at most `most` in all."""
    shown: list[tuple[str, str]] = []
    for mark, text in _with_context(_mark_lines(before, after), context):
        if len(shown) == most:
            shown.append((" ", "…"))
            break
        shown.append((mark, text))
    return shown


@dataclass(frozen=True)
class Sides:
    """Two texts side by side: `-` marks lines that only the left one has, `+` those of the right one."""

    left: list[tuple[str, str]]
    right: list[tuple[str, str]]


def compare_sides(left: str, right: str) -> Sides:
    """Return two texts side by side. Bounded in time, whatever they are."""
    before, after = (text.split("\n") if text else [] for text in (left, right))
    marked = list(_mark_lines(before, after))
    return Sides(
        [(mark, line) for mark, line in marked if mark != "+"],
        [(mark, line) for mark, line in marked if mark != "-"],
    )


def match_lines(before: Sequence[str], after: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield the positions of lines that both texts have, in order.

    Equal lines at both ends are matched first, then lines that occur once in each text. What lies between
    these is compared line by line as long as `DIFF_BUDGET` lasts.
    """
    start = 0
    shorter = min(len(before), len(after))
    while start < shorter and before[start] == after[start]:
        yield start, start
        start += 1
    tail = 0
    while tail < shorter - start and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    end, other_end = len(before) - tail, len(after) - tail
    budget = DIFF_BUDGET
    here, there = start, start
    anchors = _find_anchors(before[start:end], after[start:other_end])
    stops = [*((start + one, start + other) for one, other in anchors), (end, other_end)]
    for one, other in stops:
        budget -= (one - here) * (other - there)
        if budget >= 0:
            matcher = SequenceMatcher(None, before[here:one], after[there:other])
            for block in matcher.get_matching_blocks():
                for offset in range(block.size):
                    yield here + block.a + offset, there + block.b + offset
        if (one, other) != (end, other_end):
            yield one, other
        here, there = one + 1, other + 1
    for offset in range(tail):
        yield end + offset, other_end + offset


def _find_anchors(before: Sequence[str], after: Sequence[str]) -> list[tuple[int, int]]:
    """Return the positions of lines that occur once in each text, as many as are in the same order in both."""
    places = dict(_find_single(before))
    pairs = [(places[line], there) for line, there in _find_single(after) if line in places]
    # The longest increasing sequence of positions: patience sorting.
    tops: list[int] = []
    piles: list[int] = []
    behind: list[int] = []
    for index, (here, _there) in enumerate(pairs):
        pile = bisect_left(tops, here)
        behind.append(piles[pile - 1] if pile else -1)
        tops[pile : pile + 1] = [here]
        piles[pile : pile + 1] = [index]
    found = []
    index = piles[-1] if piles else -1
    while index >= 0:
        found.append(pairs[index])
        index = behind[index]
    return found[::-1]


def _find_single(lines: Sequence[str]) -> Iterator[tuple[str, int]]:
    counts: dict[str, int] = {}
    for line in lines:
        counts[line] = counts.get(line, 0) + 1
    return ((line, place) for place, line in enumerate(lines) if counts[line] == 1)


def _mark_lines(before: Sequence[str], after: Sequence[str]) -> Iterator[tuple[str, str]]:
    here = there = 0
    for one, other in [*match_lines(before, after), (len(before), len(after))]:
        yield from (("-", line) for line in before[here:one])
        yield from (("+", line) for line in after[there:other])
        if one < len(before):
            yield " ", before[one]
        here, there = one + 1, other + 1


def _with_context(marked: Iterable[tuple[str, str]], context: int) -> Iterator[tuple[str, str]]:
    """Yield the lines that differ and those around them."""
    waiting: list[tuple[str, str]] = []
    after_change = 0
    is_gap = False
    for mark, text in marked:
        if mark == " ":
            if after_change:
                after_change -= 1
                yield mark, text
                continue
            waiting.append((mark, text))
            if len(waiting) > context:
                waiting.pop(0)
                is_gap = True
            continue
        if is_gap:
            yield " ", "…"
        yield from waiting
        waiting, after_change, is_gap = [], context, False
        yield mark, text
