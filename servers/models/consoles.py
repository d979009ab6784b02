"""A server's console as copied from its host: runs, the newest lines, and segments of older ones.

`servers.console.reader` reads them as one log; `jobs.watch.console_copier` writes them.
"""

import zlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import AnyStr, NamedTuple

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from hostops.specs import RunEnding
from servers.logs import ESCAPE
from servers.models.servers import Server

COMPRESSION_LEVEL = 6
"""The zlib level: a segment takes 2 ms, and a sixth of its text. Level 1 takes 1 ms, and more than a fifth."""

COLOUR_MARKS = (b"\x1b", "\x9b".encode())
"""How every colour sequence begins."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


class StoredLine(NamedTuple):
    """A line of a console, wherever it is stored. `seq` counts 1, 2, 3 … over all runs of a server."""

    seq: int
    line: str
    created_at: datetime


class ConsoleRun(models.Model):
    """One start of a server, as a chapter of its console. `number` counts the starts of one instance.

    It has the lines from `first_seq` up to the next run's first one. `ended_at` is empty while it runs.
    """

    class Ending(models.TextChoices):
        """How a run ended."""

        STOPPED = RunEnding.STOPPED.value, gettext_lazy("stopped")
        CRASHED = RunEnding.CRASHED.value, gettext_lazy("crashed")
        HOST_RESTARTED = RunEnding.HOST_RESTARTED.value, gettext_lazy("host restarted")
        UNKNOWN = RunEnding.UNKNOWN.value, gettext_lazy("ended unseen")

    server = models.ForeignKey(Server, models.CASCADE, related_name="console_runs", db_index=False)
    number = models.PositiveIntegerField()
    first_seq = models.PositiveBigIntegerField()
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    ending = models.CharField(max_length=16, choices=Ending, blank=True)
    exit_signal = models.CharField(max_length=16, blank=True)
    build_id = models.CharField(max_length=32, blank=True)

    class Meta:
        ordering = ["first_seq", "id"]
        indexes = [
            models.Index(fields=["server", "first_seq"], name="console_runs_of_server"),
            models.Index(
                fields=["server"], condition=models.Q(ended_at=None), name="console_runs_going_on"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.server}: {self.name}"

    @property
    def name(self) -> str:
        """Its chapter's name, in words that never change: pages identify a chapter by them."""
        return f"Run of {timezone.localtime(self.started_at):%Y-%m-%d %H:%M:%S}"

    @property
    def outcome(self) -> str:
        """How it ended, in words."""
        if self.ended_at is None:
            return _("still running")
        if self.exit_signal:
            words = {"ending": self.get_ending_display(), "signal": self.exit_signal}
            return _("%(ending)s with %(signal)s") % words
        return self.get_ending_display()


class ConsoleLine(models.Model):
    """One of a console's newest lines. Older ones are in segments."""

    server = models.ForeignKey(Server, models.CASCADE, related_name="console_lines", db_index=False)
    seq = models.PositiveBigIntegerField()
    line = models.TextField()
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["seq"]
        constraints = [
            models.UniqueConstraint(fields=["server", "seq"], name="console_seq_once_per_server")
        ]

    def __str__(self) -> str:
        return self.line


class ConsoleSegment(models.Model):
    """A few thousand consecutive lines of a console, compressed. It never changes.

    `text_bytes` is their size as text, including a byte for each line end. There are no gaps between segments,
    and they end where the `ConsoleLine` rows begin.
    """

    server = models.ForeignKey(
        Server, models.CASCADE, related_name="console_segments", db_index=False
    )
    first_seq = models.PositiveBigIntegerField()
    last_seq = models.PositiveBigIntegerField()
    text_bytes = models.PositiveIntegerField()
    # The last column, so that the others are read without the disk pages that this one fills.
    data = models.BinaryField()

    class Meta:
        ordering = ["first_seq"]
        constraints = [
            models.UniqueConstraint(
                fields=["server", "first_seq"], name="console_segment_once_per_server"
            )
        ]
        indexes = [models.Index(fields=["server", "last_seq"], name="console_segments_by_last_seq")]

    def __str__(self) -> str:
        return f"{self.first_seq}–{self.last_seq}"

    @classmethod
    def of(cls, server_id: int, lines: Sequence[StoredLine]) -> "ConsoleSegment":
        """Return the segment, not saved, of consecutive lines."""
        texts = [line.line for line in lines]
        body = "\n".join(texts).encode()
        head = pack_times([line.created_at for line in lines]).encode()
        return cls(
            server_id=server_id,
            first_seq=lines[0].seq,
            last_seq=lines[-1].seq,
            text_bytes=len(body) + 1,
            data=zlib.compress(head + b"\n" + body, COMPRESSION_LEVEL),
        )


class Block:
    """Consecutive lines of a console that can be searched without making an object of each."""

    def __init__(self, first_seq: int, times: str, body: bytes) -> None:
        self.first_seq = first_seq
        self._times = times
        self._body = body

    @classmethod
    def of_segment(cls, first_seq: int, data: bytes | memoryview) -> "Block":
        """Unpack a segment's `data`."""
        head, _, body = zlib.decompress(data).partition(b"\n")
        return cls(first_seq, head.decode(), body)

    @classmethod
    def of_lines(cls, lines: Sequence[StoredLine]) -> "Block":
        """Return a block of lines that are no segment yet."""
        body = "\n".join(line.line for line in lines).encode()
        return cls(lines[0].seq, pack_times([line.created_at for line in lines]), body)

    def lines(self) -> list[StoredLine]:
        """Return every line."""
        texts = self._body.decode().split("\n")
        times = unpack_times(self._times)
        seqs = range(self.first_seq, self.first_seq + len(texts))
        return list(map(StoredLine._make, zip(seqs, texts, times, strict=True)))

    @property
    def last_seq(self) -> int:
        """The seq of its last line."""
        return self.first_seq + self._body.count(b"\n")

    def before(self, seq: int) -> "Block":
        """Return a block of the lines before line `seq`; there must be some."""
        return Block.of_lines([line for line in self.lines() if line.seq < seq])

    def seqs_with(self, text: str) -> list[int]:
        """Return the seqs of the lines that visibly contain `text`, ignoring case and colours."""
        if any(mark in self._body for mark in COLOUR_MARKS):
            wanted = text.lower()
            return [
                seq
                for seq, line in enumerate(self._body.decode().split("\n"), start=self.first_seq)
                if wanted in ESCAPE.sub("", line).lower()
            ]
        if text.isascii():
            return self._count_lines(self._body.lower(), text.lower().encode(), b"\n")
        return self._count_lines(self._body.decode().lower(), text.lower(), "\n")

    def _count_lines(self, body: AnyStr, wanted: AnyStr, line_end: AnyStr) -> list[int]:
        """Return the seqs of the lines of `body` that contain `wanted`."""
        seqs = []
        seq, counted_to = self.first_seq, 0
        at = body.find(wanted)
        while at >= 0:
            seq += body.count(line_end, counted_to, at)
            seqs.append(seq)
            counted_to = body.find(line_end, at)
            if counted_to < 0:
                break
            at = body.find(wanted, counted_to)
        return seqs


def pack_times(times: Sequence[datetime]) -> str:
    """Return times, to the millisecond, as a text: differences, and how often each time occurs."""
    packed: list[str] = []
    before = 0
    for time, same in groupby(times):
        milliseconds = (time - EPOCH) // MILLISECOND
        packed.append(f"{milliseconds - before}*{sum(1 for _ in same)}")
        before = milliseconds
    return " ".join(packed)


def unpack_times(packed: str) -> list[datetime]:
    """Return the times from the text of `pack_times`. Lines with the same time share one object."""
    times: list[datetime] = []
    milliseconds = 0
    for item in packed.split(" "):
        distance, _, count = item.partition("*")
        milliseconds += int(distance)
        times += [EPOCH + milliseconds * MILLISECOND] * int(count)
    return times
