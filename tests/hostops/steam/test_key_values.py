"""Valve's KeyValues, as Steam writes them."""

import pytest

from hostops.steam.key_values import find_value, read_values

MANIFEST = """
"AppState"
{
\t"appid"\t\t"222860"
\t"name"\t\t"say \\"hello\\" {"
\t"depots"
\t{
\t\t"222861" { "manifest" "1" }
\t}
\t"buildid"\t\t"17"
}
"""


def test_each_value_has_the_names_that_lead_to_it() -> None:
    assert list(read_values(MANIFEST)) == [
        (("AppState", "appid"), "222860"),
        (("AppState", "name"), 'say \\"hello\\" {'),
        (("AppState", "depots", "222861", "manifest"), "1"),
        (("AppState", "buildid"), "17"),
    ]


def test_only_the_whole_path_finds_a_value() -> None:
    assert find_value(MANIFEST, "AppState", "buildid") == "17"
    assert find_value(MANIFEST, "AppState", "manifest") is None
    assert find_value(MANIFEST, "buildid") is None


@pytest.mark.parametrize("text", ["", "}", '"a" } "b" "c"', '"a" { "b"', '"a" { "b" "cut short'])
def test_what_makes_no_sense_ends_the_reading(text: str) -> None:
    assert list(read_values(text)) == []
