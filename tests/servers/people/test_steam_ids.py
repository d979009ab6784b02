"""Steam ids as people write them, and lists of bans as games and people write them."""

import pytest

from servers.people.steam_ids import read_ban_list, to_steam_id


@pytest.mark.parametrize(
    "text",
    [
        *("STEAM_1:0:12345", "STEAM_0:0:12345", " steam_1:0:12345 ", "[U:1:24690]", "u:1:24690"),
        *("76561197960290418", "https://steamcommunity.com/profiles/76561197960290418/"),
    ],
)
def test_one_person_has_one_id_however_it_is_written(text: str) -> None:
    assert to_steam_id(text) == "STEAM_1:0:12345"


@pytest.mark.parametrize(
    "text",
    [
        *("", "BOT", "STEAM_1:2:5", "STEAM_1:0:0", "STEAM_1:0:9999999999", "STEAM_2:0:5", "alice"),
        *("STEAM_1:0:1; quit", "7656119796029041", "STEAM_1:0:\uff11"),
    ],
)
def test_what_is_nobodys_id_is_none(text: str) -> None:
    assert to_steam_id(text) is None


def test_a_list_is_read_line_by_line_and_junk_is_told() -> None:
    text = (
        'banid 0 STEAM_1:0:1\r\n\r\n// a comment\r\nBANID 60 "STEAM_0:1:2" // why\n'
        "banid 5.5 STEAM_1:0:3\nbanid 0 STEAM_1:0:4; quit\naddip 0 192.0.2.1\nbanid -1 STEAM_1:0:5\n\x00\n"
    )
    assert [(line.number, line.steam_id, line.minutes) for line in read_ban_list(text)] == [
        *((1, "STEAM_1:0:1", 0), (4, "STEAM_1:1:2", 60), (5, "STEAM_1:0:3", 5)),
        *((6, "", 0), (7, "", 0), (8, "", 0), (9, "", 0)),
    ]
