"""The command line does by hand what the panel does, with the same locks, and reports the outcome."""

import errno
import io
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from hostops.cli import _Printer, main
from hostops.host import Host
from hostops.specs import InstanceState
from tests.hostops.hosts import (
    CLI,
    game_pid,
    game_processes,
    installers,
    instance_of,
    latest_run,
    read_until,
    write_control,
)
from tests.ports import find_free_port
from tests.waiting import wait_until


def test_a_server_can_be_run_by_hand(cli: CLI, root: Path, tmp_path: Path) -> None:
    config = tmp_path / "server.cfg"
    config.write_text('hostname "By hand"\n')
    (root / "overlays" / "maps").mkdir()
    port = str(find_free_port())
    assert "no servers" in cli.succeed("status")
    cli.succeed(
        *("initialize", "alpha", "--port", port, "--overlay", "maps"),
        *("--argument=-insecure", "--argument", "+map", "--argument", "c2m1_highway"),
        *("--config", str(config), "--bind-address", "127.0.0.1"),
    )
    assert f"answers on port {port}" in cli.succeed("start", "alpha")
    status = json.loads(cli.succeed("status", "--json"))
    assert status["alpha"]["state"] == "running"
    assert json.loads(cli.succeed("status", "alpha", "--json")) == status
    assert "alpha" in cli.succeed("status")
    arguments = Path(f"/proc/{game_pid(root)}/cmdline").read_bytes().split(b"\0")
    assert arguments[-6:-1] == [b"-ip", b"127.0.0.1", b"-insecure", b"+map", b"c2m1_highway"]
    assert "Connection to Steam servers successful." in cli.succeed("logs", "alpha")
    assert "used by alpha" in cli.succeed("releases")
    cli.succeed("restart", "alpha")
    cli.succeed("stop", "alpha")
    cli.succeed("delete", "alpha")
    assert json.loads(cli.succeed("status", "--json")) == {}


def test_an_install_by_hand(empty_root: Path) -> None:
    cli = CLI(empty_root)
    assert "fully installed" in cli.succeed("install")
    assert "current" in cli.succeed("releases")
    assert "is the latest" in cli.succeed("install")
    done = cli.run("rollback")
    assert (done.returncode, done.stderr.splitlines()[-1][:26]) == (1, "There is no other release ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOST_DRIVER", "docker"),
        ("GAME_SOURCE", "torrent"),
        ("HOST_ADDRESS", "nowhere"),
        ("HOST_UNBOXED", "maybe"),
        ("STEAM_PASSWORD_FILE", "relative/file"),
    ],
)
def test_a_variable_that_is_wrong_is_named_in_one_line(cli: CLI, name: str, value: str) -> None:
    cli.environment[name] = value
    done = cli.run("status")
    assert done.returncode == 2
    assert done.stderr.startswith(f"{name} is '{value}', but must be ")
    assert done.stderr.count("\n") == 1


def test_a_failure_is_one_sentence_and_exit_code_1(cli: CLI) -> None:
    done = cli.run("start", "alpha")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("alpha has no files on this host")
    assert "Traceback" not in done.stderr
    assert cli.run("logs", "alpha").returncode == 1


def test_what_a_game_prints_gives_the_terminal_no_orders(cli: CLI, root: Path, alpha: Path) -> None:
    instance_of(root).console_log_path(1).write_bytes(
        b"red \x1b[31m title \x1b]0;owned\x07\ttab \xc2\x9b2J caf\xc3\xa9 \xe2\x80\xae\n"
    )
    lines = cli.succeed("logs", "alpha").splitlines()
    assert lines == [r"red \x1b[31m title \x1b]0;owned\x07" + "\t" + r"tab \x9b2J café \u202e"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["explode"],
        ["start"],
        ["start", "../alpha"],
        ["initialize", "alpha", "--port", "80"],
        ["initialize", "alpha", "--port", "27015", "--argument=-port"],
        ["initialize", "alpha", "--port", "27015", "--config", "/no/such/file"],
        ["--driver", "magic", "status"],
    ],
)
def test_a_wrong_command_line_is_exit_code_2(cli: CLI, arguments: list[str]) -> None:
    done = cli.run(*arguments)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--query-address", "foo", "argument --query-address: 'foo' is no IP address"),
        ("--bind-address", "1.2.3", "The bind address of server alpha is '1.2.3', but must be an"),
        ("--config", "{}/latin.cfg", "/latin.cfg is not UTF-8: save it in that encoding."),
    ],
)
def test_a_value_that_cannot_be_meant_is_told_by_its_option(
    option: str,
    value: str,
    said: str,
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "latin.cfg").write_bytes(b'hostname "\xe4"')
    before = ["--query-address", "127.0.0.1", "--root", str(root), "--source", "simulator"]
    given = [option, value.format(tmp_path)]
    if option == "--query-address":
        before += given
        given = []
    with pytest.raises(SystemExit) as ended:
        sys.exit(main([*before, "initialize", "alpha", "--port", "27015", *given]))
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_an_operation_goes_on_if_what_it_says_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Full(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    monkeypatch.setattr(sys, "stderr", Full())
    printer = _Printer()
    for stream in ("stdout", "stderr"):
        printer.line(stream, "a line")
    printer.stage("Writing files", None)


def test_the_root_has_to_be_said(cli: CLI) -> None:
    del cli.environment["HOST_ROOT"]
    done = cli.run("status")
    assert done.returncode == 2
    assert "--root" in done.stderr


def test_ctrl_c_cancels_with_exit_code_130_and_leaves_nothing(cli: CLI, root: Path) -> None:
    write_control(root, steamcmd={"build_id": "30000000", "fail": "stall"})
    process = cli.start("install")
    read_until(process, "downloading")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 130, output
    assert "Cancelled by SIGINT." in output
    assert not installers(root)


def test_a_start_by_hand_while_the_panel_starts_waits_and_finds_it_running(
    cli: CLI, host: Host, root: Path, alpha: Path
) -> None:
    write_control(root, srcds={"start_seconds": 2})
    first = cli.start("start", "alpha")
    read_until(first, "Waiting for the map")
    # It waits until the second one has got that far.
    first.send_signal(signal.SIGSTOP)
    second = cli.start("start", "alpha")
    read_until(second, "waiting for start alpha (process")
    first.send_signal(signal.SIGCONT)
    output, _ = second.communicate(timeout=20)
    assert (first.wait(20), second.returncode) == (0, 0)
    first.communicate()
    assert "alpha runs already." in output
    assert len(game_processes(root)) == 1


def test_the_game_outlives_who_started_it(cli: CLI, host: Host, root: Path, alpha: Path) -> None:
    cli.succeed("start", "alpha")
    assert host.status("alpha").state is InstanceState.RUNNING
    host.stop("alpha")


def test_logs_follow_over_a_restart_until_interrupted(
    cli: CLI, host: Host, root: Path, alpha: Path
) -> None:
    host.start("alpha")
    process = cli.start("logs", "alpha", "--follow")
    read_until(process, "== run 1")
    read_until(process, "Connection to Steam servers successful.")
    host.restart("alpha")
    read_until(process, "== run 2")
    read_until(process, "Connection to Steam servers successful.")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert latest_run(root).run == 2


def test_the_doctors_exit_code_says_how_bad_it_is(cli: CLI, root: Path, tmp_path: Path) -> None:
    (root / "staging").mkdir()
    done = cli.run("doctor")
    assert done.returncode == 3
    assert "todo Unfinished install" in done.stdout
    assert "warn Limits: The process driver" in done.stdout
    assert "ok   Game: Build" in done.stdout
    (tmp_path / "file").touch()
    done = cli.run("--root", str(tmp_path / "file/root"), "doctor", "--json")
    assert done.returncode == 1
    (finding,) = json.loads(done.stdout)
    assert (finding["subject"], finding["severity"]) == ("Folder", "fault")
    assert finding["cure"]


def test_an_installer_of_a_killed_command_is_ended_by_the_next(cli: CLI, root: Path) -> None:
    write_control(root, steamcmd={"build_id": "30000000", "fail": ["stall"]})
    process = cli.start("install")
    read_until(process, "downloading")
    (orphan,) = installers(root)
    os.kill(orphan, signal.SIGSTOP)  # otherwise it might end by itself, having lost its terminal
    process.kill()
    process.communicate()
    output = cli.run("install")
    assert output.returncode == 0, output.stderr
    assert f"Process {orphan}" in output.stderr
    assert "left behind" in output.stderr
    wait_until(lambda: not installers(root), 5, "the orphan is gone")
