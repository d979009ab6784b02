"""Makes `python -m hostops` the host's command line."""

import sys

from hostops.cli import main

if __name__ == "__main__":
    sys.exit(main())
