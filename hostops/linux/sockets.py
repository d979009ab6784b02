"""Finds out which sockets are bound to a port of this machine, and which processes hold them.

Netlink and the tables of proc_net(5) show the sockets of this process's network namespace, which game servers
share. They lack TCP sockets that are bound but not listening: only an attempt to bind detects those.
"""

import errno
import fcntl
import ipaddress
import os
import socket
import struct
import sys
from collections import defaultdict
from collections.abc import Collection, Iterator
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from hostops.linux.socket_diag import read_listening

WILDCARD = "0.0.0.0"  # noqa: S104 - for comparison, not for binding
LOOPBACK = "127.0.0.1"

# linux/sockios.h and linux/if.h
_SIOCGIFFLAGS = 0x8913
_SIOCGIFADDR = 0x8915
_IFF_UP = 0x1
_IFF_LOOPBACK = 0x8

# Socket states (include/net/tcp_states.h). A UDP socket has only the first two.
_ESTABLISHED = 0x01
_CLOSED = 0x07
_LISTENING = 0x0A


class Protocol(StrEnum):
    """The protocol of a port."""

    UDP = "UDP"
    TCP = "TCP"


_TABLES = {
    "udp": (Protocol.UDP, socket.AF_INET),
    "udp6": (Protocol.UDP, socket.AF_INET6),
    "tcp": (Protocol.TCP, socket.AF_INET),
    "tcp6": (Protocol.TCP, socket.AF_INET6),
}


class BoundSocket(NamedTuple):
    """A UDP socket with a local port, or a listening TCP socket. `uid` is the account that made it."""

    protocol: Protocol
    address: str
    port: int
    uid: int
    inode: int

    def is_in_the_way_of(self, address: str) -> bool:
        """Whether this socket would keep an IPv4 socket of the same port from binding to `address`.

        A socket on all IPv6 addresses also covers IPv4 unless it was made IPV6_ONLY, which the tables do not
        show: it counts as in the way.
        """
        return address in (self.address, WILDCARD) or self.address in (WILDCARD, "::")


def parse_table(text: str, protocol: Protocol) -> Iterator[BoundSocket]:
    """Yield the sockets in a table of /proc/net: `udp`, `udp6`, `tcp` or `tcp6`.

    A line is `0: 0100007F:6987 00000000:0000 0A 00000000:00000000 00:00000000 00000000 1000 0 4711 …`: number,
    local and remote address and port, state, queues, timer, retransmits, uid, timeout, inode. Addresses are
    hexadecimal, in 32-bit words in the processor's byte order.
    """
    states = (_LISTENING,) if protocol is Protocol.TCP else (_ESTABLISHED, _CLOSED)
    for line in text.splitlines()[1:]:
        fields = line.split()
        if int(fields[3], 16) not in states:
            continue
        address, _, port = fields[1].partition(":")
        yield BoundSocket(
            protocol, _parse_address(address), int(port, 16), int(fields[7]), int(fields[9])
        )


def find_own_address() -> str:
    """Return the IPv4 address of the interface of the default route.

    If there is no such route, it is the first address the kernel lists for an interface that is up and not
    loopback; if there is none either, it is loopback. Nothing is sent: connecting a UDP socket only looks up
    the route. The address is one of those reserved for documentation (RFC 5737).
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return next(_interface_addresses(probe), LOOPBACK)
        address: str = probe.getsockname()[0]
        return address


def _interface_addresses(probe: socket.socket) -> Iterator[str]:
    """Yield the IPv4 address of each interface that is up, except loopback (netdevice(7))."""
    try:
        interfaces = socket.if_nameindex()
    except (
        OSError
    ):  # The kernel lists them through netlink, which a unit may forbid, as the web process's does.
        return
    for _, name in interfaces:
        request = struct.pack("16s24x", name.encode())
        try:
            flags = struct.unpack_from("16xH", fcntl.ioctl(probe, _SIOCGIFFLAGS, request))[0]
            answer = fcntl.ioctl(probe, _SIOCGIFADDR, request)
        except OSError:  # It has no IPv4 address, or has just disappeared.
            continue
        if flags & _IFF_UP and not flags & _IFF_LOOPBACK:
            yield socket.inet_ntop(socket.AF_INET, answer[20:24])


def is_own_address(address: str) -> bool:
    """Whether a socket of this machine can have this address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
        return True


def read_bound(*, is_ipv4_alone: bool = False) -> list[BoundSocket]:
    """Return all UDP sockets that are bound to a port, and all listening TCP sockets.

    Where netlink cannot be used, each TCP table takes a few milliseconds: for it the kernel goes through all
    connections.
    """
    found: list[BoundSocket] = []
    for name, (protocol, family) in _TABLES.items():
        if is_ipv4_alone and family is socket.AF_INET6:
            continue
        if protocol is Protocol.TCP:
            try:
                found += _ask_for_listening(family)
            except OSError:  # A unit, a container or an old kernel may be without it.
                pass
            else:
                continue
        try:
            text = Path("/proc/net", name).read_text(encoding="ascii")
        except FileNotFoundError:  # a kernel without IPv6
            continue
        found += parse_table(text, protocol)
    return found


def _ask_for_listening(family: socket.AddressFamily) -> list[BoundSocket]:
    return [
        BoundSocket(Protocol.TCP, _name_address(address), port, uid, inode)
        for address, port, uid, inode in read_listening(family)
    ]


def inodes_of(pid: int) -> frozenset[int]:
    """Return the inodes of a process's open sockets; none if the process is gone.

    Raises PermissionError if this account may not look, as at other accounts' processes (it needs the
    permission of ptrace(2)). Processes in a user namespace that this account made are permitted.
    """
    folder = f"/proc/{pid}/fd"
    try:
        numbers = os.listdir(folder)  # noqa: PTH208 - thousands of them: paths would take twice as long
    except (FileNotFoundError, ProcessLookupError):
        return frozenset()
    found = set()
    for number in numbers:
        try:
            target = os.readlink(f"{folder}/{number}")  # noqa: PTH115
        except (FileNotFoundError, ProcessLookupError):  # closed in the meantime
            continue
        except OSError as error:
            # A file nested so deep that its path exceeds the kernel's limit; any program can open one.
            if error.errno != errno.ENAMETOOLONG:
                raise
            continue
        if target.startswith("socket:["):
            found.add(int(target[8:-1]))
    return frozenset(found)


def find_processes(inodes: Collection[int]) -> dict[int, list[int]]:
    """Return the processes that have each of these sockets open, as far as this account may see them.

    One pass over /proc for any number of sockets; none if there are no sockets.
    """
    found: dict[int, list[int]] = defaultdict(list)
    wanted = frozenset(inodes)
    if not wanted:
        return {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if not name.isdecimal():
            continue
        try:
            held = inodes_of(int(name)) & wanted
        except PermissionError:
            continue
        for inode in held:
            found[inode].append(int(name))
    return dict(found)


def read_name(pid: int) -> str:
    """Return the name of a process's program, at most 15 printable characters; empty if it is gone."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    # The process chooses it freely.
    return "".join(one if one.isprintable() else "�" for one in name.removesuffix("\n"))


def _parse_address(text: str) -> str:
    words = [bytes.fromhex(text[start : start + 8]) for start in range(0, len(text), 8)]
    if sys.byteorder == "little":
        words = [word[::-1] for word in words]
    return _name_address(b"".join(words))


def _name_address(packed: bytes) -> str:
    if len(packed) == 4:
        return socket.inet_ntop(socket.AF_INET, packed)
    mapped = ipaddress.IPv6Address(packed).ipv4_mapped
    return str(mapped) if mapped else socket.inet_ntop(socket.AF_INET6, packed)
