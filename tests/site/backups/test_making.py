"""A backup that fails: the reason is told and recorded, whatever it is."""

import errno
import gc
import os
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as configured
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone

from hostops.linux.untrusted import UntrustedFileError
from l4d2site.backups import archives, database_dumps, keeping, making
from l4d2site.backups.database_dumps import DumpError
from l4d2site.backups.keeping import BusyError, LastBackup
from l4d2site.backups.making import make_backup
from servers.models import Blueprint, DesiredState, Host, Server
from tests.hostops.test_command_ends import Failing, run, stream_on


@pytest.fixture
def places(tmp_path: Path, settings: Any) -> Path:
    """Let the panel lie in a folder of the test's own."""
    settings.VAR_DIR, settings.BACKUP_DIR = tmp_path, tmp_path / "backups"
    settings.HOST_ROOT = tmp_path / "host"
    return tmp_path


def refuse_to_dump(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def dump(_path: Path) -> None:
        raise error

    monkeypatch.setattr(database_dumps, "dump", dump)


def make(said: list[str]) -> None:
    make_backup(with_host_files=False, with_content=False, say=said.append)


def test_a_folder_that_cannot_be_made_is_told_in_words(places: Path, settings: Any) -> None:
    (places / "file").touch()
    settings.BACKUP_DIR = places / "file/backups"
    with pytest.raises(
        OSError, match=r"/file/backups cannot be made: Not a directory\. Make it, and"
    ):
        make([])


@pytest.mark.django_db
@pytest.mark.skipif(not configured.IS_SQLITE, reason="pg_dump tells it by itself")
def test_a_copy_of_the_database_that_fails_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(DumpError, match="could not be copied: unable to open database file"):
        database_dumps.dump(tmp_path / "missing/database")


@pytest.mark.parametrize("error", [DumpError("No space."), RuntimeError("No space.")])
def test_a_failure_of_any_kind_is_recorded(
    places: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    keeping.note(LastBackup("2026-11-01T04:30:00+00:00", "/an/earlier/one", 5))
    refuse_to_dump(error, monkeypatch)
    with pytest.raises(type(error)):
        make_backup(say=print)
    assert keeping.read_last().fault == "The last backup failed: No space."  # type: ignore[union-attr]
    assert list((places / "backups").iterdir()) == []


@pytest.mark.django_db
def test_a_backup_without_the_files_of_a_server_is_not_told_as_a_good_one(
    places: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], settings: Any
) -> None:
    monkeypatch.setattr(database_dumps, "dump", lambda path: path.write_bytes(b"rows"))
    (settings.HOST_ROOT / "instances/1").mkdir(parents=True)
    (settings.HOST_ROOT / "instances/1/upper").symlink_to("/etc")
    call_command("backup", "--without-content")
    errors = capsys.readouterr().err
    assert "Left out: instances/1/upper cannot be opened: 1/upper is a symbolic link" in errors
    assert "Servers or overlays of which this backup lacks files: 1." in errors
    last = keeping.read_last()
    assert last is not None
    assert last.fault.startswith("The last backup lacks files. instances/1/upper cannot be opened")


@pytest.mark.django_db
def test_health_is_told_what_the_first_of_many_trees_lack(
    places: Path, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """Their names may be long, and no text: the page must be shown all the same."""
    monkeypatch.setattr(database_dumps, "dump", lambda path: path.write_bytes(b"rows"))
    (settings.HOST_ROOT / "overlays").mkdir(parents=True)
    for number in range(7):
        name = os.fsdecode(b"\xff%d" % number) + number // 4 * "long" * 60
        (settings.HOST_ROOT / "overlays" / name).symlink_to("/gone")
    make_backup(say=print)
    last = keeping.read_last()
    assert last is not None
    assert last.fault.startswith("The last backup lacks files. overlays/?0 is a link, and no link")
    assert last.fault.endswith("… Servers and overlays that are not named here: 2.")
    assert len(last.fault) < 900
    last.fault.encode()


@pytest.mark.parametrize(
    "wrong", [{"has_host_files": True, "trees_left_out": 1}, {"error": "No space."}]
)
def test_one_of_the_database_alone_hides_nothing_of_the_last_full_one(
    places: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]
) -> None:
    """Each upgrade makes one. What failed may have been a full one: notes do not say which."""
    last = LastBackup(timezone.now().isoformat(), **wrong)
    keeping.note(last)
    monkeypatch.setattr(database_dumps, "dump", lambda path: path.write_bytes(b"rows"))
    call_command("backup", "--database-only")
    assert keeping.read_last() == last
    assert last.fault


def test_one_of_the_database_alone_that_fails_is_told_by_the_command_alone(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = LastBackup(timezone.now().isoformat(), "/b", 5, has_host_files=True)
    keeping.note(last)
    refuse_to_dump(DumpError("No space."), monkeypatch)
    with pytest.raises(CommandError, match=r"^No backup was made\. No space\.$"):
        call_command("backup", "--database-only")
    assert keeping.read_last() == last


def test_where_only_the_database_was_ever_backed_up_the_last_one_is_told(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_dumps, "dump", lambda path: path.write_bytes(b"rows"))
    for _ in range(2):
        call_command("backup", "--database-only")
        last = keeping.read_last()
        assert last is not None
        assert last.path == str(max((places / "backups").iterdir()))


@pytest.mark.django_db
def test_a_full_one_is_recorded_whatever_the_last_one_was(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_dumps, "dump", lambda path: path.write_bytes(b"rows"))
    keeping.note(LastBackup(timezone.now().isoformat(), error="No space."))
    made = make_backup(with_content=False, say=print)
    assert keeping.read_last().path == str(made.path)  # type: ignore[union-attr]


@pytest.mark.django_db
def test_a_server_whose_disk_is_not_there_is_told(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its mount point is an empty folder."""
    monkeypatch.setattr(database_dumps, "dump", lambda path: path.write_bytes(b"rows"))
    kim = User.objects.create_user("kim")
    blueprint = Blueprint.objects.create(name="plain", owner=kim)
    other = Host.objects.create(name="elsewhere")
    for port, (name, host) in enumerate(
        (("alpha", Host.local()), ("bravo", Host.local()), ("carol", Host.local()), ("dan", other)),
        start=27015,
    ):
        Server.objects.create(name=name, owner=kim, host=host, blueprint=blueprint, port=port)
    Server.objects.exclude(name="bravo").update(desired_state=DesiredState.RUNNING)
    Server.objects.exclude(name="carol").update(config_chain_at=timezone.now())
    made = make_backup(with_content=False, say=print)
    [text] = made.incomplete
    assert "instances/alpha is not there, although alpha was started before" in text
    (places / "host/instances/alpha").mkdir(parents=True)
    assert not make_backup(with_content=False, say=print).incomplete


def test_a_failure_of_the_host_is_told_in_words(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_to_dump(UntrustedFileError("alpha is a FIFO."), monkeypatch)
    with pytest.raises(CommandError, match=r"^No backup was made\. alpha is a FIFO\.$"):
        call_command("backup", "--database-only")


def test_while_a_backup_is_made_another_one_is_refused_and_does_it_no_harm(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (places / "an.archive").touch()

    def dump_meanwhile(path: Path) -> None:
        monkeypatch.setattr(database_dumps, "dump", dump)
        with pytest.raises(BusyError, match=r"Another backup is being made in .*/backups, or put"):
            make([])
        with pytest.raises(CommandError, match=r"The backup was not put back\. Another backup is"):
            call_command("restore", places / "an.archive")
        assert keeping.read_last() is None
        dump(path)

    def dump(path: Path) -> None:
        path.write_bytes(b"rows")

    monkeypatch.setattr(database_dumps, "dump", dump_meanwhile)
    make([])
    assert len(list((places / "backups").iterdir())) == 1
    assert keeping.read_last().error == ""  # type: ignore[union-attr]
    make([])


def test_what_fails_after_a_backup_is_made_is_told_and_it_counts_all_the_same(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_folder: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(database_dumps, "dump", lambda path: path.write_bytes(b"rows"))
    monkeypatch.setattr(making, "_sync", fail)
    said: list[str] = []
    make(said)
    assert "A power cut may still undo the backup" in said[-1]
    assert keeping.read_last().error == ""  # type: ignore[union-attr]
    monkeypatch.setattr(keeping, "remove_old", lambda folder, _made, **_options: fail(folder))
    make(said)
    assert "Old backups in" in said[-1]
    assert len(list((places / "backups").iterdir())) == 2
    assert keeping.read_last().error == ""  # type: ignore[union-attr]


def test_what_a_killed_one_has_left_goes_before_it_takes_the_room_of_the_next(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = places / f"backups/.20261101T043000Z-local{keeping.ENDING}.partial"
    left.parent.mkdir()
    left.touch()
    refuse_to_dump(OSError(errno.ENOSPC, "No space left on device"), monkeypatch)
    with pytest.raises(OSError, match="There is no room"):
        make([])
    assert not left.exists()


def test_a_full_disk_is_told_with_its_folder(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_to_dump(OSError(errno.ENOSPC, "No space left on device"), monkeypatch)
    with pytest.raises(OSError, match=f"There is no room in {places / 'backups'}. Free some"):
        make([])
    assert list((places / "backups").iterdir()) == []


def test_dumps_that_killed_processes_left_are_removed(places: Path) -> None:
    backups = places / "backups"
    left = [backups / name for name in (".dump-a", ".restore-b", "saferoom-of-a-person")]
    for folder in left:
        folder.mkdir(parents=True)
        (folder / "database").write_bytes(b"of everybody")
        os.utime(folder, (0, 0))
    new = backups / ".dump-new"
    new.mkdir()
    (backups / ".dump-file").touch()
    with database_dumps.dump_folder() as held:
        os.utime(held, (0, 0))
        with database_dumps.dump_folder() as folder:
            assert sorted(backups.iterdir()) == sorted(
                [held, folder, new, left[2], backups / ".dump-file"]
            )
    assert sorted(backups.iterdir()) == sorted([new, left[2], backups / ".dump-file"])


def test_a_failure_that_cannot_be_recorded_is_told_all_the_same(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (places / "last-backup.json").mkdir()
    refuse_to_dump(DumpError("No space."), monkeypatch)
    said: list[str] = []
    with pytest.raises(DumpError, match="No space"):
        make_backup(say=said.append)
    assert "could not be recorded" in said[-1]


@pytest.mark.django_db(transaction=True)
def test_a_backup_that_cannot_be_recorded_is_made_all_the_same(places: Path) -> None:
    (places / "last-backup.json").mkdir()
    said: list[str] = []
    make(said)
    assert "could not be recorded" in said[-1]
    assert len(list((places / "backups").iterdir())) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_unbuffered", [False, True])
def test_a_backup_needs_no_reader(places: Path, is_unbuffered: bool) -> None:
    def main() -> None:
        call_command("backup", "--database-only")

    code, said = run(main, stream_on(Failing(errno.EPIPE), is_unbuffered=is_unbuffered))
    assert code == 0, said
    assert len(list((places / "backups").iterdir())) == 1
    assert keeping.read_last().error == ""  # type: ignore[union-attr]


@pytest.mark.parametrize("passphrase", ["", "correct horse battery"])
def test_an_archive_that_is_given_up_writes_nothing_later(tmp_path: Path, passphrase: str) -> None:
    """What its buffers hold would otherwise be written when they are collected, and warn."""
    path = tmp_path / "archive"
    writer = archives.Writer(path, passphrase)
    writer.add_bytes("some", b"thing")
    writer.__exit__(RuntimeError)
    del writer
    gc.collect()
    with pytest.raises(archives.ArchiveError, match="cut off"):
        archives.verify(path, passphrase)
