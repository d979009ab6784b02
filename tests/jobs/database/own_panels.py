"""Programs in a panel that has an SQLite database of its own."""

import os
import subprocess
import sys
from pathlib import Path

from tests.endtoend.panel import PROJECT_DIR


def make_folder(path: Path, mode: int) -> Path:
    """Make a folder with a mode, whatever the umask is."""
    path.mkdir()
    path.chmod(mode)
    return path


def run_in_panel(folder: Path, script: str, *before: str) -> str:
    """Run a program in the panel that has its database in `folder`, after `before`; return its output."""
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
