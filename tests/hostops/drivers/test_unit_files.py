"""The content of units: names that stay right when a link is switched from one release to another."""

import subprocess
from pathlib import Path

from tests.systemd.sandbox import REPOSITORY

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from hostops.drivers.unit_files import Installation
from hostops.instances.layers import LAUNCHER_PATH
print(Installation.this().code_dir, Installation.this().python_path, LAUNCHER_PATH)
"""


def test_units_name_the_code_by_the_link_that_python_was_started_by(tmp_path: Path) -> None:
    current = tmp_path / "current"
    current.symlink_to(REPOSITORY)
    python = current / ".venv/bin/python"  # made by script/test
    done = subprocess.run(
        [python, "-P", "-c", PROGRAM, current], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(current), str(python), f"{current}/hostops/launcher.py"]
    outside = subprocess.run(
        ["/usr/bin/env", "python3", "-P", "-c", PROGRAM, current],
        capture_output=True,
        text=True,
        check=True,
    )
    assert outside.stdout.split()[0] == str(REPOSITORY)
