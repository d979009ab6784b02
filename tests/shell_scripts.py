"""Has each shell script's own shell check its syntax: `script/lint` runs this.

A shell script is known by its first line: `#!` and a shell or, in a file that others source, the line that
tells shellcheck the shell.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PROJECT_DIR = Path(__file__).resolve().parents[1]
FIRST_LINE = re.compile(
    rb"(?:#!\s*(?:/usr/bin/env\s+|/(?:usr/)?bin/)|# shellcheck shell=)(bash|dash|sh)\b"
)
NOT_OURS = re.compile(r"\.git|\.venv.*|var|__pycache__|.*_cache|.*\.egg-info")
"""Folders that .gitignore lists, and git's own."""


def find_shell_scripts(project_dir: Path) -> Iterator[tuple[str, Path]]:
    """Yield each shell script below a folder, after the shell that runs it."""
    for folder, folders, names in os.walk(project_dir):
        folders[:] = sorted(name for name in folders if not NOT_OURS.fullmatch(name))
        for path in (Path(folder, name) for name in sorted(names)):
            if path.is_file() and (shell := find_shell(path)):
                yield shell, path


def find_shell(path: Path) -> str:
    """Return the shell that a file's first line names; empty if it names none."""
    with path.open("rb") as file:
        match = FIRST_LINE.match(file.readline(200))
    return match[1].decode() if match else ""


def are_sound(project_dir: Path) -> bool:
    """Check all below a folder; return whether none has a fault, which its shell prints."""
    checks = [
        subprocess.run([shell, "-n", path], check=False).returncode
        for shell, path in find_shell_scripts(project_dir)
    ]
    return not any(checks)


if __name__ == "__main__":
    sys.exit(not are_sound(PROJECT_DIR))
