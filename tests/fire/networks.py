"""Machines of their own: network namespaces that reach the test's one over a cable that can be pulled."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNET = 0x40000000
"""Of linux/sched.h."""


def find_namespaces() -> str | None:
    """Return the program that makes network namespaces, if this process may make some."""
    return shutil.which("ip") if os.geteuid() == 0 else None


@contextmanager
def own_network() -> Iterator[None]:
    """Take this thread, and what it starts, into a network that begins with nothing but a loopback device.

    When an address comes or goes, Chromium drops the requests under way with ERR_NETWORK_CHANGED; here it
    cannot see the cables.
    """
    with Path("/proc/thread-self/ns/net").open() as usual:
        _call("unshare", CLONE_NEWNET)
        try:
            ip("link", "set", "lo", "up")
            yield
        finally:
            _call("setns", usual.fileno(), CLONE_NEWNET)


def _call(function: str, *arguments: int) -> None:
    """Call a function of the C library, which Python's `os` has only since 3.12."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{function}: {os.strerror(code)}")


class Machine:
    """A network namespace and its cable, to be made within `own_network`.

    `gateway` is this side's address, as the machine sees it; `address` is its own; `cable` is the device
    here.
    """

    def __init__(self, number: int) -> None:
        self.name = f"saferoom-{os.getpid()}-{number}"
        # RFC 2544 reserves these for network tests.
        self.gateway, self.address = f"198.18.{number}.1", f"198.18.{number}.2"
        self.cable = f"cable{number}"
        ip("netns", "add", self.name)
        try:
            self._connect()
        except BaseException:
            # It has a name in the file system, which would outlast this process. The cable ends with it.
            ip("netns", "delete", self.name)
            raise

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

    def _connect(self) -> None:
        ip("link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("address", "add", f"{self.gateway}/30", "dev", self.cable)
        ip("link", "set", self.cable, "up")
        self._inside("address", "add", f"{self.address}/30", "dev", "eth0")
        self._inside("link", "set", "eth0", "up")
        self._inside("link", "set", "lo", "up")

    def _inside(self, *arguments: str) -> None:
        ip("-netns", self.name, *arguments)


def ip(*arguments: str) -> None:
    """Run iproute2's `ip`."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
