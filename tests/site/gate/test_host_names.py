"""ALLOWED_HOSTS: a start finds a name that is allowed, whatever entries stand beside it."""

import pytest
from django.http.request import validate_host

from l4d2site.gate.host_names import find_allowed_name, is_host_name


@pytest.mark.parametrize(
    "entries",
    [
        ["panel.example.org"],
        [".example.org"],
        [".Example.org", "localhost"],
        ["*"],
        ["*", ".example.org"],
        ["192.0.2.1"],
        ["[::1]", "*"],
        ["panel.example.org.", "localhost"],
        ["https://panel.example.org", "::1", "panel.example.org:8000", "panel.example.org"],
    ],
)
def test_a_start_finds_a_name_that_django_allows(entries: list[str]) -> None:
    name = find_allowed_name(entries)
    assert validate_host(name.lower(), entries)
    assert not name.startswith(".")


@pytest.mark.parametrize(
    "entry",
    [
        "",
        ".",
        "*.example.org",
        "https://panel.example.org",
        "panel.example.org:8000",
        "panel.example.org.",
        ".example.org.",
        "::1",
        "panel example",
        "pänel.example.org",
    ],
)
def test_an_entry_that_can_match_no_name_counts_as_none(entry: str) -> None:
    assert not is_host_name(entry)
