"""The simulated SteamCMD: its output, its files, its exit codes, and how it resumes."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hostops.simulator.bootstrap import NEEDS_TO_BE_ONLINE
from hostops.simulator.steam_client import (
    BREAKS,
    FAILURES,
    REFUSALS,
    STATES,
    Manifest,
    parse_commands,
)
from tests.hostops.simulator.fixtures import STEAMCMD, Spawned, SteamCmd
from tests.waiting import wait_until

PROGRESS = re.compile(
    r"^ Update state \((0x\w+)\) ([a-z ]+), progress: (\d+\.\d\d) \((\d+) / (\d+)\)$"
)


@pytest.fixture
def cmd(tmp_path: Path) -> SteamCmd:
    return SteamCmd(tmp_path)


def test_the_game_is_started_by_the_link_that_steamcmd_was_started_by(
    cmd: SteamCmd, tmp_path: Path
) -> None:
    """After an upgrade, `current` leads to another release, and the one before may be removed."""
    current = tmp_path / "current"
    current.symlink_to(STEAMCMD.parents[2])
    for platform in ("windows", "linux"):
        argv = cmd.update(platform)
        argv[argv.index(str(STEAMCMD))] = str(current / "hostops/simulator/steamcmd.py")
        assert cmd.run(argv).returncode == 0
    game = (cmd.install_dir / "srcds_linux").read_text()
    assert f"srcds={current}/hostops/simulator/srcds.py\n" in game


def tree(root: Path) -> dict[str, bytes]:
    """Return the content of every file below `root` that belongs to the game."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.relative_to(root).parts[0] != "steamapps"
    }


def manifest(cmd: SteamCmd) -> Manifest:
    found = Manifest.read(cmd.install_dir)
    assert found is not None
    return found


def test_a_first_install_for_linux_alone_is_an_invalid_platform(cmd: SteamCmd) -> None:
    ended = cmd.run(cmd.update("linux"))
    assert ended.returncode == 8
    assert "ERROR! Failed to install app '222860' (Invalid platform)" in ended.stdout.splitlines()
    assert not cmd.install_dir.exists()


def test_windows_first_and_then_linux_installs_the_game(cmd: SteamCmd) -> None:
    windows = cmd.run(cmd.update("windows", validate=True))
    assert windows.returncode == 0
    assert "Success! App '222860' fully installed." in windows.stdout.splitlines()
    assert (cmd.install_dir / "srcds.exe").is_file()
    assert not (cmd.install_dir / "srcds_run").exists()

    linux = cmd.run(cmd.update("linux", validate=True))
    assert linux.returncode == 0
    assert os.access(cmd.install_dir / "srcds_run", os.X_OK)
    assert os.access(cmd.install_dir / "srcds_linux", os.X_OK)
    assert not (cmd.install_dir / "srcds.exe").exists()
    assert not (cmd.install_dir / "steamapps/downloading/222860").exists()
    text = Manifest.path(cmd.install_dir).read_text()
    assert '\t"StateFlags"\t\t"4"\n' in text
    assert '\t"buildid"\t\t"19684021"\n' in text
    assert "PatchVersion=2.2.2.1\n" in (cmd.install_dir / "left4dead2/steam.inf").read_text()


def test_both_platforms_can_be_installed_in_one_run(cmd: SteamCmd) -> None:
    ended = cmd.run(
        cmd.argv(
            "+@sSteamCmdForcePlatformType windows",
            f"+force_install_dir {cmd.install_dir}",
            "+login anonymous +app_info_update 1 +app_update 222860",
            "+@sSteamCmdForcePlatformType linux +app_update 222860 validate +quit",
        )
    )
    assert ended.returncode == 0
    assert ended.stdout.count("Success! App '222860' fully installed.") == 2
    assert (cmd.install_dir / "srcds_run").is_file()


def test_an_account_may_install_for_linux_at_once(cmd: SteamCmd) -> None:
    argv = cmd.argv(f"+force_install_dir {cmd.install_dir} +login gordon +app_update 222860 +quit")
    ended = cmd.run(argv)
    assert ended.returncode == 0
    assert "Logging in user 'gordon' to Steam Public...OK" in ended.stdout
    assert (cmd.install_dir / "srcds_run").is_file()


def test_the_output_has_the_shape_of_steamcmds(cmd: SteamCmd) -> None:
    lines = cmd.run(cmd.update("windows")).stdout.splitlines()
    home = cmd.environment["HOME"]
    assert lines[:15] == [
        "[simulator] This is Saferoom's stand-in for SteamCMD: nothing is downloaded.",
        f"Redirecting stderr to '{home}/Steam/logs/stderr.txt'",
        'ILocalize::AddFile() failed to load file "public/steambootstrapper_english.txt".',
        f"Logging directory: '{home}/Steam/logs'",
        "[  0%] Checking for available updates...",
        "[----] Verifying installation...",
        "Steam Console Client (c) Valve Corporation - version 1785186678",
        "-- type 'quit' to exit --",
        "Loading Steam API...OK",
        "",
        '"@sSteamCmdForcePlatformType" = "windows"',
        "Connecting anonymously to Steam Public...OK",
        "Waiting for client config...OK",
        "Waiting for user info...OK",
        " Update state (0x3) reconfiguring, progress: 0.00 (0 / 0)",
    ]
    progress = [PROGRESS.match(line) for line in lines[14:-1]]
    states = [found and found[1] for found in progress]
    assert list(dict.fromkeys(states)) == ["0x3", "0x11", "0x61", "0x81", "0x101"]
    percents = [float(found[3]) for found in progress if found and found[1] == "0x61"]
    assert percents == sorted(percents)
    assert percents[-1] == 100.0
    assert len(percents) > 20
    assert lines[-1] == "Success! App '222860' fully installed."


def test_it_can_be_run_as_a_module_and_by_its_path(cmd: SteamCmd) -> None:
    project = STEAMCMD.parents[2]
    ways = [["-m", "hostops.simulator.steamcmd"], [str(STEAMCMD)], ["-I", str(STEAMCMD)]]
    for way in ways:
        ended = subprocess.run(
            [sys.executable, *way, "+quit"],
            cwd=project if "-m" in way else "/",
            env=cmd.environment,
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert (ended.returncode, ended.stderr) == (0, "")


def test_a_second_run_finds_it_up_to_date(cmd: SteamCmd) -> None:
    cmd.install()
    before = tree(cmd.install_dir)
    ended = cmd.run(cmd.update())
    assert ended.stdout.splitlines()[-1] == "Success! App '222860' already up to date."
    assert tree(cmd.install_dir) == before


def test_validating_restores_what_was_changed_or_lost(cmd: SteamCmd) -> None:
    cmd.install()
    before = tree(cmd.install_dir)
    (cmd.install_dir / "left4dead2/gameinfo.txt").write_text("broken")
    (cmd.install_dir / "left4dead2/motd.txt").unlink()
    (cmd.install_dir / "srcds_run").chmod(0o644)
    (cmd.install_dir / "left4dead2/cfg/mine.cfg").write_text("not Valve's")

    assert "already up to date" in cmd.run(cmd.update()).stdout
    ended = cmd.run(cmd.update(validate=True))

    assert " Update state (0x5) validating, progress: 100.00 (" in ended.stdout
    assert "fully installed" in ended.stdout
    mine = {"left4dead2/cfg/mine.cfg": b"not Valve's"}
    assert tree(cmd.install_dir) == before | mine
    assert os.access(cmd.install_dir / "srcds_run", os.X_OK)


def test_an_update_changes_only_some_files(cmd: SteamCmd) -> None:
    cmd.install()
    before = tree(cmd.install_dir)
    inodes = {path: (cmd.install_dir / path).stat().st_ino for path in before}
    cmd.control(build_id="19684022")
    assert cmd.run(cmd.update()).returncode == 0

    after = tree(cmd.install_dir)
    assert after.keys() == before.keys()
    changed = {path for path in after if after[path] != before[path]}
    assert "left4dead2/steam.inf" in changed
    assert 5 < len(changed) < 20
    assert b"PatchVersion=2.2.2.2" in after["left4dead2/steam.inf"]
    assert manifest(cmd).build_id == "19684022"
    # Archives are patched in place, which shows through hard links; everything else is renamed into place.
    same_inode = {p for p in changed if (cmd.install_dir / p).stat().st_ino == inodes[p]}
    assert same_inode == {"left4dead2/pak01_dir.vpk", "update/pak01_dir.vpk"}


def test_the_game_can_have_more_files(cmd: SteamCmd) -> None:
    cmd.control(files=500)
    cmd.install()
    assert len(tree(cmd.install_dir)) == 500


def test_more_lines_can_be_asked_for(cmd: SteamCmd) -> None:
    cmd.control(lines=5000)
    assert cmd.run(cmd.update("windows")).stdout.count("(0x61) downloading") > 5000


def test_the_output_can_be_held_back_as_through_a_real_pipe(cmd: SteamCmd) -> None:
    cmd.control(fail="stall")
    streaming = Spawned(cmd.update("windows"), Path("/"), cmd.environment)
    try:
        streaming.wait_for("(0x61)")
    finally:
        streaming.close()
    cmd.control(fail="stall", buffered=True)
    held_back = Spawned(cmd.update("windows"), Path("/"), cmd.environment)
    try:
        half = cmd.install_dir / "steamapps/downloading/222860/left4dead2/maps"
        wait_until(half.is_dir, 20, "the download has not got half-way")
        assert held_back.lines == []
    finally:
        held_back.close()


# Failures


@pytest.mark.parametrize("failure", sorted(REFUSALS))
def test_a_refused_install_says_why_and_touches_nothing(cmd: SteamCmd, failure: str) -> None:
    cmd.control(fail=failure)
    ended = cmd.run(cmd.update("windows"))
    assert ended.returncode == 8
    text = f"ERROR! Failed to install app '222860' ({REFUSALS[failure]})"
    assert ended.stdout.splitlines()[-1] == text
    assert not cmd.install_dir.exists()


@pytest.mark.parametrize("failure", sorted(STATES))
def test_an_update_that_breaks_off_names_its_state(cmd: SteamCmd, failure: str) -> None:
    cmd.control(fail=[failure])
    ended = cmd.run(cmd.update("windows"))
    assert ended.returncode == 8
    assert re.fullmatch(
        rf"Error! App '222860' state is {failure[-5:]} after update job\.",
        ended.stdout.splitlines()[-1],
    )
    assert manifest(cmd).state_flags == "1026"
    assert not (cmd.install_dir / "srcds.exe").exists()
    assert cmd.run(cmd.update("windows")).returncode == 0
    assert manifest(cmd).state_flags == "4"


def test_a_failed_login_ends_with_5(cmd: SteamCmd) -> None:
    cmd.control(fail="login-failed")
    ended = cmd.run(cmd.update("windows"))
    assert ended.returncode == 5
    line = "Connecting anonymously to Steam Public...FAILED (No Connection)"
    assert ended.stdout.splitlines()[-1] == line


def test_a_rate_limit_refuses_the_login(cmd: SteamCmd) -> None:
    cmd.control(fail="rate-limit")
    ended = cmd.run(cmd.update("windows"))
    assert ended.returncode == 5
    line = "Connecting anonymously to Steam Public...ERROR (Rate Limit Exceeded)"
    assert ended.stdout.splitlines()[-1] == line


@pytest.mark.parametrize(
    ("failure", "exit_code", "line"),
    [
        ("offline", 254, NEEDS_TO_BE_ONLINE),
        ("refused", 254, NEEDS_TO_BE_ONLINE),
        ("answered-by-another", 254, NEEDS_TO_BE_ONLINE),
        ("answered-with-403", 254, NEEDS_TO_BE_ONLINE),
        ("offline-old", 7, "[  0%] !!! Fatal Error: Steam needs to be online to update.  Please"),
        ("no-space-for-itself", 254, "[  0%] !!! Fatal Error: Steamcmd needs at least 250MB of"),
        ("threads", 1, "CWorkThreadPool::StartWorkThread: Thread creation failed."),
    ],
)
def test_it_may_end_before_its_first_command(
    cmd: SteamCmd, failure: str, exit_code: int, line: str
) -> None:
    cmd.control(fail=[failure])
    ended = cmd.run(cmd.update("windows"))
    assert ended.returncode == exit_code
    assert f"\n{line}" in ended.stdout
    assert "Steam Console Client" not in ended.stdout
    assert cmd.run(cmd.update("windows")).returncode == 0


@pytest.mark.parametrize(
    ("failure", "status"),
    [("offline", 0), ("refused", 0), ("answered-by-another", 200), ("answered-with-403", 403)],
)
def test_only_its_log_says_what_answered(cmd: SteamCmd, failure: str, status: int) -> None:
    cmd.control(fail=[failure])
    ended = cmd.run(cmd.update("windows"))
    assert "http error" not in ended.stdout
    log = Path(cmd.environment["HOME"], "Steam/logs/bootstrap_log.txt")
    assert f"] Error: Download failed: http error {status}\n" in log.read_text()
    cmd.run(cmd.update("windows"))
    assert "http error" not in log.read_text().rpartition("] Startup - updater built ")[2]


def test_a_program_that_may_not_be_executed_is_the_shells_error(cmd: SteamCmd) -> None:
    cmd.control(fail="no-exec")
    ended = cmd.run(cmd.update("windows"))
    assert ended.returncode == 126
    assert ended.stderr.endswith("/linux32/steamcmd: Permission denied\n")


@pytest.mark.parametrize(
    ("failure", "exit_code", "words"),
    [("killed", 137, "Killed "), ("segfault", 139, "Segmentation fault ")],
)
def test_a_signal_is_the_shells_error_and_the_next_run_goes_on(
    cmd: SteamCmd, failure: str, exit_code: int, words: str
) -> None:
    cmd.control(fail=[failure])
    ended = cmd.run(cmd.update("windows"))
    assert ended.returncode == exit_code
    assert re.search(rf"steamcmd\.sh: line 38: +[0-9]+ {words}", ended.stderr)
    assert manifest(cmd).state_flags == "1026"
    assert cmd.run(cmd.update("windows")).returncode == 0


@pytest.mark.parametrize("failure", ["disk-write-failure", "not-enough-disk-space"])
def test_an_update_may_end_half_way_with_a_reason(cmd: SteamCmd, failure: str) -> None:
    cmd.control(fail=[failure])
    ended = cmd.run(cmd.update("windows"))
    assert ended.returncode == 8
    line = f"ERROR! Failed to install app '222860' ({BREAKS[failure]})"
    assert ended.stdout.splitlines()[-1] == line
    assert manifest(cmd).state_flags == "1026"
    assert cmd.run(cmd.update("windows")).returncode == 0


def test_it_may_fall_silent_until_it_is_killed(cmd: SteamCmd) -> None:
    cmd.control(fail="silent")
    silent = Spawned(cmd.update("windows"), Path("/"), cmd.environment)
    try:
        silent.wait_for("[----] Verifying installation...")
        silent.signal(signal.SIGTERM)
        assert silent.wait() == -signal.SIGTERM
        assert silent.lines[-1] == "[----] Verifying installation..."
    finally:
        silent.close()


def test_an_endless_self_update_ends_only_by_a_signal(cmd: SteamCmd) -> None:
    cmd.control(fail="self-update-endless")
    endless = Spawned(cmd.update("windows"), Path("/"), cmd.environment)
    try:
        endless.wait_for("[100%] Update complete, launching Steam...", count=8)
        endless.signal(signal.SIGTERM)
        assert endless.wait() == -signal.SIGTERM
    finally:
        endless.close()


def test_an_app_info_timeout_ends_with_1(cmd: SteamCmd) -> None:
    cmd.control(fail="app-info-timeout")
    ended = cmd.run(cmd.update("windows"))
    assert ended.returncode == 1
    assert ended.stdout.splitlines()[-1] == "ERROR! Timed out waiting for AppInfo update."


def test_exit_code_0_may_come_without_success(cmd: SteamCmd) -> None:
    cmd.control(fail="exit-0-without-success")
    ended = cmd.run(cmd.update("windows"))
    assert ended.returncode == 0
    assert "Success" not in ended.stdout
    assert manifest(cmd).state_flags == "1026"


def test_success_may_come_without_a_manifest(cmd: SteamCmd) -> None:
    cmd.control(fail="success-without-manifest")
    ended = cmd.run(cmd.update("windows"))
    assert ended.returncode == 0
    assert ended.stdout.splitlines()[-1] == "Success! App '222860' fully installed."
    assert Manifest.read(cmd.install_dir) is None


def test_a_self_update_ends_with_42(cmd: SteamCmd) -> None:
    cmd.control(fail=["self-update-42"])
    ended = cmd.run(cmd.update("windows"))
    assert ended.returncode == 42
    assert ended.stdout.splitlines()[-1] == "[100%] Update complete, launching Steam..."
    assert cmd.run(cmd.update("windows")).returncode == 0


def test_a_crash_is_a_signal_and_the_next_run_goes_on(cmd: SteamCmd) -> None:
    cmd.control(fail=["crash"])
    assert cmd.run(cmd.update("windows")).returncode == -signal.SIGSEGV
    assert manifest(cmd).state_flags == "1026"
    assert cmd.run(cmd.update("windows")).returncode == 0


def test_a_stall_repeats_one_line_until_it_is_killed(cmd: SteamCmd) -> None:
    cmd.control(fail="stall")
    stalled = Spawned(cmd.update("windows"), Path("/"), cmd.environment)
    try:
        wait_until(
            lambda: len(stalled.lines) > 20 and len(set(stalled.lines[-3:])) == 1,
            20,
            "no line is repeated",
        )
        stalled.signal(signal.SIGTERM)
        assert stalled.wait() == -signal.SIGTERM
    finally:
        stalled.close()


def test_every_failure_has_a_test_and_stands_in_the_table() -> None:
    import hostops.simulator

    assert all(name in (hostops.simulator.__doc__ or "") for name in FAILURES)
    here = Path(__file__)
    source = here.read_text() + (here.parents[1] / "steam/test_app_info.py").read_text()
    assert all(name in source for name in FAILURES - REFUSALS.keys() - STATES.keys())


def test_a_list_of_failures_is_gone_through_run_by_run(cmd: SteamCmd) -> None:
    cmd.control(fail=["missing-configuration", None, "app-info-timeout"])
    codes = [cmd.run(cmd.update("windows", validate=True)).returncode for _ in range(5)]
    assert codes == [8, 0, 1, 0, 0]
    cmd.control(fail=["missing-configuration"])
    assert cmd.run(cmd.update("windows")).returncode == 8


def test_one_failure_can_be_limited_to_some_runs(cmd: SteamCmd) -> None:
    cmd.control(fail="missing-configuration", fail_times=2)
    codes = [cmd.run(cmd.update("windows")).returncode for _ in range(3)]
    assert codes == [8, 8, 0]


# Mistakes in running it


def test_commands_that_cannot_work_say_so(cmd: SteamCmd) -> None:
    ended = cmd.run(
        cmd.argv(
            "+frobnicate 1 +@sSteamCmdForcePlatformType dos +app_update 222860 +login anonymous",
            f"+force_install_dir {cmd.install_dir} +app_update 440 +quit",
        )
    )
    assert ended.returncode == 8
    for line in (
        "Command not found: frobnicate",
        'Unknown platform "dos": must be windows or linux',
        "ERROR! Failed to request AppInfo update, not online or not logged in to Steam.",
        "Please use force_install_dir before logon!",
        "ERROR! Failed to install app '440' (No subscription)",
    ):
        assert line in ended.stdout.splitlines()


def test_without_quit_it_goes_on_asking(cmd: SteamCmd) -> None:
    asked = Spawned(cmd.argv("+login anonymous"), Path("/"), cmd.environment)
    try:
        asked.send("")
        asked.send("hello")
        asked.wait_for("Command not found: hello")
        asked.send("quit")
        assert asked.wait() == 0
    finally:
        asked.close()


def test_a_folder_it_cannot_write_to_is_a_disk_write_failure(cmd: SteamCmd) -> None:
    cmd.install_dir.write_text("a file where the folder should be")
    ended = cmd.run(cmd.update("windows"))
    assert ended.returncode == 8
    assert "Error! App '222860' state is 0x606 after update job." in ended.stdout


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "cannot be read"),
        ("[]", 'an object with nothing but "steamcmd" and "srcds"'),
        ('{"steam": {}}', 'an object with nothing but "steamcmd" and "srcds"'),
        ('{"steamcmd": 1}', "steamcmd is 1, but must be an object"),
        ('{"steamcmd": {"secs": 1}}', "steamcmd has no setting called 'secs'"),
        (
            '{"steamcmd": {"seconds": -1}}',
            "steamcmd.seconds is -1, but must be a number, 0 or more",
        ),
        ('{"steamcmd": {"files": 1.5}}', "steamcmd.files is 1.5, but must be a whole number"),
        ('{"steamcmd": {"buffered": 1}}', "steamcmd.buffered is 1, but must be true or false"),
        ('{"steamcmd": {"build_id": 7}}', "steamcmd.build_id is 7, but must be a text"),
        ('{"steamcmd": {"build_id": "x"}}', "steamcmd.build_id is 'x', but must be a number"),
        (
            '{"steamcmd": {"fail": "fire"}}',
            "steamcmd.fail is 'fire', but must be one of answered-by-another",
        ),
        ('{"steamcmd": {"fail": null}}', "steamcmd.fail is None, but must be one of"),
        ('{"steamcmd": {"fail": ["crash:3"]}}', "steamcmd.fail is 'crash:3', but must be one of"),
    ],
)
def test_a_mistake_in_the_control_file_ends_it_with_2(
    cmd: SteamCmd, text: str, reason: str
) -> None:
    cmd.control_path.write_text(text)
    ended = cmd.run(cmd.update("windows"))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert reason in ended.stderr
    assert str(cmd.control_path) in ended.stderr


def test_no_control_file_means_the_defaults(cmd: SteamCmd) -> None:
    cmd.control_path.unlink()
    assert cmd.run(cmd.argv("+quit")).returncode == 0
    del cmd.environment["SAFEROOM_SIMULATOR"]
    assert cmd.run(cmd.argv("+quit")).returncode == 0


# Being killed


@pytest.mark.parametrize("mark", ["(0x3)", "(0x11)", "(0x61)", "(0x81)", "(0x101)", "Success!"])
@pytest.mark.parametrize("is_update", [False, True], ids=["install", "update"])
def test_a_run_that_is_killed_anywhere_is_taken_up_again(
    cmd: SteamCmd, tmp_path: Path, mark: str, is_update: bool
) -> None:
    undisturbed_dir = tmp_path / "undisturbed"
    undisturbed_dir.mkdir()
    undisturbed = SteamCmd(undisturbed_dir)
    undisturbed.control(build_id="19684022")
    undisturbed.install()
    if is_update:
        cmd.install()

    cmd.control(build_id="19684022", seconds=1)
    platform = "linux" if is_update else "windows"
    killed = Spawned(cmd.update(platform), Path("/"), cmd.environment)
    try:
        killed.wait_for(mark)
        killed.signal(signal.SIGKILL)
        killed.wait()
    finally:
        killed.close()

    cmd.control(build_id="19684022")
    assert cmd.run(cmd.update("linux")).returncode == 0
    assert tree(cmd.install_dir) == tree(undisturbed.install_dir)
    assert manifest(cmd).state_flags == "4"
    assert not (cmd.install_dir / "steamapps/downloading/222860").exists()


def test_a_resumed_download_does_not_begin_at_nothing(cmd: SteamCmd) -> None:
    cmd.control(fail=["network-0x402"])
    assert cmd.run(cmd.update("windows")).returncode == 8
    lines = cmd.run(cmd.update("windows")).stdout.splitlines()
    first = next(found for line in lines if (found := PROGRESS.match(line)) and found[1] == "0x61")
    assert float(first[3]) > 20


def test_a_command_line_is_split_at_each_plus() -> None:
    assert parse_commands(["+Login", "me", "secret", "+app_update", "222860", "-x", "+quit"]) == [
        ("login", ["me", "secret"]),
        ("app_update", ["222860", "-x"]),
        ("quit", []),
    ]


def test_the_manifest_is_valve_keyvalues(cmd: SteamCmd) -> None:
    cmd.install()
    text = Manifest.path(cmd.install_dir).read_text()
    as_json = re.sub(r'"\t\t"', '": "', text)
    as_json = re.sub(r'"\n(\t*)\{', '": {', as_json)
    as_json = re.sub(r'(["}])\n(?=\t*")', r"\1,\n", as_json)
    document = json.loads("{" + as_json + "}")
    assert document["AppState"]["UserConfig"] == {"platform_override_source": "linux"}
    assert document["AppState"]["SizeOnDisk"] == str(
        sum(len(content) for content in tree(cmd.install_dir).values())
    )
