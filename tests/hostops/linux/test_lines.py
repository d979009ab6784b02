"""Lines are split as a terminal would show them, whatever pieces the bytes arrive in."""

import pytest

from hostops.linux.lines import MAX_LINE_BYTES, LineSplitter


def split(*chunks: bytes) -> list[str]:
    splitter = LineSplitter()
    lines = [line for chunk in chunks for line in splitter.feed(chunk)]
    return [*lines, *splitter.finish()]


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([b"one\ntwo\n"], ["one", "two"]),
        ([b"one\r\ntwo\r\n"], ["one", "two"]),
        ([b"one\r", b"\ntwo\r\n"], ["one", "two"]),
        ([b"one\n\ntwo"], ["one", "", "two"]),
        ([b" 1 %\r 2 %\r", b"\r 3 %\n"], [" 1 %", " 2 %", " 3 %"]),
        ([b"o", b"n", b"e", b"\n"], ["one"]),
        ([b"one\r", b"two\n"], ["one", "two"]),
        ([b"one\r", b"", b"\ntwo\n"], ["one", "two"]),
        ([b"\xff\xfe\n"], ["\ufffd\ufffd"]),
        ([b"caf\xc3", b"\xa9\n"], ["café"]),
        ([], []),
    ],
)
def test_it_cuts_at_every_kind_of_line_end(chunks: list[bytes], lines: list[str]) -> None:
    assert split(*chunks) == lines


def test_an_endless_line_comes_in_pieces_and_does_not_pile_up() -> None:
    splitter = LineSplitter()
    pieces = [piece for _ in range(100) for piece in splitter.feed(b"x" * 10_000)]
    assert {len(piece) for piece in pieces} == {MAX_LINE_BYTES}
    assert len("".join([*pieces, *splitter.finish()])) == 1_000_000


def test_a_piece_ends_between_characters() -> None:
    text = "é" * MAX_LINE_BYTES
    pieces = split(b"x" + text.encode() + b"\n")
    assert len(pieces) == 3
    assert "".join(pieces) == "x" + text
