"""Checks whether a server can have its port, and which servers answer that no start is waiting for.

A start waits for its own server: see `start_wait`.
"""

import contextlib
import select
import time
from collections.abc import Mapping

from hostops.drivers import port_holders
from hostops.errors import HostError
from hostops.layout import HostLayout, InstanceLayout
from hostops.linux.sockets import WILDCARD
from hostops.query.a2s import Inquiry


def find_answering(asked: Mapping[str, tuple[str, int]], seconds: float) -> set[str]:
    """Query several servers at once, each at its address and port; return the names of those that answer.

    Takes as long as the slowest answer, and at most `seconds`.
    """
    answering: set[str] = set()
    deadline = time.monotonic() + seconds
    with contextlib.ExitStack() as stack:
        waiting: dict[int, tuple[str, Inquiry]] = {}
        poll = select.poll()
        for name, (address, port) in asked.items():
            inquiry = Inquiry(address, port)
            stack.callback(inquiry.close)
            inquiry.ask()
            if inquiry.is_pending:
                waiting[inquiry.fileno()] = (name, inquiry)
                poll.register(inquiry, select.POLLIN)
        while waiting and (left := deadline - time.monotonic()) > 0:
            for descriptor, _ in poll.poll(left * 1000):
                name, inquiry = waiting[descriptor]
                if inquiry.collect() is not None:
                    answering.add(name)
                if name in answering or not inquiry.is_pending:
                    del waiting[descriptor]
                    poll.unregister(descriptor)
    return answering


def require_free_port(
    layout: HostLayout, instance: InstanceLayout, port: int, address: str = WILDCARD
) -> None:
    """Raise HostError if the instance cannot have the port at the address, UDP and TCP: srcds takes both.

    Sockets of its own run do not count: that run ends before the next one begins. The text says who holds the
    port, as far as this account may see that, and which port is free.
    """
    for protocol in port_holders.find_conflicts(port, address):
        held = port_holders.find_in_the_way(port, address, protocol)
        if held and port_holders.are_own(instance, port, held):
            continue
        free = port_holders.find_free_port(layout)
        raise HostError(
            f"Port {port} ({protocol}) of {instance.name} is in use by "
            f"{port_holders.describe_holder(layout, instance, held)}. "
            f"Stop that, or give {instance.name} another port{'.' if free is None else f': {free} is free.'}"
        )
