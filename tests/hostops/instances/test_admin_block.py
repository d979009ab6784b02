"""Saferoom's lines in `admins_simple.ini`: nobody else's lines are lost, whatever the file contains."""

import pytest

from hostops.instances.admin_block import write_block
from hostops.specs import SpecAdmin

ZOEY = SpecAdmin("STEAM_1:0:1", "bcd", "Zoey")
BILL = SpecAdmin("STEAM_1:1:2", "z")
BEGIN = b"// >>> Saferoom writes the lines from here to its next comment. Change them in the panel."
END = b"// <<< Saferoom"
MINE = b'// Mine.\n"STEAM_1:0:9" "z"\n'


def block(*lines: bytes, end: bytes = b"\n") -> bytes:
    return end.join((BEGIN, *lines, END)) + end


def test_it_stands_at_the_end_and_is_written_again_in_its_place() -> None:
    first = write_block(MINE, [ZOEY, BILL]).text
    zoey, bill = b'"STEAM_1:0:1" "bcd" // Saferoom: Zoey', b'"STEAM_1:1:2" "z" // Saferoom'
    assert first == MINE + block(zoey, bill)
    edited = write_block(first + b"// Below.", [BILL])
    assert edited.text == MINE + block(bill) + b"// Below."
    assert edited.remarks == ()
    assert write_block(edited.text, [BILL]).text == edited.text
    assert write_block(edited.text, []).text == MINE + block() + b"// Below."


@pytest.mark.parametrize("text", [b"\xff\xfe\x00 \xe4\r\n;x", b"no end", b"a\r\rb\n\n\n", b""])
def test_what_people_wrote_stays_byte_for_byte(text: bytes) -> None:
    edited = write_block(text, [ZOEY]).text
    assert edited.startswith(text)
    assert write_block(edited, []).text.startswith(text)


def test_line_ends_of_windows_are_kept() -> None:
    text = write_block(b"// Mine.\r\n", [BILL]).text
    assert text.count(b"\r\n") == text.count(b"\n") == 4
    by_editor = write_block(MINE, [BILL]).text.replace(b"\n", b"\r\n")
    edited = write_block(by_editor, [])
    assert edited.text == MINE.replace(b"\n", b"\r\n") + block(end=b"\r\n")
    assert edited.remarks == ()


@pytest.mark.parametrize(
    "broken",
    [
        lambda text: text.replace(BEGIN + b"\n", b""),
        lambda text: text.replace(END + b"\n", b""),
        lambda text: text + block(b'"STEAM_1:1:2" "z" // Saferoom'),
        lambda text: END + b"\n" + text.replace(END + b"\n", b""),
    ],
    ids=["no beginning", "no end", "twice", "end first"],
)
def test_a_broken_block_is_replaced_and_told_and_nobody_stays_an_admin_by_it(broken) -> None:  # type: ignore[no-untyped-def]
    text = broken(write_block(MINE, [BILL]).text + b"// Below.\n")
    edited = write_block(text, [ZOEY])
    assert edited.text == MINE + b"// Below.\n" + block(b'"STEAM_1:0:1" "bcd" // Saferoom: Zoey')
    (remark,) = edited.remarks
    assert "rewritten at the end" in remark


def test_a_line_that_somebody_wrote_between_the_comments_is_kept_and_told() -> None:
    own = b'"STEAM_1:0:8" "@Friends"\n'
    text = write_block(MINE, [BILL]).text.replace(END, own + END)
    edited = write_block(text, [])
    assert edited.text == MINE + own + block()
    assert "1 line that Saferoom has not written" in edited.remarks[0]


@pytest.mark.parametrize(
    "name",
    ['" "z', "//", ";", 'x"\n"STEAM_1:0:7" "z', "\r\n", "a" * 999, "名前", "{}\\", "\u2028x\x85"],
)
def test_no_name_becomes_anything_but_a_comment(name: str) -> None:
    text = write_block(None, [SpecAdmin("STEAM_1:0:1", "b", name)]).text
    _, line, _, nothing = text.decode("ascii").split("\n")
    head, _, comment = line.partition(" // Saferoom")
    assert (head, nothing) == ('"STEAM_1:0:1" "b"', "")
    assert len(line) < 128
    assert not set(comment) & set('"/;\\')


def test_a_file_that_is_a_copy_follows_its_original_until_somebody_changes_it() -> None:
    copy = write_block(None, [BILL], b"// Old.").text
    assert copy.startswith(b"// Old.\n// >>> Saferoom")
    assert write_block(copy, [BILL], b"// Old.").text == copy
    followed = write_block(copy, [BILL], b"// New.\n").text
    assert followed.startswith(b"// New.\n// >>> Saferoom")
    assert b"Old" not in followed
    changed = followed.replace(b"// New.", b"// Newer.")
    assert write_block(changed, [BILL], b"// Newest.\n").text == changed
    # The file of a host which copies the game is there before the first admin is.
    assert write_block(b"// Old.", [], b"// Old.").text == write_block(None, [], b"// Old.").text
