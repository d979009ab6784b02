"""Other programs that speak these protocols: their clients with the simulator, our client with their server.

So the simulator and our own clients are not just right by each other's standard.
"""

import threading
from collections.abc import Iterator

import a2s as others_a2s
import pytest
import rconx

from hostops.query import a2s, rcon
from tests.hostops.simulator.fixtures import TIMEOUT, GameServers
from tests.ports import find_free_port

HOST = "127.0.0.1"
PASSWORD = "of-the-peers"
NAMES = ("Zoey", '"quoted" // ;', "12", "Añejo 漢字")


@pytest.fixture
def game(servers: GameServers, port: int) -> int:
    """Return the port of a server with oddly named people on it."""
    servers.config(f"rcon_password {PASSWORD}\n")
    server = servers.start(port, "+map", "c5m1_waterfront", "versus")
    for number, name in enumerate(NAMES):
        server.send(f"sim_join_hex {name.encode().hex()} STEAM_1:0:{number + 1}")
    server.ask("echo there", "there")
    return port


@pytest.fixture
def others_server() -> Iterator[tuple[rconx.RconServer, int, list[str]]]:
    """Return somebody else's server, its port, and the commands that it was sent."""
    sent: list[str] = []

    def answer(command: rconx.RconContent, _connection: rconx.ConnectionInfo) -> str:
        sent.append(command.text)
        return "".join(
            f"{number} ü\n" for number in range(int(command.text.partition(" ")[2] or 0))
        )

    port = find_free_port()
    server = rconx.RconServer(HOST, port, authentication=PASSWORD, command_handler=answer)
    has_begun = threading.Event()
    thread = threading.Thread(target=server.serve, kwargs={"on_started": has_begun.set})
    thread.start()
    assert has_begun.wait(TIMEOUT)
    yield server, port, sent
    server.shutdown()  # type: ignore[no-untyped-call]
    thread.join(TIMEOUT)


def test_another_client_of_queries_reads_what_ours_does(game: int) -> None:
    ours, theirs = a2s.query_info(HOST, game, TIMEOUT), others_a2s.info((HOST, game), TIMEOUT)
    assert (
        (theirs.map_name, theirs.player_count) == (ours.map, ours.players) == ("c5m1_waterfront", 4)
    )
    assert (theirs.server_name, theirs.max_players, theirs.app_id) == (
        ours.name,
        ours.max_players,
        ours.app_id,
    )
    assert (theirs.keywords, theirs.version, theirs.port) == (
        ours.keywords,
        ours.version,
        ours.port,
    )
    assert [one.name for one in others_a2s.players((HOST, game), TIMEOUT)] == list(NAMES)


def test_another_client_of_rcon_gets_long_answers_as_ours_does(game: int) -> None:
    ours = rcon.execute(HOST, game, PASSWORD, "cvarlist", TIMEOUT)
    theirs = rconx.execute(HOST, game, "cvarlist", password=PASSWORD, preset="srcds")
    assert theirs.text.rstrip("\0\n") == ours.rstrip("\n")
    assert len(ours) > 4_096
    with pytest.raises(rconx.RconAuthenticationError):
        rconx.execute(HOST, game, "status", password="wrong", preset="srcds")


@pytest.mark.parametrize("lines", [0, 1, 20_000])
def test_our_client_of_rcon_gets_whole_answers_of_another_server(
    others_server: tuple[rconx.RconServer, int, list[str]], lines: int
) -> None:
    _, port, sent = others_server
    answer = rcon.execute(HOST, port, PASSWORD, f"count {lines}", TIMEOUT)
    assert answer == "".join(f"{number} ü\n" for number in range(lines))
    assert sent[0] == f"count {lines}"


def test_another_server_refuses_our_client_in_words(
    others_server: tuple[rconx.RconServer, int, list[str]],
) -> None:
    _, port, sent = others_server
    with pytest.raises(rcon.PasswordRefusedError):
        rcon.execute(HOST, port, "wrong", "status", TIMEOUT)
    assert not sent
