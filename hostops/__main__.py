"""Makes `python -m hostops` run the host's command line."""

import os
import sys

from hostops.cli import main
from hostops.command_ends import run_command

if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(run_command(main))
