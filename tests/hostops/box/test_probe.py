"""The walls that stand here are found by building them."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from hostops.box import probe
from hostops.box.probe import walls_here
from hostops.box.wall import Wall
from tests.hostops.box.boxes import REPOSITORY, HostileHost

pytestmark = pytest.mark.box

NAMES = [
    "Own processes",
    "Own shared memory and message queues",
    "Own root",
    "Other processes out of sight",
    "Landlock",
    "System call filter",
]


def test_it_names_every_wall_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    walls = walls_here()
    assert [wall.name for wall in walls] == NAMES
    for wall in walls:
        assert wall.stands == (wall.why_not == "")
    assert not list(tmp_path.iterdir())


def test_it_says_why_there_is_no_box(monkeypatch: pytest.MonkeyPatch) -> None:
    python = Path(sys.executable)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    (wall,) = walls_here()
    assert (wall.name, wall.stands) == ("Own root", False)
    assert wall.why_not == "The probe ended without a word."
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(probe, "__file__", "/dev/null/probe.py")
    (wall,) = walls_here()
    assert "can't open file" in wall.why_not


def test_an_account_that_may_not_make_user_namespaces_hears_so() -> None:
    with HostileHost(is_root=False) as host:
        for name in ("game", "home"):
            (host.dir / name).mkdir()
            host._give_away(host.dir / name)
        done = subprocess.run(
            [host.python, "-I", "-S", "-c", IN_A_BOX, str(REPOSITORY), str(host.dir)],
            capture_output=True,
            text=True,
            **host._account(),
        )
    assert done.returncode == 71, done
    assert done.stderr == "Making a user namespace failed: Operation not permitted (EPERM).\n"


def test_a_wall_is_told_in_a_line() -> None:
    assert Wall("Landlock", stands=True).sentence == "Landlock: stands."
    wall = Wall("Landlock", False, "This kernel has none.", "Linux 5.19.")
    assert wall.sentence == "Landlock: does not stand. This kernel has none. Linux 5.19."


# Like a worker that is in a box itself.
IN_A_BOX = """
import os, sys
sys.path.append(sys.argv[1])
from hostops.box.probe import main
from hostops.box.seccomp import refuse_calls
from hostops.linux.namespaces import drop_privileges
drop_privileges()
refuse_calls()
sys.exit(main(sys.argv[2:]))
"""
