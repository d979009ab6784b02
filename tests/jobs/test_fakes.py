"""The fake host stands in for the real one only as long as it has the same methods."""

import inspect

from hostops.host import Host
from tests.fakes import FakeHost

# What a test sets and reads, and the real host does not have.
OF_THE_FAKE_ALONE = {
    "act",
    "states",
    "calls",
    "specs",
    "build_id",
    "console",
    "commands",
    "verbs",
    "answers",
    "loaded",
}


def methods_of(kind: type) -> dict[str, inspect.Signature]:
    """Return the public methods of a class, with their signatures."""
    return {
        name: inspect.signature(method)
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_") and name not in OF_THE_FAKE_ALONE
    }


def test_the_fakes_methods_are_those_of_the_real_host() -> None:
    assert methods_of(FakeHost) == methods_of(Host)
