#!/usr/bin/env python3
"""Django's command line for Saferoom. Every Python will do: one without Django hands over to that in .venv."""

import os
import sys
from pathlib import Path
from typing import NoReturn

from hostops.command_ends import run_command

ENVIRONMENT = Path(__file__).resolve().parent / ".venv"


def main() -> None:
    """Run the command that the arguments name.

    A bad setting, or a database that cannot be used, ends it with one line, not a traceback.
    """
    os.umask(0o077)  # What any command writes is its own account's alone.
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "l4d2site.settings")
    try:
        from django.core.exceptions import ImproperlyConfigured
        from django.core.management import execute_from_command_line
        from django.db import DatabaseError
    except ModuleNotFoundError as error:
        if error.name != "django":
            raise
        hand_over()
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"saferoom: {error}")
    except DatabaseError as error:
        # Not before the settings are loaded.
        from l4d2site.outages import describe_outage

        if not (sentence := describe_outage(error)):
            raise
        sys.exit(f"saferoom: {sentence}")


def hand_over() -> NoReturn:
    """Run the same command with the Python in .venv, unless that is the one that lacks Django."""
    python = ENVIRONMENT / "bin/python"
    if not python.exists() or Path(sys.prefix).resolve() == ENVIRONMENT.resolve():
        sys.exit(f"saferoom: Django is not installed in {ENVIRONMENT}. script/server installs it.")
    os.execv(python, [str(python), *sys.argv])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    sys.exit(run_command(main))
