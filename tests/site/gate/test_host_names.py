"""ALLOWED_HOSTS: entries that no name can match are refused, and a start finds a name that is allowed."""

import pytest
from django.http.request import validate_host

from l4d2site.gate.host_names import are_host_names, find_allowed_name


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
    ],
)
def test_a_start_finds_a_name_that_django_allows(entries: list[str]) -> None:
    assert are_host_names(entries)
    name = find_allowed_name(entries)
    assert validate_host(name.lower(), entries)
    assert not name.startswith(".")


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [""],
        ["."],
        ["*.example.org"],
        ["https://panel.example.org"],
        ["panel.example.org:8000"],
        ["panel.example.org", "::1"],
        ["panel example"],
        ["pänel.example.org"],
    ],
)
def test_an_entry_that_can_match_no_name_is_refused(entries: list[str]) -> None:
    assert not are_host_names(entries)
