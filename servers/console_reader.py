"""Reads a server's console as one log, although its older lines lie in segments and its newest ones in rows.

Lines move from rows into a segment in one transaction. Whoever reads both looks at the rows first, and takes
from the segments only what lies before them: so a line that moves meanwhile is neither missed nor read twice.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

from django.db.models import Max, Min, QuerySet

from servers.log_pages import Search
from servers.models import Block, ConsoleLine, ConsoleRun, ConsoleSegment, StoredLine

SEGMENTS_AT_ONCE = 16
"""Read by one query when all are looked through: some hundreds of KiB. No query stays open meanwhile."""


@dataclass(frozen=True)
class Findings:
    """What a search over all runs has found: how many lines, and some of them, the newest first."""

    count: int
    lines: list[StoredLine]
    has_older: bool


@dataclass(frozen=True)
class Console:
    """The console of one server."""

    server_id: int

    @property
    def _tail(self) -> QuerySet[ConsoleLine]:
        return ConsoleLine.objects.filter(server_id=self.server_id)

    @property
    def _segments(self) -> QuerySet[ConsoleSegment]:
        return ConsoleSegment.objects.filter(server_id=self.server_id)

    def last_seq(self) -> int:
        """Return the seq of the last line, or 0."""
        return (
            self._tail.aggregate(last=Max("seq"))["last"]
            or self._segments.aggregate(last=Max("last_seq"))["last"]
            or 0
        )

    def first_seq(self) -> int:
        """Return the seq of the oldest line that is kept, or 0."""
        # A tail that becomes the first segment between the two queries begins at the same line.
        tail = self._tail.aggregate(first=Min("seq"))["first"]
        return self._segments.aggregate(first=Min("first_seq"))["first"] or tail or 0

    def read_after(self, seq: int, limit: int, until: int | None = None) -> list[StoredLine]:
        """Return the next lines behind `seq`, at most `limit`, and none behind `until`."""
        rows = self._tail.filter(seq__gt=seq)
        if until is not None:
            rows = rows.filter(seq__lte=until)
        lines = to_lines(rows.order_by("seq")[:limit])
        if lines and lines[0].seq == seq + 1:
            return lines
        older: list[StoredLine] = []
        before = lines[0].seq if lines else (until + 1 if until is not None else None)
        while len(older) < limit:
            after = older[-1].seq if older else seq
            segment = self._segments.filter(last_seq__gt=after).order_by("last_seq").first()
            if segment is None or (before is not None and segment.first_seq >= before):
                break
            found = [
                line
                for line in open_segment(segment).lines()
                if line.seq > after and (before is None or line.seq < before)
            ]
            if not found:
                break
            older += found
        return [*older, *lines][:limit]

    def read_before(self, seq: int | None, limit: int) -> list[StoredLine]:
        """Return the last lines before `seq`, or of all, in their order and at most `limit`."""
        rows = self._tail if seq is None else self._tail.filter(seq__lt=seq)
        lines = to_lines(rows.order_by("-seq")[:limit])[::-1]
        while len(lines) < limit:
            segments = self._segments
            before = lines[0].seq if lines else seq
            if before is not None:
                segments = segments.filter(first_seq__lt=before)
            segment = segments.order_by("-first_seq").first()
            if segment is None:
                break
            older = [
                line
                for line in open_segment(segment).lines()
                if before is None or line.seq < before
            ]
            lines = older + lines
        return lines[-limit:]

    def blocks(self) -> Iterator[Block]:
        """Yield all lines that are there now, in order, some thousand at a time."""
        tail = to_lines(self._tail.order_by("seq"))
        end = tail[0].seq if tail else None
        after = 0
        while segments := list(
            self._segments.filter(first_seq__gt=after).order_by("first_seq")[:SEGMENTS_AT_ONCE]
        ):
            for segment in segments:
                if end is not None and segment.first_seq >= end:
                    break
                block = open_segment(segment)
                if end is not None and segment.last_seq >= end:
                    block = Block.of_lines([line for line in block.lines() if line.seq < end])
                yield block
            after = segments[-1].first_seq
        if tail:
            yield Block.of_lines(tail)

    def search(self, text: str, at: int | None) -> Search:
        """Look for `text`, in capitals or not, in every line; `at` is the line that a page shows.

        Takes a second or so for 50 MiB, whatever is looked for.
        """
        search = Search(text, 0, None)
        for block in self.blocks():
            seqs = block.seqs_with(text)
            if seqs:
                search = count_in(search, seqs, at)
        return search

    def find(self, text: str, before: int | None, limit: int) -> Findings:
        """Return the newest lines that have `text`, before line `before`, and how many there are in all."""
        count = 0
        newest: deque[StoredLine] = deque(maxlen=limit)
        has_older = False
        for block in self.blocks():
            seqs = block.seqs_with(text)
            count += len(seqs)
            wanted = [seq for seq in seqs if before is None or seq < before]
            has_older = has_older or len(newest) + len(wanted) > limit
            if wanted:
                lines = block.lines()
                newest.extend(lines[seq - block.first_seq] for seq in wanted[-limit:])
        return Findings(count, list(newest)[::-1], has_older)

    def chapters(self, first: int, last: int) -> list[ConsoleRun]:
        """Return the runs that lines `first` to `last` belong to."""
        runs = ConsoleRun.objects.filter(server_id=self.server_id)
        running = runs.filter(first_seq__lte=first).order_by("first_seq", "id").last()
        begun = runs.filter(first_seq__gt=first, first_seq__lte=last).order_by("first_seq", "id")
        return [*([running] if running else []), *begun]

    def runs(self) -> QuerySet[ConsoleRun]:
        """Return the runs whose lines are kept, the oldest first."""
        return ConsoleRun.objects.filter(server_id=self.server_id).order_by("first_seq", "id")


def count_in(search: Search, seqs: list[int], at: int | None) -> Search:
    """Return `search` with the matches `seqs` added, which come behind those that it has."""
    found = replace(
        search,
        count=search.count + len(seqs),
        first=search.first if search.first is not None else seqs[0],
    )
    if at is None:
        return found
    passed, reached = bisect_left(seqs, at), bisect_right(seqs, at)
    return replace(
        found,
        position=search.position + reached,
        is_here=search.is_here or reached > passed,
        previous=seqs[passed - 1] if passed else search.previous,
        next=search.next if search.next or reached == len(seqs) else seqs[reached],
    )


def open_segment(segment: ConsoleSegment) -> Block:
    """Return the lines of a segment."""
    return Block.of_segment(segment.first_seq, segment.data)


def to_lines(rows: "QuerySet[ConsoleLine]") -> list[StoredLine]:
    """Return rows of the tail as lines."""
    values = rows.values_list("seq", "line", "created_at")
    return [StoredLine(*value) for value in values]
