"""Reads a server's console as one log, although older lines are in segments and the newest ones in rows.

Lines move from rows into a segment in one transaction. A reader of both reads the rows first, and from the
segments only the lines before them. So a line that moves in between is neither missed nor read twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from django.db.models import Max, Min, QuerySet
from django.utils.translation import gettext as _

from servers.logs import SEARCH_SECONDS, Searched, SearchTurn
from servers.models import Block, ConsoleLine, ConsoleRun, ConsoleSegment, StoredLine

SEGMENTS_AT_ONCE = 16
"""Segments per query when all are read: a few hundred KiB. No query stays open while they are processed."""


@dataclass(frozen=True)
class Findings:
    """The result of a search over all runs: how many lines match, and some of them, newest first.

    The search went back to line `looked_back_to`; None means to the oldest line that is kept.
    """

    count: int
    lines: list[StoredLine]
    looked_back_to: int | None
    is_replaced: bool = False

    @property
    def go_on_before(self) -> int | None:
        """The line before which there are, or may be, more matches; None if there are none."""
        has_more = self.count > len(self.lines)
        return self.lines[-1].seq if has_more else self.looked_back_to

    @property
    def why_it_ended(self) -> str:
        """Why it did not reach the oldest line, and how far it came, in a sentence; empty if it did."""
        if self.looked_back_to is None:
            return ""
        if self.is_replaced:
            text = _(
                "You started another search, which ended this one: it has looked back to line"
                " %(line)d."
            )
            return text % {"line": self.looked_back_to}
        text = _("A search stops after %(count)d seconds: it has looked back to line %(line)d.")
        return text % {"count": round(SEARCH_SECONDS), "line": self.looked_back_to}


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
        """Return the seq of the oldest line kept, or 0."""
        # If the tail becomes the first segment between the two queries, that begins at the same line.
        tail = self._tail.aggregate(first=Min("seq"))["first"]
        return self._segments.aggregate(first=Min("first_seq"))["first"] or tail or 0

    def read_after(self, seq: int, limit: int, until: int | None = None) -> list[StoredLine]:
        """Return the next lines after `seq`, at most `limit`, and none after `until`."""
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
        """Return the last lines before `seq`, or of all lines, in order and at most `limit`."""
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

    def blocks(self, first: int = 1) -> Iterator[Block]:
        """Yield the current lines in order, a few thousand at a time, from the block with line `first` on.

        Lines that move in the meantime are yielded only once.
        """
        tail = to_lines(self._tail.filter(seq__gte=first).order_by("seq"))
        end = tail[0].seq if tail else None
        after = first - 1
        while segments := list(
            self._segments.filter(last_seq__gt=after).order_by("last_seq")[:SEGMENTS_AT_ONCE]
        ):
            for segment in segments:
                if end is not None and segment.first_seq >= end:
                    break
                block = open_segment(segment)
                if end is not None and segment.last_seq >= end:
                    block = block.before(end)
                yield block
            after = segments[-1].last_seq
        if tail:
            yield Block.of_lines(tail)

    def blocks_back(self, before: int | None) -> Iterator[Block]:
        """Yield the lines before line `before`, or all, newest block first. Blocks are as in `blocks`."""
        rows = self._tail if before is None else self._tail.filter(seq__lt=before)
        if tail := to_lines(rows.order_by("seq")):
            yield Block.of_lines(tail)
            before = tail[0].seq
        while True:
            older = self._segments
            if before is not None:
                older = older.filter(first_seq__lt=before)
            segments = list(older.order_by("-first_seq")[:SEGMENTS_AT_ONCE])
            if not segments:
                return
            for segment in segments:
                block = open_segment(segment)
                if before is not None and segment.last_seq >= before:
                    block = block.before(before)
                yield block
            before = segments[-1].first_seq

    def find_parts(self, text: str, first: int) -> Iterator[Searched]:
        """Search for `text`, ignoring case, in the lines from `first` on, one block at a time."""
        for block in self.blocks(first):
            seqs = block.seqs_with(text)
            yield Searched([seq for seq in seqs if seq >= first], block.last_seq)

    def find(self, text: str, before: int | None, limit: int, turn: SearchTurn) -> Findings:
        """Return the newest lines with `text` before line `before`, and how many there are.

        Searches backwards as long as the turn permits.
        """
        count = 0
        lines: list[StoredLine] = []
        looked_back_to = before
        blocks = self.blocks_back(before)
        while turn.may_go_on():
            block = next(blocks, None)
            if block is None:
                return Findings(count, lines, None)
            seqs = block.seqs_with(text)
            count += len(seqs)
            if seqs and len(lines) < limit:
                of_block = block.lines()
                wanted = seqs[::-1][: limit - len(lines)]
                lines += [of_block[seq - block.first_seq] for seq in wanted]
            looked_back_to = block.first_seq
        return Findings(count, lines, looked_back_to, turn.is_replaced)

    def chapters(self, first: int, last: int) -> list[ConsoleRun]:
        """Return the runs that lines `first` to `last` belong to."""
        runs = ConsoleRun.objects.filter(server_id=self.server_id)
        running = runs.filter(first_seq__lte=first).order_by("first_seq", "id").last()
        begun = runs.filter(first_seq__gt=first, first_seq__lte=last).order_by("first_seq", "id")
        return [*([running] if running else []), *begun]

    def runs(self) -> QuerySet[ConsoleRun]:
        """Return the runs whose lines are kept, oldest first."""
        return ConsoleRun.objects.filter(server_id=self.server_id).order_by("first_seq", "id")


def open_segment(segment: ConsoleSegment) -> Block:
    """Return the lines of a segment."""
    return Block.of_segment(segment.first_seq, segment.data)


def to_lines(rows: "QuerySet[ConsoleLine]") -> list[StoredLine]:
    """Return rows of the tail as lines."""
    values = rows.values_list("seq", "line", "created_at")
    return [StoredLine(*value) for value in values]
