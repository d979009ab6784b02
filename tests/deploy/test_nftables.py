"""The rules for the games' ports, on a machine of its own: floods are dropped, and nobody else notices."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.fire.networks import Machine, ip, own_network
from tests.systemd.sandbox import REPOSITORY
from tests.waiting import wait_until

pytestmark = pytest.mark.machines

PORT = 27_020
QUERY = b"\xff\xff\xff\xffTSource Engine Query\0"
PLAY = b"\x01\x02\x03\x04 a player's packet"
END = b"that was all"
OTHER_ADDRESS = "198.51.100.7"  # of TEST-NET-2, RFC 5737

# Counts what comes from each sender, until each has said that it is done.
RECEIVER = f"""
import collections, json, socket
seen, ended = collections.Counter(), set()
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as game:
    game.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024**2)
    game.bind(("0.0.0.0", {PORT}))
    print("ready", flush=True)
    while len(ended) < 2:
        packet, (address, _) = game.recvfrom(4096)
        if packet == {END!r}:
            ended.add(address)
        else:
            seen[address + (" query" if packet[:4] == {QUERY[:4]!r} else " play")] += 1
print(json.dumps(seen))
"""


@pytest.fixture
def machine() -> Iterator[Machine]:
    """Return a machine with the rules, reachable from this one under two addresses."""
    with own_network():
        machine = Machine(1)
        try:
            machine.run("nft", "-f", str(REPOSITORY / "deploy/nftables/saferoom.nft"))
            # A second time, as an upgrade does.
            machine.run("nft", "-f", str(REPOSITORY / "deploy/nftables/saferoom.nft"))
            machine.run("ip", "route", "add", OTHER_ADDRESS, "dev", "eth0")
            ip("address", "add", f"{OTHER_ADDRESS}/32", "dev", machine.cable)
            yield machine
        finally:
            machine.remove()


def test_who_floods_is_not_heard_and_others_are(machine: Machine) -> None:
    command = machine.command([sys.executable, "-c", RECEIVER])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as game:
        assert game.stdout is not None
        assert game.stdout.readline() == "ready\n"
        send(machine, machine.gateway, QUERY, 1_000)
        send(machine, machine.gateway, PLAY, 200)
        send(machine, OTHER_ADDRESS, QUERY, 50)
        for address in (machine.gateway, OTHER_ADDRESS):
            send(machine, address, END, 1)
        seen = json.loads(game.communicate(timeout=30)[0])
    flooded = seen.pop(f"{machine.gateway} query")
    assert 60 <= flooded < 500
    assert seen == {f"{machine.gateway} play": 200, f"{OTHER_ADDRESS} query": 50}


def test_a_flood_of_packets_that_are_no_queries_is_cut_too(machine: Machine) -> None:
    send(machine, machine.gateway, PLAY, 20_000)
    wait_until(lambda: dropped(machine, "@playing4") > 1_000, 10, "nothing is dropped")


def test_who_tries_many_rcon_connections_is_refused_after_some(machine: Machine) -> None:
    command = machine.command([sys.executable, "-m", "http.server", str(PORT)])
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: connects(machine), 20, "it does not listen")
            refused = sum(not connects(machine) for _ in range(15))
            assert refused >= 3
            assert dropped(machine, "@knocking4") >= 3
        finally:
            server.kill()


def send(machine: Machine, source: str, packet: bytes, count: int) -> None:
    """Send packets from one of this machine's addresses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind((source, 0))
        for _ in range(count):
            sender.sendto(packet, (machine.address, PORT))


def connects(machine: Machine) -> bool:
    try:
        socket.create_connection((machine.address, PORT), timeout=0.2).close()
    except OSError:
        return False
    return True


def dropped(machine: Machine, name: str) -> int:
    """Return how many packets the rule with that set has dropped."""
    table = machine.run("nft", "list", "table", "inet", "saferoom")
    (line,) = [line for line in table.splitlines() if f"update {name} " in line]
    return int(line.split("counter packets ")[1].split()[0])
