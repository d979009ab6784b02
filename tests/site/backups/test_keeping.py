"""Which backups stay, and what is said about the last one."""

import errno
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from l4d2site.backups import keeping
from l4d2site.backups.keeping import LastBackup


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with four backups of 100 bytes, and something that is not one."""
    for day in range(1, 5):
        (tmp_path / f"2026110{day}T043000Z-local{keeping.ENDING}").write_bytes(bytes(100))
    (tmp_path / "notes.txt").touch()
    return tmp_path


def days(folder: Path) -> list[int]:
    return [int(path.name[7]) for path in sorted(folder.glob(f"*{keeping.ENDING}"))]


def newest(folder: Path) -> Path:
    return max(folder.glob(f"*{keeping.ENDING}"))


def test_the_newest_stay(folder: Path) -> None:
    removed = keeping.remove_old(folder, newest(folder), keep=2, keep_bytes=10**6, say=print)
    assert days(folder) == [3, 4]
    assert len(removed) == 2
    assert (folder / "notes.txt").exists()


def test_they_take_no_more_than_they_may(folder: Path) -> None:
    keeping.remove_old(folder, newest(folder), keep=10, keep_bytes=350, say=print)
    assert days(folder) == [2, 3, 4]


def test_backups_of_the_database_alone_cost_none_that_has_everything(folder: Path) -> None:
    for hour in range(3):
        moment = datetime(2026, 11, 5, hour, tzinfo=UTC)
        made = keeping.new_path(folder, moment, "local", is_of_database=True)
        made.write_bytes(bytes(100))
    keeping.remove_old(folder, made, keep=2, keep_bytes=10**6, say=print)
    assert days(folder) == [1, 2, 3, 4, 5, 5]
    keeping.remove_old(folder, made, keep=9, keep_bytes=300, say=print)
    assert days(folder) == [1, 2, 3, 4, 5]
    everything = folder / f"20261104T043000Z-local{keeping.ENDING}"
    made.write_bytes(bytes(10**5))
    keeping.remove_old(folder, everything, keep=9, keep_bytes=400, say=print)
    assert days(folder) == [1, 2, 3, 4, 5]
    keeping.remove_old(folder, everything, keep=2, keep_bytes=10**6, say=print)
    assert days(folder) == [3, 4, 5]


def test_the_newest_stays_whatever_it_takes(folder: Path) -> None:
    keeping.remove_old(folder, newest(folder), keep=10, keep_bytes=1, say=print)
    assert days(folder) == [4]


def test_the_one_just_made_stays_although_another_is_named_as_if_it_were_newer(
    folder: Path,
) -> None:
    made = newest(folder)
    renamed = folder / f"before-upgrade{keeping.ENDING}"
    renamed.write_bytes(made.read_bytes())
    keeping.remove_old(folder, made, keep=1, keep_bytes=1, say=print)
    assert list(folder.glob(f"*{keeping.ENDING}")) == [made]


def test_those_made_while_a_clock_was_ahead_cost_no_later_one(folder: Path) -> None:
    for year in (2030, 2031):
        (folder / f"{year}0101T043000Z-local{keeping.ENDING}").write_bytes(bytes(100))
    made = folder / f"20261104T043000Z-local{keeping.ENDING}"
    keeping.remove_old(folder, made, keep=5, keep_bytes=10**6, say=print)
    assert days(folder) == [1, 2, 3, 4, 1]
    assert newest(folder).name.startswith("2031")
    keeping.remove_old(folder, made, keep=2, keep_bytes=10**6, say=print)
    assert days(folder) == [3, 4]


def test_what_was_never_finished_goes_and_what_cannot_be_removed_is_told(folder: Path) -> None:
    path, stuck = (
        keeping.partial_path(folder / f"2026110{day}T043000Z-local{keeping.ENDING}")
        for day in (5, 6)
    )
    path.touch()
    stuck.mkdir()
    said: list[str] = []
    assert keeping.remove_unfinished(folder, said.append) == [path]
    assert said == [f"{stuck} could not be removed: Is a directory."]
    assert days(folder) == [1, 2, 3, 4]
    assert not path.exists()


def test_one_that_cannot_be_removed_is_told_and_keeps_no_other_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = Path.unlink

    def unlink_or_fail(path: Path, missing_ok: bool = False) -> None:
        if path.name.startswith("20261102"):
            raise OSError(errno.EPERM, "Operation not permitted")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink_or_fail)
    said: list[str] = []
    removed = keeping.remove_old(folder, newest(folder), keep=2, keep_bytes=10**6, say=said.append)
    [text] = said
    assert text.endswith("could not be removed: Operation not permitted.")
    assert days(folder) == [2, 3, 4]
    assert len(removed) == 1


def test_one_that_cannot_be_looked_at_is_told_and_keeps_no_other_one(folder: Path) -> None:
    odd = folder / f"20261106T043000Z-local{keeping.ENDING}"
    odd.symlink_to("x" * 300)
    said: list[str] = []
    removed = keeping.remove_old(folder, newest(folder), keep=2, keep_bytes=10**6, say=said.append)
    assert said == [f"{odd} is not counted among the backups: File name too long."]
    assert len(removed) == 2


def test_a_backup_never_takes_the_place_of_another_one(tmp_path: Path) -> None:
    now = datetime(2026, 11, 28, 4, 30, 59, tzinfo=UTC)
    paths = []
    for _ in range(3):
        paths.append(keeping.new_path(tmp_path, now, "local"))
        paths[-1].touch()
    assert [path.name[:16] for path in sorted({*paths})] == [
        "20261128T043059Z",
        "20261128T043100Z",
        "20261128T043101Z",
    ]


def test_the_last_one_is_told_and_what_is_wrong_with_it(tmp_path: Path, settings: Any) -> None:
    settings.VAR_DIR = tmp_path
    assert keeping.read_last() is None
    now = timezone.now()
    keeping.note(LastBackup(now.isoformat(), "/b", 5))
    last = keeping.read_last()
    assert last is not None
    assert (last.at, last.bytes, last.fault) == (now, 5, "")
    keeping.note(LastBackup((now - timedelta(days=3)).isoformat()))
    assert "The last backup is of" in keeping.read_last().fault  # type: ignore[union-attr]
    keeping.note(LastBackup((now - timedelta(days=3)).isoformat(), trees_left_out=1))
    assert "The last backup is of" in keeping.read_last().fault  # type: ignore[union-attr]
    keeping.note(LastBackup(now.isoformat(), error="No space."))
    assert keeping.read_last().fault == "The last backup failed: No space."  # type: ignore[union-attr]


def test_versions_before_and_after_this_one_tell_the_last_one_too(
    tmp_path: Path, settings: Any
) -> None:
    settings.VAR_DIR = tmp_path
    keeping.note(LastBackup("2026-11-28T04:30:00+00:00", "/b", 5))
    noted = json.loads((tmp_path / "last-backup.json").read_text())
    assert noted == {"finished_at": "2026-11-28T04:30:00+00:00", "path": "/b", "bytes": 5}
    (tmp_path / "last-backup.json").write_text(json.dumps(noted | {"is_copied": True}))
    assert keeping.read_last() == LastBackup("2026-11-28T04:30:00+00:00", "/b", 5)
    # The version before gives the number alone.
    noted = {"finished_at": timezone.now().isoformat(), "trees_left_out": 2}
    (tmp_path / "last-backup.json").write_text(json.dumps(noted))
    assert keeping.read_last().fault == (  # type: ignore[union-attr]
        "The last backup lacks files. Servers and overlays that are not named here: 2."
    )
    for text in ("", "{", "[]", "{}", "5"):
        (tmp_path / "last-backup.json").write_text(text)
        assert keeping.read_last() is None
