"""Launch arguments: what owners may pass to the engine, judged word by word as the engine reads them."""

import shlex
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hostops.launch_arguments import (
    MAX_COMMAND_BYTES,
    MAX_TEXT_CHARS,
    OPTIONS,
    OWN_COMMAND_BYTES,
    ArgumentsError,
    Who,
    drop_faulty,
    find_conflicts,
    find_map,
    find_mode,
    join_arguments,
    parse_arguments,
    put_map,
    require_arguments,
    take_bind_address,
)

PAGE = Path(__file__).resolve().parents[2] / "docs/arguments.md"


def faults_of(text: str) -> list[str]:
    """Return the faults of launch arguments."""
    try:
        parse_arguments(text)
    except ArgumentsError as error:
        return [str(fault) for fault in error.faults]
    return []


# --- What reaches the game ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ()),
        ("-tickrate 60 +map c2m1_highway", ("-tickrate", "60", "+map", "c2m1_highway")),
        ('+map "c2m1_highway coop"', ("+map", "c2m1_highway coop")),
        ("+sv_search_key *", ("+sv_search_key", "*")),
        ("-tickrate 60 \\\r\n+map c2m1_highway", ("-tickrate", "60", "+map", "c2m1_highway")),
        ("-insecure\r\n-nobots\r\n", ("-insecure", "-nobots")),
        ('"-maxplayers 8"', ("-maxplayers", "8")),
        ("+hostname Night\\ crew", ("+hostname", "Night crew")),
        ("+sv_tags 'a b'", ("+sv_tags", "a b")),
    ],
)
def test_it_splits_as_a_shell_does(text: str, words: tuple[str, ...]) -> None:
    assert parse_arguments(text) == words


# --- What does not ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '+hostname "night -autoupdate -steam_dir . -steamcmd_script y;id>LEAK;:"',
        '+hostname "Night crew -port 27097" +map c2m1_highway',
        "+hostname 'x\t-port 27097'",
        '+hostname "x +hostport 27097"',
        '-maxplayers "8 -port 27097"',
        "+map c2m1_highway \\\n-port 27097",
        "-PORT 27097",
        "-Port=27097",
        "--port 27097",
        "-port27097",
        "+PORT 27097",
        "+hostport 27097",
        "+ip 10.0.0.1",
        "-ip 0.0.0.0 +map c2m1_highway",
        "-binary /bin/echo",
        "-autoupdate",
        "-norestart",
        "-netconport 4000",
        "-netconpassword x",
        "-condebug",
        "@options",
        '+hostname "a @options"',
        "+rcon_password hunter2",
        "+RCON_PASSWORD hunter2",
        "+sv_password hunter2",
        "+tv_password hunter2",
        "+sv_setsteamaccount ABC",
        "+sm_cvar rcon_password hunter2",
        '+alias "p hostport 27097"',
        "+quit",
        "+say 'a \"b\"'",
        '+say "a;b"',
        "+map c1m1_hotel\x0b",
        "+hostname café",
        "+hostname Night crew -insecure off",
        "competitive -insecure",
        "-tickrate",
        "-tickrate fast",
        "-tickrate 60 70",
        "-insecure yes",
        "+sv_gravity -100",
        '""',
        '+hostname "open',
        "+",
        "+9lives",
        "# competitive",
        "+sv_downloadurl http://example.org/l4d2",
    ],
)
def test_it_refuses_what_moves_the_server_or_runs_something_else(text: str) -> None:
    assert faults_of(text)
    # As it reaches the host layer, already split.
    try:
        words = shlex.split(text.replace("\r\n", "\n"))
    except ValueError:
        return
    with pytest.raises(ArgumentsError):
        require_arguments(words)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("-ip 0.0.0.0", "only an admin may set the address"),
        ("-port 27016", "Saferoom sets -port itself: the port is a field of the server"),
        ('+hostname "a -port 27016"', "The value of “+hostname” contains “-port”"),
        ('+hostname "a -x"', "put “hostname” into the config"),
        ("+sv_gravity -100", "put “sv_gravity” into the config"),
        ("// competitive\n-tickrate 100", "“//” looks like a comment"),
        ("–tickrate 100", "(en dash). You probably meant “-”"),
        (
            "+hostname “My server”",
            "(left double quotation mark). You probably meant a plain quotation mark",
        ),
        ("+hostname a\u00a0b", "(no-break space). You probably meant a plain blank"),
        ("-Tickrate 60", "Write -Tickrate as -tickrate VALUE"),
        ("-tickrate=60", "Write -tickrate=60 as -tickrate VALUE"),
        ("-tickrate 5000", "-tickrate takes 30 to 128, not “5000”"),
        ("-foo", "-foo is not an option that Saferoom knows"),
        ("-foo", "Options that owners may use: -tickrate, -maxplayers, -insecure, -nohltv"),
        ("+rcon_password x", "it is the field “RCON password”"),
        ("+sv_setsteamaccount x", "put it into the server's own config"),
        ("+sv_downloadurl http://a", "put “sv_downloadurl” into the config"),
        ('+map "x', "is opened and not closed"),
    ],
)
def test_each_fault_says_what_to_do(text: str, said: str) -> None:
    assert said in "\n".join(faults_of(text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("-nobots \\ \t\n-insecure", "There are blanks after the backslash"),
        ("-nobots \\\u00a0\r\n-insecure", "There are blanks after the backslash"),
        ("-nobots \\", "“\\” stands alone, and is no argument. A line goes on"),
        ("-nobots ^\n-insecure", "“^” stands alone, and is no argument. A line goes on"),
        ("-tickrate 60 `\n-insecure", "“`” stands alone, and is no argument. A line goes on"),
        ("+sv_tags a \\\\ -nobots", "“\\” stands alone, and is no argument. A line goes on"),
        ("/* ours", "“/*” looks like a comment"),
        ("-nobots */", "“*/” looks like a comment"),
        ("<!-- ours", "“<!--” looks like a comment"),
        ("-nobots -->", "“-->” looks like a comment"),
        ("－tickrate 60", "(fullwidth hyphen-minus). You probably meant “-”"),  # noqa: RUF001
        ("＋map c1m1_hotel", "(fullwidth plus sign). You probably meant “+”"),  # noqa: RUF001
        ("-tickrate ６", "(fullwidth digit six). You probably meant “6”"),  # noqa: RUF001
        ("ーtickrate 60", "(katakana-hiragana prolonged sound mark). You probably meant “-”"),
        ("\ufeff-tickrate 60", "(zero width no-break space), which is invisible"),
    ],
)
def test_one_slip_of_the_pen_is_told_once_and_by_what_was_meant(text: str, said: str) -> None:
    (fault,) = faults_of(text)
    assert said in fault


@pytest.mark.parametrize(
    "text",
    [
        "+rcon_password -hunter2",
        "+rcon_password 'hunter2;'",
        "+RCON_password 'hun ter2 -x'",
        "+sm_cvar sv_password +hunter2",
        "+rcon_password @hunter2",
        "+sv_password hünter2",
        "-netconpassword hunter2",
        f"+rcon_password @hunter2{'x' * 100}",
        "+rcon_password 'hunter2”“hunter2”'",
        "+rcon_password -hunter2=x",
    ],
)
def test_no_fault_quotes_a_password(text: str) -> None:
    faults = "\n".join(faults_of(text))
    assert faults
    assert not any(part in faults for part in ("unter2", "ter2", "hun "))


def test_no_fault_shows_a_secret() -> None:
    text = "\n".join(
        faults_of("+rcon_password hunter2 +sm_cvar sv_password hunter2 -netconpassword hunter2")
    )
    assert "rcon_password" in text
    assert "hunter2" not in text


def test_hiding_secrets_takes_as_many_steps_as_there_are_faults_and_secrets() -> None:
    text = " ".join(f"+rcon_password v{number}" for number in range(400))
    with patch("hostops.launch_arguments._shown", side_effect=str) as shown:
        assert len(faults_of(text)) == 401
    assert shown.call_count <= 5 * 400


def test_a_fault_quotes_only_the_beginning_of_a_long_word() -> None:
    many, long = " //" * 100, "x" * 3000
    for text in (f"+{long}{many}", f"+a {long} -port=1", f"{long}", f"-nobots {long}", f"#{long}"):
        assert max(len(fault) for fault in faults_of(text)) < 500


@pytest.mark.parametrize(
    "look",
    [parse_arguments, take_bind_address, lambda text: require_arguments(["", text])],
)
def test_a_text_that_is_much_too_long_is_not_looked_at(look: Callable[[str], object]) -> None:
    text = "x " * (MAX_TEXT_CHARS // 2)
    with (
        patch("hostops.launch_arguments._judge_group", side_effect=AssertionError),
        patch("hostops.launch_arguments._WORD"),
        pytest.raises(ArgumentsError) as caught,
    ):
        look(f"{text}x")
    told = "The launch arguments have 8,001 characters, and the engine takes 1,750"
    assert [fault.text.partition(":")[0] for fault in caught.value.faults] == [told]


def test_all_faults_are_told_at_once_each_with_its_line() -> None:
    faults = faults_of('-tickrate 60\n-port 1\n\n+hostname "a\n-binary x"\n–insecure')
    assert [fault.partition(":")[0] for fault in faults] == ["Line 2", "Line 4", "Line 4", "Line 6"]


def test_both_texts_together_may_not_be_longer_than_the_engines_line() -> None:
    most = MAX_COMMAND_BYTES - OWN_COMMAND_BYTES
    name = "x" * (most - len("+hostname") - 2)
    assert parse_arguments(f"+hostname {name}")
    assert "bytes" in faults_of(f"+hostname {name}x")[0]


@settings(deadline=None)  # By the clock, which runs on while this process waits.
@given(st.text(st.sampled_from("-+@\"';=\\ \t\nap0*portmap"), max_size=40))
@example('-maxplayers "8 -port 1"')
@example("+a\\ -port")
def test_every_word_of_what_passes_is_allowed(text: str) -> None:
    try:
        arguments = parse_arguments(text)
    except ArgumentsError:
        return
    line = " ".join(arguments)
    assert not set(line) & set('";\n')
    for word in line.split():
        assert not word.startswith("@")
        if word.startswith("-"):
            assert OPTIONS[word].who is Who.OWNER
    # What passes once passes again: the host layer checks what the form has checked.
    assert require_arguments(arguments) == arguments


@settings(deadline=None)
@given(st.lists(st.text(st.sampled_from('-+@"; xport0'), min_size=1, max_size=12), max_size=6))
def test_what_is_left_of_faulty_arguments_passes(arguments: list[str]) -> None:
    kept, faults = drop_faulty(arguments)
    assert require_arguments(kept) == tuple(kept)  # No password's name is among these.
    is_less = " ".join(kept).split() != " ".join(arguments).split()
    # An argument of blanks alone is a fault, though no word is missing.
    has_blank = any(not argument.strip() for argument in arguments)
    assert bool(faults) == (is_less or has_blank)


def test_a_faulty_argument_takes_its_values_along_and_nothing_else() -> None:
    stored = [
        "+hostname",
        "Night crew -port 27097",
        "+map",
        "c2m1_highway",
        "-binary",
        "/bin/echo",
        "-insecure",
    ]
    kept, faults = drop_faulty(stored)
    assert kept == ["+map", "c2m1_highway", "-insecure"]
    assert len(faults) == 2


def test_a_password_that_was_stored_among_the_arguments_stays_and_is_not_shown() -> None:
    """A restart without it would open the server to everybody."""
    stored = ["+sv_password", "sesame", "+rcon_password", "open -port 1", "+map", "c2m1_highway"]
    kept, faults = drop_faulty(stored)
    assert kept == ["+sv_password", "sesame", "+map", "c2m1_highway"]
    assert faults
    assert "open" not in "".join(fault.text for fault in faults)


# --- The table ----------------------------------------------------------------------------------


def test_the_page_has_the_table_of_the_code() -> None:
    page = PAGE.read_text()
    for name, option in OPTIONS.items():
        value = f" *{option.value}*" if option.value else ""
        row = f"| `{name}`{value} | {option.text[0].upper()}{option.text[1:].rstrip('.')}. |"
        assert row in page, row
        section = page[: page.index(row)].rpartition("\n## ")[2].partition("\n")[0]
        assert option.who.value in section
    assert page.count("| `-") == len(OPTIONS)


@pytest.mark.parametrize(
    ("arguments", "conflicts"),
    [
        (("-tickrate", "60", "-insecure", "-tickrate", "60", "-insecure"), []),
        (("+hostname", "one", "+hostname", "two"), []),
        (("-nohltv", "+tv_enable", "0"), []),
        (
            ("-maxplayers", "8", "-maxplayers", "12"),
            ["-maxplayers is given 2 times, as 8 and as 12: the game takes one of them."],
        ),
        (
            ("+map c1m1_hotel versus", "+map", "c2m1_highway"),
            ["+map is given 2 times, as c1m1_hotel versus and as c2m1_highway: the game loads one"],
        ),
        (
            ("+tv_enable", "1", "-nohltv"),
            ["+tv_enable switches SourceTV on, and -nohltv off: leave one out."],
        ),
    ],
)
def test_what_is_said_in_two_ways_is_told(arguments: tuple[str, ...], conflicts: list[str]) -> None:
    found = find_conflicts(arguments)
    assert len(found) == len(conflicts)
    assert all(one.startswith(text) for one, text in zip(found, conflicts, strict=True))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("-insecure",), None),
        (("-insecure", "+MAP", "c5m2_park", "versus"), "c5m2_park"),
        (("+map c5m2_park versus",), "c5m2_park"),
        (("+map", "c5m2_park", "+map", "c5m3_cemetery"), "c5m3_cemetery"),
        (("+map", "-insecure"), ""),
        (("+hostname", "on", "+map"), ""),
    ],
)
def test_the_map_is_read_as_the_engine_reads_it(
    arguments: tuple[str, ...], name: str | None
) -> None:
    assert find_map(arguments) == name


@pytest.mark.parametrize(
    ("arguments", "mode"),
    [
        (("+map", "c5m2_park"), None),
        (("+map", "c5m2_park", "versus", "-insecure"), "versus"),
        (("+map c5m2_park versus", "+mp_gamemode", "coop"), "versus"),
        (("+mp_gamemode", "realism", "+map", "c5m2_park", "-nobots"), "realism"),
        (("+map", "a", "coop", "+map", "b"), None),
    ],
)
def test_the_mode_is_that_behind_the_map_or_else_the_cvars(
    arguments: tuple[str, ...], mode: str | None
) -> None:
    assert find_mode(arguments) == mode


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", ""),
        ("+map c1m1_hotel", ""),
        ("-insecure +map 'c1m1_hotel coop' +hostname 'x  y'", "-insecure +hostname 'x  y'"),
        ('"+map c5m1_waterfront versus"\n+MP_GAMEMODE versus\n+a 1', "+a 1"),
        ("+a 1 \\\n+map x \\\n+b 2", "+a 1 \\\n+b 2"),
        ("+map x coop \\\n+b 2", "+b 2"),
        ("-a 1\r\n\r\n+map x\r\n+mapcyclefile 'map'", "-a 1\r\n\r\n+mapcyclefile 'map'"),
        ("+sv_tags 'map c1' -nobots", "+sv_tags 'map c1' -nobots"),
    ],
)
def test_a_map_takes_the_place_of_another_and_all_else_stays_as_it_is_written(
    text: str, kept: str
) -> None:
    assert put_map(text, "", "") == kept
    changed = put_map(text, "c2m1_highway", "versus")
    assert changed == f"{kept}\n+map c2m1_highway versus".lstrip()
    assert put_map(changed, "c2m1_highway", "versus") == changed


def test_a_servers_own_map_counts_and_not_its_blueprints() -> None:
    of_blueprint = ("+map", "c1m1_hotel", "coop", "-insecure", "+mp_gamemode", "coop")
    assert join_arguments(of_blueprint, ("-nobots",)) == (*of_blueprint, "-nobots")
    # Without a mode of its own the blueprint's cvar is still the mode.
    own: tuple[str, ...] = ("+map", "c2m1_highway")
    assert join_arguments(of_blueprint, own) == ("-insecure", "+mp_gamemode", "coop", *own)
    own = ("+map c2m1_highway versus",)
    assert join_arguments(of_blueprint, own) == ("-insecure", *own)
    assert join_arguments(("+map c1m1_hotel",), own) == own
    # A `+map` without a name replaces nothing.
    assert join_arguments(("+map", "c1m1_hotel"), ("+map",)) == ("+map", "c1m1_hotel", "+map")
