"""The output of `cvarlist`, as the engine prints it and as strangers' plugins fill it."""

import random
from time import process_time

from hostops.query.cvarlist import ListedName, parse_cvarlist

HEAD = "cvar list\n--------------\n"
TAIL = "--------------\n  3 total convars/concommands\n"
ROWS = """\
director_no_specials                     : 0        : , "sv", "cheat"  : Nobody special comes.
kick                                     : cmd      :                  : Kick a player by name.
sv_voiceenable                           : -0.500   : , "a", "nf"      :
"""


def test_names_come_with_what_they_are_for_and_no_value() -> None:
    assert parse_cvarlist(HEAD + ROWS + TAIL) == (
        ListedName("director_no_specials", False, "Nobody special comes."),
        ListedName("kick", True, "Kick a player by name."),
        ListedName("sv_voiceenable", False),
    )


def test_a_list_that_is_cut_or_of_a_part_or_no_list_is_none() -> None:
    for text in (
        *("", 'Unknown command "cvarlist"\n', HEAD + ROWS),
        HEAD + ROWS + "--------------\n  1 convars/concommands for [sv_]\n",
    ):
        assert parse_cvarlist(text) is None


def test_a_name_that_would_be_another_command_is_left_out_and_a_help_text_is_only_text() -> None:
    hostile = "".join(
        f"{name:<40} : cmd      :                  : <b>a : b</b> \x1b[31m\n"
        for name in (
            "a;quit",
            'b"',
            "two words",
            "c{d",
            "ünïcode",
            "x" * 65,
            "sm_x-y",
            "a.b",
            "@me",
            "+attack",
            "sm_x",
            "sm_x",
        )
    )
    text = "<b>a : b</b> \x1b[31m"
    assert parse_cvarlist(HEAD + hostile + TAIL) == (ListedName("sm_x", True, text),)


def test_noise_is_never_an_exception_and_takes_no_time() -> None:
    source = random.Random(222860)
    began_at = process_time()
    for _ in range(300):
        line = "".join(source.choices(' :,"cmd0.-xa', k=2_000))
        parse_cvarlist(HEAD + line + "\n" + "a" + " : " * 500 + "\n" + TAIL)
    assert process_time() - began_at < 5


def test_a_line_without_end_takes_no_time() -> None:
    line = "a: cmd :" + " " * 1_000_000
    began_at = process_time()
    assert parse_cvarlist(HEAD + f"{line}\n" * 4 + TAIL) == ()
    assert process_time() - began_at < 0.5


def test_rows_that_are_made_to_be_slow_are_not() -> None:
    """Each looked for its end in every way in which blanks can be shared out."""
    row = "a : cmd : " + " " * 3900 + "x\n"
    began = process_time()
    assert parse_cvarlist(HEAD + row * 200 + TAIL) == ()
    slow = process_time() - began
    began = process_time()
    parse_cvarlist(HEAD + ("a : cmd : : " + "x" * 3900 + "\n") * 200 + TAIL)
    assert slow < 20 * (process_time() - began)
