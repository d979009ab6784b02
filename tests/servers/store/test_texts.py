"""Texts come out of a form as they went in, and differences are found in bounded time."""

import random

import pytest

from servers.store import NoTextError, Text, diff_texts


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"one",
        b"one\n",
        b"one\r\ntwo\r\n",
        b"\xef\xbb\xbfone\r\ntwo",
        b"one\r\ntwo\nthree\r\n",
        "ü\n\n\n".encode(),
    ],
)
def test_a_text_that_nobody_changed_is_the_same_to_the_byte(data: bytes) -> None:
    text = Text.decode(data)
    # A browser sends CR and LF, whatever it was given.
    assert text.rewrite(text.shown.replace("\n", "\r\n")) == data


def test_new_lines_end_as_most_do_and_old_ones_as_they_did() -> None:
    text = Text.decode(b"\xef\xbb\xbfone\r\ntwo\nthree\r\nfour")
    assert text.rewrite("one\nnew\ntwo\nthree\nfour") == (
        b"\xef\xbb\xbfone\r\nnew\r\ntwo\nthree\r\nfour"
    )


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a\0b", b"one\rtwo", b"\xed\xa0\x80"])
def test_what_a_form_would_not_give_back_is_no_text(data: bytes) -> None:
    with pytest.raises(NoTextError):
        Text.decode(data)


def to_text(*lines: str) -> Text:
    return Text.decode("\n".join(lines).encode())


def test_a_difference_shows_the_lines_and_what_is_around_them() -> None:
    before = [f"line {number}" for number in range(30)]
    after = [*before[:10], "new", *before[11:25], *before[26:]]
    assert diff_texts(to_text(*before), to_text(*after)) == [
        (" ", "…"),
        *((" ", f"line {number}") for number in (7, 8, 9)),
        ("-", "line 10"),
        ("+", "new"),
        *((" ", f"line {number}") for number in (11, 12, 13)),
        (" ", "…"),
        *((" ", f"line {number}") for number in (22, 23, 24)),
        ("-", "line 25"),
        *((" ", f"line {number}") for number in (26, 27, 28)),
    ]


def test_both_texts_can_be_had_back_from_any_difference() -> None:
    dice = random.Random(4)
    for _try in range(300):
        before, after = ([dice.choice("abcde") for _ in range(dice.randrange(9))] for _ in "12")
        lines = diff_texts(to_text(*before), to_text(*after))
        kept = [(mark, text) for mark, text in lines if text != "…"]
        olds = [text for mark, text in kept if mark in " -"]
        news = [text for mark, text in kept if mark in " +"]
        if (" ", "…") not in lines and lines:
            assert "\n".join(olds) in "\n".join(before)
            assert "\n".join(news) in "\n".join(after)
        assert bool(lines) == (to_text(*before) != to_text(*after))


def test_texts_made_to_be_hard_to_compare_are_compared_in_bounded_time() -> None:
    dice = random.Random(5)
    before, after = (to_text(*(dice.choice("ab") for _ in range(100_000))) for _ in "12")
    # Without the bound this takes hours, and the test's time limit ends it first.
    assert len(diff_texts(before, after)) <= 2_001
