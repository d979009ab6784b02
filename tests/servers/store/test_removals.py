"""Versions and overlays are removed only if nobody needs them, and the store keeps what versions have."""

import os
import re
import time
from collections.abc import Callable, Iterable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from servers.models import ActualState, Blueprint, Overlay, OverlayVersion, Server
from servers.store import (
    BlobError,
    ForeignStoreError,
    VersionRefusedError,
    add_part,
    begin_upload,
    claim_store,
    find_holders,
    find_incomplete_versions,
    find_overlay_holders,
    get_store,
    open_file,
    ownership,
    path_of,
    read_files,
    removals,
    remove_overlay,
    remove_version,
    sweep_store,
    sweep_store_if_due,
)
from tests.overlays import bring, lose
from tests.states import make_run

pytestmark = pytest.mark.django_db

A = "left4dead2/cfg/a.cfg"


@pytest.fixture
def versions(overlay: Overlay, alice: User) -> list[OverlayVersion]:
    """Return three versions of the overlay."""
    return [bring(overlay, alice, {A: f"text {number}"}) for number in range(3)]


def age_all(days: int = 2) -> None:
    """Make everything in the store look some days old."""
    then = time.time() - days * 24 * 3600
    for _sha256, path in get_store().walk():
        os.utime(path, (then, then))


def run_with(server: Server, references: Iterable[str], *, has_answered: bool) -> None:
    run = make_run(server, config="")
    run.overlays = [[reference, ""] for reference in references]
    run.has_answered, run.sealed = has_answered, "sealed"
    run.save()


def test_a_version_that_nobody_needs_is_removed_and_its_number_not_used_again(
    overlay: Overlay, alice: User, versions: list[OverlayVersion]
) -> None:
    remove_version(versions[1])
    assert [one.number for one in overlay.versions.all()] == [3, 1]
    assert bring(overlay, alice, {A: "more"}).number == 4


def test_what_holds_a_version_is_told(
    overlay: Overlay, versions: list[OverlayVersion], server: Server, blueprint: Blueprint
) -> None:
    first, second, third = versions
    blueprint.set_overlays([overlay], {overlay.pk: first})
    run_with(server, [second.reference], has_answered=True)
    run_with(server, [third.reference], has_answered=False)
    server.actual_state = ActualState.RUNNING
    server.save()
    holders = find_holders(overlay)
    assert holders[first.reference] == ["Blueprint coop is pinned to it."]
    assert holders[second.reference] == ["Server alpha can still be started as it was, with it."]
    assert holders[third.reference] == ["It is the latest.", "Server alpha runs with it."]
    for version in versions:
        with pytest.raises(VersionRefusedError):
            remove_version(version)
    assert overlay.versions.count() == 3


def test_what_somebody_may_not_see_is_not_named_to_them(
    overlay: Overlay,
    alice: User,
    bob: User,
    versions: list[OverlayVersion],
    server: Server,
    blueprint: Blueprint,
) -> None:
    blueprint.set_overlays([overlay], {overlay.pk: versions[0]})
    run_with(server, [versions[1].reference], has_answered=True)
    to_bob, to_alice = find_holders(overlay, bob), find_holders(overlay, alice)
    assert to_alice == find_holders(overlay)
    assert to_bob[versions[0].reference] == ["A blueprint of somebody else is pinned to it."]
    assert to_bob[versions[1].reference] == [
        "A server of somebody else can still be started as it was, with it."
    ]
    assert find_overlay_holders(overlay, bob) == [
        "A blueprint of somebody else uses it.",
        "A server of somebody else can still be started as it was, with a version of it.",
    ]


@pytest.mark.django_db(transaction=True)
def test_a_version_that_is_pinned_in_the_moment_of_its_removal_stays(
    overlay: Overlay,
    versions: list[OverlayVersion],
    blueprint: Blueprint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def pin_it(*_: object) -> dict[str, list[str]]:
        blueprint.set_overlays([overlay], {overlay.pk: versions[0]})
        return {}

    monkeypatch.setattr(removals, "find_holders", pin_it)
    with pytest.raises(VersionRefusedError, match="begun to use it just now"):
        remove_version(versions[0])
    assert overlay.versions.count() == 3


def test_a_run_that_is_over_and_never_answered_holds_nothing(
    versions: list[OverlayVersion], server: Server
) -> None:
    run_with(server, [versions[0].reference], has_answered=False)
    remove_version(versions[0])


def test_an_overlay_of_a_similar_name_is_held_by_its_own_servers_alone(
    versions: list[OverlayVersion], server: Server, alice: User
) -> None:
    other = Overlay.objects.create(name="maps-two", owner=alice)
    run_with(server, [bring(other, alice, {A: "x"}).reference], has_answered=True)
    remove_version(versions[0])


def test_an_overlay_is_removed_if_no_blueprint_and_no_server_has_it(
    overlay: Overlay, versions: list[OverlayVersion], server: Server, blueprint: Blueprint
) -> None:
    blueprint.set_overlays([overlay])
    with pytest.raises(VersionRefusedError, match=r"Blueprint coop uses it\."):
        remove_overlay(overlay)
    blueprint.set_overlays([])
    run_with(server, [versions[0].reference], has_answered=True)
    with pytest.raises(VersionRefusedError, match="as it was, with a version of it"):
        remove_overlay(overlay)
    server.runs.all().delete()
    remove_overlay(overlay)
    assert not OverlayVersion.objects.exists()


def test_a_sweep_removes_what_no_version_has_and_nothing_else(
    versions: list[OverlayVersion],
) -> None:
    [gone], [kept] = read_files(versions[0]), read_files(versions[1])
    remove_version(versions[0])
    sweep_store()
    assert gone.sha256 in get_store()  # It may be new, and about to be recorded.
    age_all()
    output = StringIO()
    call_command("prunecontent", stdout=output)
    # A manifest and a file of the first version; the others have two each.
    assert re.search(r"Removed 2 files, [1-9]\d* bytes; 4 are needed", output.getvalue())
    assert gone.sha256 not in get_store()
    assert kept.sha256 in get_store()
    assert versions[1].digest in get_store()


def test_a_store_of_another_database_is_left_alone(
    versions: list[OverlayVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a panel is started with another DATABASE_URL: nothing in the store seems to be needed."""
    sweep_store()
    [gone] = read_files(versions[0])
    remove_version(versions[0])
    age_all()
    with monkeypatch.context() as patch:
        patch.setattr(ownership, "identify_database", lambda: "2026-01-01")
        with pytest.raises(CommandError, match=r"Nothing was removed\. .* another database"):
            call_command("prunecontent")
        assert gone.sha256 in get_store()
        assert not claim_store()
        assert not claim_store(instead_of="2025-01-01")
        os.utime(get_store().root / "swept", (0, 0))
        with pytest.raises(ForeignStoreError):
            sweep_store_if_due()
        assert gone.sha256 in get_store()
        sweep_store_if_due()  # It is tried again only a day later.
        call_command("prunecontent", "--claim")
    assert gone.sha256 not in get_store()
    with pytest.raises(ForeignStoreError):
        sweep_store()
    assert claim_store(
        instead_of="2026-01-01"
    )  # As a restore does, of the database that it replaces.
    sweep_store()


def test_a_store_that_names_no_database_is_this_ones_only_if_it_needs_a_file(
    versions: list[OverlayVersion],
) -> None:
    """As one that an earlier version of Saferoom made."""
    (get_store().root / "database").unlink(missing_ok=True)
    age_all()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OverlayVersion.objects, "only", lambda *_: OverlayVersion.objects.none())
        with pytest.raises(ForeignStoreError, match="needs none of them"):
            sweep_store()
    assert versions[0].digest in get_store()
    sweep_store()
    assert (get_store().root / "database").read_text().strip()


def test_a_store_of_an_earlier_version_is_claimed_before_its_next_sweep_and_once(
    versions: list[OverlayVersion],
) -> None:
    sweep_store()
    named = get_store().root / "database"
    named.unlink(missing_ok=True)
    sweep_store_if_due()
    os.utime(named, (0, 0))
    sweep_store_if_due()
    assert named.stat().st_mtime == 0, "it is not written at each look"


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_manifest_that_cannot_be_read_stops_the_sweep(
    versions: list[OverlayVersion], is_damaged: bool
) -> None:
    [gone] = read_files(versions[0])
    remove_version(versions[0])
    age_all()
    if is_damaged:
        get_store().path_of(versions[1].digest).write_bytes(b"saferoom content 1\n")
    else:
        lose(versions[1].digest)
    with pytest.raises(BlobError):
        sweep_store()
    with pytest.raises(CommandError, match=r"Nothing was removed\."):
        call_command("prunecontent")
    assert gone.sha256 in get_store()


def test_the_store_is_swept_once_a_day_and_only_where_it_is(
    versions: list[OverlayVersion], settings: object, tmp_path: Path
) -> None:
    remove_version(versions[0])
    sweep_store_if_due()
    age_all()
    sweep_store_if_due()
    assert versions[0].digest in get_store()
    mark = get_store().root / "swept"
    os.utime(mark, (0, 0))
    with get_store().adding():  # A backup, for an hour.
        sweep_store_if_due()
    assert versions[0].digest in get_store()
    sweep_store_if_due()
    assert versions[0].digest not in get_store()
    settings.CONTENT_ROOT = tmp_path / "elsewhere"  # type: ignore[attr-defined]
    sweep_store_if_due()
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "elsewhere").mkdir()  # As on the machine of another worker.
    sweep_store_if_due()


def test_what_a_killed_process_left_is_removed_and_what_another_still_fills_is_not(
    tmp_path: Path,
) -> None:
    store = get_store()
    left = store.make_folder("incoming", "upload-1-left")
    (left / "0").write_bytes(b"unpacked")
    young = store.make_folder("incoming", "upload-2-young")
    with store.incoming("upload-3") as held:
        for folder in (left, held):
            os.utime(folder, (0, 0))
        store.remove_left_behind()
        assert [folder.exists() for folder in (left, young, held)] == [False, True, True]


def age_by(seconds: float) -> None:
    """Make everything in the store look this old."""
    for path in get_store().root.rglob("*"):
        moment = path.stat().st_mtime - seconds
        os.utime(path, (moment, moment))


@pytest.mark.parametrize("lag", [0.0, 0.5])
def test_what_only_a_removed_version_had_goes_within_minutes(
    overlay: Overlay,
    alice: User,
    django_capture_on_commit_callbacks: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    lag: float,
) -> None:
    touch = Path.touch

    def touch_at_last_tick(path: Path) -> None:
        """Stamp a file as the kernel does: with the time of its last tick."""
        touch(path)
        os.utime(path, (time.time() - lag,) * 2)

    monkeypatch.setattr(Path, "touch", touch_at_last_tick)
    first = bring(overlay, alice, {"a.cfg": "only here", "b.cfg": "kept"})
    bring(overlay, alice, {"b.cfg": "kept"})
    blobs = {file.path: file.sha256 for file in read_files(first)}
    sweep_store_if_due()
    with django_capture_on_commit_callbacks(execute=True):
        remove_version(first)
    sweep_store_if_due()
    assert blobs["a.cfg"] in get_store()  # It is too fresh.
    age_by(61)
    sweep_store_if_due()
    assert blobs["a.cfg"] not in get_store()
    assert blobs["b.cfg"] in get_store()
    # And nothing is swept again needlessly.
    (get_store().root / "swept").touch()
    lonely = get_store().path_of("0" * 64)
    lonely.parent.mkdir(exist_ok=True)
    lonely.write_text("x")
    age_by(61)
    sweep_store_if_due()
    assert lonely.exists()


@pytest.mark.parametrize("gone", ["overlay", "account"])
def test_the_bytes_of_an_upload_go_with_its_overlay_and_with_its_account(
    overlay: Overlay,
    alice: User,
    gone: str,
    django_capture_on_commit_callbacks: Callable[..., Any],
) -> None:
    upload = begin_upload(overlay, by=alice, adds_to_latest=True)
    part = add_part(upload, "a.vpk", 4)
    descriptor = open_file(part)
    with django_capture_on_commit_callbacks(execute=True):
        if gone == "overlay":
            remove_overlay(overlay)
        else:
            alice.delete()
    assert not path_of(part).parent.exists()
    assert os.fstat(descriptor).st_nlink == 0  # A request that is still writing to it is told.
    os.close(descriptor)


def test_versions_whose_files_the_store_lacks_are_named(versions: list[OverlayVersion]) -> None:
    assert list(find_incomplete_versions()) == []
    lose(read_files(versions[0])[0].sha256)
    lose(versions[1].digest)
    assert [text.partition(": ")[2] for text in find_incomplete_versions()] == [
        "the store lacks 1 of its files.",
        "the store lacks its list of files.",
    ]
