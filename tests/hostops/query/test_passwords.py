"""A server is asked for its passwords for a few seconds at most, and not after a cancel."""

import socket
import threading

import pytest

from hostops.query import passwords, rcon
from hostops.specs import CancelToken
from tests.ports import find_free_port

HOST = "127.0.0.1"


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_PAUSE_SECONDS", 0.01)


def answer_with(monkeypatch: pytest.MonkeyPatch, *answers: str | rcon.RconError) -> list[str]:
    """Let RCON answer with these, one after another; return the passwords that it is given."""
    left, given = list(answers), []

    def execute(address: str, port: int, password: str, command: str, seconds: float) -> str:
        assert 0 < seconds <= passwords.SECONDS
        given.append(password)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(rcon, "execute", execute)
    return given


def find_fault(join_password: str = "", cancel: CancelToken | None = None) -> str:
    return passwords.find_fault(HOST, 27015, "hunter2", join_password, cancel or CancelToken())


@pytest.mark.parametrize(
    "answer",
    [
        '"sv_password" = "sesame" ( def. "" )\n notify\n - Server password\n',
        '"sv_password" = "sesame"\n',
    ],
)
def test_passwords_that_hold_are_no_fault(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    assert answer_with(monkeypatch, answer) == []
    assert find_fault("sesame") == ""


def test_a_join_password_that_saferoom_does_not_set_is_not_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer_with(monkeypatch, '"sv_password" = "of a pack"\n')
    assert find_fault() == ""


@pytest.mark.parametrize("value", ["", "sesame2", "sesam"])
def test_another_join_password_is_told_without_it(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    answer_with(monkeypatch, *[f'"sv_password" = "{value}" ( def. "" )\n'] * 3)
    fault = find_fault("sesame")
    assert "another join password" in fault
    assert "sesame" not in fault


def test_a_server_that_has_not_read_its_config_yet_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = answer_with(monkeypatch, rcon.PasswordRefusedError("no"), rcon.RconError("no"), "")
    assert find_fault() == ""
    assert given == ["hunter2"] * 3


def test_a_wrong_password_is_not_tried_so_often_that_the_engine_bans_us(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = answer_with(monkeypatch, *[rcon.PasswordRefusedError("no")] * 9)
    assert "does not take the RCON password" in find_fault()
    assert len(given) < 5


def test_a_server_that_cannot_be_asked_is_told_with_the_cause() -> None:
    fault = passwords.find_fault(HOST, find_free_port(), "hunter2", "", CancelToken())
    assert "is not known" in fault
    assert "refused the connection" in fault


def test_a_cancel_ends_the_waiting_for_a_server_that_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(passwords, "SECONDS", 3600.0)  # Longer than any test may take.
    cancel = CancelToken()
    with socket.create_server((HOST, 0)) as silent:
        port = silent.getsockname()[1]
        threading.Timer(0.1, cancel.cancel).start()
        assert passwords.find_fault(HOST, port, "hunter2", "", cancel) == ""
        assert cancel.is_cancelled
