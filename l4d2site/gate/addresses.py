"""The client of a request: the connection's peer, or the client that a trusted proxy names."""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.http import HttpRequest

IPV6_GROUP_BITS = 64
"""One customer of a provider gets at least this much of IPv6 (RFC 6177), and can use each address in it."""
SOCKET = "unix"
"""The word in `TRUSTED_PROXIES` for the peers of a Unix socket, which have no address."""


@dataclass(frozen=True)
class TrustedProxies:
    """The proxies whose `X-Forwarded-For` is trusted."""

    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    is_socket_trusted: bool = False

    @classmethod
    def parse(cls, entries: Iterable[str]) -> "TrustedProxies":
        """Parse addresses, networks, and the word `unix`. Raises `ValueError`.

        A network of all addresses is refused: it would let anybody choose the address that limits apply to.
        """
        names = [entry.strip() for entry in entries]
        networks = tuple(ipaddress.ip_network(name) for name in names if name != SOCKET)
        if any(network.prefixlen == 0 for network in networks):
            raise ValueError("a proxy cannot be everyone")
        return cls(networks, SOCKET in names)

    @property
    def is_empty(self) -> bool:
        """Whether no proxy is trusted."""
        return not self.networks and not self.is_socket_trusted

    def trusts(self, peer: str) -> bool:
        """Return whether `peer`, an address or "" for a Unix socket, is one of the proxies."""
        if not peer:
            return self.is_socket_trusted
        address = ipaddress.ip_address(peer)
        return any(address in network for network in self.networks)

    def client_behind(self, peer: str, forwarded_for: str) -> str:
        """Return the address that the nearest trusted proxy vouches for.

        `forwarded_for` is read from its end, where the nearest proxy has written: anybody could have made up
        what comes before the first address that is no proxy of ours. Calling this again with the result as
        `peer` returns the same. The result is "" for a Unix socket whose peer names nobody.
        """
        client = read_address(peer)
        for hop in reversed(forwarded_for.split(",")):
            if not self.trusts(client) or not (address := read_address(hop)):
                break
            client = address
        return client


def read_address(text: str) -> str:
    """Return the IP address in `text` in its usual form, or "" if there is none.

    Some proxies add a port, as in `192.0.2.1:1234` and `[2001:db8::1]:1234`. An IPv4 address written as an IPv6
    one becomes the IPv4 address, and the interface after a `%` is dropped.
    """
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    return str(getattr(address, "ipv4_mapped", None) or address)


def client_address(source: Mapping[str, Any] | HttpRequest) -> str:
    """Return the client address of a request or an ASGI scope, as far as `TRUSTED_PROXIES` allows.

    "" if the peer of a Unix socket did not name one. For requests through the gate, `REMOTE_ADDR` has it too.
    """
    if isinstance(source, HttpRequest):
        peer = source.META.get("REMOTE_ADDR") or ""
        forwarded_for = source.META.get("HTTP_X_FORWARDED_FOR", "")
    else:
        peer = (source.get("client") or ("",))[0]
        values = [value for name, value in source["headers"] if name == b"x-forwarded-for"]
        forwarded_for = b",".join(values).decode("latin-1")
    proxies: TrustedProxies = settings.TRUSTED_PROXIES
    return proxies.client_behind(peer, forwarded_for)


def address_group(address: str) -> str:
    """Return what limits count `address` as: itself, or the /64 of an IPv6 address."""
    if ":" not in address:
        return address
    return str(ipaddress.ip_network((address, IPV6_GROUP_BITS), strict=False))
