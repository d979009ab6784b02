"""Makes `python -m hostops` run the host's command line."""

import os
import sys

from hostops.cli import main

if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main())
