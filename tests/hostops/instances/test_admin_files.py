"""SourceMod's file of admins on disk: a copy of a layer's, written at a start and while a game runs."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostops.callbacks import Callbacks
from hostops.instances import admin_files
from hostops.instances.admin_files import PATH, SOURCEMOD_DIR, write_at_start, write_while_running
from hostops.layout import HostLayout, InstanceLayout
from hostops.specs import AdminsOutcome, SpecAdmin

ZOEY = SpecAdmin("STEAM_1:0:1", "z", "Zoey")
LINE = b'"STEAM_1:0:1" "z" // Saferoom: Zoey\n'


class Files:
    """An instance with one overlay, which contains SourceMod."""

    def __init__(self, root: Path) -> None:
        self.layout = HostLayout(root)
        self.instance: InstanceLayout = self.layout.instance("alpha")
        self.overlay = self.layout.overlays_dir / "sm"
        (self.overlay / SOURCEMOD_DIR).mkdir(parents=True)
        (self.overlay / PATH).parent.mkdir()
        (self.overlay / PATH).write_bytes(b"// Of the pack.\n")
        self.instance.upper_dir.mkdir(parents=True)
        plan = {"lower": [str(self.overlay.relative_to(root))]}
        self.instance.launch_path.write_text(json.dumps(plan))
        self.own = self.instance.upper_dir / PATH
        self.warnings: list[str] = []

    def start(self, *admins: SpecAdmin) -> None:
        """Do what a start does."""
        callbacks = Callbacks(lambda _, line: self.warnings.append(line))
        write_at_start(self.instance, [self.overlay], admins, callbacks)

    def write(self, *admins: SpecAdmin) -> AdminsOutcome:
        """Do what happens while it runs."""
        return write_while_running(self.layout, self.instance, admins).outcome


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    """Return an instance that has never run."""
    files = Files(tmp_path)
    yield files
    assert (files.overlay / PATH).read_bytes() in (b"// Of the pack.\n", b"// Other.\n")
    assert not files.instance.admins_path.exists()


def test_a_start_copies_the_layers_file_and_puts_the_admins_behind_it(files: Files) -> None:
    files.start(ZOEY)
    text = files.own.read_bytes()
    assert text.startswith(b"// Of the pack.\n// >>> Saferoom")
    assert LINE in text
    assert files.warnings == []
    files.start()
    assert LINE not in files.own.read_bytes()
    (files.overlay / PATH).write_bytes(b"// Other.\n")
    files.start(ZOEY)
    assert files.own.read_bytes().startswith(b"// Other.\n")


def test_what_changes_while_it_runs_is_written_into_the_very_file_that_the_mount_shows(
    files: Files,
) -> None:
    files.start()
    number = files.own.stat().st_ino
    assert files.write(ZOEY) == AdminsOutcome.WRITTEN
    assert files.write(ZOEY) == AdminsOutcome.UNCHANGED
    assert LINE in files.own.read_bytes()
    assert files.write() == AdminsOutcome.WRITTEN
    assert LINE not in files.own.read_bytes()
    assert files.own.stat().st_ino == number


def test_without_sourcemod_nothing_is_written(files: Files) -> None:
    (files.overlay / SOURCEMOD_DIR).rmdir()
    files.start(ZOEY)
    assert list(files.instance.upper_dir.iterdir()) == []
    assert "There is no SourceMod" in files.warnings[0]
    assert files.write(ZOEY) == AdminsOutcome.NO_SOURCEMOD
    files.start()
    assert len(files.warnings) == 1


def test_a_writing_that_was_cut_short_is_done_again_whole(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.start()
    files.own.write_bytes(b"// Mine.\n" + files.own.read_bytes())

    def break_off(descriptor: int, text: bytes) -> None:
        os.ftruncate(descriptor, 3)
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(admin_files, "_write_in_place", break_off)
        with pytest.raises(OSError, match="Input"):
            files.write(ZOEY)
    assert files.own.read_bytes() == b"// "
    files.start(ZOEY)
    text = files.own.read_bytes()
    assert text.startswith(b"// Mine.\n// Of the pack.\n")
    assert LINE in text


@pytest.mark.parametrize("place", ["file", "folder"])
def test_a_link_of_the_game_leads_nowhere(files: Files, tmp_path: Path, place: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "admins_simple.ini").write_bytes(b"secret")
    link = files.own if place == "file" else files.own.parent
    link.parent.mkdir(parents=True)
    link.symlink_to(outside / "admins_simple.ini" if place == "file" else outside)
    files.start(ZOEY)
    assert "The admins of alpha are not written" in files.warnings[0]
    assert files.write(ZOEY) == AdminsOutcome.REFUSED
    assert (outside / "admins_simple.ini").read_bytes() == b"secret"
    assert [one.name for one in outside.iterdir()] == ["admins_simple.ini"]


def test_a_file_that_is_gone_waits_for_the_next_start(files: Files) -> None:
    assert files.write(ZOEY) == AdminsOutcome.WAITING


def test_a_file_too_large_is_left_alone(files: Files) -> None:
    files.start()
    files.own.write_bytes(b"x" * 300_000)
    assert files.write(ZOEY) == AdminsOutcome.REFUSED
    files.start(ZOEY)
    assert "256 KiB" in files.warnings[0]
    assert files.own.read_bytes() == b"x" * 300_000
