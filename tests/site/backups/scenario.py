"""A panel whose database is lost and restored, in a separate process: `-m tests.site.backups.scenario NAMES`.

The database has all tables, and no rows.
"""

import errno
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "l4d2site.settings")
django.setup()

from django.conf import settings  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.contrib.sessions.models import Session  # noqa: E402
from django.core.management import CommandError, call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.db.migrations.executor import MigrationExecutor  # noqa: E402
from django.db.migrations.loader import MigrationLoader  # noqa: E402
from django.db.migrations.recorder import MigrationRecorder  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.utils import override_settings  # noqa: E402
from django.utils import timezone  # noqa: E402

from jobs.models import DeferredAction, Job, JobState, Worker  # noqa: E402
from jobs.queue import claim_next_job, enqueue, register_worker  # noqa: E402
from jobs.queue.transitions import RESTORED  # noqa: E402
from l4d2site.accounts.models import AccountEvent, EventKind, Invitation, PendingSignIn  # noqa: E402
from l4d2site.backups import archives, database_dumps, restoring, sealing  # noqa: E402
from l4d2site.backups.keeping import read_last  # noqa: E402
from servers.models import (  # noqa: E402
    ActualState,
    Blueprint,
    DesiredState,
    Host,
    Overlay,
    OverlayVersion,
    Server,
)
from servers.store import get_store, read_files  # noqa: E402
from tests.hostops.test_command_ends import Failing, run, stream_on  # noqa: E402
from tests.overlays import bring  # noqa: E402

OTHER_KEY = "c2FmZXJvb20tb3RoZXIta2V5LW9mLTMyLWJ5dGVzLSE="
UPPER = settings.HOST_ROOT / "instances/alpha/upper"
BY_HAND = settings.HOST_ROOT / "overlays/by-hand/b.cfg"
PASSPHRASE = "correct horse battery"
REPLACING = database_dumps.replacing


def say(*arguments: str) -> str:
    """Run a command that must succeed, and return its output."""
    output = StringIO()
    call_command(*arguments, stdout=output, stderr=output)
    return output.getvalue()


def say_to_nobody(*arguments: str) -> None:
    """Run a command that must succeed although its reader has left, as unbuffered as in a container."""

    def main() -> None:
        call_command(*arguments)

    code, errors = run(main, stream_on(Failing(errno.EPIPE), is_unbuffered=True))
    assert code == 0, errors


def refuse(*arguments: str, code: int = 1) -> str:
    """Run a command that must fail with this exit code, and return the reason."""
    try:
        call_command(*arguments, stdout=StringIO(), stderr=StringIO())
    except CommandError as error:
        if error.returncode == code:
            return str(error)
        raise
    raise AssertionError(f"{arguments} was not refused")


def make_servers() -> None:
    """Make two servers, one of which should be running and has written a file."""
    kim = User.objects.create_user("kim")
    blueprint = Blueprint.objects.create(name="plain", owner=kim)
    for port, name in ((27015, "alpha"), (27016, "bravo")):
        Server.objects.create(
            name=name, owner=kim, host=Host.local(), blueprint=blueprint, port=port
        )
    Server.objects.filter(name="alpha").update(desired_state=DesiredState.RUNNING)
    UPPER.mkdir(parents=True)
    (UPPER / "mine").write_text("by the game")


def make_versions() -> str:
    """Make a version with a file that is also in a folder of the host; return its reference."""
    kim = User.objects.get(username="kim")
    overlay = Overlay.objects.create(name="pack", owner=kim)
    BY_HAND.parent.mkdir(parents=True)
    BY_HAND.write_text("the same")
    files = {"left4dead2/cfg/a.cfg": "its own", "left4dead2/cfg/b.cfg": "the same"}
    return bring(overlay, kim, files).reference


def texts_of(reference: str) -> list[bytes]:
    """Return the contents of a version's files."""
    files = read_files(OverlayVersion.objects.get(reference=reference))
    return [get_store().read(file.sha256, 100) for file in files]


def back_up(*options: str) -> Path:
    """Make a backup, and remove earlier ones."""
    for earlier in settings.BACKUP_DIR.glob("*.saferoom-backup"):
        earlier.unlink()
    say("backup", *options)
    [archive] = settings.BACKUP_DIR.glob("*.saferoom-backup")
    return archive


def back_up_database() -> Path:
    """Make a backup without any files, and remove earlier ones."""
    return back_up("--database-only")


def restore_all() -> None:
    """Back up, be refused whenever something would be lost, and restore."""
    make_servers()
    reference = make_versions()
    Client().force_login(User.objects.get(username="kim"))
    assert Session.objects.exists()
    with patch.object(archives, "verify", lambda *_: signal.raise_signal(signal.SIGTERM)):
        said = refuse("backup", code=128 + signal.SIGINT)
    assert said.startswith("This was interrupted. A new backup in ")
    dump = database_dumps.dump

    def dump_without_a_terminal(path: Path) -> None:
        signal.raise_signal(signal.SIGHUP)
        dump(path)

    with patch.object(database_dumps, "dump", dump_without_a_terminal):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        refuse("backup", code=128 + signal.SIGINT)
        assert not list(settings.BACKUP_DIR.iterdir())
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        assert "verified" in say("backup")
    [archive] = settings.BACKUP_DIR.glob("*.saferoom-backup")
    last = read_last()
    assert last is not None
    assert (last.path, last.is_sealed, last.error) == (str(archive), True, "")

    assert "has files of servers or overlays already" in refuse("restore", str(archive))
    with archives.members(archive, PASSPHRASE) as found:
        names = [info.name for info, _content in found if "content" in info.name]
    # The manifest and one file; the other one is also the host's.
    assert len(names) == 3
    assert names[-1] == archives.SAME_CONTENT
    UPPER.parents[1].rename(settings.HOST_ROOT / "away")
    BY_HAND.parents[1].rename(settings.HOST_ROOT / "away-too")
    assert "has servers already" in refuse("restore", str(archive))
    rename_table("servers_server", "shop_item")
    assert "has no tables of a panel. Is DATABASE_URL right" in refuse("backup")
    assert "tables of another program, which would be lost: acc" in refuse("restore", str(archive))
    rename_table("shop_item", "servers_server")
    with override_settings(SECRETS_KEYS=[OTHER_KEY]):
        assert "keys are not in SECRETS_KEYS" in refuse("restore", str(archive), "--replace")
    keys = ",".join(settings.SECRETS_KEYS)
    assert say("restore", str(archive), "--print-keys") == f"SECRETS_KEYS={keys}\n"
    assert Server.objects.count() == 2
    is_full = OSError(errno.ENOSPC, "No space left on device")
    with patch("shutil.copyfileobj", side_effect=is_full):
        said = refuse("restore", str(archive), "--replace")
    assert f"was not put back. There is no room in {settings.BACKUP_DIR}. Free some" in said
    BY_HAND.parents[1].mkdir()
    BY_HAND.parent.symlink_to(settings.HOST_ROOT / "gone")
    said = refuse("restore", str(archive), "--replace")
    assert f"was not put back. {BY_HAND.parent} is in the way of a folder" in said
    BY_HAND.parent.unlink()
    with patch.object(
        restoring, "call_command", lambda *_, **__: signal.raise_signal(signal.SIGTERM)
    ):
        said = refuse("restore", str(archive), "--replace", code=128 + signal.SIGINT)
    assert said.endswith("This was interrupted before anything was changed.")
    assert Session.objects.exists()
    with patch.object(database_dumps, "replacing", replace_and_be_interrupted):
        said = refuse("restore", str(archive), "--replace", code=128 + signal.SIGINT)
    assert "may be as it was, or as in the backup. Do this again" in said
    assert not Session.objects.exists()
    if connection.vendor == "sqlite":
        fail_around_the_database(archive)

    # One file is lost, and another one has been replaced.
    lost, damaged = read_files(OverlayVersion.objects.get(reference=reference))
    get_store().path_of(lost.sha256).unlink()
    get_store().path_of(damaged.sha256).write_text("not this")
    Server.objects.all().delete()
    OverlayVersion.objects.all().delete()
    User.objects.update(username="somebody")
    with override_settings(BACKUP_DIR=settings.BACKUP_DIR / "not/there/yet"):
        say_to_nobody("restore", str(archive))
    shutil.rmtree(settings.BACKUP_DIR / "not")
    assert (UPPER / "mine").read_text() == "by the game"
    settings.HOST_ROOT.rename(settings.HOST_ROOT.with_name("away"))
    output = say("restore", str(archive), "--replace")
    assert "Everybody has to sign in again" in output
    assert "Will be started once a worker runs: alpha." in output
    assert not Session.objects.exists()
    assert list(Server.objects.order_by("name").values_list("name", "owner__username")) == [
        ("alpha", "kim"),
        ("bravo", "kim"),
    ]
    jobs = list(Job.objects.order_by("pk").values_list("operation", "server_name"))
    assert jobs == [("install", ""), ("start", "alpha")]
    assert (UPPER / "mine").read_text() == "by the game"
    assert texts_of(reference) == [b"its own", b"the same"]
    assert BY_HAND.read_text() == "the same"

    assert settings.BACKUP_PASSPHRASE_FILE is not None
    get_store().path_of(lost.sha256).write_text("damaged")
    assert "is damaged: its bytes are not those it is named by" in refuse("backup")
    archive.unlink()
    small = say("backup", "--without-content")
    [archive] = settings.BACKUP_DIR.glob("*.saferoom-backup")
    assert "verified" in small
    with archives.members(archive, PASSPHRASE) as found:
        assert not [info.name for info, _content in found if "content" in info.name]

    settings.BACKUP_PASSPHRASE_FILE.write_text("short\n")
    assert "has 5 characters, and needs at least 12" in refuse("backup")
    last = read_last()
    assert last is not None
    assert "has 5 characters" in last.fault
    assert [path.name for path in settings.BACKUP_DIR.iterdir()] == [archive.name]


def fail_around_the_database(archive: Path) -> None:
    """What fails around the database's part of a restore is told; this is the same with both engines."""
    User.objects.update(first_name="Not in the backup")
    with patch.object(restoring, "call_command", side_effect=CommandError("It is too old.")):
        said = refuse("restore", str(archive), "--replace")
    assert said == "The backup was not put back. It is too old."
    assert User.objects.filter(first_name="Not in the backup").exists()
    with patch("l4d2site.backups.host_files.put", side_effect=OSError("The disk is full.")):
        said = refuse("restore", str(archive), "--replace")
    assert "The database is put back, but not every file: The disk is full." in said
    with patch("l4d2site.backups.host_files.put", lambda *_: signal.raise_signal(signal.SIGTERM)):
        said = refuse("restore", str(archive), "--replace", code=128 + signal.SIGINT)
    assert "The database is put back, but not every file: this was interrupted. To put" in said


def rename_table(name: str, new_name: str) -> None:
    """Give a table another name."""
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {name} RENAME TO {new_name}")


@contextmanager
def replace_and_be_interrupted(path: Path, **options: Any) -> Iterator[None]:
    """Replace the database, and be interrupted as soon as that is done."""
    with REPLACING(path, **options):
        yield
    raise KeyboardInterrupt


def cancel_jobs() -> None:
    """What waited or ran when the backup was made does not run after it is restored."""
    make_servers()
    (UPPER / "mine").unlink()
    alpha, bravo = Server.objects.order_by("name")
    running = enqueue("stop", server=alpha, requested_by=None)
    worker = register_worker(Host.local(), concurrency=1, is_claiming=True)
    assert claim_next_job(worker) == running
    waiting = enqueue("delete", server=bravo, requested_by=None)
    DeferredAction.objects.create(
        server=bravo, operation="restart", until=timezone.now() + timedelta(days=1)
    )
    Server.objects.filter(name="bravo").update(desired_state=DesiredState.RUNNING)
    archive = back_up_database()
    Worker.objects.update(stopped_at=timezone.now())
    with patch.object(restoring, "enqueue", enqueue_install):
        said = refuse("restore", str(archive), "--replace", code=128 + signal.SIGINT)
    assert "no server that was running is started again: this was interrupted." in said
    assert not Job.objects.queued().exists()
    output = say("restore", str(archive), "--replace")
    assert "Jobs that waited or ran when it was made, and are cancelled now: 2." in output
    for job in (running, waiting):
        job.refresh_from_db()
        assert (job.state, job.error) == (JobState.CANCELLED, RESTORED)
    alpha.refresh_from_db()
    assert alpha.actual_state == ActualState.UNKNOWN
    assert "restored from a backup" in DeferredAction.objects.get(ended_at__isnull=False).outcome
    assert not Worker.objects.filter(stopped_at=None).exists()


def enqueue_install(operation: str, **options: Any) -> None:
    """Enqueue an install, and be interrupted at anything else."""
    if operation != "install":
        raise KeyboardInterrupt
    enqueue(operation, **options)


def cross_versions() -> None:
    """A backup of an older schema is put back over a newer one; of one of a newer schema that is told."""
    executor = MigrationExecutor(connection)
    # Back to between two migrations that a new database takes in one step.
    executor.loader = MigrationLoader(connection, replace_migrations=False)
    executor.migrate([("accounts", "0010_account_changes")])
    executor.recorder.record_unapplied("accounts", "0001_squashed_0011_pending_sign_in")
    assert PendingSignIn._meta.db_table not in connection.introspection.table_names()
    User.objects.create_user("kim")
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE orders (id int)")
    archive = back_up_database()
    said = refuse("restore", str(archive))
    assert "objects of another program, which would be lost: orders … Is DATABASE_URL right" in said
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE orders")
        cursor.execute("ANALYZE")  # SQLite keeps what it finds in a table.
    call_command("migrate", verbosity=0)
    kim = User.objects.get()
    PendingSignIn.objects.create(user=kim, begun_at=timezone.now())
    User.objects.update(username="somebody")
    say("restore", str(archive))
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE orders")  # It was in the backup.
    assert list(User.objects.values_list("username", flat=True)) == ["kim"]
    assert not PendingSignIn.objects.exists()
    assert AccountEvent.objects.filter(kind=EventKind.BACKUP_RESTORED).exists()

    recorder = MigrationRecorder(connection)
    recorder.record_applied("accounts", "9999_later")
    archive = back_up_database()
    recorder.record_unapplied("accounts", "9999_later")
    User.objects.update(username="somebody")
    said = say("restore", str(archive))
    assert "newer version of Saferoom" in said
    assert "accounts.9999_later" in said
    assert list(User.objects.values_list("username", flat=True)) == ["kim"]
    assert ("accounts", "9999_later") in recorder.applied_migrations()
    if connection.vendor == "sqlite":
        heed_signals_while_locked(archive)
        say_what_to_do(archive)
    else:
        refuse_another_schema(leave_other_schemas_alone())


TEXT = "one\n\\two\nfrom three FROM stdin;\n\\restrict it's\nCOPY jobs_job FROM stdin;\nCOPY x\nFROM stdin;\n"
"""A comment of somebody who uses psql."""


def quote_text(text: str) -> str:
    """Return a text as SQL has it."""
    return "'{}'".format(text.replace("'", "''"))


def leave_other_schemas_alone() -> Path:
    """What other programs have in their schemas is not put back. Returns a backup."""
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with connection.cursor() as cursor:
        cursor.execute('CREATE SCHEMA "oth""er"')
        # Its name begins like the panel's, which can see it.
        cursor.execute("""CREATE TABLE "oth""er".jobs_notes AS SELECT 'before' AS note""")
        cursor.execute(
            f"""ALTER ROLE CURRENT_USER IN DATABASE {name} SET search_path = public, "oth""er\""""
        )
    connection.close()
    archive = back_up_database()
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO jobs_notes VALUES ('since')")
    connection.close()
    say("restore", str(archive), "--replace")
    with connection.cursor() as cursor:
        cursor.execute("SELECT note FROM jobs_notes")
        assert cursor.fetchall() == [("before",), ("since",)]

        cursor.execute("""CREATE VIEW "oth""er".report AS SELECT * FROM jobs_joblog""")
        said = refuse("restore", str(archive), "--replace")
        assert "report depends on table jobs_joblog. Drop what is not the panel's" in said, said
        cursor.execute("DROP VIEW report")
        cursor.execute("""ALTER TABLE jobs_joblog SET SCHEMA "oth""er\"""")
        assert 'several schemas: oth"er, public.' in refuse("backup", "--database-only")
        cursor.execute("ALTER TABLE jobs_joblog SET SCHEMA public")
        # The next restore is of a panel in a schema with an odd name.
        cursor.execute('ALTER SCHEMA "oth""er" RENAME TO away')
        cursor.execute('ALTER SCHEMA public RENAME TO "pub""\nlic"')
        cursor.execute(
            f"""ALTER ROLE CURRENT_USER IN DATABASE {name} SET search_path = "pub""\nlic\""""
        )
        # Whose dump has lines that look like commands to psql, and like a COPY.
        cursor.execute("""COMMENT ON TABLE "pub""\nlic".jobs_job IS """ + quote_text(TEXT))
        cursor.execute(
            """CREATE FUNCTION "pub""\nlic".put_back() RETURNS void LANGUAGE plpgsql AS $body$"""
            "\nBEGIN\n-- It's for psql: \"\nCOPY jobs_job FROM stdin;\nEND $body$"
        )
    connection.close()
    User.objects.create_user("lost")
    say("backup", "--database-only")
    newest = max(settings.BACKUP_DIR.glob("*.saferoom-backup"))
    say("restore", str(newest), "--replace")
    assert User.objects.filter(username="lost").exists()
    with connection.cursor() as cursor:
        cursor.execute("SELECT obj_description('jobs_job'::regclass)")
        assert cursor.fetchall() == [(TEXT,)]
        cursor.execute("DROP FUNCTION put_back()")
        cursor.execute('ALTER SCHEMA "pub""\nlic" RENAME TO public')
        cursor.execute(f"ALTER ROLE CURRENT_USER IN DATABASE {name} RESET search_path")
    connection.close()
    return archive


def heed_signals_while_locked(archive: Path) -> None:
    """A restore that waits until another program has written can be interrupted."""
    User.objects.update(username="somebody")
    connection.close()
    with closing(sqlite3.connect(settings.DATABASES["default"]["NAME"])) as other:
        other.execute("BEGIN IMMEDIATE")
        with patch("time.sleep", lambda _: signal.raise_signal(signal.SIGTERM)):
            said = refuse("restore", str(archive), "--replace", code=128 + signal.SIGINT)
    assert said.endswith("was not put back. This was interrupted before anything was changed.")
    assert User.objects.filter(username="somebody").exists()


def say_what_to_do(archive: Path) -> None:
    """A restore over a file that cannot be replaced says so, and what to do."""
    path = Path(settings.DATABASES["default"]["NAME"])
    connection.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("PRAGMA page_size = 8192")
        other.create_function(
            "REGEXP", 2, lambda _pattern, _text: True
        )  # Django's, for its constraints.
        other.execute("VACUUM")
    advice = f"Move {path}, {path}-wal and {path}-shm away, and do this again."
    assert advice in refuse("restore", str(archive), "--replace")
    connection.close()
    path.write_bytes(b"no database" * 1000)
    assert advice in refuse("restore", str(archive), "--replace")
    connection.close()


def refuse_another_schema(archive: Path) -> None:
    """A backup is not put where the panel would not see it."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA own")
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"CREATE TABLE own.{table} (LIKE public.{table} INCLUDING ALL)")
        cursor.execute("INSERT INTO own.django_migrations SELECT * FROM public.django_migrations")
        name = connection.ops.quote_name(connection.settings_dict["NAME"])
        cursor.execute(f"ALTER ROLE CURRENT_USER IN DATABASE {name} SET search_path = own")
    connection.close()
    User.objects.create_user("olga")
    assert "search_path is own." in refuse("restore", str(archive), "--replace")
    assert list(User.objects.values_list("username", flat=True)) == ["olga"]


def survive_kills() -> None:
    """A restore that is killed leaves the database as it was, or restored with nothing open."""
    olga = User.objects.create_user("olga", is_superuser=True)
    Client().force_login(olga)
    Invitation.objects.create(made_by=olga)
    enqueue("check", host=Host.local(), requested_by=None)
    archive = back_up_database()
    User.objects.update(username="somebody")
    outcomes = []
    for name, is_done in (
        ("call_command", False),
        # The moment before each next step is the one when this is done.
        ("call_command", True),
        ("end_what_was_open", True),
        ("cancel_restored", True),
        ("_start_again", False),
        ("_start_again", True),
    ):
        kill_restore(archive, name, is_done=is_done)
        is_restored = User.objects.filter(username="olga").exists()
        outcomes.append(is_restored)
        assert Session.objects.exists() != is_restored, (name, is_done)
        assert Invitation.objects.open().exists() != is_restored
        assert Job.objects.queued().exists() != is_restored
        restored = AccountEvent.objects.filter(kind=EventKind.BACKUP_RESTORED)
        assert restored.exists() == is_restored
    assert outcomes == [False] * 4 + [True] * 2


def kill_restore(archive: Path, name: str, *, is_done: bool) -> None:
    """Restore it in a process that is killed before or after a step, a function of `restoring`."""
    connection.close()
    pid = os.fork()
    if pid == 0:
        try:
            kill_at(restoring, name, is_done=is_done)
            say("restore", str(archive), "--replace")
        finally:
            os._exit(1)
    _pid, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"it was not killed at {name}"


def kill_at(module: ModuleType, name: str, *, is_done: bool) -> None:
    """Kill this process when a function is called, or when it is done."""
    function: Callable[..., Any] = getattr(module, name)

    def die(*arguments: Any, **options: Any) -> None:
        if is_done:
            function(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(module, name, die)


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (restore_all, cancel_jobs, cross_versions, survive_kills)
}

if __name__ == "__main__":
    # A thousandth of the work for each key, as in `test_archives`.
    sealing._SCRYPT["n"] = 2**6
    for name in sys.argv[1:]:
        SCENARIOS[name]()
