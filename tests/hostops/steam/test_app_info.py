"""Steam is asked for its latest build, and only its own answer is believed."""

import json
import signal
from pathlib import Path

import pytest

from hostops.errors import CommandError, HostError
from hostops.host import Host
from hostops.simulator.app_info import app_info_lines
from hostops.steam.app_info import find_build_id
from tests.hostops.hosts import (
    BUILD_ID,
    CLI,
    LATER_BUILD_ID,
    Output,
    installers,
    read_until,
    write_control,
)

REAL_SHAPE = "\n".join(app_info_lines("222860", "19684021"))


@pytest.mark.parametrize(
    ("text", "build_id"),
    [
        (REAL_SHAPE, "19684021"),
        (REAL_SHAPE.replace("\n", "\r\n"), "19684021"),
        (REAL_SHAPE.replace("\n", " ").replace("\t", ""), "19684021"),
        (REAL_SHAPE[: REAL_SHAPE.index('"timeupdated"')], "19684021"),  # cut off, but after it
        (REAL_SHAPE[: REAL_SHAPE.index('"public"')], None),
        (REAL_SHAPE.replace('"19684021"', '"0"'), None),
        (REAL_SHAPE.replace('"19684021"', '"-1"'), None),
        (REAL_SHAPE.replace('"19684021"', '"19684021; rm"'), None),
        (REAL_SHAPE.replace('"19684021"', '"' + "9" * 20 + '"'), None),
        (REAL_SHAPE.replace('"public"', '"previous"'), None),
        (REAL_SHAPE.replace('"222860"', '"550"'), None),
        ('"222860" } } { { { "buildid" "1"', None),
        ("", None),
        ("No app info for AppID 222860 found, requesting...", None),
        ("{" * 10_000, None),
    ],
)
def test_a_build_id_is_found_at_its_place_and_nowhere_else(text: str, build_id: str | None) -> None:
    assert find_build_id(text) == build_id


@pytest.fixture
def host(root: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Return a host with the game installed."""
    monkeypatch.setattr("hostops.steam.app_info._RETRY_SECONDS", 0)
    monkeypatch.setattr("hostops.steam.steamcmd._RETRY_SECONDS", 0)
    return Host(root, game_source="simulator")


def test_an_install_knows_the_latest_build(host: Host) -> None:
    latest = host.facts().latest
    assert latest is not None
    assert latest.build_id == BUILD_ID


def test_a_later_build_is_told_and_kept(host: Host, root: Path) -> None:
    write_control(root, steamcmd={"build_id": LATER_BUILD_ID})
    output = Output()
    latest = host.check_update(on_line=output.on_line)
    assert latest.build_id == LATER_BUILD_ID
    assert host.facts().latest == latest
    assert host.facts().build_id == BUILD_ID
    said = [line for _, line in output.lines]
    assert said[-1] == f"Build {LATER_BUILD_ID} is available. Build {BUILD_ID} is current here."
    assert not any("buildid" in line for line in said)


@pytest.mark.parametrize(
    ("failure", "error", "text"),
    [
        ("app-info-timeout", CommandError, "Steam did not answer a request for the game's data"),
        ("login-failed", CommandError, "The login to Steam failed"),
        ("answered-with-403", CommandError, "Something answers in Steam's place"),
        ("app-info-missing", HostError, "did not say which build of the game is the latest"),
        ("app-info-garbled", HostError, "did not say which build of the game is the latest"),
    ],
)
def test_without_an_answer_the_last_one_stays_with_its_time(
    host: Host, root: Path, failure: str, error: type[HostError], text: str
) -> None:
    before = host.facts().latest
    write_control(root, steamcmd={"build_id": LATER_BUILD_ID, "fail": failure})
    with pytest.raises(error, match=text):
        host.check_update()
    assert host.facts().latest == before


@pytest.mark.parametrize(
    "failure", ["app-info-missing", "app-info-timeout", "offline", "self-update-42"]
)
def test_what_passes_is_tried_again(host: Host, root: Path, failure: str) -> None:
    write_control(root, steamcmd={"build_id": LATER_BUILD_ID, "fail": [failure]})
    assert host.check_update().build_id == LATER_BUILD_ID


def test_a_host_that_never_asked_knows_of_no_build(tmp_path: Path) -> None:
    assert Host(tmp_path / "new", game_source="simulator").facts().latest is None


def test_a_file_that_a_power_cut_emptied_is_no_answer(host: Host, root: Path) -> None:
    (root / "latest.json").write_text("")
    assert host.facts().latest is None


def test_by_hand_the_answer_is_json(cli: CLI, root: Path) -> None:
    write_control(root, steamcmd={"build_id": LATER_BUILD_ID})
    answer = json.loads(cli.succeed("check-update", "--json"))
    assert (answer["installed"], answer["build_id"]) == (BUILD_ID, LATER_BUILD_ID)
    assert answer["is_update_available"] is True
    assert f"Build {LATER_BUILD_ID} is available." in cli.succeed("check-update")


def test_a_look_waits_for_an_install_and_goes_on_when_that_is_killed(cli: CLI, root: Path) -> None:
    write_control(root, steamcmd={"build_id": LATER_BUILD_ID, "fail": ["stall"]})
    install = cli.start("install")
    read_until(install, "downloading")
    look = cli.start("check-update")
    assert "waiting for install" in read_until(look, "waiting")
    assert installers(root)
    install.kill()
    install.communicate()
    said = look.communicate()[0]
    assert f"Build {LATER_BUILD_ID} is available." in said
    assert not installers(root)


def test_two_looks_take_turns(host: Host, root: Path) -> None:
    write_control(root, steamcmd={"seconds": 2})
    cli = CLI(root)
    first = cli.start("check-update")
    read_until(first, "stand-in for SteamCMD")
    # It keeps its lock until the other one is seen to wait, however long that takes to start.
    first.send_signal(signal.SIGSTOP)
    try:
        second = cli.start("check-update")
        read_until(second, "check-update: waiting for check-update")
    finally:
        first.send_signal(signal.SIGCONT)
    for look in (first, second):
        assert "is the latest, and current here." in look.communicate()[0]


def test_servers_are_worked_on_meanwhile(cli: CLI, root: Path, alpha: Path) -> None:
    write_control(root, steamcmd={"seconds": 60})
    look = cli.start("check-update")
    read_until(look, "stand-in for SteamCMD")
    cli.succeed("start", "alpha")
    assert look.poll() is None
    look.terminate()
    assert "Cancelled by SIGTERM." in look.communicate()[0]
    cli.succeed("stop", "alpha")
