"""A Steam account's password reaches SteamCMD, and nobody else."""

from pathlib import Path

import pytest

from hostops.callbacks import Callbacks
from hostops.errors import HostError, OperationCancelled
from hostops.host import Host
from hostops.linux.process_identity import living_processes
from hostops.specs import CancelToken, SteamAccount
from hostops.steam import steamcmd
from hostops.steam.staging import PlainFolder
from hostops.steam.steamcmd import SteamCmd
from tests.hostops.hosts import BUILD_ID, Output, write_control

PASSWORD = "correct horse'$(id)"


def owner(root: Path, **account: object) -> Host:
    return Host(
        root,
        game_source="simulator",
        steam_account=SteamAccount("kim", **{"password": PASSWORD, **account}),  # type: ignore[arg-type]
    )


def everything_below(root: Path) -> bytes:
    return b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())


def test_an_owner_gets_the_linux_files_at_once(empty_root: Path) -> None:
    output = Output()
    assert owner(empty_root).install_runtime(on_line=output.on_line) == BUILD_ID
    assert "Logging in user 'kim' to Steam Public...OK" in output.text
    assert "windows" not in output.text


def test_the_password_is_in_no_argument_no_output_and_no_file_afterwards(
    empty_root: Path,
) -> None:
    write_control(empty_root, steamcmd={"fail": ["stall"]})
    output, cancel = Output(), CancelToken()
    seen: list[bytes] = []
    modes: list[int] = []

    def look() -> None:
        for process in living_processes():
            try:
                seen.append(Path(f"/proc/{process.pid}/cmdline").read_bytes())
                seen.append(Path(f"/proc/{process.pid}/environ").read_bytes())
            except OSError:
                continue
        modes.extend(path.stat().st_mode & 0o777 for path in (empty_root / "home").glob(".steam*"))
        cancel.cancel()

    output.when("Downloading", look)
    with pytest.raises(OperationCancelled):
        owner(empty_root).install_runtime(**output.callbacks, cancel=cancel)  # type: ignore[arg-type]
    assert any(b"+runscript" in text for text in seen)
    assert not any(PASSWORD.encode() in text for text in seen)
    assert modes == [0o600]
    assert PASSWORD not in output.text
    assert PASSWORD.encode() not in everything_below(empty_root)


def test_what_a_killed_caller_left_is_removed(empty_root: Path) -> None:
    (empty_root / "home").mkdir()
    leftover = empty_root / "home" / ".steamcmd-login-old.txt"
    leftover.write_text(f'login "kim" "{PASSWORD}"')
    Host(empty_root, game_source="simulator").install_runtime()
    assert not leftover.exists()


def test_a_password_that_steamcmd_prints_is_masked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def print_it(_argv: list[str], **options: object) -> None:
        on_line = options["on_line"]
        assert callable(on_line)
        on_line("stdout", f'Unknown command login "kim" "{PASSWORD}"')

    monkeypatch.setattr(steamcmd, "run", print_it)
    tool = SteamCmd(("/opt/steamcmd.sh",), {"HOME": str(tmp_path)}, SteamAccount("kim", PASSWORD))
    output = Output()
    with pytest.raises(HostError):
        tool.install(PlainFolder(tmp_path / "game"), 9, Callbacks(output.on_line))
    assert output.lines == [("stdout", 'Unknown command login "kim" "[masked]"')]


def test_the_password_file_must_be_for_our_eyes_only(empty_root: Path, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    file.chmod(0o640)
    host = owner(empty_root, password="", password_file=file)
    with pytest.raises(HostError, match=f"can be read by others: chmod 600 {file}"):
        host.install_runtime()
    file.chmod(0o600)
    assert host.install_runtime() == BUILD_ID
    file.unlink()
    with pytest.raises(HostError, match=r"cannot be read: .*STEAM_PASSWORD_FILE"):
        host.install_runtime()


def test_a_password_is_not_shown_by_its_holder() -> None:
    assert PASSWORD not in repr(SteamAccount("kim", PASSWORD))


@pytest.mark.parametrize("text", ['quo"te', "line\nbreak"])
def test_what_cannot_be_written_to_a_script_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="quotation mark or a control character"):
        SteamAccount("kim", text)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "Logging in user 'kim' to Steam Public...FAILED (Invalid Password)",
            "check STEAM_ACCOUNT",
        ),
        ("FAILED (Account Logon Denied)", "Steam Guard code"),
        ("This account is protected by a Steam Guard mobile authenticator.", "Steam Guard code"),
    ],
)
def test_a_refused_login_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, words: str
) -> None:
    def print_it(_argv: list[str], **options: object) -> None:
        on_line = options["on_line"]
        assert callable(on_line)
        on_line("stdout", line)

    monkeypatch.setattr(steamcmd, "run", print_it)
    tool = SteamCmd(("/opt/steamcmd.sh",), {"HOME": str(tmp_path)}, SteamAccount("kim", PASSWORD))
    with pytest.raises(HostError, match=words):
        tool.install(PlainFolder(tmp_path / "game"), 9, Callbacks())
