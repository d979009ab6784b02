"""Ports for what the tests start."""

import os
import random
import socket
from itertools import cycle


def shuffled_ports() -> list[int]:
    """Return ports that nobody else is likely to take between our look and their use.

    Not the kernel's ephemeral ports (ip_local_port_range: 32768 and up), of which any outgoing connection
    may be given one at any moment, and not the servers' own in the panel (27015 and up). Processes that
    share the tests have no port in common; shuffled, so that two runs side by side rarely meet.
    """
    share = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ports = list(range(20_000 + share, 27_000, count))
    random.SystemRandom().shuffle(ports)
    return ports


PORTS = cycle(shuffled_ports())


def find_free_port() -> int:
    """Return a port that is free for UDP and for TCP on every address, not the one returned before."""
    return next(filter(is_free, PORTS))


def find_free_ports(count: int) -> range:
    """Return `count` free ports in a row, none of which `find_free_port` ever gives out."""
    while True:
        first = random.SystemRandom().randrange(28_000, 32_768 - count)
        ports = range(first, first + count)
        if all(map(is_free, ports)):
            return ports


def is_free(port: int) -> bool:
    """Return whether nobody has `port`, for UDP or for TCP, on any address."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        try:
            tcp.bind(("", port))
            udp.bind(("", port))
        except OSError:
            return False
        return True
