"""The small program that mounts an instance's files and then becomes its game server: see `launching`.

    python -I -S launcher.py ROOT NAME       start instance NAME as its launch.json says
    python -I -S launcher.py --foreground ROOT NAME
                                             the same, as the main process of a unit
    python -I -S launcher.py --probe DIR     try a mount of DIR/lower and DIR/upper, and say what
                                             fails
    python -I -S launcher.py --try ROOT LAYER LAYER...
                                             try whether these folders below ROOT can be stacked

Units of every version name this file. It is short because Python compiles the main program at each start; it
caches only compiled modules.
"""

import os
import sys

# Run by path and isolated, so the package is not on its search path.
sys.path.append(__file__.rsplit("/", 2)[0])

from hostops.launching import main

if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    # Tidying up would keep the caller waiting for another 2 ms.
    os._exit(code)
