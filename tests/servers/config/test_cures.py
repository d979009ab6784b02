"""Each conflict of a blueprint's overlays is resolved by one button, if this person may do that."""

from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User

from servers.config import CureError, apply_cure, propose_cures
from servers.models import Blueprint, Overlay, OverlayVersion
from servers.store import find_conflicts
from tests.overlays import bring

ADDONS = "left4dead2/addons"
METAMOD = {f"{ADDONS}/metamod/bin/server.so": "m"}
SOURCEMOD = {f"{ADDONS}/sourcemod/bin/sourcemod_mm_i486.so": "s"}
PLUGIN = {f"{ADDONS}/sourcemod/plugins/fun.smx": "p"}


@pytest.fixture(autouse=True)
def store_below(tmp_path: Path, settings: LazySettings) -> None:
    """Give each test a store of its own."""
    settings.CONTENT_ROOT = tmp_path / "content"


def make(by: User, name: str, files: dict[str, str], **columns: Any) -> Overlay:
    """Make an overlay with a version."""
    overlay = Overlay.objects.create(name=name, owner=by, **columns)
    bring(overlay, User.objects.get(username="dana"), files)
    return overlay


def read(blueprint: Blueprint) -> Blueprint:
    return Blueprint.objects.get(pk=blueprint.pk)


def wishes(user: User, blueprint: Blueprint) -> list[list[str]]:
    """Return what the buttons of each problem send."""
    conflicts = find_conflicts(read(blueprint).overlay_references)
    problems = propose_cures(user, blueprint, conflicts)
    return [[cure.wish for cure in problem.cures] for problem in problems]


def names(blueprint: Blueprint) -> list[str]:
    return [overlay.name for overlay in blueprint.ordered_overlays()]


def test_what_is_missing_is_added_below_from_what_one_may_use(
    alice: User, dana: User, blueprint: Blueprint
) -> None:
    fun = make(alice, "fun", PLUGIN)
    sourcemod, metamod = make(dana, "sourcemod", SOURCEMOD), make(dana, "metamod", METAMOD)
    make(dana, "secret-sourcemod", SOURCEMOD, is_shared=False)
    blueprint.set_overlays([fun])
    assert wishes(alice, blueprint) == [[f"add {sourcemod.pk}"]]
    assert len(wishes(dana, blueprint)[0]) == 2
    said = apply_cure(alice, blueprint, f"add {sourcemod.pk}")
    assert said == "sourcemod was added, below the others."
    assert names(blueprint) == ["fun", "sourcemod"]
    [[wish]] = wishes(alice, blueprint)
    assert wish == f"add {metamod.pk}"
    apply_cure(alice, blueprint, wish)
    assert wishes(alice, blueprint) == []


def test_without_an_overlay_that_has_it_one_is_told_to_bring_it(
    alice: User, dana: User, blueprint: Blueprint
) -> None:
    blueprint.set_overlays([make(alice, "fun", PLUGIN)])
    [problem] = propose_cures(alice, blueprint, find_conflicts(blueprint.overlay_references))
    assert problem.cures == []
    assert problem.sentence.endswith(
        "No overlay that you may use contains it. Upload it to one first."
    )


def test_one_l4dtoolz_is_taken_out_of_what_one_may_change_and_the_rest_is_left_out(
    alice: User, dana: User, blueprint: Blueprint
) -> None:
    theirs = make(dana, "theirs", {f"{ADDONS}/metamod/l4dtoolz.vdf": "1", **METAMOD})
    own = make(alice, "own", {f"{ADDONS}/l4dtoolz.vdf": "2", "left4dead2/a.cfg": "a"})
    blueprint.set_overlays([theirs, own])
    strip = f"strip {own.pk} l4dtoolz"
    assert wishes(alice, blueprint) == [[f"out {theirs.pk}", strip]]
    with pytest.raises(CureError, match="You may not change theirs"):
        apply_cure(alice, blueprint, f"strip {theirs.pk} l4dtoolz")
    assert apply_cure(alice, blueprint, strip) == "Version 2 of own is made, without l4dtoolz."
    assert wishes(alice, blueprint) == []
    assert OverlayVersion.objects.get(overlay=own, number=2).files == 1
    with pytest.raises(CureError, match="not there any more"):
        apply_cure(alice, blueprint, strip)


def test_what_is_pinned_is_not_changed_by_a_new_version(
    alice: User, dana: User, blueprint: Blueprint
) -> None:
    one = make(alice, "one", {f"{ADDONS}/l4dtoolz.vdf": "1"})
    two = make(alice, "two", {f"{ADDONS}/metamod/l4dtoolz.vdf": "2", **METAMOD})
    blueprint.set_overlays([one, two], {one.pk: one.versions.get()})
    assert wishes(alice, blueprint) == [[f"out {one.pk}", f"strip {two.pk} l4dtoolz"]]
    with pytest.raises(CureError):
        apply_cure(alice, blueprint, f"strip {one.pk} l4dtoolz")
    # Whatever else changes, the pin stays.
    apply_cure(alice, blueprint, f"out {two.pk}")
    assert read(blueprint).read_pins() == {one.pk: one.versions.get()}


def test_the_overlay_whose_files_are_hidden_is_moved_up(
    alice: User, dana: User, blueprint: Blueprint
) -> None:
    shared = "left4dead2/cfg/a.cfg"
    top, middle, low = (make(alice, name, {shared: name}) for name in ("top", "middle", "low"))
    blueprint.set_overlays([top, middle, low])
    up = f"above {low.pk} {top.pk}"
    assert [up] in wishes(alice, blueprint)
    assert apply_cure(alice, blueprint, up) == "low lies above top now."
    assert names(blueprint) == ["low", "top", "middle"]
    with pytest.raises(CureError, match="lies above it already"):
        apply_cure(alice, blueprint, up)


@pytest.mark.parametrize(
    "wish",
    [
        *("", "add", "add x", "add 99", f"add {'9' * 40}", "out 99", "above", "above 1", "strip"),
        *("strip x y", "strip 99 l4dtoolz", "delete 1", "add \0"),
    ],
)
def test_what_is_no_cure_changes_nothing(
    alice: User, dana: User, blueprint: Blueprint, wish: str
) -> None:
    blueprint.set_overlays([make(alice, "fun", PLUGIN)])
    with pytest.raises(CureError):
        apply_cure(alice, blueprint, wish)
    assert names(blueprint) == ["fun"]
