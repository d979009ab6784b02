"""Which address counts: trusted proxies, forged headers, several hops, garbage, Unix sockets."""

from typing import Any

import pytest
from django.conf import LazySettings
from django.test import RequestFactory

from l4d2site.gate.addresses import TrustedProxies, address_group, client_address, read_address

PROXIES = TrustedProxies.parse(["127.0.0.1", "10.0.0.0/8", "2001:db8:1::/48"])
SOCKET = TrustedProxies.parse(["unix"])


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("198.51.100.7", "", "198.51.100.7"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("::ffff:127.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("127.0.0.1", "2001:DB8:0:0::7", "2001:db8::7"),
        # Two hops, the nearer of which is ours.
        ("127.0.0.1", "198.51.100.7, 10.1.2.3", "198.51.100.7"),
        ("127.0.0.1", "198.51.100.7,2001:db8:1::5 , 10.1.2.3", "198.51.100.7"),
        # Only proxies on the way: the first of them is itself the client.
        ("127.0.0.1", "10.9.9.9, 10.1.2.3", "10.9.9.9"),
        ("127.0.0.1", "198.51.100.7:4711", "198.51.100.7"),
        ("127.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"),
        ("127.0.0.1", "[2001:db8::7]", "2001:db8::7"),
    ],
)
def test_a_trusted_proxy_says_whom_it_speaks_for(
    peer: str, forwarded_for: str, client: str
) -> None:
    assert PROXIES.client_behind(peer, forwarded_for) == client


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        # A stranger cannot speak for anybody.
        ("198.51.100.7", "203.0.113.9", "198.51.100.7"),
        ("198.51.100.7", "127.0.0.1", "198.51.100.7"),
        # What a stranger sent precedes what the proxy added.
        ("127.0.0.1", "203.0.113.9, 198.51.100.7", "198.51.100.7"),
        ("127.0.0.1", "127.0.0.1, 203.0.113.9, 198.51.100.7", "198.51.100.7"),
        ("127.0.0.1", "203.0.113.9, 198.51.100.7, 10.1.2.3", "198.51.100.7"),
        # Garbage is no address, and nothing vouches for what precedes it.
        ("127.0.0.1", "garbage", "127.0.0.1"),
        ("127.0.0.1", "203.0.113.9, garbage", "127.0.0.1"),
        ("127.0.0.1", "203.0.113.9, , 10.1.2.3", "10.1.2.3"),
        ("127.0.0.1", "unknown", "127.0.0.1"),
        ("127.0.0.1", "_hidden, 999.1.1.1", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.7\x00", "127.0.0.1"),
        ("127.0.0.1", "," * 5000, "127.0.0.1"),
    ],
)
def test_nobody_else_chooses_their_address(peer: str, forwarded_for: str, client: str) -> None:
    assert PROXIES.client_behind(peer, forwarded_for) == client


@pytest.mark.parametrize("forwarded_for", ["198.51.100.7", "10.9.9.9, 10.1.2.3", "garbage", ""])
def test_to_ask_again_changes_nothing(forwarded_for: str) -> None:
    client = PROXIES.client_behind("127.0.0.1", forwarded_for)
    assert PROXIES.client_behind(client, forwarded_for) == client


def test_the_peer_of_a_socket_is_trusted_only_where_it_is_named() -> None:
    assert SOCKET.client_behind("", "198.51.100.7") == "198.51.100.7"
    assert SOCKET.client_behind("", "203.0.113.9, 198.51.100.7") == "198.51.100.7"
    assert SOCKET.client_behind("", "") == ""
    assert PROXIES.client_behind("", "198.51.100.7") == ""
    assert SOCKET.client_behind("127.0.0.1", "198.51.100.7") == "127.0.0.1"


@pytest.mark.parametrize(
    "entry", ["proxy.example.org", "10.0.0.1/8", "0.0.0.0/0", "::/0", "*", "", "Unix"]
)
def test_what_is_no_proxy_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=r"proxy|network|address|bits"):
        TrustedProxies.parse([entry])


def test_scope_and_request_say_the_same(settings: LazySettings) -> None:
    settings.TRUSTED_PROXIES = PROXIES
    scope: dict[str, Any] = {
        "client": ("127.0.0.1", 4711),
        "headers": [
            (b"x-forwarded-for", b"203.0.113.9"),
            (b"x-forwarded-for", b"198.51.100.7, 10.1.2.3"),
        ],
    }
    assert client_address(scope) == "198.51.100.7"
    forwarded_for = "203.0.113.9,198.51.100.7, 10.1.2.3"
    request = RequestFactory().get("/", headers={"X-Forwarded-For": forwarded_for})
    assert client_address(request) == "198.51.100.7"
    settings.TRUSTED_PROXIES = TrustedProxies()
    assert client_address(scope) == "127.0.0.1"
    assert client_address(request) == "127.0.0.1"
    assert client_address({"client": None, "headers": []}) == ""


def test_limits_count_ipv6_by_the_64() -> None:
    assert address_group("2001:db8:0:1::7") == address_group("2001:db8:0:1:ffff::")
    assert address_group("2001:db8:0:1::7") != address_group("2001:db8:0:2::7")
    assert address_group("198.51.100.7") == "198.51.100.7"
    assert address_group("") == ""


def test_an_interface_is_no_part_of_an_address() -> None:
    assert read_address("fe80::1%eth0") == "fe80::1"
