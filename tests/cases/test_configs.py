"""Configs: characters that look like a line end, or like nothing, but are neither to the game."""

import pytest

from servers.models import Blueprint
from tests.cases.conftest import BlueprintForm


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param('hostname "Our\u2028night"', "(line separator)", id="09 line separator"),
        pytest.param('hostname "Our\u2029night"', "(paragraph separator)", id="09 paragraph"),
        pytest.param('hostname "Our\x85night"', "'\\x85'", id="09 next line"),
        pytest.param('hostname "Our\x1enight"', "'\\x1e'", id="09 record separator"),
        pytest.param("sv_lan 0\x0clog on", "(form feed)", id="10 form feed"),
        pytest.param("sv_lan 0\x0blog on", "(vertical tab)", id="10 vertical tab"),
        pytest.param("sv_lan 0\rlog on", "(carriage return)", id="10 carriage return"),
        pytest.param(
            "\ufeffhostname night", "(zero width no-break space)", id="10 mark at the start"
        ),
    ],
)
def test_the_form_refuses_it_and_names_the_character(
    form: BlueprintForm, text: str, said: str
) -> None:
    page = form.save(config=text)
    assert "Line 1 of the config contains" in page
    assert said in page


def test_all_bad_lines_are_named_at_once(form: BlueprintForm) -> None:
    page = form.save(config="sv_lan 0\nhostname \x0ca\nsv_region 3\nsv_tags \u2028\n// caf\xe9\n")
    assert [number for number in range(1, 6) if f"Line {number} of the config" in page] == [2, 4, 5]


def test_lines_of_windows_are_lines(form: BlueprintForm) -> None:
    assert form.save(config='hostname "Our night"\r\n\tsv_lan 0 // at home\r\n') == ""
    assert Blueprint.objects.get(name="night").config.startswith('hostname "Our night"')
