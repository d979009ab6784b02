"""Where players are told to connect to."""

import pytest

from servers.models import Host, Server


@pytest.mark.parametrize(
    ("source", "of_host", "own", "shown", "remark"),
    [
        ("steam", "203.0.113.7", "", "203.0.113.7", ""),
        ("steam", "192.168.1.7", "", "192.168.1.7", "in your network"),
        ("steam", "games.example.org", "", "games.example.org", ""),
        ("steam", "127.0.0.1", "", "local", ""),
        ("steam", "", "", "local", ""),
        # One that binds to a single address is reached there, unless it is behind a router.
        ("steam", "203.0.113.7", "203.0.113.8", "203.0.113.8", ""),
        ("steam", "192.168.1.7", "192.168.1.8", "192.168.1.8", "in your network"),
        ("steam", "203.0.113.7", "192.168.1.8", "203.0.113.7", ""),
        ("steam", "games.example.org", "192.168.1.8", "games.example.org", ""),
        ("steam", "", "127.0.0.1", "local", ""),
        ("simulator", "127.0.0.1", "", "127.0.0.1", "on its own host only"),
        ("simulator", "127.0.0.1", "127.0.0.2", "127.0.0.2", "on its own host only"),
    ],
)
def test_the_address_that_is_shown_is_one_that_players_can_use(
    source: str, of_host: str, own: str, shown: str, remark: str
) -> None:
    host = Host(name="local", address=of_host, game_source=source)
    server = Server(name="alpha", host=host, port=27015, bind_address=own or None)
    assert server.address == f"{shown}:27015"
    assert server.address_remark == remark
