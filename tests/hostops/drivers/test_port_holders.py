"""Who holds a server's port: before its start, after it, and in the host's report."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hostops.drivers import port_holders
from hostops.errors import HostError, OperationCancelled
from hostops.host import Host
from hostops.layout import HostLayout
from hostops.linux import sockets
from hostops.linux.sockets import WILDCARD
from hostops.specs import CancelToken, InstanceSpec, InstanceState
from tests.hostops.hosts import Output, game_processes, instance_of, latest_run, read_until
from tests.ports import find_free_port, find_free_ports

HOLDER = """
import signal, socket, sys
family, kind, address, option, *ports = sys.argv[1:]
held = []
for port in ports:
    one = socket.socket(getattr(socket, family), getattr(socket, kind))
    if option:
        one.setsockopt(*{"reuseaddr": (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1),
            "reuseport": (socket.SOL_SOCKET, socket.SO_REUSEPORT, 1),
            "v6only": (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)}[option])
    one.bind((address, int(port)))
    if kind == "SOCK_STREAM":
        one.listen()
    held.append(one)
open("/proc/self/comm", "w").write("nc")
print("bound", flush=True)
signal.pause()
"""

# A game that binds what it is told to, prints that it is ready, answers queries, and ends at the end of a
# line.
GAME = """#!{python} -S
import os, select, socket, sys
asked = []
for kind, port in {binds!r}:
    one = socket.socket(socket.AF_INET, kind)
    one.bind(("", port))
    if kind == socket.SOCK_STREAM:
        one.listen()
        one.detach()
    else:
        asked.append(one)
if {has_child!r} and os.fork():
    # The parent keeps nothing, as a shell that waits for the program it started.
    os.closerange(3, 256)
    os.wait()
    sys.exit()
if {lets_go!r}:
    for number in os.listdir("/proc/self/fd"):
        if os.path.realpath("/proc/self/fd/" + number).endswith("run.lock"):
            os.close(int(number))
print("Connection to Steam servers successful.", flush=True)
while sys.stdin not in (ready := select.select([sys.stdin, *asked], [], [])[0]):
    for one in ready:
        _, sender = one.recvfrom(2048)
        one.sendto(bytes.fromhex({answer!r}), sender)
"""

ANSWER = (
    b"\xff\xff\xff\xffI\x11a game\0c1m1_hotel\0left4dead2\0Left 4 Dead 2\0"
    b"\x26\x02\x00\x04\x00dl\x00\x012.2.2.2\0"
)

UDP, TCP = socket.SOCK_DGRAM, socket.SOCK_STREAM


@contextmanager
def other_program(
    *ports: int,
    family: str = "AF_INET",
    kind: str = "SOCK_DGRAM",
    address: str = "",
    option: str = "",
) -> Iterator[int]:
    """Run a program called nc that holds ports; yields its process id."""
    argv = [sys.executable, "-S", "-c", HOLDER, family, kind, address, option, *map(str, ports)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            read_until(process, "bound")
            yield process.pid
        finally:
            process.kill()


def put_game(
    root: Path,
    *binds: tuple[socket.SocketKind, int],
    has_child: bool = False,
    lets_go: bool = False,
) -> None:
    """Replace the release's game by one that binds only that."""
    text = GAME.format(
        python=sys.executable,
        binds=[(int(kind), port) for kind, port in binds],
        has_child=has_child,
        lets_go=lets_go,
        answer=ANSWER.hex(),
    )
    for name in ("srcds_run", "srcds_linux"):
        program = root / "current" / name
        program.write_text(text)
        program.chmod(0o755)


@pytest.fixture
def layout(root: Path) -> HostLayout:
    """Return the host's layout."""
    return HostLayout(root)


@pytest.fixture
def free_range(monkeypatch: pytest.MonkeyPatch) -> range:
    """Use a port range that no other copy on this machine uses."""
    ports = find_free_ports(4)
    monkeypatch.setattr(port_holders, "PORT_RANGE", ports)
    return ports


# Before a start


@pytest.mark.parametrize(
    ("family", "kind", "address", "option", "protocol"),
    [
        ("AF_INET", "SOCK_DGRAM", "", "", "UDP"),
        ("AF_INET", "SOCK_DGRAM", "127.0.0.1", "", "UDP"),
        ("AF_INET", "SOCK_DGRAM", "", "reuseaddr", "UDP"),
        ("AF_INET", "SOCK_DGRAM", "127.0.0.1", "reuseport", "UDP"),
        ("AF_INET6", "SOCK_DGRAM", "::", "", "UDP"),
        ("AF_INET", "SOCK_STREAM", "127.0.0.1", "reuseaddr", "TCP"),
        ("AF_INET", "SOCK_STREAM", "", "reuseport", "TCP"),
        ("AF_INET6", "SOCK_STREAM", "::", "reuseaddr", "TCP"),
    ],
)
def test_a_start_names_the_program_that_has_the_port_and_a_port_that_is_free(
    host: Host,
    alpha: Path,
    spec: InstanceSpec,
    free_range: range,
    family: str,
    kind: str,
    address: str,
    option: str,
    protocol: str,
) -> None:
    with (
        other_program(
            spec.port, family=family, kind=kind, address=address, option=option
        ) as process,
        pytest.raises(HostError) as caught,
    ):
        host.start("alpha")
    assert str(caught.value) == (
        f"Port {spec.port} ({protocol}) of alpha is in use by nc (process {process}). "
        f"Stop that, or give alpha another port: {free_range[0]} is free."
    )
    assert host.status("alpha").state is InstanceState.STOPPED


def test_a_program_on_ipv6_alone_is_in_nobodys_way(
    host: Host, alpha: Path, spec: InstanceSpec
) -> None:
    with other_program(spec.port, family="AF_INET6", address="::", option="v6only"):
        host.start("alpha")
    assert host.status("alpha").state is InstanceState.RUNNING


def test_a_program_on_another_address_is_in_the_way_of_all_addresses_only() -> None:
    port = find_free_port()
    with other_program(port, address="127.0.0.2"):
        assert not list(port_holders.find_conflicts(port, "127.0.0.1"))
        assert list(port_holders.find_conflicts(port, "127.0.0.2")) == [sockets.Protocol.UDP]
        assert list(port_holders.find_conflicts(port, WILDCARD)) == [sockets.Protocol.UDP]


def test_an_address_that_the_host_does_not_have_is_told(host: Host, spec: InstanceSpec) -> None:
    host.initialize(replace(spec, bind_address="203.0.113.9"))
    with pytest.raises(HostError, match=r"203\.0\.113\.9 is no address of this host"):
        host.start("alpha")


def test_a_program_that_cannot_be_looked_into_is_told_by_its_account(
    host: Host, alpha: Path, spec: InstanceSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As for an account that is not root: tests/hostops/linux/test_sockets.py has such accounts.
    monkeypatch.setattr(sockets, "find_processes", lambda _inodes: {})
    with (
        other_program(spec.port),
        pytest.raises(HostError, match=r"in use by another program \(of account \w+\)\. Stop that"),
    ):
        host.start("alpha")


def test_the_free_port_is_one_that_no_server_has_and_no_program_holds(
    host: Host, spec: InstanceSpec, layout: HostLayout, free_range: range
) -> None:
    assert port_holders.find_free_port(layout) == free_range[0]
    host.initialize(replace(spec, port=free_range[0]))  # It need not run.
    with (
        other_program(free_range[1], kind="SOCK_STREAM", address="127.0.0.1"),
        socket.socket(socket.AF_INET, TCP) as silent,
    ):
        silent.bind(("", free_range[2]))  # It does not listen, and no table shows it.
        assert port_holders.find_free_port(layout) == free_range[3]
        host.initialize(replace(spec, name="bravo", port=free_range[3]))
        assert port_holders.find_free_port(layout) is None
    assert port_holders.find_free_port(layout) == free_range[1]


# After a start


def test_a_start_is_believed_once_the_game_holds_both_of_its_ports(
    host: Host, root: Path, alpha: Path, spec: InstanceSpec
) -> None:
    output = Output()
    host.start("alpha", on_line=output.on_line)
    assert output.lines[-1] == ("stdout", f"alpha answers on port {spec.port}.")
    assert not output.errors()


@pytest.mark.parametrize("lets_go", [False, True], ids=["with the lock", "without"])
def test_a_child_of_the_game_may_hold_the_ports(
    host: Host, root: Path, alpha: Path, spec: InstanceSpec, lets_go: bool
) -> None:
    put_game(root, (UDP, spec.port), (TCP, spec.port), has_child=True, lets_go=lets_go)
    output = Output()
    host.start("alpha", on_line=output.on_line)
    assert sockets.inodes_of(latest_run(root).pid) == frozenset(), "its main process holds none"
    assert output.lines[-1] == ("stdout", f"alpha answers on port {spec.port}.")
    assert not output.errors()


def test_a_game_that_took_another_port_is_ended_and_both_ports_are_told(
    host: Host, root: Path, alpha: Path, spec: InstanceSpec
) -> None:
    other, source_tv = find_free_port(), find_free_port()
    put_game(root, (UDP, source_tv), (UDP, other), (TCP, other))
    with pytest.raises(
        HostError, match=f"alpha was to have port {spec.port} and took {other}: look for hostport"
    ):
        host.start("alpha")
    assert not game_processes(root)
    assert host.status("alpha").state is InstanceState.STOPPED


def test_who_took_the_port_between_look_and_start_is_told(
    host: Host, root: Path, alpha: Path, spec: InstanceSpec
) -> None:
    put_game(root)
    with ExitStack() as stack:
        output = Output()
        pids: list[int] = []
        output.when("Starting", lambda: pids.append(stack.enter_context(other_program(spec.port))))
        with pytest.raises(HostError) as caught:
            host.start("alpha", **output.callbacks)  # type: ignore[arg-type]
    assert f"alpha was to have port {spec.port} (UDP), which nc (process {pids[0]}) has." in str(
        caught.value
    )
    assert not game_processes(root)


def test_a_game_that_holds_no_port_is_ended(
    host: Host, root: Path, alpha: Path, spec: InstanceSpec
) -> None:
    put_game(root)
    with pytest.raises(HostError, match=rf"port {spec.port} \(UDP\), and holds no port"):
        host.start("alpha")
    assert not game_processes(root)


def test_a_game_without_rcon_runs_and_says_so(
    host: Host, root: Path, alpha: Path, spec: InstanceSpec
) -> None:
    put_game(root, (UDP, spec.port))
    output = Output()
    host.start("alpha", on_line=output.on_line)
    assert output.errors() == (
        f"RCON of alpha cannot be reached: the game does not listen on port {spec.port} (TCP)."
    )
    assert host.status("alpha").state is InstanceState.RUNNING


def test_rcon_of_another_program_fails_the_start(
    host: Host, root: Path, alpha: Path, spec: InstanceSpec
) -> None:
    put_game(root, (UDP, spec.port))
    with ExitStack() as stack:
        output = Output()

        def take() -> None:
            stack.enter_context(other_program(spec.port, kind="SOCK_STREAM", address="127.0.0.1"))

        output.when("Starting", take)
        with pytest.raises(HostError, match="would be sent the RCON password"):
            host.start("alpha", **output.callbacks)  # type: ignore[arg-type]
    assert not game_processes(root)


def test_what_has_the_port_at_the_next_starts_address_is_in_no_runs_way(
    host: Host, root: Path, spec: InstanceSpec
) -> None:
    put_game(root, (UDP, spec.port))
    host.initialize(replace(spec, bind_address="127.0.0.1"))
    host.start("alpha")
    host.initialize(replace(spec, bind_address="127.0.0.3"))
    with other_program(spec.port, kind="SOCK_STREAM", address="127.0.0.3"):
        output = Output()
        host.start("alpha", on_line=output.on_line)
    assert output.text.startswith("alpha runs already.")
    assert "RCON of alpha cannot be reached" in output.errors()


def test_a_cancel_ends_the_wait_for_rcon(
    host: Host, root: Path, alpha: Path, spec: InstanceSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port_holders, "_LOOK_SECONDS", 60)
    put_game(root, (UDP, spec.port))
    cancel = CancelToken()
    read_bound = sockets.read_bound

    def read_and_cancel(*, is_ipv4_alone: bool = False) -> list[sockets.BoundSocket]:
        cancel.cancel()
        return read_bound(is_ipv4_alone=is_ipv4_alone)

    monkeypatch.setattr(sockets, "read_bound", read_and_cancel)
    with pytest.raises(OperationCancelled):
        host.start("alpha", cancel=cancel)
    assert not game_processes(root)


def test_a_server_that_runs_already_is_looked_at_and_not_ended(
    host: Host, root: Path, alpha: Path, spec: InstanceSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port_holders, "_LOOK_SECONDS", 0)
    host.start("alpha")
    # Its next start will have another port; it runs with its current one.
    host.initialize(replace(spec, port=find_free_port()))
    output = Output()
    host.start("alpha", on_line=output.on_line)
    assert output.lines == [("stdout", "alpha runs already.")]

    run_path = instance_of(root).run_path
    other = find_free_port()
    run_path.write_text(run_path.read_text().replace(f'"port": {spec.port}', f'"port": {other}'))
    with pytest.raises(HostError, match=f"to have port {other} and took {spec.port}"):
        host.start("alpha")
    assert host.status("alpha").state is InstanceState.RUNNING


def test_what_cannot_be_looked_at_is_said_and_not_claimed(
    host: Host,
    root: Path,
    alpha: Path,
    spec: InstanceSpec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(pid: int) -> frozenset[int]:
        raise PermissionError(pid)

    monkeypatch.setattr(port_holders, "_LOOK_SECONDS", 0)
    monkeypatch.setattr(sockets, "inodes_of", refuse)
    output = Output()
    host.start("alpha", on_line=output.on_line)
    assert output.errors() == (
        f"Whether alpha holds port {spec.port} was not looked at: this account may not see what process "
        f"{latest_run(root).pid} has open."
    )
    assert output.lines[-1] == ("stdout", "alpha is up.")


# The host's report


def test_the_report_names_ports_that_other_programs_hold_and_not_those_of_servers(
    host: Host, spec: InstanceSpec, free_range: range
) -> None:
    first, second, third, _ = free_range
    host.initialize(replace(spec, port=first))
    host.start("alpha")
    assert host.facts().taken_ports == ()
    with other_program(second), other_program(third, kind="SOCK_STREAM", address="127.0.0.1"):
        assert host.facts().taken_ports == (second, third)
    assert host.facts().taken_ports == ()


def test_the_report_names_the_port_of_a_server_that_does_not_run(
    host: Host, spec: InstanceSpec, free_range: range
) -> None:
    host.initialize(replace(spec, port=free_range[0]))
    with other_program(free_range[0], address="127.0.0.1"):
        assert host.facts().taken_ports == (free_range[0],)


def test_the_report_names_a_port_that_a_game_holds_beside_its_own(
    host: Host, root: Path, spec: InstanceSpec, free_range: range
) -> None:
    own, source_tv, _, _ = free_range
    put_game(root, (UDP, own), (TCP, own), (UDP, source_tv), has_child=True)
    host.initialize(replace(spec, port=own))
    host.start("alpha")
    assert host.facts().taken_ports == (source_tv,)


def test_the_report_believes_a_server_that_it_may_not_look_into(
    host: Host, spec: InstanceSpec, free_range: range, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, other, _, _ = free_range
    host.initialize(replace(spec, port=own))
    host.start("alpha")

    def refuse(pid: int) -> frozenset[int]:
        raise PermissionError(pid)

    monkeypatch.setattr(sockets, "inodes_of", refuse)
    with other_program(other):
        assert host.facts().taken_ports == (other,)
