"""Reading the kernel's tables of sockets, and finding who holds one."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hostops.linux import socket_diag, sockets
from hostops.linux.sockets import WILDCARD, BoundSocket, Protocol
from tests.hostops.hosts import REPOSITORY, read_until
from tests.ports import find_free_port
from tests.waiting import wait_until

UDP = """\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  351: 00000000:6987 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 4711 2 0000000000000000 0
  352: 0100007F:6988 0100007F:0035 01 00000000:00000000 00:00000000 00000000     0        0 4712 2 0000000000000000 0
"""  # noqa: E501 - as the kernel writes it
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0200000A:6987 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4713 1 0000000000000000 100 0 0 10 0
   1: 0200000A:6987 0100000A:C001 01 00000000:00000000 02:000005DC 00000000  1000        0 4714 2 0000000000000000 20 4 30 10 -1
   2: 0200000A:6987 0100000A:C002 06 00000000:00000000 03:000005DC 00000000     0        0 0 3 0000000000000000
"""  # noqa: E501
TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:6987 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4715 1 0000000000000000 100 0 0 10 0
   1: 00000000000000000000000001000000:6987 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4716 1 0000000000000000 100 0 0 10 0
   2: 0000000000000000FFFF00000200000A:6987 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4717 1 0000000000000000 100 0 0 10 0
"""  # noqa: E501

# Becomes another account's program that holds a port as a game does: in its own user and mount namespaces,
# without any capability. Modules that Python would import later are out of that account's reach.
GAME = """
import ctypes, encodings.ascii, os, socket, sys, warnings
from hostops.linux.namespaces import drop_privileges, enter_namespaces
port, uid = map(int, sys.argv[1:])
os.setresuid(uid, uid, uid)
ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE: or /proc/self is root's until the exec
held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
held.bind(("127.0.0.1", port))
os.set_inheritable(held.fileno(), True)
enter_namespaces()
drop_privileges()
os.execvp("sleep", ["sleep", "60"])
"""
LOOK = """
import encodings.ascii, os, sys
from hostops.linux import socket_diag, sockets
inode, uid = map(int, sys.argv[1:])
os.setresuid(uid, uid, uid)
print(sockets.find_processes([inode]).get(inode, []))
"""


@pytest.mark.skipif(sys.byteorder != "little", reason="the texts are a little-endian machine's")
def test_a_table_is_read_as_the_kernel_writes_it() -> None:
    assert list(sockets.parse_table(UDP, Protocol.UDP)) == [
        BoundSocket(Protocol.UDP, WILDCARD, 27015, 1000, 4711),
        BoundSocket(Protocol.UDP, "127.0.0.1", 27016, 0, 4712),
    ]
    assert list(sockets.parse_table(TCP6, Protocol.TCP)) == [
        BoundSocket(Protocol.TCP, "::", 27015, 0, 4715),
        BoundSocket(Protocol.TCP, "::1", 27015, 0, 4716),
        BoundSocket(Protocol.TCP, "10.0.0.2", 27015, 0, 4717),
    ]


@pytest.mark.skipif(sys.byteorder != "little", reason="the texts are a little-endian machine's")
def test_a_connection_is_not_taken_for_somebody_who_listens() -> None:
    assert [one.inode for one in sockets.parse_table(TCP, Protocol.TCP)] == [4713]


@pytest.mark.parametrize(
    ("held", "wanted", "is_in_the_way"),
    [
        (WILDCARD, WILDCARD, True),
        (WILDCARD, "10.0.0.2", True),
        ("10.0.0.2", WILDCARD, True),
        ("10.0.0.2", "10.0.0.2", True),
        ("10.0.0.3", "10.0.0.2", False),
        ("::", "10.0.0.2", True),
        ("::1", WILDCARD, True),
    ],
)
def test_it_tells_which_addresses_are_in_each_others_way(
    held: str, wanted: str, is_in_the_way: bool
) -> None:
    one = BoundSocket(Protocol.UDP, held, 27015, 0, 1)
    assert one.is_in_the_way_of(wanted) is is_in_the_way


@pytest.mark.parametrize(
    ("family", "kind", "address", "shown"),
    [
        (socket.AF_INET, socket.SOCK_DGRAM, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET, socket.SOCK_STREAM, "", WILDCARD),
        (socket.AF_INET6, socket.SOCK_DGRAM, "::", "::"),
        (socket.AF_INET6, socket.SOCK_STREAM, "::ffff:127.0.0.1", "127.0.0.1"),
    ],
)
def test_a_socket_is_found_in_the_tables_with_its_process(
    family: socket.AddressFamily, kind: socket.SocketKind, address: str, shown: str
) -> None:
    port = find_free_port()
    with socket.socket(family, kind) as held:
        held.bind((address, port))
        if kind is socket.SOCK_STREAM:
            held.listen()
        found = [one for one in sockets.read_bound() if one.port == port]
        inode = os.fstat(held.fileno()).st_ino
        protocol = Protocol.UDP if kind is socket.SOCK_DGRAM else Protocol.TCP
        assert found == [BoundSocket(protocol, shown, port, os.geteuid(), inode)]
        assert sockets.find_processes([inode]) == {inode: [os.getpid()]}
    assert not [one for one in sockets.read_bound() if one.port == port]


@pytest.mark.parametrize("reason", [PermissionError(1, "refused"), FileNotFoundError(2, "unknown")])
def test_listening_sockets_are_found_without_netlink_too(
    reason: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_family: socket.AddressFamily) -> list[tuple[bytes, int, int, int]]:
        raise reason

    with (
        socket.create_server((WILDCARD, 0)) as one,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as other,
    ):
        ports = {held.getsockname()[1] for held in (one, other)}
        asked = [held for held in sockets.read_bound() if held.port in ports]
        monkeypatch.setattr(sockets, "read_listening", refuse)
        assert [held for held in sockets.read_bound() if held.port in ports] == asked
        assert {(held.address, held.uid) for held in asked} == {
            (WILDCARD, os.geteuid()),
            ("::1", os.geteuid()),
        }


def test_netlink_tells_why_it_does_not_answer() -> None:
    # The kernel does not know this family.
    with pytest.raises(OSError, match=r"Invalid argument|No such file"):
        list(socket_diag.read_listening(socket.AF_UNSPEC))


def test_more_listening_sockets_than_fit_in_one_answer_are_all_found() -> None:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(600)]
        inodes = {os.fstat(one.fileno()).st_ino for one in held}
        assert inodes <= {one.inode for one in sockets.read_bound(is_ipv4_alone=True)}


def test_a_name_is_printable_whatever_a_process_calls_itself() -> None:
    program = 'open("/proc/self/comm", "wb").write(b"a\\x1b[2Jb\\xff"); print("named", flush=True); input()'
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    read_until(process, "named")
    assert sockets.read_name(process.pid) == "a�[2Jb�"
    process.communicate("\n")
    assert sockets.read_name(process.pid) == ""


def look_as(uid: int, inode: int) -> str:
    """Return the holder of a socket as the account `uid` sees it."""
    argv = [sys.executable, "-c", LOOK, str(inode), str(uid)]
    return subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout


def test_an_account_sees_into_its_own_games_and_into_nobody_elses() -> None:
    # Root sees everything, which would prove nothing; without root there is no other account to be.
    own, other = (61_183, 61_184) if os.geteuid() == 0 else (os.geteuid(), None)
    port = find_free_port()
    argv = [sys.executable, "-c", GAME, str(port), str(own)]
    with subprocess.Popen(argv, cwd=REPOSITORY) as game:
        try:
            wait_until(lambda: sockets.read_name(game.pid) == "sleep", 10, "the game does not run")
            (held,) = [one for one in sockets.read_bound() if one.port == port]
            assert held.uid == own
            assert look_as(own, held.inode) == f"[{game.pid}]\n"
            if other is not None:
                assert look_as(other, held.inode) == "[]\n"
        finally:
            game.kill()


def test_a_process_that_is_gone_has_no_sockets() -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    assert not Path(f"/proc/{process.pid}").exists()
    assert sockets.inodes_of(process.pid) == frozenset()


def test_a_file_with_a_path_too_long_to_tell_hides_no_socket(tmp_path: Path) -> None:
    """Any game can open one, and its host checks what every process has open."""
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(17):
            os.mkdir("x" * 255, dir_fd=folder)
            deeper = os.open("x" * 255, os.O_RDONLY, dir_fd=folder)
            os.close(folder)
            folder = deeper
        with socket.socket() as held:
            inode = os.fstat(held.fileno()).st_ino
            assert inode in sockets.inodes_of(os.getpid())
            assert sockets.find_processes({inode}) == {inode: [os.getpid()]}
    finally:
        os.close(folder)


def test_the_address_that_is_found_is_one_of_this_machine() -> None:
    address = sockets.find_own_address()
    assert sockets.is_own_address(address)
    assert not sockets.is_own_address("198.51.100.77")


def test_without_a_default_route_it_is_an_interfaces_address_and_not_loopback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class NoRoute(socket.socket):
        def connect(self, address: object) -> None:
            raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "socket", NoRoute)
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo")])
    assert sockets.find_own_address() == "127.0.0.1", "loopback is all there is"
    monkeypatch.setattr(sockets, "_interface_addresses", lambda _: iter(["10.0.0.5", "10.0.0.6"]))
    assert sockets.find_own_address() == "10.0.0.5"
