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

LINES_SHOWN = 1_000
LARGEST_SEQ = 2**63 - 1
LONGEST_SEARCH = 200


class LogLine(Protocol):
    """A line of a log. `seq` counts 1, 2, 3 …; one of a job has a `stream` besides."""

    seq: int
    line: str
    created_at: datetime


class Chapter(Protocol):
    """A part of a log that folds: a stage of a job, a run of a server. It begins with line `first_seq`."""

    name: str
    first_seq: int
    started_at: datetime


@dataclass(frozen=True)
class Group:
    """Lines that stand together: those of a chapter, or, with None, those before the first one."""

    chapter: Chapter | None
    lines: list[Any]


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


def read_log_page(
    log: QuerySet[Any], parameters: QueryDict, chapters: Iterable[Chapter] = ()
) -> LogPage:
    """Read the page of `log` that an address asks for with `line`, `before`, `after` and `q`.

    What makes no sense there, or leads behind the end, shows the newest lines.
    """
    line = to_seq(parameters.get("line"))
    lines = read_lines(log, line, to_seq(parameters.get("before")), to_seq(parameters.get("after")))
    text = parameters.get("q", "").replace("\0", "").strip()[:LONGEST_SEARCH]
    q = {"q": text} if text else {}
    earlier = later = ""
    if lines:
        first, last = lines[0].seq, lines[-1].seq
        if log.filter(seq__lt=first).exists():
            earlier = f"?{urlencode({**q, 'before': first})}"
        if log.filter(seq__gt=last).exists():
            later = f"?{urlencode({**q, 'after': last})}"
    return LogPage(
        lines=lines,
        groups=group_lines(lines, chapters),
        earlier=earlier,
        later=later,
        search=search_log(log, text, line) if text else None,
        line=line,
    )


def to_seq(text: str | None) -> int | None:
    """Return the line's number that `text` is, or None."""
    if not (text and text.isascii() and text.isdecimal() and len(text) < 20):
        return None
    return min(int(text), LARGEST_SEQ) or None


def read_lines(
    log: QuerySet[Any], line: int | None, before: int | None, after: int | None
) -> list[Any]:
    """Read at most `LINES_SHOWN` lines, in their order."""
    chunk: list[Any] = []
    if line and log.filter(seq__gte=line).exists():
        chunk = list(log.filter(seq__gte=line - LINES_SHOWN // 2).order_by("seq")[:LINES_SHOWN])
    elif before:
        chunk = list(log.filter(seq__lt=before).order_by("-seq")[:LINES_SHOWN])[::-1]
    elif after:
        chunk = list(log.filter(seq__gt=after).order_by("seq")[:LINES_SHOWN])
    return chunk or list(log.order_by("-seq")[:LINES_SHOWN])[::-1]


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


def search_log(log: QuerySet[Any], text: str, at: int | None) -> Search:
    """Look for `text`, in capitals or not, in every line of `log`; reads each of them once."""
    found = log.filter(line__icontains=text)
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
