"""The box that a game server runs in. Game code is native code from strangers: it gets what it
needs, and sees nothing else of the machine.

    from hostops.box.init import become_init        the PID namespace, and the game in it
    from hostops.box.root import Root, enter_root   the files
    from hostops.box.probe import walls_here        which walls stand on this machine

`hostops/box/init.py` shows the order of the calls. Everything works without root, and does the same
for root. The launcher's modules use only the standard library, and little of it: they run at every start.

No wall keeps the game from this machine's loopback interface. Filtering addresses needs root or a
network namespace, and a network namespace needs a bridge, which needs root. The kernel's Landlock can
only list the allowed ports (65,534 rules; 85 ms and 8 MB were measured). Therefore the panel is behind a
Unix socket, the database has a password, and IPAddressDeny=localhost is set where the system's manager
runs the units (in units of a user's manager systemd 252 silently ignores it).
"""
