"""Who may read the database: one account, or the two that share its folder."""

import os
import stat
import subprocess
import sys
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
from tests.endtoend.panel import PROJECT_DIR


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Create files as every process of the panel does."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def make_folder(path: Path, mode: int) -> Path:
    path.mkdir()
    path.chmod(mode)
    return path


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


def run_in_panel(folder: Path, script: str, *before: str) -> str:
    """Run a program in the panel that has its database in `folder`; return its output."""
    answer = subprocess.run(
        [*before, sys.executable, "-c", f"import os; os.umask(0o077)\n{script}"],
        cwd=PROJECT_DIR,
        env=os.environ
        | {
            "DATABASE_URL": f"sqlite:///{folder}/panel.sqlite3",
            "DJANGO_SETTINGS_MODULE": "l4d2site.settings",
            "SECRET_KEY": "a-key-that-only-the-tests-have",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


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


WRITES_AGAIN = """
import django; django.setup()
import sqlite3, subprocess, sys, threading
from contextlib import closing
from pathlib import Path
from time import monotonic, sleep
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import DatabaseError, connection
from jobs.database import Channel, Interrupt, Rest, find_write_outage, open_change_signal, outage_log

call_command("migrate", "contenttypes", verbosity=0)
database = Path(connection.settings_dict["NAME"])
# Another process that has it open keeps the files of the log.
another = subprocess.Popen([sys.executable, "-c", f'''
import sqlite3, sys
database = sqlite3.connect("{database}")
database.execute("SELECT * FROM django_content_type").fetchall()
print("open", flush=True)
sys.stdin.read()
'''], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
another.stdout.readline()
connection.close()
files = list(database.parent.glob("panel.sqlite3*"))

def make_mode(mode):
    for file in files:
        file.chmod(mode)

def follow():
    ContentType.objects.count()
    FOLLOW

def write():
    ContentType.objects.create(app_label="written", model="afterwards")

make_mode(0o400)
is_reading, is_over = threading.Event(), False
reader = threading.Thread(target=follow, daemon=True)
reader.start()
is_reading.wait()
print("read-only:", find_write_outage().name)
sleep(0.3)  # The refusal made the reader open its connection again.
make_mode(0o600)
until = monotonic() + 10
while monotonic() < until:
    try:
        if IS_WORTH_A_TRY:
            write()
            break
    except DatabaseError as error:
        outage_log.tell("cannot write", error)
        connection.close()
    sleep(0.1)
print("written:", ContentType.objects.count())
is_over = True
reader.join()
another.communicate()
"""
"""A thread follows changes, and began to while nothing could be written."""

WAITS = """
    signal = open_change_signal(Channel.PAGES, 1)
    is_reading.set()
    while not is_over:
        signal.wait(0.05, Interrupt())
"""
LOOKS = """
    rest = Rest(60)
    while not is_over:
        rest.goes_on()
        is_reading.set()
        sleep(0.05)
"""


@pytest.mark.parametrize(
    ("follow", "is_worth_a_try"),
    [
        (WAITS, "True"),
        (WAITS, "find_write_outage() is None"),
        (LOOKS, "True"),
    ],
    ids=["waits-write", "waits-ask", "looks-write"],
)
def test_who_began_while_files_could_not_be_written_writes_once_they_can(
    tmp_path: Path, follow: str, is_worth_a_try: str
) -> None:
    # Root writes what nobody may, by a right that a program can go without.
    without_right = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-all"]
    before = without_right if os.geteuid() == 0 else []
    script = WRITES_AGAIN.replace("FOLLOW", follow).replace("IS_WORTH_A_TRY", is_worth_a_try)
    output = run_in_panel(make_folder(tmp_path / "var", 0o700), script, *before)
    assert output.splitlines() == ["read-only: READ_ONLY", "written: 2"]
