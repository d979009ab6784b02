"""Splits a stream of bytes into lines of text, with bounded memory for any input."""

import re
from collections.abc import Iterator

MAX_LINE_BYTES = 64 * 1024
"""Longer lines are split into pieces of this size."""

_LINE_END = re.compile(rb"\r\n|\n|\r")


def piece_length(data: bytes) -> int:
    """Return how much of an overlong line to take as one piece, without cutting a UTF-8 character."""
    end = MAX_LINE_BYTES
    while end > MAX_LINE_BYTES - 4 and data[end : end + 1] and data[end] & 0xC0 == 0x80:
        end -= 1
    return end


def decode_line(line: bytes) -> str:
    """Return the line as text; invalid UTF-8 becomes U+FFFD."""
    return line.decode("utf-8", errors="replace")


class LineSplitter:
    r"""Takes chunks of a command's output and yields lines.

    A line ends with \n, \r\n, or the lone \r of a progress display. A lone \r after no text yields no
    line: such displays write it before a text as well as after it.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._skip_newline = False

    def feed(self, chunk: bytes) -> Iterator[str]:
        """Yield the lines that `chunk` completes."""
        if self._skip_newline and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            self._skip_newline = False
        data = self._rest + chunk
        start = 0
        for end in _LINE_END.finditer(data):
            line = data[start : end.start()]
            start = end.end()
            # A \r at the very end may be half of a \r\n; its line is complete either way.
            self._skip_newline = end.end() == len(data) and end.group() == b"\r"
            if line or end.group() != b"\r":
                yield from _pieces(line)
        if chunk and start < len(data):
            self._skip_newline = False
        self._rest = data[start:]
        while len(self._rest) > MAX_LINE_BYTES:
            length = piece_length(self._rest)
            yield decode_line(self._rest[:length])
            self._rest = self._rest[length:]

    @property
    def rest(self) -> str:
        """The text after the last line end, such as a prompt."""
        return decode_line(self._rest)

    def finish(self) -> Iterator[str]:
        """Yield the last line if it has no line end."""
        if self._rest:
            yield decode_line(self._rest)
            self._rest = b""


def _pieces(line: bytes) -> Iterator[str]:
    while len(line) > MAX_LINE_BYTES:
        length = piece_length(line)
        yield decode_line(line[:length])
        line = line[length:]
    yield decode_line(line)
