"""What `status` says about people, from real servers and with hostile names."""

import random

import pytest

from hostops.query.status import StatusPlayer, parse_status

HEAD = """hostname: Alpha
version : 2.2.4.3 9425 secure  (unknown)
players : 1 humans, 0 bots (4 max) (not hibernating) (unreserved)

# userid name uniqueid connected ping loss state rate adr
"""


def people(*rows: str) -> tuple[StatusPlayer, ...]:
    status = parse_status(HEAD + "\n".join((*rows, "#end", "")))
    assert status
    return status.people


def test_a_person_has_two_numbers_before_the_name() -> None:
    row = '# 444 1 "Anders" STEAM_1:0:257588 35:42 95 3 active 25000 1.2.3.4:27005'
    assert people(row) == (StatusPlayer(444, "Anders", "STEAM_1:0:257588", 35 * 60 + 42, 95, 3),)


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", "two words", '"', '" "', "#end", "1 2", "a\\", "näme", "�"),
        'x" STEAM_1:0:1 00:10 5 0 active 30000 9.9.9.9:1',
        '# 9 9 "x" STEAM_1:1:9 00:01 1 1 active 1 1.1.1.1:1',
    ],
)
def test_a_name_may_be_anything_and_is_nobody_elses_row(name: str) -> None:
    (person,) = people(f'#  7 2 "{name}" STEAM_0:1:77 1:02:03 50 0 spawning 30000 192.0.2.7:27005')
    assert (person.user_id, person.name, person.steam_id) == (7, name, "STEAM_1:1:77")
    assert person.connected_seconds == 3723


def test_bots_and_what_is_no_row_are_left_out() -> None:
    assert people('# 2 "Rochelle" BOT active', "# 3 junk", "", '#4 "x" STEAM_9:1:1 00:01') == ()


def test_an_answer_cut_short_has_the_rows_before_the_cut() -> None:
    row = '# 444 1 "Anders" STEAM_1:0:257588 35:42 95 0 active 25000 1.2.3.4:27005'
    status = parse_status(HEAD + row + '\n# 445 2 "Bj')
    assert status
    assert [one.user_id for one in status.people] == [444]


def test_hibernating_is_told_and_another_answer_is_none() -> None:
    hibernating = HEAD.replace("(not hibernating)", "(hibernating)")
    assert [parse_status(one).is_hibernating for one in (HEAD, hibernating)] == [False, True]  # type: ignore[union-attr]
    assert parse_status('Unknown command "status"\n') is None
    assert parse_status("") is None


def test_the_map_is_told_if_there_is_one() -> None:
    with_map = HEAD.replace("players :", "map     : c2m1_highway\nplayers :")
    assert [parse_status(one).map for one in (with_map, HEAD)] == ["c2m1_highway", ""]  # type: ignore[union-attr]


def test_noise_is_never_an_exception_and_takes_no_time() -> None:
    source = random.Random(7)
    alphabet = '# "\n1:STEAM_1:0:5 active BOT\t'
    for _ in range(300):
        parse_status(HEAD + "".join(source.choice(alphabet) for _ in range(300)))
    parse_status(HEAD + '# 1 1 "' + '" STEAM_1:0:1 ' * 20_000)


def test_there_are_no_more_people_than_a_server_has_slots() -> None:
    rows = [
        f'# {n} {n} "x" STEAM_1:0:{n} 00:10 5 0 active 30000 192.0.2.1:1' for n in range(1, 2000)
    ]
    assert len(people(*rows)) == 255
