"""Chooses the lines of a log that a page shows: the newest, those around a line, or a chunk further on.

Jobs' logs and servers' consoles are read the same way. Lines after the page was made come by a stream.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import urlencode

from django.db.models import Max, Min, Q, QuerySet
from django.http import HttpRequest, QueryDict
from django.utils.translation import gettext as _

from servers.logs.ansi import ESCAPES, shows
from servers.logs.searches import SEARCH_SECONDS, SearchTurn, turns

LINES_SHOWN = 1_000
BLOCK_LINES = 20
"""How many lines a browser lays out together. The same as in `static/js/log/blocks.js`."""
LARGEST_SEQ = 2**63 - 1
LONGEST_SEARCH = 200
LINES_READ = 1_000
LINES_LOOKED_AT = 100
"""A search reads LINES_READ lines from the database per query, and checks LINES_LOOKED_AT of them before it
asks whether it may go on. For the longest lines, full of colours, that takes a few hundredths of a second."""
CHARS_COMPARED = 8
"""How much of a text the database compares, so that it returns few lines."""


class LogLine(Protocol):
    """A line of a log. `seq` counts 1, 2, 3 …; a job's line also has a `stream`."""

    @property
    def seq(self) -> int: ...

    @property
    def line(self) -> str: ...

    @property
    def created_at(self) -> datetime: ...


class Chapter(Protocol):
    """A foldable part of a log: a stage of a job, or a run of a server. It begins with line `first_seq`.

    If it also has a `duration_label`, that is shown, and is live until it has an `ended_at`.
    """

    @property
    def name(self) -> str: ...

    @property
    def first_seq(self) -> int: ...

    @property
    def started_at(self) -> datetime: ...


@dataclass(frozen=True)
class Group:
    """Lines that belong together: those of a chapter, or with None, those before the first chapter."""

    chapter: Chapter | None
    lines: list[Any]

    @property
    def blocks(self) -> list[list[Any]]:
        """The lines in blocks."""
        starts = range(0, len(self.lines), BLOCK_LINES)
        return [self.lines[start : start + BLOCK_LINES] for start in starts]


@dataclass(frozen=True)
class Search:
    """What was searched for in a log, and where it is. The seqs are those of matching lines.

    `position` counts the matches up to and including the line that the page shows; `is_here` says whether that
    line matches. The search began with line `began_at` and ended after line `ended_at`; None means the log's
    end.
    """

    text: str
    count: int = 0
    first: int | None = None
    position: int = 0
    is_here: bool = False
    previous: int | None = None
    next: int | None = None
    began_at: int = 1
    ended_at: int | None = None
    is_replaced: bool = False

    def with_matches(self, seqs: list[int], at: int | None) -> "Search":
        """Return this search with further matches after the ones it has; `at` is the line on the page."""
        if not seqs:
            return self
        found = replace(
            self,
            count=self.count + len(seqs),
            first=self.first if self.first is not None else seqs[0],
        )
        if at is None:
            return found
        passed, reached = bisect_left(seqs, at), bisect_right(seqs, at)
        return replace(
            found,
            position=self.position + reached,
            is_here=self.is_here or reached > passed,
            previous=seqs[passed - 1] if passed else self.previous,
            next=self.next if self.next or reached == len(seqs) else seqs[reached],
        )

    @property
    def extent(self) -> str:
        """Which part of the log was searched, in words; empty for the whole log."""
        words = {"first": self.began_at, "last": self.ended_at}
        if self.ended_at is not None and self.ended_at >= self.began_at:
            if self.began_at > 1:
                return _(", from line %(first)s up to line %(last)s") % words
            return _(", up to line %(last)s") % words
        return _(", from line %(first)s") % words if self.began_at > 1 else ""

    @property
    def why_it_ended(self) -> str:
        """Why it did not reach the end of the log, in a sentence; empty if it did."""
        if self.ended_at is None:
            return ""
        if self.is_replaced:
            return _("You started another search, which ended this one.")
        text = _("A search stops after %(count)d seconds.")
        return text % {"count": round(SEARCH_SECONDS)}

    @property
    def address(self) -> dict[str, Any]:
        """The parameters of an address that lead to the same search."""
        return {"q": self.text, **({"from": self.began_at} if self.began_at > 1 else {})}

    @property
    def go_on_url(self) -> str:
        """The address of the same search in the rest of the log; empty if there is none."""
        if self.ended_at is None:
            return ""
        return f"?{urlencode({'q': self.text, 'from': self.ended_at + 1})}"

    def url(self, seq: int | None) -> str:
        """Return the address of a match, relative to the log's page."""
        return f"?{urlencode({**self.address, 'line': seq})}#L{seq}"

    @property
    def first_url(self) -> str:
        """The address of the first match."""
        return self.url(self.first)

    @property
    def previous_url(self) -> str:
        """The address of the match before the line that the page shows; empty if there is none."""
        return self.url(self.previous) if self.previous else ""

    @property
    def next_url(self) -> str:
        """The address of the match after the line that the page shows; empty if there is none."""
        return self.url(self.next) if self.next else ""


@dataclass(frozen=True)
class Searched:
    """A part of a log that was searched: which of its lines match, and its last line."""

    seqs: list[int]
    last_seq: int


@dataclass(frozen=True)
class LogPage:
    """The lines that a page shows. `earlier` and `later` are the addresses of adjacent lines, or empty."""

    lines: list[Any] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    earlier: str = ""
    later: str = ""
    search: Search | None = None
    line: int | None = None

    @property
    def must_jump(self) -> bool:
        """Whether the search found something, but the address does not name a line to show yet."""
        return self.line is None and self.search is not None and self.search.first is not None


class Log(Protocol):
    """Numbered lines that pages are made of."""

    def first_seq(self) -> int:
        """Return the seq of the oldest line kept, or 0."""

    def last_seq(self) -> int:
        """Return the seq of the last line, or 0."""

    def read_after(self, seq: int, limit: int) -> Sequence[LogLine]:
        """Return the next lines after `seq`, at most `limit`."""

    def read_before(self, seq: int | None, limit: int) -> Sequence[LogLine]:
        """Return the last lines before `seq`, or of all lines, in order and at most `limit`."""

    def chapters(self, first: int, last: int) -> Iterable[Chapter]:
        """Return the chapters, in order, that lines `first` to `last` may belong to."""

    def find_parts(self, text: str, first: int) -> Iterator[Searched]:
        """Search for `text`, ignoring case, in the visible lines from `first` on, part by part.

        Each part takes at most a few hundredths of a second, whatever the lines contain.
        """


@dataclass(frozen=True)
class RowLog:
    """A log in which each line is a row."""

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

    def find_parts(self, text: str, first: int) -> Iterator[Searched]:
        """Read the lines that may contain `text` from the database, and check each of them here.

        A database that compares the whole text takes time proportional to its length times the line's: seconds
        per thousand lines that nearly match two hundred characters. Its regular expressions are slower still.
        Python's search takes time proportional only to the line's length.
        """
        after, last_seq = first - 1, self.last_seq()
        while after < last_seq:
            end = min(after + LINES_READ, last_seq)
            rows = self.rows.filter(may_have(text), seq__gt=after, seq__lte=end)
            lines = list(rows.order_by("seq").values_list("seq", "line"))
            for begin in range(0, max(len(lines), 1), LINES_LOOKED_AT):
                part = lines[begin : begin + LINES_LOOKED_AT]
                seqs = [seq for seq, line in part if shows(line, text)]
                is_rest = begin + LINES_LOOKED_AT >= len(lines)
                yield Searched(seqs, end if is_rest else part[-1][0])
            after = end


def may_have(text: str) -> Q:
    """Return the condition that a row's line may show `text`."""
    if not text.isascii():
        return Q()  # SQLite ignores case only for ASCII letters.
    colours = [("line__contains", escape) for escape in ESCAPES]
    return Q(*colours, ("line__icontains", text[:CHARS_COMPARED]), _connector=Q.OR)


def search_log(log: Log, text: str, *, began_at: int, at: int | None, turn: SearchTurn) -> Search:
    """Search for `text` in `log` from line `began_at` on, as long as the turn permits."""
    search = Search(text, began_at=began_at)
    ended_at = began_at - 1
    parts = log.find_parts(text, began_at)
    while turn.may_go_on():
        part = next(parts, None)
        if part is None:
            return search
        search, ended_at = search.with_matches(part.seqs, at), part.last_seq
    return replace(search, ended_at=ended_at, is_replaced=turn.is_replaced)


def read_log_page(log: Log, request: HttpRequest) -> LogPage:
    """Read the page of `log` that an address asks for with `line`, `before`, `after`, `q` and `from`.

    Invalid values, and positions after the end, show the newest lines.
    """
    parameters = request.GET
    line = to_seq(parameters.get("line"))
    # Read before the lines: what is stored in between comes by the stream, and is not missed here.
    last_seq = log.last_seq()
    lines = read_lines(log, line, to_seq(parameters.get("before")), to_seq(parameters.get("after")))
    text = read_wanted(parameters)
    search: Search | None = None
    if text:
        began_at = to_seq(parameters.get("from")) or 1
        with turns.taken(request) as turn:
            search = search_log(log, text, began_at=began_at, at=line, turn=turn)
    q = search.address if search else {}
    earlier = later = ""
    groups: list[Group] = []
    if lines:
        first, last = lines[0].seq, lines[-1].seq
        groups = group_lines(lines, log.chapters(first, last))
        if log.first_seq() < first:
            earlier = f"?{urlencode({**q, 'before': first})}"
        if last_seq > last:
            later = f"?{urlencode({**q, 'after': last})}"
    return LogPage(
        lines=lines,
        groups=groups,
        earlier=earlier,
        later=later,
        search=search,
        line=line,
    )


def read_wanted(parameters: QueryDict) -> str:
    """Return the text that an address asks to search for, or an empty one."""
    return parameters.get("q", "").replace("\0", "").strip()[:LONGEST_SEARCH]


def to_seq(text: str | None) -> int | None:
    """Return `text` as a line number, or None."""
    if not (text and text.isascii() and text.isdecimal() and len(text) < 20):
        return None
    return min(int(text), LARGEST_SEQ) or None


def read_lines(log: Log, line: int | None, before: int | None, after: int | None) -> list[Any]:
    """Read at most `LINES_SHOWN` lines, in order."""
    chunk: Sequence[LogLine] = []
    if line and line <= log.last_seq():
        chunk = log.read_after(line - LINES_SHOWN // 2 - 1, LINES_SHOWN)
    elif before:
        chunk = log.read_before(before, LINES_SHOWN)
    elif after:
        chunk = log.read_after(after, LINES_SHOWN)
    return list(chunk or log.read_before(None, LINES_SHOWN))


def group_lines(lines: Sequence[Any], chapters: Iterable[Chapter]) -> list[Group]:
    """Divide lines by their chapters. A chapter without lines keeps its place among them."""
    groups = [Group(None, [])]
    if not lines:
        return []
    rest = [chapter for chapter in chapters if chapter.first_seq <= lines[-1].seq]
    # Chapters that ended before the first of these lines are on other pages.
    while len(rest) > 1 and rest[0].first_seq < lines[0].seq >= rest[1].first_seq:
        rest.pop(0)
    for line in lines:
        while rest and rest[0].first_seq <= line.seq:
            groups.append(Group(rest.pop(0), []))
        groups[-1].lines.append(line)
    return [group for group in groups if group.chapter or group.lines]
