"""Which lines of a log a page shows: its newest ones, those around a line, or a chunk further on.

Jobs' logs and servers' consoles are read the same way. What comes after the page was made is a stream's.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import urlencode

from django.db.models import Count, Max, Min, Q, QuerySet
from django.http import QueryDict

from servers.ansi import ESCAPES, pattern_of_shown

LINES_SHOWN = 1_000
BLOCK_LINES = 20
"""Lines that a browser lays out together. As in `static/js/log/blocks.js`."""
LARGEST_SEQ = 2**63 - 1
LONGEST_SEARCH = 200


class LogLine(Protocol):
    """A line of a log. `seq` counts 1, 2, 3 …; one of a job has a `stream` besides."""

    @property
    def seq(self) -> int: ...

    @property
    def line(self) -> str: ...

    @property
    def created_at(self) -> datetime: ...


class Chapter(Protocol):
    """A part of a log that folds: a stage of a job, a run of a server. It begins with line `first_seq`.

    One that has a `duration_label` besides is shown with it, and, until it has an `ended_at`, live.
    """

    @property
    def name(self) -> str: ...

    @property
    def first_seq(self) -> int: ...

    @property
    def started_at(self) -> datetime: ...


@dataclass(frozen=True)
class Group:
    """Lines that stand together: those of a chapter, or, with None, those before the first one."""

    chapter: Chapter | None
    lines: list[Any]

    @property
    def blocks(self) -> list[list[Any]]:
        """The lines in blocks."""
        starts = range(0, len(self.lines), BLOCK_LINES)
        return [self.lines[start : start + BLOCK_LINES] for start in starts]


@dataclass(frozen=True)
class Search:
    """What was looked for in a whole log, and where it is. The seqs are those of lines that have it.

    `position` counts the matches up to and with the line that the page shows; `is_here`: that is one.
    """

    text: str
    count: int
    first: int | None
    position: int = 0
    is_here: bool = False
    previous: int | None = None
    next: int | None = None

    @property
    def pattern(self) -> re.Pattern[str]:
        """What finds it in the text of a line."""
        return re.compile(re.escape(self.text), re.IGNORECASE)

    def url(self, seq: int | None) -> str:
        """Return the address of a match, relative to the log's page."""
        return f"?{urlencode({'q': self.text, 'line': seq})}#L{seq}"

    @property
    def first_url(self) -> str:
        """The address of the first match."""
        return self.url(self.first)

    @property
    def previous_url(self) -> str:
        """The address of the match before the line that the page shows; empty for none."""
        return self.url(self.previous) if self.previous else ""

    @property
    def next_url(self) -> str:
        """The address of the match after the line that the page shows; empty for none."""
        return self.url(self.next) if self.next else ""


@dataclass(frozen=True)
class LogPage:
    """The lines that a page shows. `earlier` and `later` are addresses of what is around them, or empty."""

    lines: list[Any] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    earlier: str = ""
    later: str = ""
    search: Search | None = None
    line: int | None = None

    @property
    def must_jump(self) -> bool:
        """Whether the search found something, and the address does not say yet which line to show."""
        return self.line is None and self.search is not None and self.search.first is not None


class Log(Protocol):
    """Numbered lines that pages are made of."""

    def first_seq(self) -> int:
        """Return the seq of the oldest line that is kept, or 0."""

    def last_seq(self) -> int:
        """Return the seq of the last line, or 0."""

    def read_after(self, seq: int, limit: int) -> Sequence[LogLine]:
        """Return the next lines behind `seq`, at most `limit`."""

    def read_before(self, seq: int | None, limit: int) -> Sequence[LogLine]:
        """Return the last lines before `seq`, or of all, in their order and at most `limit`."""

    def chapters(self, first: int, last: int) -> Iterable[Chapter]:
        """Return the chapters, in order, that lines `first` to `last` may belong to."""

    def search(self, text: str, at: int | None) -> Search:
        """Look for `text`, in capitals or not, in every line; `at` is the line that the page shows."""


@dataclass(frozen=True)
class RowLog:
    """A log of which each line is a row."""

    rows: QuerySet[Any]
    stages: Iterable[Chapter] = ()

    def first_seq(self) -> int:
        """Return the seq of the oldest line."""
        return self.rows.aggregate(first=Min("seq"))["first"] or 0

    def last_seq(self) -> int:
        """Return the seq of the last line."""
        return self.rows.aggregate(last=Max("seq"))["last"] or 0

    def read_after(self, seq: int, limit: int) -> list[Any]:
        """Return the next lines."""
        return list(self.rows.filter(seq__gt=seq).order_by("seq")[:limit])

    def read_before(self, seq: int | None, limit: int) -> list[Any]:
        """Return the last lines."""
        rows = self.rows if seq is None else self.rows.filter(seq__lt=seq)
        return list(rows.order_by("-seq")[:limit])[::-1]

    def chapters(self, first: int, last: int) -> Iterable[Chapter]:  # noqa: ARG002
        """Return every stage: there are few."""
        return self.stages

    def search(self, text: str, at: int | None) -> Search:
        """Let the database look at each line once, as it is shown: without the codes of colours."""
        # Measured with a million lines: where none has colours, this costs what a plain search does; each
        # fifth with colours makes it one and a half seconds.
        has_colours = Q(*[("line__contains", escape) for escape in ESCAPES], _connector=Q.OR)
        found = self.rows.filter(
            Q(~has_colours, line__icontains=text)
            | Q(has_colours, line__iregex=pattern_of_shown(text))
        )
        if at is None:
            totals = found.aggregate(count=Count("pk"), first=Min("seq"))
            return Search(text, totals["count"], totals["first"])
        here = found.aggregate(
            count=Count("pk"),
            first=Min("seq"),
            position=Count("pk", filter=Q(seq__lte=at)),
            previous=Max("seq", filter=Q(seq__lt=at)),
            next=Min("seq", filter=Q(seq__gt=at)),
            is_here=Count("pk", filter=Q(seq=at)),
        )
        return Search(text, **{**here, "is_here": here["is_here"] > 0})


def read_log_page(log: Log, parameters: QueryDict) -> LogPage:
    """Read the page of `log` that an address asks for with `line`, `before`, `after` and `q`.

    What makes no sense there, or leads behind the end, shows the newest lines.
    """
    line = to_seq(parameters.get("line"))
    lines = read_lines(log, line, to_seq(parameters.get("before")), to_seq(parameters.get("after")))
    text = read_wanted(parameters)
    q = {"q": text} if text else {}
    earlier = later = ""
    groups: list[Group] = []
    if lines:
        first, last = lines[0].seq, lines[-1].seq
        groups = group_lines(lines, log.chapters(first, last))
        if log.first_seq() < first:
            earlier = f"?{urlencode({**q, 'before': first})}"
        if log.last_seq() > last:
            later = f"?{urlencode({**q, 'after': last})}"
    return LogPage(
        lines=lines,
        groups=groups,
        earlier=earlier,
        later=later,
        search=log.search(text, line) if text else None,
        line=line,
    )


def read_wanted(parameters: QueryDict) -> str:
    """Return what an address asks to search for, or an empty text."""
    return parameters.get("q", "").replace("\0", "").strip()[:LONGEST_SEARCH]


def to_seq(text: str | None) -> int | None:
    """Return the line's number that `text` is, or None."""
    if not (text and text.isascii() and text.isdecimal() and len(text) < 20):
        return None
    return min(int(text), LARGEST_SEQ) or None


def read_lines(log: Log, line: int | None, before: int | None, after: int | None) -> list[Any]:
    """Read at most `LINES_SHOWN` lines, in their order."""
    chunk: Sequence[LogLine] = []
    if line and line <= log.last_seq():
        chunk = log.read_after(line - LINES_SHOWN // 2 - 1, LINES_SHOWN)
    elif before:
        chunk = log.read_before(before, LINES_SHOWN)
    elif after:
        chunk = log.read_after(after, LINES_SHOWN)
    return list(chunk or log.read_before(None, LINES_SHOWN))


def group_lines(lines: Sequence[Any], chapters: Iterable[Chapter]) -> list[Group]:
    """Divide lines by the chapters they belong to. A chapter without lines keeps its place among them."""
    groups = [Group(None, [])]
    if not lines:
        return []
    rest = [chapter for chapter in chapters if chapter.first_seq <= lines[-1].seq]
    # The chapters that were over before the first of these lines are on other pages.
    while len(rest) > 1 and rest[0].first_seq < lines[0].seq >= rest[1].first_seq:
        rest.pop(0)
    for line in lines:
        while rest and rest[0].first_seq <= line.seq:
            groups.append(Group(rest.pop(0), []))
        groups[-1].lines.append(line)
    return [group for group in groups if group.chapter or group.lines]
