"""Mission files are read as their authors write them, which is often not as the format requires."""

import random
import time

import pytest

from hostops.content.missions import decode, read_mission
from hostops.specs import Campaign, CampaignMode, Chapter

MISSION = """\
"mission"
{
\t"Name"\t"deadbeat"
\t"Version"\t"2"
\t"DisplayTitle"\t"Dead Beat"
\t"Website" "http://example.net/deadbeat" // not read
\t"modes"
\t{
\t\t"coop"
\t\t{
\t\t\t"1"
\t\t\t{
\t\t\t\t"Map" "db_one"
\t\t\t\t"DisplayName" "1: The Start"
\t\t\t\t"Image" "maps/db_one"
\t\t\t}
\t\t\t"2"
\t\t\t{
\t\t\t\t"Map" "db_two"
\t\t\t\t"DisplayName" "2: The End // really"
\t\t\t}
\t\t\t"x360leaderboard"
\t\t\t{
\t\t\t\t":SortOrder" "1"
\t\t\t}
\t\t}
\t\t"survival"
\t\t{
\t\t\t"1"
\t\t\t{
\t\t\t\t"Map" "DB_Two"
\t\t\t\t"DisplayName" "The End"
\t\t\t}
\t\t}
\t}
}
"""
MODES = (
    CampaignMode(
        "coop", (Chapter("db_one", "1: The Start"), Chapter("db_two", "2: The End // really"))
    ),
    CampaignMode("survival", (Chapter("db_two", "The End"),)),
)
WHOLE = Campaign("deadbeat", "Dead Beat", "missions/db.txt", MODES)


def read(text: str | bytes) -> Campaign | None:
    return read_mission(text if isinstance(text, bytes) else text.encode(), "missions/db.txt")


def maps_of(campaign: Campaign | None) -> dict[str, list[str]]:
    assert campaign is not None
    return {mode.name: [one.map for one in mode.chapters] for mode in campaign.modes}


MAPS = {"coop": ["db_one", "db_two"], "survival": ["db_two"]}


@pytest.mark.parametrize(
    "data",
    [
        MISSION.encode(),
        MISSION.encode("utf-8-sig"),
        MISSION.encode("utf-16"),
        MISSION.encode("utf-16-le"),
        MISSION.encode("utf-16-be"),
        MISSION.replace("\n", "\r\n").encode(),
        MISSION.replace("\n", "\r").encode(),
        MISSION.replace("\t", " " * 8).encode(),
        MISSION.replace("\n", " ").replace("// not read", "").encode(),
        MISSION.replace('"Version"\t"2"', "Version 2 [$X360]\n\tVersion 3").encode(),
        MISSION.replace(
            '"modes"', '"modes" [$X360] { "coop" { "1" { "Map" "x" } } } modes'
        ).encode(),
    ],
    ids=[
        "utf8",
        "bom",
        "utf16",
        "le",
        "be",
        "crlf",
        "cr",
        "blanks",
        "one-line",
        "condition",
        "left-out",
    ],
)
def test_a_file_that_keeps_the_rules_is_read_whole_however_it_is_stored(data: bytes) -> None:
    assert read(data) == WHOLE


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"coop"\n\t\t{', '"coop"\n'),
        ('"modes"\n\t{', '"modes"\n'),
        ('"mission"\n{', '"mission"\n'),
        ('"1"\n\t\t\t{', '"1"\n'),
        ('"maps/db_one"\n\t\t\t}', '"maps/db_one"\n'),
        ('"maps/db_one"\n\t\t\t}', '"maps/db_one"\n\t\t\t}\n}'),
        ('"coop"\n', '"coop"\n{\n'),
        ('"coop"\n', '"coop"\n}\n'),
        ('"Map" "db_one"', '"Map" "db_one'),
        ('"Map" "db_one"', 'Map" "db_one"'),
        ('"Map" "db_one"', '"Map" "db_one""'),
        ('"Map" "db_one"', '"Map" "db_one // the first'),
        ('"coop"', '"coop'),
        ('"Dead Beat"', '"Dead Beat'),
        ('"Image" "maps/db_one"', '"Image"'),
        ("}\n}\n", ""),
    ],
)
def test_the_campaign_is_made_out_of_a_broken_file_and_its_problem_is_told(
    old: str, new: str
) -> None:
    assert old in MISSION
    campaign = read(MISSION.replace(old, new, 1))
    assert maps_of(campaign) == MAPS
    assert campaign is not None
    assert campaign.title == "Dead Beat"
    assert "brace or a quotation mark" in campaign.problem


def test_a_condition_leaves_out_what_it_is_about_and_nothing_else() -> None:
    text = MISSION.replace(
        '"Image" "maps/db_one"',
        '"Image" "a" [$WIN32] "meta" [$X360] { "k" "v" [$X360] "Map" "x" } "Image" "b" [!$X360]',
    )
    text = text.replace(
        '"DisplayName" "1: The Start"', '"DisplayName" "1: The Start" "meta" [$PS3] { [$PS3] }'
    )
    assert read(text) == WHOLE


def test_of_doubles_the_first_counts() -> None:
    text = MISSION.replace('"Map" "db_one"', '"Map" "db_one"\n"Map" "db_other"', 1)
    text = text.replace('"survival"', '"coop" { "1" { "Map" "db_third" } }\n"survival"')
    assert maps_of(read(text)) == MAPS


def test_keys_may_be_in_any_case_and_without_quotation_marks() -> None:
    text = "MISSION { NAME x MODES { VERSUS { 1 { MAP a1 DISPLAYNAME One } } } }"
    assert read(text) == Campaign(
        "x", "x", "missions/db.txt", (CampaignMode("versus", (Chapter("a1", "One"),)),)
    )


def test_a_mode_that_nobody_knows_is_one_if_it_has_numbered_chapters() -> None:
    text = "mission { modes { community3 { 1 { Map a } } own_mode { 1 { Map b } } meta { k v } } }"
    assert maps_of(read(text)) == {"community3": ["a"], "own_mode": ["b"]}


def test_another_file_that_is_taken_in_is_told_of_and_not_read() -> None:
    campaign = read('#base "../../secret.txt"\n' + MISSION)
    assert campaign is not None
    assert campaign.problem == "It takes in another file, which was not read."


def test_keys_of_a_table_become_valves_titles_or_nothing() -> None:
    text = MISSION.replace("Dead Beat", "#L4D360UI_CampaignName_C5").replace("1: The Start", "#x_y")
    campaign = read(text)
    assert campaign is not None
    assert campaign.title == "The Parish"
    assert campaign.modes[0].chapters[0].title == ""


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("Nuit à l'hôpital".encode("cp1252"), "Nuit à l'hôpital"),
        ("死亡中心医院".encode("gb18030"), "死亡中心医院"),
        ("Über".encode(), "Über"),
    ],
)
def test_the_encoding_is_told_by_the_bytes(data: bytes, text: str) -> None:
    assert decode(b'"DisplayTitle" "' + data + b'"') == f'"DisplayTitle" "{text}"'


def test_what_a_stranger_wrote_is_shown_in_one_short_visible_line() -> None:
    campaign = read(MISSION.replace("Dead Beat", "\u202edaeD\x07" + "x" * 1000))
    assert campaign is not None
    assert campaign.title == "\ufffddaeD\ufffd" + "x" * 122


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 100, b"{" * 100, b'"' * 101, b"\xff\xfe", b"[$X360]"]
)
def test_what_is_no_mission_is_none(data: bytes) -> None:
    assert read(data) is None


@pytest.mark.parametrize(
    "text",
    ['"a" {', "a { 1 { ", '"a\n', "1 a ", "{}", '"coop" "1"\n', "//", '"//', '"//"', "[$X360] "],
)
@pytest.mark.timeout(60)  # Quadratic time would be more, and this is a second.
def test_a_hostile_file_takes_time_in_proportion_to_its_size(text: str) -> None:
    assert read((text * 100_000)[:100_001]) is None


def test_no_change_of_a_file_raises_anything_and_most_leave_the_campaign() -> None:
    dice = random.Random(15)
    right = 0
    tries = 300
    places = [at for at, one in enumerate(MISSION) if one in '"{}']
    for _ in range(tries):
        at = dice.choice(places)
        right += maps_of(read(MISSION[:at] + MISSION[at + 1 :])) == MAPS
    assert right == tries
    data = MISSION.encode()
    until = time.monotonic() + 1
    while time.monotonic() < until:
        noise = bytearray(data)
        for _ in range(dice.randrange(1, 30)):
            noise[dice.randrange(len(noise))] = dice.randrange(256)
        read(bytes(noise[: dice.randrange(len(noise))]))
