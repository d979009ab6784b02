"""The parsers of A2S answers, over bytes; test_simulator_srcds.py asks a running server."""

import random
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from hostops.query import a2s
from hostops.query.a2s import Fragment, QueryError
from tests.waiting import wait_until

# As a Left 4 Dead 2 server sends it, from behind the letter I.
INFO = (
    b"\x11The Sacrifice\0c7m1_docks\0left4dead2\0Left 4 Dead 2\0"
    b"\x26\x02"  # 550
    b"\x03\x08\x01"
    b"dl\x00\x01"
    b"2.2.4.1\0"
    b"\xb1"
    b"\x87\x69"  # 27015
    b"\x01\x00\x00\x00\x00\x00\x40\x01"
    b"versus,secure\0"
    b"\x26\x02\x00\x00\x00\x00\x00\x00"
)


def test_an_info_answer_is_read_whole() -> None:
    info = a2s.parse_info(INFO)
    assert info == a2s.ServerInfo(
        name="The Sacrifice",
        map="c7m1_docks",
        folder="left4dead2",
        game="Left 4 Dead 2",
        app_id=550,
        players=3,
        max_players=8,
        bots=1,
        version="2.2.4.1",
        has_password=False,
        is_vac_secured=True,
        protocol=17,
        server_type="d",
        environment="l",
        port=27015,
        steam_id=0x0140000000000001,
        keywords="versus,secure",
    )


def test_an_info_answer_may_end_before_its_extra_data() -> None:
    info = a2s.parse_info(INFO[: INFO.index(b"\xb1")])
    assert (info.version, info.port, info.steam_id, info.keywords) == ("2.2.4.1", None, None, "")


def test_an_info_answer_with_source_tv_data_is_read() -> None:
    end = INFO.index(b"\xb1")
    info = a2s.parse_info(INFO[:end] + b"\x60" + b"\x8c\x69SourceTV\0" + b"coop\0")
    assert info.keywords == "coop"


def test_an_answer_that_is_cut_anywhere_is_a_query_error() -> None:
    for length in range(len(INFO)):
        if length == INFO.index(b"\xb1"):
            continue  # a whole answer without extra data
        with pytest.raises(QueryError, match="The answer ends in the middle of a"):
            a2s.parse_info(INFO[:length])


def test_random_bytes_are_never_anything_but_a_query_error() -> None:
    source = random.Random(550)
    for _ in range(3000):
        data = source.randbytes(source.randrange(80))
        for parse in (a2s.parse_info, a2s.parse_datagram):
            try:
                parse(data)
            except QueryError:
                continue


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    assert a2s.parse_info(INFO.replace(b"The Sacrifice", b"\xff\xfe")).name == "��"


def split(number: int, count: int, payload: bytes, answer_id: int = 7) -> bytes:
    return b"\xfe\xff\xff\xff" + struct.pack("<iBBH", answer_id, count, number, 1200) + payload


def test_a_whole_datagram_loses_its_header() -> None:
    assert a2s.parse_datagram(b"\xff\xff\xff\xffIrest") == b"Irest"


def test_a_split_datagram_is_a_fragment() -> None:
    assert a2s.parse_datagram(split(1, 3, b"abc")) == Fragment(7, 3, 1, b"abc")


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"", "no A2S header"),
        (b"\xff\xff\xff", "no A2S header"),
        (b"HTTP/1.1", "48 54 54 50, which is no A2S header"),
        (b"\xfe\xff\xff\xff\x01\x00", "middle of a number"),
        (split(3, 3, b"x"), "part 4 of 3"),
        (split(0, 0, b"x"), "part 1 of 0"),
        (split(0, 2, b"x", answer_id=-2147483641), "compressed"),
    ],
)
def test_a_malformed_datagram_says_why(datagram: bytes, reason: str) -> None:
    with pytest.raises(QueryError, match=reason):
        a2s.parse_datagram(datagram)


def test_fragments_make_an_answer_in_any_order_and_twice() -> None:
    first = Fragment(7, 3, 0, b"\xff\xff\xff\xffE")
    middle, last = Fragment(7, 3, 1, b"mid"), Fragment(7, 3, 2, b"end")
    assert a2s.join_fragments([last, first]) is None
    assert a2s.join_fragments([last, first, first]) is None
    assert a2s.join_fragments([last, first, middle]) == b"Emidend"


def test_what_is_kept_of_answers_in_parts_is_limited() -> None:
    assembly = a2s.Assembly()
    for _ in range(1000):
        assert assembly.add(split(0, 2, b"x" * 1000)) is None, "the same part again"
    for number in range(65):
        assert assembly.add(split(number, 255, b"x" * 1000, answer_id=8)) is None
    with pytest.raises(QueryError, match="too long"):
        assembly.add(split(65, 255, b"x" * 1000, answer_id=8))
    for answer_id in range(1000):
        assembly.add(split(0, 2, b"x" * 1000, answer_id))
    assert assembly.add(split(0, 2, b"\xff\xff\xff\xffE", 5000)) is None
    assert assembly.add(split(1, 2, b"nd", 5000)) == b"End"
    assert len(assembly._parts) <= 16


def test_a_server_that_sends_without_end_keeps_nobody_waiting() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        with closing(a2s.Inquiry(*server.getsockname())) as inquiry:
            inquiry.ask()
            _, client = server.recvfrom(2048)
            for _ in range(a2s.MOST_DATAGRAMS):
                server.sendto(split(0, 2, b"x"), client)
            server.sendto(b"\xff\xff\xff\xffI" + INFO, client)
            assert inquiry.collect() is None, "the rest is left for the next time"
            wait_until(lambda: select.select([inquiry], [], [], 0)[0], 10, "nothing is left")
            assert inquiry.collect()


def test_fragments_that_disagree_are_a_query_error() -> None:
    with pytest.raises(QueryError, match="disagree"):
        a2s.join_fragments([Fragment(7, 3, 0, b""), Fragment(7, 2, 1, b"")])


def test_fragments_of_something_else_are_a_query_error() -> None:
    with pytest.raises(QueryError, match="do not make an answer"):
        a2s.join_fragments([Fragment(7, 1, 0, b"hello")])


# The conversation, with servers that answer as they should not

Answer = Callable[[bytes, int], list[bytes]]


@contextmanager
def server_that_answers(answer: Answer) -> Iterator[int]:
    """Run a UDP server that answers each request with `answer(request, its number)`; yield its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def serve() -> None:
            number = 0
            while True:
                request, client = server.recvfrom(2048)
                if request == b"end":
                    return
                for datagram in answer(request, number):
                    server.sendto(datagram, client)
                number += 1

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ender:
                ender.sendto(b"end", server.getsockname())
            thread.join()


def test_an_old_server_without_a_challenge_is_understood() -> None:
    with server_that_answers(lambda *_: [b"\xff\xff\xff\xffI" + INFO]) as port:
        assert a2s.query_info("127.0.0.1", port, 5).name == "The Sacrifice"


def test_a_challenge_is_answered() -> None:
    requests = []

    def answer(request: bytes, number: int) -> list[bytes]:
        requests.append(request)
        return [b"\xff\xff\xff\xffAwxyz" if number == 0 else b"\xff\xff\xff\xffI" + INFO]

    with server_that_answers(answer) as port:
        a2s.query_info("127.0.0.1", port, 5)
    plain = b"\xff\xff\xff\xffTSource Engine Query\0"
    assert requests == [plain, plain + b"wxyz"]


def test_a_lost_answer_is_asked_for_again() -> None:
    asked: list[bytes] = []

    def answer(request: bytes, _: int) -> list[bytes]:
        asked.append(request)
        return [] if len(asked) == 1 else [b"\xff\xff\xff\xffI" + INFO]

    def find_map() -> str:
        asked.clear()  # Each try loses its first answer.
        try:
            return a2s.query_info("127.0.0.1", port, 1).map
        except QueryError:
            return ""  # On a busy machine the second answer may be late too.

    with server_that_answers(answer) as port:
        assert wait_until(find_map, 10, "it is not asked again") == "c7m1_docks"


def test_late_answers_to_other_questions_are_passed_over() -> None:
    of_rules = b"\xff\xff\xff\xffE\x01\x00sv_gravity\x00800\x00"
    datagrams = [of_rules, b"\xff\xff\xff\xff", b"\xff\xff\xff\xffI" + INFO]
    with server_that_answers(lambda *_: datagrams) as port:
        assert a2s.query_info("127.0.0.1", port, 5).map == "c7m1_docks"


def test_interleaved_answers_in_parts_are_told_apart() -> None:
    whole = b"\xff\xff\xff\xffI" + INFO
    datagrams = [split(1, 2, b"old", 6), split(1, 2, whole[9:]), split(0, 2, whole[:9])]
    with server_that_answers(lambda *_: datagrams) as port:
        assert a2s.query_info("127.0.0.1", port, 5).map == "c7m1_docks"


def test_a_silent_server_is_a_query_error_that_names_it() -> None:
    with (
        server_that_answers(lambda *_: []) as port,
        pytest.raises(QueryError, match=f"at 127.0.0.1:{port} did not answer a query within 0.1 s"),
    ):
        a2s.query_info("127.0.0.1", port, 0.1)


def test_a_malformed_answer_is_a_query_error_that_names_the_server() -> None:
    with (
        server_that_answers(lambda *_: [b"\xff\xff\xff\xffI\x11cut"]) as port,
        pytest.raises(QueryError, match=f"127.0.0.1:{port} gave a malformed answer"),
    ):
        a2s.query_info("127.0.0.1", port, 5)


def test_a_challenge_of_the_wrong_length_is_a_query_error() -> None:
    with (
        server_that_answers(lambda *_: [b"\xff\xff\xff\xffAxy"]) as port,
        pytest.raises(QueryError, match="The challenge has 2 bytes instead of 4"),
    ):
        a2s.query_info("127.0.0.1", port, 5)


def test_a_closed_port_is_told_at_once() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(QueryError, match="no server has this UDP port open"):
        a2s.query_info("127.0.0.1", port, 60)


def test_an_unknown_address_is_a_query_error() -> None:
    with pytest.raises(QueryError, match="cannot be queried"):
        a2s.query_info("no-such-host.invalid", 27015, 1)
