"""The colours of log lines: the rules themselves, and that Python and JavaScript follow the same ones."""

import json
import random
import re
from time import process_time
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from playwright.sync_api import Browser, Route

from servers.logs.ansi import Piece, find_shown, shows, to_pieces
from servers.templatetags.log_lines import write_marked


def shown(line: str) -> list[tuple[str, str]]:
    """Return the pieces of a line as (text, classes without their prefix)."""
    return [(piece.text, piece.classes.replace("ansi-", "")) for piece in to_pieces(line)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("plain", [("plain", "")]),
        ("", []),
        ("a\tb", [("a\tb", "")]),
        ("\x1b[31mred\x1b[0m not", [("red", "fg-1"), (" not", "")]),
        ("\x1b[31mred\x1b[m not", [("red", "fg-1"), (" not", "")]),
        (
            "\x1b[1;4;97;44mall\x1b[22;24;39;49mnone",
            [("all", "fg-15 bg-4 bold underline"), ("none", "")],
        ),
        ("\x1b[2;3;7;9mx", [("x", "dim italic strike inverse")]),
        ("\x1b[38;5;9ma\x1b[38;5;196mb\x1b[38;5;244mc", [("ab", "fg-9"), ("c", "fg-8")]),
        ("\x1b[38;2;250;10;10;1mx", [("x", "fg-9 bold")]),
        ("\x1b[38:2::0:0:230mx\x1b[48:5:2my", [("x", "fg-4"), ("y", "fg-4 bg-2")]),
        ("\x1b[4:3mx\x1b[4:0my", [("x", "underline"), ("y", "")]),
        ("\x1b[58;5;1;31mx", [("x", "fg-1")]),
        ("\x1b[38;5;300mx\x1b[38;2;1;2;999my\x1b[38;9;1mz", [("xy", ""), ("z", "bold strike")]),
        ("\x1b[38mx\x1b[38;5my", [("xy", "")]),
        ("\x1b[999;123456789;31mx", [("x", "fg-1")]),
        ("\x1b[31ma\x1b[31mb", [("ab", "fg-1")]),
        # Lines full of colours would make pages of many megabytes.
        (
            "\x1b[31ma\x1b[32mb" * 60,
            [*[("a", "fg-1"), ("b", "fg-2")] * 49, ("a", "fg-1"), ("b" + "ab" * 10, "fg-2")],
        ),
        # What is not a colour is dropped, and so is what would move a cursor or set a title.
        ("a\x1b[2Kb\x1b[10;5Hc\x1b[?25ld\x1b(Be\x1bMf", [("abcdef", "")]),
        ("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", [("alink", "")]),
        ("\x1bPq#0;2\x1b\\a\x9b31mb", [("a", ""), ("b", "fg-1")]),
        ("a\x08b\x07c\x7fd\x85e", [("abcde", "")]),
        # An unterminated sequence hides nothing.
        ("\x1b]0;title and more", [("0;title and more", "")]),
        ("a\x1b[31", [("a31", "")]),
        ("a\x1b", [("a", "")]),
        ("\x1b[>31mx\x1b[31 mx", [("xx", "")]),
    ],
)
def test_a_line_is_shown_as_a_terminal_would(line: str, expected: list[tuple[str, str]]) -> None:
    assert shown(line) == expected


def test_no_text_is_lost_and_no_control_is_left() -> None:
    for line in odd_lines(2_000):
        pieces = to_pieces(line)
        text = "".join(piece.text for piece in pieces)
        assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]", text)
        assert all(piece.text for piece in pieces)
        assert all(re.fullmatch(r"(ansi-[a-z0-9-]+( |$))*", piece.classes) for piece in pieces)


def odd_lines(count: int) -> list[str]:
    """Return lines of random pieces of escape sequences, always the same ones."""
    random_ = random.Random(5)
    parts = [
        "\x1b",
        "\x1b[",
        "\x9b",
        "[",
        "]",
        "\x1b]",
        "\x07",
        "\x1b\\",
        "\x9c",
        "m",
        "K",
        "?",
        ":",
        ";",
        " ",
    ]
    parts += [
        "0",
        "1",
        "2",
        "4",
        "5",
        "7",
        "22",
        "31",
        "38",
        "48",
        "58",
        "97",
        "107",
        "208",
        "255",
        "300",
        "99999999",
    ]
    parts += ["text", "ä", "💥", "\t", "\x00", "\x85", "<b>", "&", "38;5;", "48;2;", "1;2;3"]
    return ["".join(random_.choices(parts, k=random_.randint(1, 24))) for _ in range(count)]


def test_what_is_looked_for_is_marked_across_colours() -> None:
    pieces = [Piece("one t"), Piece("wo th", "ansi-bold"), Piece("ree <two>")]
    html = "".join(write_marked(pieces, [(4, 7), (15, 18)]))
    assert html == (
        'one <mark>t</mark><mark class="ansi-bold">wo</mark><span class="ansi-bold"> th</span>'
        "ree &lt;<mark>two</mark>&gt;"
    )


def test_a_search_sees_what_is_shown_and_nothing_else() -> None:
    random_ = random.Random(7)
    hidden = [
        "\x1b[31m",
        "\x1b[0;38;5;208m",
        "\x9b1m",
        "\x1b[2K",
        "\x1b]0;text\x07",
        "\x1b(B",
        "\x1bM",
    ]
    shown = ["text", "31m", "[", "]0;", "ä", "💥", "\t", " ", "<b>", "M", "\\", "(B", "x" * 9]
    lines = [
        "".join(random_.choices(hidden + shown, k=random_.randint(1, 24))) for _ in range(3_000)
    ]
    texts = ["".join(piece.text for piece in to_pieces(line)) for line in lines]
    found = 0
    for line, text in zip(lines, texts, strict=True):
        begin = random_.randrange(len(text) + 1)
        words = [text[begin : begin + random_.randint(1, 8)], random_.choice(texts)[:4], "31m"]
        for word in filter(None, words):
            is_found = shows(line, word)
            assert is_found == (word.lower() in text.lower()), (line, word)
            found += is_found
    assert found > len(lines)


@pytest.mark.parametrize(
    ("shown", "text", "spans"),
    [
        ("Tank and TANK", "tank", [(0, 4), (9, 13)]),
        ("aaaa", "aa", [(0, 2), (2, 4)]),
        # Unicode makes two characters of the first one.
        ("İstanbul is", "IS", [(9, 11)]),
        ("ÄÖ äö", "äÖ", [(0, 2), (3, 5)]),
        ("[a]", "[", [(0, 1)]),
        ("b", "a", []),
    ],
)
def test_places_are_found_whatever_the_capitals(
    shown: str, text: str, spans: list[tuple[int, int]]
) -> None:
    assert find_shown(shown, text, 10) == spans
    assert find_shown(shown, text, 1) == spans[:1]


@pytest.mark.parametrize("unit", ["\x90", "\x90a", "\x1b]", "\x1b[1", "\x9b", "\x1b ", "\x1bP\x98"])
def test_a_line_takes_time_by_its_length_whatever_stands_in_it(unit: str) -> None:
    def seconds(length: int) -> float:
        line = unit * (length // len(unit))
        began_at = process_time()
        assert not shows(line, "no such text")
        return process_time() - began_at

    # If each beginning of a string searched for an end by itself, a line four times as long would take
    # sixteen times as long.
    short, long = (min(seconds(length) for _ in range(5)) for length in (20_000, 80_000))
    assert long < 10 * short


def test_a_string_that_another_one_interrupts_has_no_end() -> None:
    assert [piece.text for piece in to_pieces("\x90one\x90two\x9cthree")] == ["onethree"]


@pytest.mark.browser
def test_javascript_follows_the_same_rules(browser: Browser) -> None:
    lines = odd_lines(3_000)
    lines += [f"\x1b[38;5;{number}mx\x1b[48;5;{number}my" for number in range(257)]
    page = browser.new_page()
    page.route("http://modules.test/**", serve_module)
    page.goto("http://modules.test/")
    results = page.evaluate(
        """async (lines) => {
            const { toPieces } = await import('/log/ansi.js');
            const { markPieces, toPattern } = await import('/log/row.js');
            return lines.map((line) => {
                const pieces = toPieces(line);
                const marked = markPieces(pieces, toPattern('T'));
                return [pieces.map((one) => [one.text, one.classes]),
                        marked.filter((one) => one.isWanted).map((one) => one.text)];
            });
        }""",
        lines,
    )
    page.close()
    for line, (pieces, marked) in zip(lines, results, strict=True):
        expected = to_pieces(line)
        assert pieces == [[piece.text, piece.classes] for piece in expected], json.dumps(line)
        text = "".join(piece.text for piece in expected)
        html = "".join(write_marked(expected, find_shown(text, "T", len(text))))
        assert marked == re.findall("<mark[^>]*>([^<]*)</mark>", html), json.dumps(line)


def serve_module(route: Route) -> None:
    """Answer with a module of the project, or an empty page."""
    name = urlsplit(route.request.url).path.lstrip("/")
    module = settings.BASE_DIR / "l4d2site/static/js" / name
    if name.endswith(".js"):
        route.fulfill(body=module.read_text(), content_type="text/javascript")
    else:
        route.fulfill(body="<!doctype html>", content_type="text/html")
