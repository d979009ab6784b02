"""Conflicts of overlays that are used together are found by their manifests."""

import pytest
from django.contrib.auth.models import User

from servers.models import Blueprint, Overlay
from servers.store import conflicts, find_conflicts
from tests.overlays import bring, lose

pytestmark = pytest.mark.django_db

ADDONS = "left4dead2/addons"


def refer(by: User, **overlays: dict[str, str]) -> list[str]:
    """Make overlays of these files, and return their references, in their order."""
    return [
        bring(Overlay.objects.create(name=name, owner=by), by, files).reference
        for name, files in overlays.items()
    ]


def test_the_same_path_in_two_overlays_counts_in_the_upper_one(alice: User, dana: User) -> None:
    references = refer(
        alice,
        one={"left4dead2/cfg/a.cfg": "1", "left4dead2/cfg/same.cfg": "s"},
        two={"left4dead2/CFG/A.cfg": "2", "left4dead2/cfg/same.cfg": "s"},
        three={"left4dead2/cfg/other.cfg": "3", "left4dead2/cfg/a.cfg": "3"},
    )
    found = find_conflicts(references)
    assert [(each.winner, each.loser, list(each.paths)) for each in found.shared] == [
        ("one", "two", ["left4dead2/CFG/A.cfg"]),
        ("one", "three", ["left4dead2/cfg/a.cfg"]),
    ]
    assert found.shared[0].sentence.startswith("1 file is in one and in two.")
    assert find_conflicts(references[::-1]).shared[0].winner == "three"


def test_the_server_cfg_of_each_is_executed_so_that_none_hides_another(alice: User) -> None:
    path = "left4dead2/cfg/server.cfg"
    assert find_conflicts(refer(alice, one={path: "1"}, two={path: "2"})).count == 0


def test_two_l4dtoolz_are_told_whatever_loads_them(dana: User) -> None:
    references = refer(
        dana,
        rework={f"{ADDONS}/metamod/l4dtoolz.vdf": "1"},
        lakwsh={f"{ADDONS}/l4dtoolz.vdf": "2", f"{ADDONS}/l4dtoolz.so": "2"},
    )
    [sentence] = find_conflicts(references).faults
    assert "in rework, loaded by MetaMod, in lakwsh, loaded by addons/" in sentence
    assert find_conflicts(references[:1]).faults == ()


def test_metamod_sourcemod_and_a_second_tickrate_are_told(dana: User) -> None:
    def stack(text: str) -> dict[str, str]:
        return {
            f"{ADDONS}/metamod/bin/server.so": text,
            f"{ADDONS}/sourcemod/bin/sourcemod_mm_i486.so": text,
        }

    references = refer(
        dana,
        one={**stack("1"), f"{ADDONS}/l4dtoolz.vdf": "2"},
        two={**stack("2"), f"{ADDONS}/tickrate_enabler.vdf": "2"},
    )
    faults = find_conflicts(references).faults
    assert [fault.split(" ", 1)[0] for fault in faults] == [
        "tickrate_enabler",
        "MetaMod",
        "SourceMod",
    ]


def test_what_was_not_looked_at_is_told(
    alice: User, blueprint: Blueprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    references = refer(alice, one={"a.cfg": "1"}, two={"a.cfg": "2", "b.cfg": "2"})
    found = find_conflicts([*references, "by-hand"])
    assert found.unseen == ("by-hand: it is kept by hand on the hosts.",)
    monkeypatch.setattr(conflicts, "MAX_FILES_READ", 1)
    assert find_conflicts(references).unseen == (
        "two, version 1: these are too many files to compare.",
    )
    monkeypatch.undo()
    lose(references[0].rpartition("-")[2])
    assert "is no longer in the store" in find_conflicts(references).unseen[0]
