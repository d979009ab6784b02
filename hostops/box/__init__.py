"""The box that a game server runs in. Game code is native code that strangers wrote: it gets what it
needs, and nothing else of the machine is there for it.

    from hostops.box.init import become_init        the PID namespace, and the game in it
    from hostops.box.root import Root, enter_root   the files
    from hostops.box.probe import walls_here        which walls stand on this machine

`hostops/box/init.py` shows the calls in their order. All of it works without root, and the same for
root. The launcher's modules use the standard library only, and little of it: they run at every start.

No wall keeps the game from this machine's loopback interface: a filter of addresses needs root or a
network namespace, and that one a bridge, which needs root. The kernel's Landlock can only list the
ports that are allowed (65,534 rules, 85 ms and 8 MB were measured). So: the panel behind a Unix
socket, a database with a password, and IPAddressDeny=localhost where the system's manager runs the
units (in units of a user's manager systemd 252 ignores it without a word).
"""
