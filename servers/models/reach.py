"""From where an address can be reached, as far as the address itself shows."""

from ipaddress import ip_address, ip_network

LOOPBACK = ("", "localhost", "127.0.0.1", "::1")
"""Addresses that name no other machine; an empty one names none either."""

# RFC 1918, RFC 6598 (the inside of a provider's network), RFC 3927 and RFC 4193, RFC 4291.
_PRIVATE = [
    ip_network(one)
    for one in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"),
        *("fc00::/7", "fe80::/10"),
    )
]


def is_loopback(address: str) -> bool:
    """Whether an address or a name can be reached only on its own machine; an empty one does not count."""
    if address == "localhost":
        return True
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def is_private(address: str) -> bool:
    """Whether an address belongs to a private network; a name does not."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in _PRIVATE if network.version == parsed.version)
