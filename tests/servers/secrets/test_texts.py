"""Passwords in launch arguments and configs: which can be taken out, which are only found, and hiding them."""

import re
import shlex
from itertools import pairwise
from time import process_time
from unittest.mock import Mock, patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from servers.secrets import texts
from servers.secrets.encryption import ServerSecret
from servers.secrets.texts import _EDGES, find_settings, hide_secrets, sets_secret, take_secrets

RCON, JOIN = ServerSecret.RCON_PASSWORD, ServerSecret.JOIN_PASSWORD


@pytest.mark.parametrize(
    ("config", "rest", "values"),
    [
        ("rcon_password hunter2", "", {RCON: "hunter2"}),
        ('  RCON_Password\t"hunter2"  ', "", {RCON: "hunter2"}),
        ('"rcon_password" "hunter2"; // ours', "", {RCON: "hunter2"}),
        ("rcon_password hunter2//ours", "", {RCON: "hunter2"}),
        (
            "hostname x\r\nsv_password sesame\r\nsv_lan 0\r\n",
            "hostname x\r\nsv_lan 0\r\n",
            {JOIN: "sesame"},
        ),
        ("rcon_password old\nrcon_password new\n", "", {RCON: "new"}),
        ("rcon_password a\nsv_password b", "", {RCON: "a", JOIN: "b"}),
        ('sv_password ""', 'sv_password ""', {}),
        ("// rcon_password hunter2", "// rcon_password hunter2", {}),
        ("rcon_password", "rcon_password", {}),
        ("sv_password_not 1", "sv_password_not 1", {}),
    ],
)
def test_simple_lines_of_a_config_are_taken_out(
    config: str, rest: str, values: dict[ServerSecret, str]
) -> None:
    taken = take_secrets("", config)
    assert (taken.config, taken.values) == (rest, values)


@pytest.mark.parametrize(
    ("arguments", "rest", "values"),
    [
        ("+rcon_password hunter2", "", {RCON: "hunter2"}),
        ("+map c1m1_hotel +RCON_PASSWORD hunter2 -lv", "+map c1m1_hotel -lv", {RCON: "hunter2"}),
        ("+sv_password\n'sesame'\n-lv", "-lv", {JOIN: "sesame"}),
        ('+sv_password "sesame"', "", {JOIN: "sesame"}),
        ("-lv \\\n+sv_password sesame \\\n-dev", "-lv \\\n-dev", {JOIN: "sesame"}),
        ("-lv \\\r\n+sv_password sesame", "-lv", {JOIN: "sesame"}),
        ("+sv_password sesame\n\\a", "\\a", {JOIN: "sesame"}),
        ("+rcon_password old +rcon_password new", "", {RCON: "new"}),
        ("+map c1m1_hotel", "+map c1m1_hotel", {}),
    ],
)
def test_passwords_among_launch_arguments_are_taken_out(
    arguments: str, rest: str, values: dict[ServerSecret, str]
) -> None:
    taken = take_secrets(arguments, "")
    assert (taken.arguments, taken.values) == (rest, values)


@pytest.mark.parametrize(
    ("arguments", "config", "place"),
    [
        ("", "sv_lan 0; rcon_password hunter2", "Line 1"),
        ("", '\nalias open "sv_password hunter2"', "Line 2"),
        ("", "sm_cvar rcon_password hunter2", "Line 1"),
        ("", 'rcon_password "two words"', "Line 1"),
        ("", "rcon_password hunter2 more", "Line 1"),
        ("", "rcon_password hunter2:ends-there", "Line 1"),
        ("", f"rcon_password {'x' * 65}", "Line 1"),
        ("-lv\n+rcon_password +map c1", "", "Line 2"),
        ('"+exec x +rcon_password hunter2 y"', "", "Line 1"),
        ('"+rcon_password hunter2"', "", "Line 1"),
        ('+rcon_password hunter2 "+open', "", "Line 1"),
        ("+rcon_password hunter2\\;x", "", "Line 1"),
    ],
)
def test_what_is_cleverer_is_found_and_stays(arguments: str, config: str, place: str) -> None:
    settings = find_settings(arguments, config)
    assert [setting.place for setting in settings] == [place]
    assert all(setting.obstacle for setting in settings)
    assert "hunter2" not in repr(settings)
    taken = take_secrets(arguments, config)
    assert (taken.arguments, taken.config, taken.values) == (arguments, config, {})
    assert sets_secret(arguments, config, settings[0].secret)


def test_beside_one_that_stays_none_of_that_password_is_taken() -> None:
    """Otherwise a different one than now would have the last word."""
    config = "rcon_password first\nsv_password sesame\nsv_lan 0; rcon_password last"
    taken = take_secrets("+rcon_password zeroth", config)
    assert taken.values == {JOIN: "sesame"}
    assert taken.config == "rcon_password first\nsv_lan 0; rcon_password last"
    assert taken.arguments == "+rcon_password zeroth"


def test_a_config_wins_over_launch_arguments() -> None:
    assert take_secrets("+sv_password a", "sv_password b").values == {JOIN: "b"}


def test_a_password_set_to_nothing_is_set() -> None:
    assert sets_secret("", 'sv_password ""', JOIN)
    assert not sets_secret("", 'sv_password ""', RCON)
    assert not sets_secret("", "hostname sv_password", JOIN)


@pytest.mark.parametrize(
    "config",
    [
        "rcon_password hunter2",
        "// rcon_password hunter2",
        'alias x "rcon_password hunter2"; y hunter2',
        "sv_setsteamaccount hunter2",
        'tv_password "hunter2',
        "\u017frcon_password hunter2",
    ],
)
def test_what_others_may_read_of_a_config_has_no_password(config: str) -> None:
    arguments, shown = hide_secrets("-lv", f"hostname x\n{config}\nsv_lan 0")
    assert "hunter2" not in shown
    assert shown.startswith("hostname x\n")
    assert shown.endswith("\nsv_lan 0")
    assert arguments == "-lv"


def test_what_others_may_read_of_launch_arguments_has_no_password() -> None:
    arguments, _ = hide_secrets('+rcon_password hunter2 +map c1 +sv_password "hunter 2" -lv', "")
    assert arguments == "+rcon_password •••• +map c1 +sv_password •••• -lv"


@pytest.mark.parametrize(
    "written",
    [
        "+rcon_password \\\n  hunter2",
        "+rcon_password\\\nhunter2",
        "+rcon_password it\\'s-hunter2",
        "+rcon_password " + shlex.quote("it's hunter2"),
        '+sv_password the"hunter2"',
        '"+sv_password" hunter2',
        "+sv_password 'is hunter2",
    ],
)
def test_nor_has_one_that_is_written_in_an_odd_way(written: str) -> None:
    """Rows may be older than the rules for forms."""
    arguments, _ = hide_secrets(f"-lv {written}", "")
    assert "hunter2" not in arguments
    assert arguments.startswith("-lv ")


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ('+rcon_passwor"d" hunter2 +map c1', '+rcon_passwor"d" •••• +map c1'),
        ('+rcon_password"" hunter2 +map c1', '+rcon_password"" •••• +map c1'),
        ("+rcon_password'' hunter2 -lv", "+rcon_password'' •••• -lv"),
        ("+rcon_pass\\word hunter2 -lv", "+rcon_pass\\word •••• -lv"),
        ('+alias x "rcon_password \\"a hunter2\\""', '+alias x "rcon_password ••••'),
        # A name that is cut in several places, or by a continued line.
        ("+r'co'n_\"pass\"w\\ord hunter2 -lv", "+r'co'n_\"pass\"w\\ord •••• -lv"),
        ('"+"RCON\'\'_PASS""WORD hunter2', '"+"RCON\'\'_PASS""WORD ••••'),
        ("+rcon_pass\\\nword hunter2", "+rcon_pass\\\nword ••••"),
        ("+rcon_pass\\\r\nword hunter2", "+rcon_pass\\\r\nword ••••"),
        ("\\-net\"con\"password\t'hunter2' -lv", '\\-net"con"password •••• -lv'),
        # Words that are nothing to the game, in front of the value.
        ('+rcon_password "" hunter2 -lv', "+rcon_password •••• -lv"),
        ("+rcon_password '' \"\" ' \v' \\\n -hunter2 -lv", "+rcon_password •••• -lv"),
        # The game may take several words for the value.
        ("+rcon_password the hunter2 +map c1", "+rcon_password •••• +map c1"),
        ("+alias x '\"rcon_password a' 'hunter2\"' -lv", "+alias x '\"rcon_password •••• -lv"),
        # Several names, one of them in the place of a value.
        ("+rcon_password +sv_password hunter2 -lv", "+rcon_password •••• -lv"),
        (
            "+sv_password a '+map c1' +tv_\\password -hunter2 -lv",
            "+sv_password •••• '+map c1' +tv_\\password •••• -lv",
        ),
        # A name inside another word, and one behind what the game skips.
        ('"+alias x\\"sv_password\\" hunter2"', '"+alias x\\"sv_password ••••'),
        ("+rcon_password;a hunter2 -lv", "+rcon_password •••• -lv"),
        ("+\u017frcon_password hunter2 -lv", "+\u017frcon_password •••• -lv"),
        ("+rcon_password\u00a0a -hunter2", "+rcon_password ••••"),
        # An open quotation mark, and a name at the very end.
        ("+rcon_passw\"ord 'a hunter2", '+rcon_passw"ord ••••'),
        ('+sv_password "a -b hunter2\\', "+sv_password ••••"),
        ('+map c1 +rcon_passwor"d"', '+map c1 +rcon_passwor"d" ••••'),
    ],
)
def test_nor_has_one_that_only_the_split_words_show(written: str, shown: str) -> None:
    assert hide_secrets(written, "")[0] == shown


@pytest.mark.parametrize(
    "arguments",
    [
        '+hostname \'rcon "password"\' +sv_password_not "1 2" -lv',
        "+exec my_rcon_password.cfg\t+say it's 'open",
        '+map c1\\\n"" +sv_tags a\\ b ""\\',
    ],
)
def test_launch_arguments_without_a_secret_stay_as_they_are(arguments: str) -> None:
    assert hide_secrets(arguments, "")[0] == arguments


QUOTED = ("{}", "'{}'", '"{}"', "\\{}", "''{}", '{}""')


def quoted(letters: list[str]) -> st.SearchStrategy[str]:
    """Return the ways to write a word for `shlex`, with quotes and backslashes anywhere."""
    forms = st.lists(st.sampled_from(QUOTED), min_size=len(letters), max_size=len(letters))
    return forms.map(lambda them: "".join(map(str.format, them, letters)))


NAMES = st.tuples(*(st.sampled_from([one, one.upper()]) for one in "+rcon_password"))
VALUES = st.from_regex("[b-zB-Z]{6}", fullmatch=True)
WORDS = st.one_of(
    NAMES.map(list).flatmap(quoted),
    VALUES.map(list).flatmap(quoted),
    st.text(st.sampled_from("\"'\\ \t\n+-_ad;\u017f"), max_size=4),
)


@settings(deadline=None)  # By the clock, which runs on while this process waits.
@given(st.lists(st.tuples(WORDS, st.sampled_from([" ", "\t", "\r\n", "  "])), max_size=8))
@example([('+rcon_passwor"d"', " "), ("xyzxyz", " ")])
@example([("+rcon_password", "\n"), ("\"x\"'yz'x\\yz", " ")])
def test_no_word_behind_a_name_is_shown_however_both_are_written(
    written: list[tuple[str, str]],
) -> None:
    text = "".join(word + blank for word, blank in written)
    try:
        words = shlex.split(text)
    except ValueError:
        return
    bare, shown = (re.sub(r"[\"'\\]", "", one) for one in (text, hide_secrets(text, "")[0]))
    for name, value in pairwise(words):
        if name.lower() == "+rcon_password" and re.fullmatch("[b-zB-Z]{6}", value):
            assert value not in shown or bare.count(value) > 1


@pytest.mark.parametrize(
    "many",
    [
        '"',
        "'",
        "\\",
        " ",
        "a ",
        "+a ",
        "rcon_password",
        "rcon_password ",
        '\\"',
        "'\"",
        'r"',
        '"" ',
    ],
)
def test_hiding_passwords_takes_time_by_the_length_alone(many: str) -> None:
    text = f"+rcon_password {many * (200_000 // len(many))}"
    began_at = process_time()
    hide_secrets(text, "")
    hide_secrets(f"{text}'", "")
    assert process_time() - began_at < 2


def test_a_hostname_stays_as_it_is() -> None:
    assert hide_secrets("", "hostname the best rcon server")[1] == "hostname the best rcon server"


def test_many_blanks_take_no_time() -> None:
    blanks = " " * 20_000
    began_at = process_time()
    find_settings("", f"sv_password x{blanks}y")
    taken = take_secrets(f"+sv_password x +map a{blanks}+a b", "")
    assert (taken.arguments, process_time() - began_at < 2) == (f"+map a{blanks}+a b", True)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_run_of_continued_lines_is_looked_at_once_and_not_from_each_line_on(end: str) -> None:
    text = f"a{f'{chr(92)}{end}' * 20}b"
    run = re.compile(_EDGES.pattern.removesuffix(r"\Z"))
    begins = [at for at in range(len(text)) if run.match(text, at)]
    assert begins == [1]


def test_launch_arguments_are_split_once_and_not_for_each_password() -> None:
    text = " ".join(f"+rcon_password v{number}" for number in range(50))
    with patch.object(texts, "_WORD", Mock(wraps=texts._WORD)) as word:
        assert take_secrets(f"{text} -lv", "").arguments == "-lv"
    assert word.finditer.call_count + word.sub.call_count <= 10


def test_nothing_is_taken_out_beside_an_open_quotation_mark() -> None:
    text = "+rcon_password hunter2 +hostname 'a"
    assert take_secrets(text, "").arguments == text
