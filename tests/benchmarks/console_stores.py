"""The ways to store a console that are compared: lines as rows, segments as rows, segments as files."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from hostops.specs import ConsolePosition
from jobs.watch.console_copier import SEGMENT_BYTES, Bookmark, cut_segments, store, text_bytes
from servers.console.reader import Console, open_segment, to_lines
from servers.models import Block, ConsoleLine, ConsoleSegment, Server, StoredLine


class ConsoleStore(Protocol):
    """One way. Each append is one transaction that moves the server's position too."""

    name: str

    def append(self, texts: Sequence[str], keep_bytes: int) -> None:
        """Store lines, and delete the oldest ones beyond the limit."""

    def newest(self, limit: int) -> int:
        """Read the newest lines; return how many."""

    def around(self, seq: int, limit: int) -> int:
        """Read lines around one; return how many."""

    def search(self, word: str) -> int:
        """Return how many lines contain a word."""


def number(first: int, texts: Sequence[str]) -> list[StoredLine]:
    """Return texts as lines after line `first`."""
    now = timezone.now()
    return [StoredLine(seq, text, now) for seq, text in enumerate(texts, start=first + 1)]


class Rows:
    """A row for each line, as it used to be; here limited by their mean size, which costs nothing to know."""

    name = "a row for each line"

    def __init__(self, server: Server, _folder: Path) -> None:
        self._server_id = server.pk
        self._seq = self._bytes = 0

    def append(self, texts: Sequence[str], keep_bytes: int) -> None:
        """Insert the rows."""
        lines = number(self._seq, texts)
        self._bytes += text_bytes(lines)
        last = lines[-1].seq
        with transaction.atomic():
            Server.objects.filter(pk=self._server_id, console_seq=self._seq).update(
                console_seq=last
            )
            ConsoleLine.objects.bulk_create(
                ConsoleLine(
                    server_id=self._server_id,
                    seq=line.seq,
                    line=line.line,
                    created_at=line.created_at,
                )
                for line in lines
            )
            if self._bytes > keep_bytes and self._seq // 500 != last // 500:
                kept = keep_bytes * last // self._bytes
                self._rows().filter(seq__lte=last - kept).delete()
        self._seq = last

    def newest(self, limit: int) -> int:
        """Read the end of the index."""
        return len(to_lines(self._rows().order_by("-seq")[:limit]))

    def around(self, seq: int, limit: int) -> int:
        """Read on from the middle of the index."""
        return len(to_lines(self._rows().filter(seq__gte=seq - limit // 2).order_by("seq")[:limit]))

    def search(self, word: str) -> int:
        """Let the database look at each line."""
        return self._rows().filter(line__icontains=word).count()

    def _rows(self) -> QuerySet[ConsoleLine]:
        return ConsoleLine.objects.filter(server_id=self._server_id)


class Segments:
    """What the product does."""

    name = "segments in rows"

    def __init__(self, server: Server, _folder: Path) -> None:
        self._console = Console(server.pk)
        self._bookmark = Bookmark(server.pk, server.name, 1, 0, 0.0, 0, 0)
        Server.objects.filter(pk=server.pk).update(console_run=1)

    def append(self, texts: Sequence[str], keep_bytes: int) -> None:
        """Store the lines as the worker does."""
        lines = number(self._bookmark.console_seq, texts)
        position = ConsolePosition(1, self._bookmark.console_offset + text_bytes(lines))
        stored = store(self._bookmark, position, lines, [])
        assert stored is not None
        self._bookmark = stored

    def newest(self, limit: int) -> int:
        """Read rows, then segments."""
        return len(self._console.read_before(None, limit))

    def around(self, seq: int, limit: int) -> int:
        """Unpack the segments that have them."""
        return len(self._console.read_after(seq - limit // 2, limit))

    def search(self, word: str) -> int:
        """Unpack everything."""
        return sum(len(part.seqs) for part in self._console.find_parts(word, 1))


class Files:
    """The same with the segments in files on the host, and a row for each that says where it is.

    Only the host can read them. This leaves out the detour through the worker, which each page would have to
    take.
    """

    name = "segments in files"

    def __init__(self, server: Server, folder: Path) -> None:
        self._server_id = server.pk
        self._folder = folder / "segments"
        self._folder.mkdir()
        self._seq = self._tail_bytes = self._bytes = 0

    def append(self, texts: Sequence[str], keep_bytes: int) -> None:
        """Insert rows, or write a file, flush it and insert where it is."""
        lines = number(self._seq, texts)
        self._tail_bytes += text_bytes(lines)
        segments: list[ConsoleSegment] = []
        rows = lines
        if self._tail_bytes >= SEGMENT_BYTES:
            together = [*to_lines(self._tail()), *lines]
            segments = cut_segments(self._server_id, together, self._tail_bytes)
            rows, self._tail_bytes = [], 0
            for segment in segments:
                write_flushed(self._folder / f"{segment.first_seq}", bytes(segment.data))
                self._bytes += segment.text_bytes
                segment.data = b""
        with transaction.atomic():
            Server.objects.filter(pk=self._server_id, console_seq=self._seq).update(
                console_seq=lines[-1].seq
            )
            if segments:
                self._tail().delete()
                ConsoleSegment.objects.bulk_create(segments)
                self._prune(keep_bytes)
            ConsoleLine.objects.bulk_create(
                ConsoleLine(
                    server_id=self._server_id,
                    seq=line.seq,
                    line=line.line,
                    created_at=line.created_at,
                )
                for line in rows
            )
        self._seq = lines[-1].seq

    def newest(self, limit: int) -> int:
        """Read rows, then files."""
        count = len(to_lines(self._tail()))
        for segment in self._segments().order_by("-first_seq"):
            if count >= limit:
                break
            count += len(self._open(segment).lines())
        return min(count, limit)

    def around(self, seq: int, limit: int) -> int:
        """Read the files that have them."""
        found: list[StoredLine] = []
        for segment in self._segments().filter(last_seq__gte=seq - limit // 2).order_by("last_seq"):
            found += [line for line in self._open(segment).lines() if line.seq >= seq - limit // 2]
            if len(found) >= limit:
                break
        return min(len(found), limit)

    def search(self, word: str) -> int:
        """Read every file."""
        blocks = [self._open(segment) for segment in self._segments()]
        return sum(len(block.seqs_with(word)) for block in blocks)

    def _prune(self, keep_bytes: int) -> None:
        for segment in self._segments().order_by("first_seq"):
            if self._bytes <= keep_bytes:
                break
            segment.delete()
            (self._folder / f"{segment.first_seq}").unlink()
            self._bytes -= segment.text_bytes

    def _open(self, segment: ConsoleSegment) -> Block:
        segment.data = (self._folder / f"{segment.first_seq}").read_bytes()
        return open_segment(segment)

    def _segments(self) -> QuerySet[ConsoleSegment]:
        return ConsoleSegment.objects.filter(server_id=self._server_id)

    def _tail(self) -> QuerySet[ConsoleLine]:
        return ConsoleLine.objects.filter(server_id=self._server_id).order_by("seq")


def write_flushed(path: Path, data: bytes) -> None:
    """Write a file so that it survives a power cut, as what the database has committed does."""
    with path.open("wb") as file:
        file.write(data)
        os.fsync(file.fileno())
