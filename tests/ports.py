"""Ports for what the tests start."""

import os
import random
import socket
from itertools import cycle


def shuffled_ports() -> list[int]:
    """Return ports that nobody else is likely to take between our check and their use.

    Not the kernel's ephemeral ports (ip_local_port_range: 32768 and up), of which any outgoing connection may
    be given one at any moment, and not the servers' own in the panel (27015 and up). Processes that share the
    tests have no port in common; shuffled, so that two runs side by side rarely meet.
    """
    share = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ports = list(range(20_000 + share, 27_000, count))
    random.SystemRandom().shuffle(ports)
    return ports


PORTS = cycle(shuffled_ports())


def find_free_port() -> int:
    """Return a port that is free for UDP and for TCP on every address, and differs from the previous one."""
    return next(filter(is_free, PORTS))


def find_free_ports(count: int) -> range:
    """Return `count` free ports in a row, none of which `find_free_port` ever gives out.

    No other caller gets one of them while this process lives, though they are free.
    """
    blocks = list(range(28_000, 32_768 - BLOCK, BLOCK))
    random.SystemRandom().shuffle(blocks)
    for first in blocks:
        sign = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        ports = range(first + 1, first + BLOCK)[:count]
        try:
            sign.bind(("", first))
        except OSError:
            sign.close()
            continue
        SIGNS.append(sign)
        if len(ports) == count and all(map(is_free, ports)):
            return ports
    raise RuntimeError(f"There are no {count} free ports in a row.")


BLOCK = 128
SIGNS: list[socket.socket] = []
"""Each is bound to the first port of a block, and marks the block as taken."""


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
