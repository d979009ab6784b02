"""A Steam Guard code is requested while SteamCMD waits for it, typed at its terminal, and shown nowhere."""

import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from hostops.callbacks import Callbacks
from hostops.errors import HostError, OperationCancelled
from hostops.host import Host
from hostops.specs import STEAM_GUARD_STAGE, CancelToken, SteamAccount
from hostops.steam.run_output import Output as RunOutput
from hostops.steam.steam_guard import MAX_CODES, SteamGuard
from tests.hostops.hosts import BUILD_ID, CLI, REPOSITORY, Output, installers, write_control
from tests.waiting import wait_until

PASSWORD = "correct horse"


def owner(root: Path, password: str = PASSWORD) -> Host:
    return Host(root, game_source="simulator", steam_account=SteamAccount("kim", password))


def giver(*codes: str | None) -> tuple[Callable[[], str | None], list[str | None]]:
    """Return a function that gives one code after the other, and the list of those it has given."""
    left: Iterator[str | None] = iter(codes)
    given: list[str | None] = []

    def give() -> str | None:
        given.append(next(left))
        return given[-1]

    return give, given


@pytest.mark.parametrize("guard", ["email", "app"])
def test_an_install_asks_for_a_code_and_the_login_is_kept(empty_root: Path, guard: str) -> None:
    write_control(empty_root, steamcmd={"guard": guard, "guard_code": "XYZ99"})
    output = Output()
    ask_code, given = giver("xyz99")
    build_id = owner(empty_root).install_runtime(
        ask_code=ask_code, on_line=output.on_line, on_stage=output.on_stage
    )
    assert build_id == BUILD_ID
    assert given == ["xyz99"]
    assert "Steam asks for a Steam Guard code of kim." in output.text
    stages = [name for name, _ in output.stages]
    assert stages.index(STEAM_GUARD_STAGE) < stages.index("Signing in to Steam")
    # The terminal does not show what is typed.
    assert "XYZ99" not in output.text.upper()
    write_control(empty_root, steamcmd={"guard": guard, "build_id": str(int(BUILD_ID) + 1)})
    nobody, asked = giver()
    owner(empty_root, password="").install_runtime(ask_code=nobody)
    assert asked == []


def test_a_wrong_code_is_told_and_another_one_asked_for(empty_root: Path) -> None:
    write_control(empty_root, steamcmd={"guard": "app"})
    output = Output()
    ask_code, given = giver("WRONG", "ABC12")
    owner(empty_root).install_runtime(ask_code=ask_code, on_line=output.on_line)
    assert given == ["WRONG", "ABC12"]
    assert "Steam refused that code." in output.errors()


def test_codes_are_not_guessed_without_end(empty_root: Path) -> None:
    write_control(empty_root, steamcmd={"guard": "email"})
    ask_code, given = giver(*["WRONG"] * 10)
    with pytest.raises(HostError, match=r"Steam refused the Steam Guard code: install again"):
        owner(empty_root).install_runtime(ask_code=ask_code)
    assert len(given) == MAX_CODES


def test_without_a_code_the_install_fails_and_says_what_to_do(empty_root: Path) -> None:
    write_control(empty_root, steamcmd={"guard": "email"})
    with pytest.raises(HostError, match=r"nobody entered one in time.*l4d2ctl steam-login"):
        owner(empty_root).install_runtime(ask_code=lambda: None)
    # Even if nobody can be asked at all.
    with pytest.raises(HostError, match=r"asks for a Steam Guard code.*l4d2ctl steam-login"):
        owner(empty_root).install_runtime()
    assert not installers(empty_root)


def test_a_cancel_ends_the_wait_for_a_code(empty_root: Path) -> None:
    write_control(empty_root, steamcmd={"guard": "email"})
    cancel = CancelToken()

    def ask_code() -> str | None:
        cancel.cancel()
        cancel.raise_if_cancelled()
        return None

    with pytest.raises(OperationCancelled):
        owner(empty_root).install_runtime(ask_code=ask_code, cancel=cancel)
    assert not installers(empty_root)


def test_a_confirmation_in_the_app_needs_no_code(empty_root: Path) -> None:
    write_control(empty_root, steamcmd={"guard": "confirmation"})
    output = Output()
    ask_code, given = giver()
    owner(empty_root).install_runtime(
        ask_code=ask_code, on_line=output.on_line, on_stage=output.on_stage
    )
    assert given == []
    assert "Waiting for a confirmation in the Steam app" in [name for name, _ in output.stages]
    assert "Confirm the login of kim in the Steam app on its owner's phone." in output.text


def test_a_password_that_steamcmd_asks_for_is_nothing_to_wait_for(empty_root: Path) -> None:
    write_control(empty_root, steamcmd={"guard": "email"})
    with pytest.raises(HostError, match=r"asks for the password of kim.*l4d2ctl steam-login"):
        owner(empty_root, password="").install_runtime(ask_code=lambda: "ABC12")


def test_a_login_by_hand_is_kept_for_jobs_and_neither_password_nor_code_is_left(
    empty_root: Path,
) -> None:
    write_control(empty_root, steamcmd={"guard": "app", "guard_code": "XYZ99"})
    output = Output()
    ask_code, given = giver("WRONG", "XYZ99")
    owner(empty_root).steam_login(ask_code=ask_code, on_line=output.on_line)
    assert len(given) == 2
    assert "SteamCMD keeps the login of kim" in output.text
    control = json.loads((empty_root / "simulator.json").read_text())
    assert control["steamcmd"]["guard_code"] == "XYZ99"
    (empty_root / "simulator.json").write_text("{}")
    left = b"".join(path.read_bytes() for path in empty_root.rglob("*") if path.is_file())
    assert PASSWORD.encode() not in left
    assert b"XYZ99" not in left
    write_control(empty_root, steamcmd={"guard": "app"})
    assert owner(empty_root, password="").install_runtime() == BUILD_ID


def test_a_login_with_a_wrong_password_is_explained(empty_root: Path) -> None:
    write_control(empty_root, steamcmd={"fail": "login-failed"})
    with pytest.raises(HostError, match="does not know this account with this password"):
        owner(empty_root).steam_login(ask_code=lambda: None)


def test_l4d2ctl_asks_on_the_terminal_and_shows_nothing_of_it(empty_root: Path) -> None:
    write_control(empty_root, steamcmd={"guard": "app", "guard_code": "XYZ99"})
    with Terminal([sys.executable, "-m", "hostops", "steam-login", "kim"], empty_root) as terminal:
        terminal.answer("Password of kim at Steam:", PASSWORD)
        terminal.answer("Steam Guard code: ", "XYZ99")
        assert terminal.wait() == 0, terminal.seen
    assert "SteamCMD keeps the login of kim" in terminal.seen
    assert PASSWORD not in terminal.seen
    assert "XYZ99" not in terminal.seen


class Terminal:
    """A command whose only terminal is one that this class reads and types at."""

    def __init__(self, argv: list[str], root: Path) -> None:
        self.seen = ""
        self._master, slave = pty.openpty()
        environment = CLI(root).environment
        self._process = subprocess.Popen(
            argv,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=REPOSITORY,
            env=environment,
            start_new_session=True,
        )
        os.close(slave)

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """End what is left of it."""
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def answer(self, prompt: str, text: str) -> None:
        """Type a line once a prompt is at the end of what has been printed."""
        wait_until(
            lambda: self._read().rstrip().endswith(prompt.rstrip()), 60, f"{prompt!r} is asked"
        )
        os.write(self._master, f"{text}\n".encode())

    def wait(self) -> int | None:
        """Return the exit code of the command, once it has ended."""

        def has_ended() -> bool:
            self._read()
            return self._process.poll() is not None

        wait_until(has_ended, 60, "the command ends")
        self._read()
        return self._process.returncode

    def _read(self) -> str:
        while select.select([self._master], [], [], 0)[0]:
            try:
                self.seen += os.read(self._master, 4096).decode(errors="replace")
            except OSError:  # EIO: its last process is gone.
                break
        return self.seen


@pytest.mark.parametrize(
    ("prompt", "is_asked"),
    [
        ("Steam Guard code:", True),
        ("Two-factor code: ", True),
        ("Enter the current code from your Steam Guard Mobile Authenticator app", False),
        (" code from that message.", False),
        ("Steam Guard code:FAILED (Invalid Login Auth Code)", False),
        ("Steam>", False),
    ],
)
def test_only_a_prompt_for_a_code_is_answered(prompt: str, is_asked: bool) -> None:
    guard = SteamGuard("kim", lambda: "ABC12", Callbacks())
    assert guard.answer(prompt, RunOutput(Callbacks())) == ("ABC12" if is_asked else None)


@pytest.mark.parametrize("code", ["AB", "quit\nquit", "ABC 12", "A" * 40])
def test_what_is_no_code_is_not_typed(code: str) -> None:
    guard = SteamGuard("kim", lambda: code, Callbacks())
    with pytest.raises(HostError, match="no Steam Guard code"):
        guard.answer("Steam Guard code:", RunOutput(Callbacks()))
