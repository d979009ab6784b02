"""Conflicts of overlays that are used together are found from their manifests."""

from typing import Any

import pytest
from django.contrib.auth.models import User

from servers.models import Blueprint, Overlay, OverlayVersion
from servers.store import Fault, Kind, Need, conflicts, find_conflicts, list_needs
from tests.overlays import bring, lose

pytestmark = pytest.mark.django_db

ADDONS = "left4dead2/addons"


def refer(by: User, **overlays: dict[str, str]) -> list[str]:
    """Make overlays of these files, and return their references, in order."""
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
    assert found.shared[0].sentence.startswith("1 file is in both one and two.")
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
    [fault] = find_conflicts(references).faults
    assert "in rework, loaded by MetaMod, in lakwsh, loaded by addons/" in fault.sentence
    assert fault.is_certain
    assert fault.paths["lakwsh"] == (f"{ADDONS}/l4dtoolz.vdf",)
    assert find_conflicts(references[:1]).faults == ()


def test_one_l4dtoolz_that_hides_another_is_there_once(dana: User) -> None:
    path = f"{ADDONS}/l4dtoolz.vdf"
    found = find_conflicts(refer(dana, new={path: "2"}, old={path: "1"}))
    assert (found.faults, len(found.shared)) == ((), 1)


def test_metamod_sourcemod_and_a_second_tickrate_are_told(dana: User) -> None:
    def stack(text: str) -> dict[str, str]:
        return {
            f"{ADDONS}/metamod/bin/server.so": text,
            f"{ADDONS}/sourcemod/bin/sourcemod_mm_i486.so": text,
        }

    references = refer(
        dana,
        one={**stack("1"), f"{ADDONS}/l4dtoolz.vdf": "2"},
        two={
            **stack("2"),
            f"{ADDONS}/metamod/bin/older.so": "2",
            f"{ADDONS}/sourcemod/bin/older.so": "2",
            f"{ADDONS}/tickrate_enabler.vdf": "2",
        },
    )
    found = find_conflicts(references)
    assert [(fault.kind, fault.is_certain) for fault in found.faults] == [
        (Kind.TICKRATE, False),
        (Kind.METAMOD, True),
        (Kind.SOURCEMOD, True),
    ]
    assert found.faults[1].sentence.startswith("MetaMod is in one, two.")
    assert [fault.kind for fault in found.certain if isinstance(fault, Fault)] == [
        Kind.METAMOD,
        Kind.SOURCEMOD,
    ]


def test_a_newer_sourcemod_that_hides_the_whole_older_one_is_not_mixed_with_it(dana: User) -> None:
    core, more = f"{ADDONS}/sourcemod/bin/a.so", f"{ADDONS}/sourcemod/bin/b.so"
    assert find_conflicts(refer(dana, new={core: "2", more: "2"}, old={core: "1"})).faults == ()
    # And one that came in two parts counts as one.
    assert find_conflicts(refer(dana, some={core: "1"}, whole={core: "1", more: "1"})).faults == ()
    # Two that have no file in common may be of two versions.
    [fault] = find_conflicts(refer(dana, upper={core: "1"}, lower={more: "1"})).faults
    assert fault.kind is Kind.SOURCEMOD


@pytest.mark.parametrize(("folder", "is_told"), [("metamod/", False), ("", True)])
def test_a_tickrate_of_l4dtoolz_is_that_of_the_one_beside_metamod_only(
    dana: User, folder: str, is_told: bool
) -> None:
    files = {f"{ADDONS}/{folder}l4dtoolz.vdf": "1", f"{ADDONS}/tickrate_enabler.vdf": "2"}
    kinds = [fault.kind for fault in find_conflicts(refer(dana, one=files)).faults]
    assert (Kind.TICKRATE in kinds) is is_told


def test_what_a_version_needs_of_others_is_listed_once_it_has_not_got_it_itself(dana: User) -> None:
    def list_labels(reference: str) -> list[tuple[str, int]]:
        needs = list_needs(OverlayVersion.objects.get(reference=reference))
        return [(need.label, len(users)) for need, users in needs.items()]

    needy = {"extensions": ["sdktools.ext"], "libraries": [["hooks", "hooks.smx"]]}
    fun = refer_plugins(dana, "fun", {"path": "a.smx"} | needy, {"path": "b.smx"} | needy)
    labels = [("SourceMod", 0), ("the extension sdktools.ext", 2), ("the plugin hooks.smx", 2)]
    assert list_labels(fun) == labels
    [stack, loader, texts] = refer(
        dana, stack=SOURCEMOD, loader={f"{ADDONS}/metamod/x.vdf": "x"}, texts={"a.cfg": "x"}
    )
    assert list_labels(stack) == list_labels(loader) == [("MetaMod", 0)]
    assert list_labels(texts) == []
    whole = refer_plugins(dana, "whole", {"path": "a.smx"} | needy, {"path": "hooks.smx"})
    assert list_labels(whole) == [*labels[:1], ("the extension sdktools.ext", 1)]


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


METAMOD = {f"{ADDONS}/metamod/bin/server.so": "m"}
SOURCEMOD = {
    f"{ADDONS}/metamod/sourcemod.vdf": "s",
    f"{ADDONS}/sourcemod/bin/sourcemod_mm_i486.so": "s",
    f"{ADDONS}/sourcemod/extensions/sdktools.ext.2.l4d2.so": "s",
}
PLUGINS = f"{ADDONS}/sourcemod/plugins"


def refer_plugins(by: User, name: str, *plugins: dict[str, Any], **files: str) -> str:
    """Make an overlay of plugins with these needs and libraries; return its reference."""
    paths = {f"{PLUGINS}/{plugin['path']}": f"{name} {plugin}" for plugin in plugins}
    empty: dict[str, Any] = {"extensions": [], "libraries": [], "provides": []}
    overlay = Overlay.objects.create(name=name, owner=by)
    report = {"plugins": [empty | plugin for plugin in plugins]}
    return bring(overlay, by, {**paths, **files}, report=report).reference


def test_plugins_without_sourcemod_and_sourcemod_without_metamod_are_told(dana: User) -> None:
    plugins = refer_plugins(dana, "fun", {"path": "fun.smx", "extensions": ["sdktools.ext"]})
    [lack] = find_conflicts([plugins]).lacks
    assert lack.need == Need("SourceMod", is_stack=True)
    assert lack.sentence.startswith("fun needs SourceMod, and none of these overlays contains it")
    sourcemod, metamod = refer(dana, sourcemod=SOURCEMOD, metamod=METAMOD)
    [lack] = find_conflicts([plugins, sourcemod]).lacks
    assert (lack.need.file, lack.overlay, lack.is_certain) == ("MetaMod", "sourcemod", True)
    assert find_conflicts([plugins, sourcemod, metamod]).count == 0
    assert find_conflicts([sourcemod, metamod, plugins]).count == 0


def test_what_plugins_require_is_looked_for_in_all_overlays(dana: User) -> None:
    needy = {"extensions": ["left4dhooks.ext"], "libraries": [["readyup", "readyup.smx"]]}
    plugins = refer_plugins(dana, "fun", {"path": "a.smx"} | needy, {"path": "b.smx"} | needy)
    stack = refer(dana, stack=METAMOD | SOURCEMOD)
    lacks = find_conflicts([plugins, *stack]).lacks
    assert [(lack.need.label, lack.users, lack.is_certain) for lack in lacks] == [
        ("the extension left4dhooks.ext", ("a.smx", "b.smx"), True),
        ("the plugin readyup.smx", ("a.smx", "b.smx"), False),
    ]
    assert "a.smx and 1 more plugin in fun need the extension" in lacks[0].sentence
    # A plugin with another name may be the library; one that is not loaded means nothing to others.
    renamed = refer_plugins(dana, "more", {"path": "x/ready.smx", "provides": ["readyup"]})
    unloaded = refer_plugins(dana, "off", {"path": "disabled/readyup.smx"})
    assert [lack.need.file for lack in find_conflicts([plugins, *stack, renamed]).lacks] == [
        "left4dhooks.ext"
    ]
    assert len(find_conflicts([plugins, *stack, unloaded]).lacks) == 2
    [named] = refer(dana, named={f"{PLUGINS}/sub/ReadyUp.smx": "r"})
    assert len(find_conflicts([plugins, *stack, named]).lacks) == 1


def test_what_an_overlay_kept_by_hand_may_have_is_not_certainly_missing(dana: User) -> None:
    plugins = refer_plugins(dana, "fun", {"path": "fun.smx"})
    assert len(find_conflicts([plugins]).certain) == 1
    found = find_conflicts([plugins, "by-hand"])
    assert ([lack.is_certain for lack in found.lacks], found.certain) == ([False], [])


def test_a_version_that_no_host_starts_a_server_with_is_told_before_a_start(dana: User) -> None:
    finding = {"code": "flat", "severity": "refused", "text": "It lies flat.", "path": ""}
    overlay = Overlay.objects.create(name="flat", owner=dana)
    report = {"findings": [finding]}
    [fault] = find_conflicts([bring(overlay, dana, {"a.cfg": "1"}, report=report).reference]).faults
    assert (fault.sentence, fault.is_final) == ("flat: It lies flat.", True)
