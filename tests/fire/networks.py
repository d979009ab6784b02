"""Machines of their own: network namespaces that reach this one over a cable that can be pulled."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from ipaddress import IPv4Address


def find_namespaces() -> str | None:
    """Return the program that makes network namespaces, if this process may make some."""
    return shutil.which("ip") if os.geteuid() == 0 else None


class Machine:
    """A network namespace and its cable.

    `gateway` is this side's address, as the machine sees it; `address` is its own; `cable` is the device
    here.
    """

    def __init__(self, number: int) -> None:
        self.name = f"saferoom-{os.getpid()}-{number}"
        gateway, address = _addresses(number)
        self.gateway, self.address = str(gateway), str(address)
        self.cable = f"sr{os.getpid() % 100000}n{number}"
        ip("netns", "add", self.name)
        ip("link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("address", "add", f"{self.gateway}/30", "dev", self.cable)
        ip("link", "set", self.cable, "up")
        self._inside("address", "add", f"{address}/30", "dev", "eth0")
        self._inside("link", "set", "eth0", "up")
        self._inside("link", "set", "lo", "up")

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv` on this machine."""
        return ["ip", "netns", "exec", self.name, *argv]

    def run(self, *argv: str) -> str:
        """Run a command on this machine, which has to succeed, and return its output."""
        done = subprocess.run(self.command(argv), check=True, capture_output=True, text=True)
        return done.stdout

    def pull_cable(self) -> None:
        """Cut the machine off: it no longer answers, and nobody is told."""
        ip("link", "set", self.cable, "down")

    def plug_cable(self) -> None:
        """Connect the machine again."""
        ip("link", "set", self.cable, "up")

    def remove(self) -> None:
        """Remove the machine, and the cable with it.

        The cable first: together with the namespace it would disappear some time later, and keep its name
        until then.
        """
        ip("link", "delete", self.cable)
        ip("netns", "delete", self.name)

    def _inside(self, *arguments: str) -> None:
        ip("-netns", self.name, *arguments)


def _addresses(number: int) -> tuple[IPv4Address, IPv4Address]:
    """Return the two addresses of this process's cable `number` (0 to 3), which no other process has.

    Another test run may be in progress, or the cables of a killed one may be left. The addresses are among
    those that RFC 2544 reserves for network tests.
    """
    cable = os.getpid() % 2**13 * 4 + number
    first = IPv4Address("198.18.0.0") + cable * 4
    return first + 1, first + 2


def ip(*arguments: str) -> None:
    """Run iproute2's `ip`."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
