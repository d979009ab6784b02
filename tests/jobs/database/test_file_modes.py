"""Who may read the database: one account, or the two that share its folder."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.database.file_modes import (
    database_files,
    is_shared,
    keep_private,
    new_file_mode,
    share_database_files,
)
from jobs.database.write_turns import TurnsFile
from tests.jobs.database.own_panels import make_folder, run_in_panel


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Create files as every process of the panel does."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def modes(folder: Path) -> dict[str, int]:
    """Return the modes of the database's files."""
    return {path.name: mode_of(path) for path in folder.glob("panel*")}


def migrate_and_leave_open(folder: Path) -> dict[str, int]:
    """Make a database as `manage.py` does; return the modes of its files while it is open."""
    script = (
        "import django; django.setup()\n"
        "from pathlib import Path\n"
        "from django.core.management import call_command\n"
        "from django.db import connection\n"
        "from jobs.database.write_turns import write_turn\n"
        "call_command('migrate', 'contenttypes', verbosity=0)\n"
        "with write_turn(): pass\n"
        "for path in sorted(Path(connection.settings_dict['NAME']).parent.glob('panel*')):\n"
        "    print(path.name, oct(path.stat().st_mode & 0o777))\n"
    )
    lines = [line.split() for line in run_in_panel(folder, script).splitlines()]
    return {name: int(mode, 8) for name, mode in lines}


FILES = [f"panel.sqlite3{ending}" for ending in ("", "-shm", "-turns", "-wal")]


def test_a_new_database_is_its_own_accounts_alone(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "var", 0o700)
    assert migrate_and_leave_open(folder) == dict.fromkeys(FILES, 0o600)


def test_in_a_shared_folder_both_accounts_use_it_and_go_on_to(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "var", 0o2770)
    assert migrate_and_leave_open(folder) == dict.fromkeys(FILES, 0o660)
    # The log went with the last connection, and comes back.
    assert not (folder / "panel.sqlite3-wal").exists()
    assert migrate_and_leave_open(folder) == dict.fromkeys(FILES, 0o660)


def test_a_database_of_before_is_mended(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "var", 0o700)
    migrate_and_leave_open(folder)
    (folder / "panel.sqlite3").chmod(0o644)
    folder.chmod(0o2770)
    assert migrate_and_leave_open(folder) == dict.fromkeys(FILES, 0o660)


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o770, 0o2750])
def test_no_other_folder_is_a_shared_one(tmp_path: Path, mode: int) -> None:
    folder = make_folder(tmp_path / "var", mode)
    database = folder / "panel.sqlite3"
    database.touch()
    share_database_files(database)
    TurnsFile(database)
    assert modes(folder) == {"panel.sqlite3": 0o600, "panel.sqlite3-turns": 0o600}


def test_the_turns_file_is_shared_from_its_first_moment(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "var", 0o2770)
    TurnsFile(folder / "panel.sqlite3")
    TurnsFile(folder / "panel.sqlite3")
    assert modes(folder) == {"panel.sqlite3-turns": 0o660}


@pytest.mark.parametrize(
    ("before", "after"), [(0o755, 0o700), (0o750, 0o700), (0o700, 0o700), (0o2770, 0o2770)]
)
def test_a_folder_is_taken_away_from_others_unless_it_is_shared(
    tmp_path: Path, before: int, after: int
) -> None:
    folder = make_folder(tmp_path / "var", before)
    keep_private(folder)
    assert mode_of(folder) == after


def test_the_folder_of_another_account_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(tmp_path / "var", 0o755)
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    keep_private(folder)
    assert mode_of(folder) == 0o755


def test_what_this_account_may_not_look_at_is_passed_over() -> None:
    folder = Path("/var", "x" * 300)  # Root may look into every folder, so this name is too long.
    keep_private(folder)
    share_database_files(folder / "panel.sqlite3")
    assert not is_shared(folder)
    assert new_file_mode(folder / "panel.sqlite3") == 0o600
    assert list(database_files(folder / "panel.sqlite3")) == []
