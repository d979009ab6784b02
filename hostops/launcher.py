"""The small program that mounts an instance's files and then becomes its game server: see `launching`.

    python -I -S launcher.py ROOT NAME       start instance NAME as its launch.json says
    python -I -S launcher.py --foreground ROOT NAME
                                             the same, as the main process of a unit
    python -I -S launcher.py --probe DIR     try a mount of DIR/lower and DIR/upper, and say what
                                             fails
    python -I -S launcher.py --try ROOT LAYER LAYER...
                                             try whether these folders below ROOT can lie over each other

Units of every version name this file. It is short, as Python compiles the program that it is given at each
start, and keeps what it has compiled of modules alone.
"""

import sys

# Run by its path and isolated, it does not have the package on its search path.
sys.path.append(__file__.rsplit("/", 2)[0])

from hostops.launching import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
