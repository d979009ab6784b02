"""The RCON client, over bytes and against servers that answer as they should not."""

import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from hostops.query import rcon
from hostops.query.rcon import Packet, RconError

GRANTED = Packet(1, 0).encode() + Packet(1, 2).encode()
REFUSED = Packet(1, 0).encode() + Packet(-1, 2).encode()
END = Packet(3, 0).encode() + Packet(3, 0, b"\0\0\0\1\0\0\0\0").encode()


def test_a_packet_is_encoded_as_the_protocol_has_it() -> None:
    assert Packet(7, 2, b"status").encode() == (
        b"\x10\x00\x00\x00\x07\x00\x00\x00\x02\x00\x00\x00status\x00\x00"
    )


def test_a_packet_is_parsed_and_the_rest_kept() -> None:
    data = Packet(7, 0, "hôte".encode()).encode()
    packet = Packet(7, 0, "hôte".encode())
    assert rcon.parse_packet(data + b"rest") == (packet, len(data))
    assert rcon.parse_packet(b"before" + data + b"rest", 6) == (packet, 6 + len(data))
    assert rcon.parse_packet(b"before" + data[:-1], 6) is None


def test_an_incomplete_packet_is_waited_for() -> None:
    data = Packet(7, 0, b"status").encode()
    assert all(rcon.parse_packet(data[:length]) is None for length in range(len(data)))


@pytest.mark.parametrize("size", [-1, 0, 9, 65537, 1213486160])
def test_a_size_that_cannot_be_is_an_rcon_error(size: int) -> None:
    with pytest.raises(RconError, match=f"a packet of {size} bytes, which is not RCON"):
        rcon.parse_packet(struct.pack("<i", size) + bytes(100))


def test_random_bytes_are_never_anything_but_an_rcon_error() -> None:
    source = random.Random(27015)
    for _ in range(3000):
        data = source.randbytes(source.randrange(40))
        if source.random() < 0.5:
            data = struct.pack("<i", source.randrange(10, 40)) + data
        try:
            rcon.parse_packet(data)
        except RconError:
            continue


@contextmanager
def server_that_does(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Run a TCP server that calls `serve(connection)` for its one client; yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(20)
                serve(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join()


def read_packets(connection: socket.socket, count: int) -> list[Packet]:
    packets: list[Packet] = []
    data = b""
    while len(packets) < count:
        data += connection.recv(4096)
        while parsed := rcon.parse_packet(data):
            packet, end = parsed
            data = data[end:]
            packets.append(packet)
    return packets


def answering(*answers: bytes) -> Callable[[socket.socket], None]:
    """Return a server function that grants access and sends `answers`, one TCP segment each."""

    def serve(connection: socket.socket) -> None:
        read_packets(connection, 1)
        connection.sendall(GRANTED)
        read_packets(connection, 2)
        for answer in answers:
            connection.sendall(answer)

    return serve


def test_the_password_and_the_command_are_sent_and_the_answer_comes_back() -> None:
    seen: list[Packet] = []

    def serve(connection: socket.socket) -> None:
        seen.extend(read_packets(connection, 1))
        connection.sendall(GRANTED)
        seen.extend(read_packets(connection, 2))
        connection.sendall(Packet(2, 0, b"hostname: x\n").encode() + END)

    with server_that_does(serve) as port:
        assert rcon.execute("127.0.0.1", port, "pässword", "status", 5) == "hostname: x\n"
    assert seen == [Packet(1, 3, "pässword".encode()), Packet(2, 2, b"status"), Packet(3, 0)]


def test_an_answer_in_many_packets_and_pieces_is_put_together() -> None:
    answer = "".join(f"line {number} ë\n" for number in range(2000)).encode()
    stream = b"".join(
        Packet(2, 0, answer[start : start + 4001]).encode() for start in range(0, len(answer), 4001)
    )
    pieces = [stream[start : start + 999] for start in range(0, len(stream), 999)]
    with server_that_does(answering(*pieces, END)) as port:
        assert rcon.execute("127.0.0.1", port, "x", "cvarlist", 5) == answer.decode()


def test_packets_of_others_in_between_are_passed_over() -> None:
    other = Packet(99, 0, b"not ours").encode()
    with server_that_does(answering(other, Packet(2, 0, b"ours").encode(), other, END)) as port:
        assert rcon.execute("127.0.0.1", port, "x", "status", 5) == "ours"


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    with server_that_does(answering(Packet(2, 0, b"\xff!").encode(), END)) as port:
        assert rcon.execute("127.0.0.1", port, "x", "status", 5) == "�!"


def test_a_wrong_password_is_told_without_repeating_it() -> None:
    def serve(connection: socket.socket) -> None:
        read_packets(connection, 1)
        connection.sendall(REFUSED)

    with (
        server_that_does(serve) as port,
        pytest.raises(RconError, match="The server refused the password") as caught,
    ):
        rcon.execute("127.0.0.1", port, "hunter2", "status", 5)
    assert "hunter2" not in str(caught.value)
    assert f"127.0.0.1:{port}" in str(caught.value)


def test_a_closed_connection_is_told() -> None:
    with (
        server_that_does(answering(Packet(2, 0, b"half").encode())) as port,
        pytest.raises(RconError, match="closed the connection before it answered"),
    ):
        rcon.execute("127.0.0.1", port, "x", "quit", 5)


def test_something_that_is_not_rcon_is_told() -> None:
    def serve(connection: socket.socket) -> None:
        read_packets(connection, 1)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with server_that_does(serve) as port, pytest.raises(RconError, match="which is not RCON"):
        rcon.execute("127.0.0.1", port, "x", "status", 5)


def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rcon, "MAX_ANSWER_BYTES", 10)
    with (
        server_that_does(answering(Packet(2, 0, b"eleven chars").encode())) as port,
        pytest.raises(RconError, match="longer than 10 bytes"),
    ):
        rcon.execute("127.0.0.1", port, "x", "status", 5)


def test_a_silent_server_is_told_in_time() -> None:
    done = threading.Event()

    def serve(connection: socket.socket) -> None:
        done.wait(20)

    with server_that_does(serve) as port:
        try:
            with pytest.raises(RconError, match=r"did not answer within 0\.1 seconds"):
                rcon.execute("127.0.0.1", port, "x", "status", 0.1)
        finally:
            done.set()


def test_a_closed_port_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(RconError, match="no server has this TCP port open"):
        rcon.execute("127.0.0.1", port, "x", "status", 5)


def test_an_unknown_address_is_an_rcon_error() -> None:
    with pytest.raises(RconError, match=r"RCON at no-such-host\.invalid:27015 failed"):
        rcon.execute("no-such-host.invalid", 27015, "x", "status", 1)


@pytest.mark.parametrize("command", ["say hi\nquit", "say \0", "say\x1b[2J"])
def test_a_command_with_a_control_character_is_a_value_error(command: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        rcon.execute("127.0.0.1", 27015, "x", command, 1)


def test_a_command_that_is_too_long_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="has 4087 bytes; RCON takes at most 4086"):
        rcon.execute("127.0.0.1", 27015, "x", "x" * 4087, 1)
