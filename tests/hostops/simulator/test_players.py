"""Players and bans of the simulated server, without a server."""

import pytest

from hostops.simulator.bans import AddressBans, Bans, parse_address
from hostops.simulator.players import Player, connected_text
from hostops.simulator.rcon_connection import WrongPasswords


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "00:00"), (65, "01:05"), (3599.9, "59:59"), (3600, "1:00:00"), (36_061, "10:01:01")],
)
def test_a_time_has_hours_only_from_one_hour_on(seconds: float, text: str) -> None:
    assert connected_text(seconds) == text


def test_a_row_of_status_has_two_numbers_before_a_players_name_and_one_before_a_bots() -> None:
    row = Player(116, 1, 'a "quoted" name', "STEAM_1:1:87654321").status_row()
    assert row.startswith('# 116 1 "a "quoted" name" STEAM_1:1:87654321 00:00 ')
    assert Player(27, 4, "Coach", "BOT").status_row() == '#27 "Coach" BOT active'
    assert Player(3, 4, "Coach", "BOT").status_row() == '# 3 "Coach" BOT active'


def test_a_name_is_cut_in_the_middle_of_a_character() -> None:
    name = Player(2, 1, "\N{SNOWMAN}" * 11, "STEAM_1:0:1").name
    assert name == "\N{SNOWMAN}" * 10 + "\udce2"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2", "192.0.2.0"),
        ("10", "10.0.0.0"),
        ("192.0.2.7:27005", "192.0.2.7"),
        ("300.1.1.1", "44.1.1.1"),
        ("nowhere", None),
        ("", None),
        (".1", None),
    ],
)
def test_an_address_is_read_as_the_engine_reads_it(text: str, address: str | None) -> None:
    assert parse_address(text) == address


def test_a_zero_in_a_banned_address_stands_for_any_number() -> None:
    bans = AddressBans("IP filter list", "addip")
    bans.add("192.0.2.0", 0)
    assert bans.hold("192.0.2.99")
    assert bans.hold("192.7.2.99")
    assert not bans.hold("192.0.3.99")
    assert bans.lines() == ["IP filter list: 1 entry", "1 192.  0.  2.  0 : permanent"]


def test_a_ban_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("hostops.simulator.bans.time.monotonic", lambda: now[0])
    bans = Bans("ID filter list", "banid")
    bans.add("STEAM_1:0:1", 1)
    now[0] += 59
    # The list shows how long the ban was made for, not what is left of it.
    assert bans.lines() == ["ID filter list: 1 entry", "1 STEAM_1:0:1 : 1.000 min"]
    now[0] += 1
    assert bans.lines() == ["ID filter list: empty"]
    assert not bans.remove("STEAM_1:0:1")


def test_wrong_passwords_ban_by_their_number_and_by_their_speed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cvars = {
        "sv_rcon_maxfailures": "4",
        "sv_rcon_minfailures": "2",
        "sv_rcon_minfailuretime": "30",
    }
    now = [100.0]
    monkeypatch.setattr("hostops.simulator.rcon_connection.time.monotonic", lambda: now[0])
    quick = WrongPasswords(cvars.__getitem__)
    assert [quick.count("10.0.0.1") for _ in range(3)] == [False, False, True]
    assert not quick.count("10.0.0.2")
    slow, verdicts = WrongPasswords(cvars.__getitem__), []
    for _ in range(5):
        verdicts.append(slow.count("10.0.0.1"))
        now[0] += 31
    assert verdicts == [False, False, False, False, True]
