#!/usr/bin/env python3
"""Django's command line for Saferoom."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line


def main() -> None:
    """Run the command that the arguments name; a bad setting ends it with one line, not a traceback."""
    os.umask(0o077)  # What any command writes is its own account's alone.
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "l4d2site.settings")
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"saferoom: {error}")


if __name__ == "__main__":
    main()
