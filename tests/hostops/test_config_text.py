"""Configs: the characters that the game reads, and lines that would move the server."""

import pytest

from hostops.config_text import ConfigError, find_ends, require_config
from hostops.console_commands import names_used, split_commands, split_words


def faults_of(text: str) -> list[str]:
    """Return the faults of a config."""
    try:
        require_config(text)
    except ConfigError as error:
        return list(error.faults)
    return []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hostname x",
        "log on\r\nsv_lan 0\r\n",
        "\tsv_lan 0 // port 5",
        'say "hostport 1; port 2"',
        "// ip",
        'sm_cvar hostname "Friends, ip: 10.0.0.1"',
    ],
)
def test_it_takes_what_the_game_reads(text: str) -> None:
    assert require_config(text) == text


@pytest.mark.parametrize(
    "character", [*"\v\f\x1c\x1d\x1e\x85\u2028\u2029\r\0\x1b\x7f", "é", "—", "\u00a0", "\ufeff"]
)
def test_it_refuses_each_character_that_the_game_does_not_read(character: str) -> None:
    """Including those at which Python's `splitlines` would end and swallow the line."""
    assert len(faults_of(f"log on\na{character}b\nsv_lan 0")) == 1
    assert faults_of(f"log on\na{character}b")[0].startswith("Line 2 of the config contains")


def test_it_names_all_bad_lines_at_once() -> None:
    faults = faults_of("a é\nfine\nb — c\nhostport 1\nd\u2028e")
    assert [fault.split()[1] for fault in faults] == ["1", "3", "4", "5"]
    assert "(em dash)" in faults[1]


def test_a_book_in_another_alphabet_does_not_make_a_book_of_faults() -> None:
    with pytest.raises(ConfigError, match="480 more faults are alike"):
        require_config("\n".join(["привет"] * 500))


def test_of_a_line_in_many_alphabets_the_first_characters_are_named() -> None:
    [fault] = faults_of("".join(map(chr, range(0x100, 0x2000))))
    assert fault.count("(") == 10
    assert "and 7,926 other characters: the game reads plain ASCII only." in fault


@pytest.mark.parametrize(
    "line",
    [
        "hostport 27016",
        'HostPort "27016"',
        '"hostport" 27016',
        "log on; port 27016",
        "ip 10.0.0.1",
        "alias p hostport 27016",
        'alias p "log on; hostport 27016"',
        "sm_cvar hostport 27016",
        "incrementvar hostport 27015 27099 1",
        "\thostport\t27016 // as my friends know it",
        'alias p "hostport{"',
        'alias p "alias{hostport"',
        'alias p "echo x; hostport//"',
        'script Convars.SetValue("hostport", 27016)',
        "script \"Convars.SetValue('hostport',27016)\"",
        "setinfo hostport 27016",
        'bindtoggle x "hostport"',
        "sm_resetcvar hostport",
    ],
)
def test_it_refuses_lines_that_move_the_server(line: str) -> None:
    assert "which it cannot" in faults_of(f"log on\n{line}")[0]


def test_a_semicolon_and_a_comment_count_outside_of_quotes_only() -> None:
    assert list(split_commands('say "a; // b"; log on // c; d')) == ['say "a; // b"', " log on "]


@pytest.mark.parametrize("end", ["é", "\u00a0", "\u3000", "\udcff", "\x01", "\x0b", "\x1f"])
def test_a_name_ends_at_what_is_no_printable_ascii(end: str) -> None:
    """As where the engine compares signed characters with a blank."""
    assert next(names_used(f"Quit{end}")) == "quit"
    assert next(names_used(f"{end} {end}quit now")) == "quit"
    assert "quit" in names_used(f'alias x "quit{end}"')
    # There is a value: it does more than ask for the current one.
    assert len(split_words(f"sv_password{end}secret")) > 1


def test_other_alphabets_are_read_in_values() -> None:
    assert split_words("say Привет всем") == ["say", "Привет", "всем"]
    assert list(names_used('say "Привет; quit"')) == ["say"]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("hostname a\nquit", ["Line 2 of the config runs quit, which it must not"]),
        ("sv_lan 0; EXIT // now", ["Line 1 of the config runs exit"]),
        ('hostname "quit"', []),
        ("// quit", []),
        ('alias leave "quit"', []),
        ("quitting 1", []),
        ("", []),
    ],
)
def test_what_ends_the_game_as_soon_as_it_is_read_is_found(text: str, faults: list[str]) -> None:
    found = list(find_ends(text))
    assert len(found) == len(faults)
    assert all(one.startswith(fault) for one, fault in zip(found, faults, strict=True))
