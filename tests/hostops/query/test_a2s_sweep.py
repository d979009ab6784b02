"""Querying many servers at once: who answers, who does not, and whose answers must be ignored."""

import socket
from contextlib import ExitStack, closing

import pytest

from hostops.query.a2s import MOST_CHALLENGES, ServerInfo
from hostops.query.a2s_sweep import Sweep
from tests.hostops.query.test_a2s import INFO, server_that_answers
from tests.waiting import wait_until

ANSWER = b"\xff\xff\xff\xffI" + INFO
CHALLENGE = b"\xff\xff\xff\xffAwxyz"
BUSY_SECONDS = 2.0
"""What a thread that answers may need on a busy machine; a sweep with a silent server takes all of it."""


def ask(*ports: int, timeout_seconds: float = 5) -> dict[int, ServerInfo]:
    """Return the result of a sweep of `ports`."""
    with closing(Sweep(dict.fromkeys(ports, "127.0.0.1"), timeout_seconds)) as sweep:
        wait_until(sweep.collect, 10, "the sweep does not end")
        return sweep.answers


def test_all_are_asked_at_once_and_told_apart() -> None:
    with ExitStack() as servers:
        ports = [servers.enter_context(server_that_answers(lambda *_: [ANSWER])) for _ in range(20)]
        answers = ask(*ports)
    assert answers.keys() == set(ports)
    assert {(info.players, info.map) for info in answers.values()} == {(3, "c7m1_docks")}


def test_each_is_asked_at_its_own_address() -> None:
    with (
        server_that_answers(lambda *_: [ANSWER]) as here,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other,
    ):
        other.bind(("::1", 0))
        other_port = other.getsockname()[1]
        with closing(Sweep({here: "127.0.0.1", other_port: "::1"}, 5)) as sweep:
            _, client = other.recvfrom(2048)
            other.sendto(ANSWER, client)
            wait_until(sweep.collect, 10, "the sweep does not end")
            assert sweep.answers.keys() == {here, other_port}


@pytest.mark.parametrize(
    "is_at_the_servers_port", [True, False], ids=["other address", "other port"]
)
def test_an_answer_from_a_stranger_is_passed_over(is_at_the_servers_port: bool) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
    ):
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        stranger.bind(("127.0.0.2", port) if is_at_the_servers_port else ("127.0.0.1", 0))
        with closing(Sweep({port: "127.0.0.1"}, 0.2)) as sweep:
            _, client = silent.recvfrom(2048)
            stranger.sendto(ANSWER, client)
            wait_until(sweep.collect, 10, "the sweep does not end")
            assert sweep.answers == {}


def test_a_server_whose_address_nobody_knows_is_silent_and_the_others_are_asked() -> None:
    with server_that_answers(lambda *_: [ANSWER]) as port:
        addresses = {port: "127.0.0.1", 27015: "no-such-host.invalid"}
        with closing(Sweep(addresses, 5)) as sweep:
            wait_until(sweep.collect, 10, "the sweep does not end")
            assert sweep.answers.keys() == {port}


def test_a_challenge_is_answered_and_an_answer_in_parts_is_joined() -> None:
    def answer(request: bytes, _: int) -> list[bytes]:
        if not request.endswith(b"wxyz"):
            return [CHALLENGE]
        head = b"\xfe\xff\xff\xff\x07\x00\x00\x00\x02"
        return [
            head + b"\x01" + b"\xb0\x04" + ANSWER[30:],
            head + b"\x00" + b"\xb0\x04" + ANSWER[:30],
        ]

    with server_that_answers(answer) as port:
        assert ask(port)[port].map == "c7m1_docks"


def test_a_server_that_sends_without_end_takes_no_time_and_no_room_from_another() -> None:
    part = b"\xfe\xff\xff\xff\x07\x00\x00\x00\x02\x00\xb0\x04"
    with (
        server_that_answers(lambda *_: [part] * 2000) as flooding,
        server_that_answers(lambda *_: [ANSWER]) as fine,
        closing(Sweep(dict.fromkeys((flooding, fine), "127.0.0.1"), BUSY_SECONDS)) as sweep,
    ):
        wait_until(sweep.collect, 10, "the sweep does not end")
        assert sweep.answers.keys() == {fine}


def test_a_lost_answer_is_asked_for_again() -> None:
    with server_that_answers(lambda _, number: [ANSWER] if number else []) as port:
        assert port in ask(port, timeout_seconds=BUSY_SECONDS)


def test_a_silent_a_closed_and_a_confused_server_keep_nobody_waiting() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        closed_port = closed.getsockname()[1]
    with (
        server_that_answers(lambda *_: []) as silent,
        server_that_answers(lambda *_: [b"\xff\xff\xff\xffI\x11cut"]) as confused,
        server_that_answers(lambda *_: [ANSWER]) as fine,
    ):
        asked = (closed_port, silent, confused, fine)
        assert ask(*asked, timeout_seconds=BUSY_SECONDS).keys() == {fine}


def test_who_answers_with_challenges_alone_is_not_asked_for_ever() -> None:
    requests = []

    def answer(request: bytes, _: int) -> list[bytes]:
        requests.append(request)
        return [CHALLENGE]

    with server_that_answers(answer) as port:
        assert ask(port, timeout_seconds=BUSY_SECONDS) == {}
    # The first query and a second one half-way, each with answers to that many challenges.
    assert len(requests) == 2 * (1 + MOST_CHALLENGES)


def test_a_sweep_of_nobody_is_over_at_once() -> None:
    assert ask() == {}
