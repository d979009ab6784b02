"""A stand-in for SteamCMD that installs the simulated game.

Runs as `python -m hostops.simulator.steamcmd` and by its path, with or without `-I`. It is only these few lines
because Python compiles the file that it is started with each time, and keeps what it compiles of the others.
"""

import sys
from pathlib import Path

if not __package__:  # started by its path: `-I` keeps the project off the module search path
    # Through the same links: the game that it installs is started by them when they lead to a later release.
    sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from hostops.simulator.steam_client import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
