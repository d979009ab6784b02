"""The launcher mounts, drops its privileges, and becomes the game; the probe says what it cannot do."""

import errno
import fcntl
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hostops import launching
from hostops.crash_budget import RESTART_BUDGET, RESTART_WINDOW_SECONDS
from hostops.drivers.process_driver import launch
from hostops.errors import HostError
from hostops.instances import layers
from hostops.instances.runs import read_end, read_run
from hostops.launching import EXIT_BUSY, RUN_VARIABLE
from hostops.layout import HostLayout, InstanceLayout
from hostops.linux.locks import is_locked
from hostops.linux.namespaces import EXIT_FAILED, LaunchError, mount_overlay
from hostops.linux.proc_stat import read_boot_id
from tests.hostops.hosts import REPOSITORY, end_everything, game_processes, ignored_signals
from tests.waiting import wait_until

# What the "game" records about itself before it waits for its end.
GAME = """#!/bin/sh
cat /proc/self/status > seen-status
cat /proc/self/oom_score_adj > seen-oom
{ echo 0 > /proc/self/oom_score_adj; } 2> /dev/null || echo refused >> seen-oom
env > seen-env
ls -l /proc/$$/fd > seen-fds
cat left4dead2/who > seen-who
echo "$@" > seen-arguments
echo up
while read line; do echo "read: $line"; [ "$line" = quit ] && exit 0; done
"""


@pytest.fixture
def instance(tmp_path: Path) -> InstanceLayout:
    """Return an instance of two overlays over a release, below a root with an awkward name."""
    layout = HostLayout(tmp_path / "a:strange,root\\ name")
    instance = layout.instance("alpha")
    for folder in (
        instance.upper_dir,
        instance.work_dir,
        instance.merged_dir,
        instance.console_dir,
        layout.releases_dir / "1" / "left4dead2",
        layout.overlays_dir / "top" / "left4dead2",
        layout.overlays_dir / "bottom" / "left4dead2",
    ):
        folder.mkdir(parents=True)
    program = layout.releases_dir / "1" / "srcds_linux"
    program.write_text(GAME)
    program.chmod(0o755)
    for layer in (
        layout.releases_dir / "1",
        layout.overlays_dir / "bottom",
        layout.overlays_dir / "top",
    ):
        (layer / "left4dead2" / "who").write_text(layer.name)
    write_plan(instance)
    return instance


def write_plan(instance: InstanceLayout, **changes: object) -> None:
    plan = {
        "version": 2,
        "layering": "overlay",
        "lower": ["overlays/top", "overlays/bottom", "releases/1"],
        "release": "1",
        "port": 27015,
        "address": "",
        "argv": ["./srcds_linux", "-port", "27015"],
        "environment": {"PATH": os.environ["PATH"], "HOME": "/home/game"},
        **changes,
    }
    instance.launch_path.write_text(json.dumps(plan))


def start(instance: InstanceLayout) -> str:
    """Launch, and return what the run had printed by the time it was up."""
    launch(instance, {"PATH": os.environ["PATH"]})
    log_path = instance.console_log_path(1)
    return (
        wait_until(
            # As a whole line: the shell's message about what it may not write contains it too, in "upper".
            lambda: "up" in log_path.read_text().splitlines() and log_path.read_text(),
            10,
            "the game printed up",
        )
        or ""
    )


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path) -> object:
    yield
    for root in tmp_path.iterdir():
        if (root / "instances").is_dir():
            end_everything(root)


def test_the_folder_of_the_code_is_hidden_like_the_hosts_root(instance: InstanceLayout) -> None:
    """Below /usr it would be in the game's view, with the panel's settings and its database."""
    plan = {"environment": {}, "layering": "overlay"}
    box = launching._plan_box(str(instance.root), "instances/alpha", plan)
    assert {str(instance.root), str(REPOSITORY)} <= {*box.hidden}


def test_the_game_sees_the_layers_in_order_and_writes_to_its_own(instance: InstanceLayout) -> None:
    start(instance)
    upper = instance.upper_dir
    assert (upper / "seen-who").read_text() == "top"
    assert (upper / "seen-arguments").read_text() == "-port 27015\n"
    assert not (instance.root / "releases" / "1" / "seen-who").exists()
    # Mounted only for the game.
    assert not list(instance.merged_dir.iterdir())
    assert str(instance.merged_dir) not in Path("/proc/self/mounts").read_text()


def test_the_game_has_no_capability_and_can_get_none(instance: InstanceLayout) -> None:
    start(instance)
    text = (instance.upper_dir / "seen-status").read_text()
    status = dict(line.split(":\t", 1) for line in text.splitlines())
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {
        "0" * 16
    }
    assert status["NoNewPrivs"] == "1"
    assert status["Uid"].split() == [str(os.getuid())] * 4
    # Only SIGXFSZ is ignored: a file at its limit makes a write fail, and does not end the game.
    assert ignored_signals(text) == {signal.SIGXFSZ}
    assert status["SigBlk"] == "0" * 16


def test_where_memory_runs_out_the_game_goes_before_the_panel(instance: InstanceLayout) -> None:
    own = int(Path("/proc/self/oom_score_adj").read_text())
    start(instance)
    seen = (instance.upper_dir / "seen-oom").read_text().split()
    assert seen == [str(min(own + 300, 1000)), "refused"]


def test_an_input_that_the_game_has_closed_to_its_owner_is_made_again(
    instance: InstanceLayout,
) -> None:
    """The game does so through its stdin descriptor; this also holds for root, who may open it all the same."""
    os.mkfifo(instance.console_input_path)
    instance.console_input_path.chmod(0)
    start(instance)
    assert instance.console_input_path.stat().st_mode == stat.S_IFIFO | 0o600


def test_the_game_cannot_change_what_is_kept_about_it(instance: InstanceLayout) -> None:
    program = instance.root / "releases" / "1" / "srcds_linux"
    tries = "run.json launch.json console/1.log console/2.log upper/past-the-overlay work/x"
    program.write_text(
        f"#!/bin/sh\nfor path in {tries}; do echo changed > ../$path && echo changed $path; done\n"
        "rm ../run.json && echo removed\necho mine > own && echo up\nread line\n"
    )
    before = instance.launch_path.read_bytes()
    start(instance)
    # In the box these paths do not exist; what the game may create there, nobody else sees.
    assert read_run(instance)
    assert instance.launch_path.read_bytes() == before
    assert not (instance.upper_dir / "past-the-overlay").exists()
    assert not (instance.work_dir / "x").exists()
    assert not (instance.console_dir / "2.log").exists()
    assert (instance.upper_dir / "own").read_text() == "mine\n"


def test_the_game_gets_its_environment_and_descriptors_and_no_others(
    instance: InstanceLayout,
) -> None:
    start(instance)
    environment = dict(
        line.split("=", 1) for line in (instance.upper_dir / "seen-env").read_text().splitlines()
    )
    # The shell itself adds some more.
    assert environment.keys() - {"PWD", "OLDPWD", "_", "SHLVL"} == {
        *("PATH", "HOME", "LD_LIBRARY_PATH", RUN_VARIABLE),
    }
    assert environment["LD_LIBRARY_PATH"] == ".:bin"
    descriptors = (instance.upper_dir / "seen-fds").read_text()
    targets = sorted(line.split(" -> ")[1] for line in descriptors.splitlines() if " -> " in line)
    # Not those that the shell itself has open: its script, and the file that this list went to.
    own = [target for target in targets if not target.endswith(("/srcds_linux", "/seen-fds"))]
    directory = str(instance.dir)
    # Not the run's lock: the init holds it, and the game cannot release it.
    assert own == [
        f"{directory}/console.in",
        f"{directory}/console/1.log",
        f"{directory}/console/1.log",
    ]


def test_the_run_is_written_down_and_its_lock_is_the_games(instance: InstanceLayout) -> None:
    start(instance)
    run = read_run(instance)
    assert run is not None
    assert (run.run, run.release, run.port) == (1, "1", 27015)
    assert run.is_main_process_alive
    assert os.getsid(run.pid) == run.pid
    assert is_locked(instance.run_lock_path)
    assert run.pid in game_processes(instance.root)
    assert stat.S_IMODE(instance.console_log_path(1).stat().st_mode) == 0o600


def test_a_second_launch_is_refused_and_changes_nothing(instance: InstanceLayout) -> None:
    start(instance)
    before = instance.run_path.read_text()
    with pytest.raises(HostError, match="alpha runs already, or is being changed") as caught:
        launch(instance, {"PATH": os.environ["PATH"]})
    assert getattr(caught.value, "returncode", None) == EXIT_BUSY
    assert instance.run_path.read_text() == before
    assert not instance.console_log_path(2).exists()


@pytest.mark.parametrize(
    ("is_made_again", "words"),
    [(True, "alpha has just been deleted and made again"), (False, "alpha has just been deleted")],
)
def test_a_launch_into_an_instance_that_was_deleted_meanwhile_is_refused(
    instance: InstanceLayout, monkeypatch: pytest.MonkeyPatch, is_made_again: bool, words: str
) -> None:
    """The lock that it took belongs to a file that nobody else uses any longer."""
    opened: list[int] = []

    def be_overtaken(descriptor: int, operation: int) -> None:
        opened.append(descriptor)
        instance.run_lock_path.unlink()
        if is_made_again:
            instance.run_lock_path.touch()
        fcntl.flock(descriptor, operation)

    monkeypatch.setattr(
        launching, "fcntl", SimpleNamespace(**vars(fcntl) | {"flock": be_overtaken})
    )
    try:
        with pytest.raises(LaunchError, match=rf"{words}\.$") as caught:
            launching._take_run_lock(str(instance.run_lock_path), "alpha")
        assert caught.value.exit_code == EXIT_BUSY
    finally:
        for descriptor in opened:
            os.close(descriptor)


def test_commands_reach_the_game_and_a_writer_that_goes_does_not_end_it(
    instance: InstanceLayout,
) -> None:
    start(instance)
    for command in ("status", "quit"):
        with instance.console_input_path.open("w") as fifo:
            fifo.write(f"{command}\n")
    wait_until(lambda: not is_locked(instance.run_lock_path), 10, "the game ended")
    assert instance.console_log_path(1).read_text().endswith("read: status\nread: quit\n")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lower": ["overlays/gone", "releases/1"]}, "The folder overlays/gone is missing."),
        (
            {"lower": ["overlays/top", "overlays/bottom"]},
            r"./srcds_linux could not be executed: No such file.*Install the game again",
        ),
        (
            {"version": 3},
            r"alpha was last started by a newer version of Saferoom.*version 3, it reads 2",
        ),
        ({"layering": "copy"}, "Starting alpha failed: FileNotFoundError"),
    ],
)
def test_a_launch_that_fails_says_why_to_its_caller_and_in_the_console(
    instance: InstanceLayout, changes: dict[str, object], message: str
) -> None:
    write_plan(instance, **changes)
    with pytest.raises(HostError, match=message):
        launch(instance, {"PATH": os.environ["PATH"]})
    assert re.search(message, instance.console_log_path(1).read_text())
    assert not is_locked(instance.run_lock_path)


def test_a_launch_that_fails_lets_go_of_the_lock_before_it_exits(
    instance: InstanceLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plan(instance, version=3)
    launcher = os.fork()
    if launcher == 0:
        monkeypatch.setattr(os, "_exit", lambda _: signal.pause())
        launching.main(["--foreground", str(instance.root), instance.name])
    try:
        log_path = instance.console_log_path(1)
        wait_until(
            lambda: log_path.is_file() and "version 3" in log_path.read_text(), 10, "it said why"
        )
        wait_until(lambda: not is_locked(instance.run_lock_path), 10, "it let go of the lock")
    finally:
        os.kill(launcher, signal.SIGKILL)
        os.waitpid(launcher, 0)


def test_a_launch_that_fails_is_told_once_its_processes_are_gone(
    instance: InstanceLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To an observer, the init is the run; its end of the report is closed before it has ended."""
    (instance.root / "releases" / "1" / "srcds_linux").chmod(0o644)
    told, overtaken, leave = tmp_path / "told", tmp_path / "overtaken", os._exit

    def linger(code: int) -> None:
        os.closerange(3, 256)
        try:
            wait_until(told.exists, 0.3, "nobody has told it yet")
            overtaken.touch()
        finally:
            leave(code)

    caller = os.fork()
    if caller == 0:
        monkeypatch.setattr(os, "_exit", linger)
        code = launching.main([str(instance.root), instance.name])
        told.touch()
        leave(code)
    assert os.waitstatus_to_exitcode(os.waitpid(caller, 0)[1]) == EXIT_FAILED
    assert told.exists()
    run = read_run(instance)
    assert run is not None
    assert not run.is_main_process_alive
    assert not overtaken.exists()


def test_a_program_that_may_not_be_executed_is_refused(instance: InstanceLayout) -> None:
    (instance.root / "releases" / "1" / "srcds_linux").chmod(0o644)
    with pytest.raises(HostError, match=r"executed: Permission denied\. Install the game"):
        launch(instance, {"PATH": os.environ["PATH"]})


# What earlier releases wrote: without a version, and for srcds_run.

OLD_LEAD = ["./srcds_run", "-game", "left4dead2", "-console", "-norestart", "-strictportbind"]


def write_old_plan(instance: InstanceLayout, *arguments: str) -> None:
    plan = {
        "layering": "overlay",
        "lower": ["overlays/top", "overlays/bottom", "releases/1"],
        "release": "1",
        "port": 27015,
        "argv": [*OLD_LEAD, "-port", "27015", *arguments],
        "environment": {"PATH": os.environ["PATH"], "HOME": "/home/game"},
    }
    instance.launch_path.write_text(json.dumps(plan))


def test_an_old_plan_is_made_anew_for_the_engine(instance: InstanceLayout) -> None:
    write_old_plan(
        instance, "+map", "c5m2_park versus", "+hostname", "Two words", "-tickrate", "60"
    )
    before = instance.launch_path.read_bytes()
    said = start(instance)
    assert (instance.upper_dir / "seen-arguments").read_text() == (
        "-game left4dead2 -console -strictportbind -port 27015 "
        "+map c5m2_park versus +hostname Two words -tickrate 60\n"
    )
    assert said == "up\n"
    assert instance.launch_path.read_bytes() == before


def test_a_restart_with_an_old_plan_keeps_the_join_password(instance: InstanceLayout) -> None:
    write_old_plan(instance, "+sv_password", "sesame", "-binary", "/bin/echo")
    assert "sesame" not in start(instance)
    assert "+sv_password sesame" in (instance.upper_dir / "seen-arguments").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-binary", "/bin/echo"], ["“-binary” cannot be used"]),
        (
            ["+hostname", "x -autoupdate -steam_dir . -steamcmd_script y;id;:"],
            ["-autoupdate", "“;”"],
        ),
        (["+hostname", "Night -port 27097"], ["The value of “+hostname” contains “-port”"]),
        (["@more.txt"], ["“@more.txt”"]),
        (["-norestart", "-port", "27097"], ["-norestart", "-port"]),
    ],
)
def test_what_may_not_reach_the_engine_is_left_out_of_an_old_plan_and_said(
    instance: InstanceLayout, arguments: list[str], said: list[str]
) -> None:
    write_old_plan(instance, "-insecure", *arguments, "+map", "c2m1_highway")
    lines = start(instance).splitlines()
    assert (instance.upper_dir / "seen-arguments").read_text() == (
        "-game left4dead2 -console -strictportbind -port 27015 -insecure +map c2m1_highway\n"
    )
    assert lines.pop() == "up"
    assert all(
        line.startswith("A launch argument from before the upgrade is left out. ") for line in lines
    )
    assert all(any(part in line for line in lines) for part in said)
    assert "sesame" not in "".join(lines)


def test_an_old_plan_without_a_map_that_is_left_gets_the_default(instance: InstanceLayout) -> None:
    write_old_plan(instance, "+map", "c2m1_highway;quit")
    start(instance)
    assert (instance.upper_dir / "seen-arguments").read_text().endswith("+map c1m1_hotel\n")


def test_a_launch_loads_only_little_and_the_table_of_options_only_for_an_old_plan(
    instance: InstanceLayout,
) -> None:
    # A start is fast because nothing is loaded that it does not need.
    def loaded(run: int) -> str:
        code = (
            "import os, sys; sys.argv.pop(0)\n"
            "os.execve = lambda *_: (print(*sys.modules, sep='\\n', flush=True), os._exit(0))\n"
            "__file__ = sys.argv[0]\n"
            "with open(__file__) as file: exec(compile(file.read(), __file__, 'exec'))\n"
        )
        argv = [sys.executable, "-I", "-S", "-c", code, *layers.LAUNCHER_COMMAND[3:]]
        subprocess.run([*argv, "--foreground", str(instance.root), "alpha"], check=True)
        return instance.console_log_path(run).read_text()

    heavy = {"hostops.launch_arguments", "hostops.console_commands", "dataclasses", "pathlib"}
    heavy |= {"collections", "contextlib", "enum", "json", "re", "signal", "typing"}
    assert not heavy & set(loaded(1).splitlines())
    write_old_plan(instance, "-insecure")
    assert "hostops.launch_arguments" in loaded(2).splitlines()


def test_too_many_layers_are_refused_with_the_kernels_limit() -> None:
    lower = [f"overlays/{number:032}" for number in range(100)]
    with pytest.raises(
        LaunchError, match=r"The names of the 100 layers take 4\d+ bytes.* takes 4095"
    ):
        mount_overlay(lower, "upper", "work", "merged")


def test_the_probe_finds_that_this_machine_can_mount(tmp_path: Path) -> None:
    assert layers.probe(tmp_path) == layers.Layering("overlay")
    assert not list(tmp_path.iterdir())


def test_the_probe_tells_the_reason_and_a_cure_where_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = (
        sys.executable,
        "-c",
        "raise SystemExit('Making a user and a mount namespace failed: Operation not permitted.')",
    )
    monkeypatch.setattr(layers, "LAUNCHER_COMMAND", refusing)
    layering = layers.probe(tmp_path)
    assert not layering.is_overlay
    assert layering.detail.startswith("Making a user and a mount namespace failed")
    assert "user namespaces" in layering.cure


# Restarts after crashes, which the launcher counts and finally refuses.


def write_crashed_run(instance: InstanceLayout, restarts: int, ago: float = 5.0) -> None:
    """Record a last run, the third, that ended by SIGSEGV a moment ago, after this many restarts."""
    now = time.time()
    record = {
        "run": 3,
        "pid": 2**22,
        "start_ticks": 1,
        "boot_id": read_boot_id(),
        "started_at": now - ago,
        "release": "1",
        "port": 27015,
        "launch": instance.launch_path.stat().st_mtime_ns,
        "restarted_at": [now - ago] * restarts,
        "restarts": restarts,
        "crashed": [[2, "exit-code exited 7"]],
    }
    instance.run_path.write_text(json.dumps(record))
    instance.end_path.write_text("signal killed SEGV\n")


def look_back(instance: InstanceLayout, **plan: object) -> dict[str, Any]:
    return launching._look_back(str(instance.dir), plan, "alpha")


@pytest.mark.parametrize(
    "text", ['{"crashed": {}}', '{"crashed": 5}', "[" * 100_000, '{"run": 1e999, "crashed": []}']
)
def test_a_record_that_is_none_of_ours_keeps_no_server_down(
    instance: InstanceLayout, text: str
) -> None:
    write_crashed_run(instance, restarts=1)
    instance.run_path.write_text(text)
    assert look_back(instance)["restarts"] == 0


@pytest.mark.parametrize(
    "crooked",
    [
        {"restarted_at": 5},
        {"restarted_at": "often"},
        {"restarted_at": [[]]},
        {"restarts": "many"},
        {"restarts": None},
        {"crashed": "abc"},
        {"crashed": [[1]]},
        {"run": [3]},
    ],
)
@pytest.mark.parametrize("is_over", [True, False])
def test_one_crooked_field_of_a_record_keeps_no_server_down(
    instance: InstanceLayout, crooked: dict[str, object], is_over: bool
) -> None:
    """Where a game has no box it can write its record; nothing is carried over from what it wrote there."""
    write_crashed_run(instance, restarts=1)
    record = json.loads(instance.run_path.read_text())
    instance.run_path.write_text(json.dumps({**record, **crooked}))
    if is_over:  # It was stopped, and so has not crashed: the count does not grow.
        (instance.dir / "stop.json").write_text(json.dumps({"run": crooked.get("run", 3)}))
    history = look_back(instance)
    del history["launch"]
    assert history == {"restarted_at": [], "restarts": 0, "crashed": []}


def test_a_restart_is_counted_with_the_crash_before_it(instance: InstanceLayout) -> None:
    write_crashed_run(instance, restarts=1)
    history = look_back(instance)
    assert history["restarts"] == 2
    assert len(history["restarted_at"]) == 2
    assert history["crashed"] == [[2, "exit-code exited 7"], [3, "signal killed SEGV"]]


def test_one_restart_too_many_is_refused_and_how_the_run_ended_stays_known(
    instance: InstanceLayout,
) -> None:
    write_crashed_run(instance, restarts=RESTART_BUDGET)
    with pytest.raises(HostError, match=r"crashed again after 5 restarts within 10 minutes") as no:
        launch(instance, {"PATH": os.environ["PATH"]})
    # The exit code after which systemd does not try again, also in the units of earlier versions.
    assert getattr(no.value, "returncode", None) == EXIT_FAILED
    assert not list(instance.console_dir.iterdir())
    # What ExecStopPost= makes of it.
    instance.end_path.write_text("exit-code exited 71\n")
    run = read_run(instance)
    assert run is not None
    assert run.run == 3
    end = read_end(instance, run)
    assert end is not None
    assert (end.end, end.is_final) == ("signal killed SEGV", True)


def test_one_restart_too_many_is_refused_on_a_full_disk_too(
    instance: InstanceLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_crashed_run(instance, restarts=RESTART_BUDGET)
    monkeypatch.setattr(launching, "_write_json", refuse)
    with pytest.raises(LaunchError, match="crashed again after 5 restarts"):
        look_back(instance)


def test_a_start_by_hand_makes_a_new_plan_and_begins_a_new_count(instance: InstanceLayout) -> None:
    write_crashed_run(instance, restarts=RESTART_BUDGET)
    os.utime(instance.launch_path, ns=(0, 1))
    history = look_back(instance)
    assert (history["restarts"], history["restarted_at"]) == (0, [])
    assert history["crashed"][-1] == [3, "signal killed SEGV"]


def test_a_new_plan_that_restarts_a_run_goes_on_counting(instance: InstanceLayout) -> None:
    write_crashed_run(instance, restarts=1)
    os.utime(instance.launch_path, ns=(0, 1))
    assert look_back(instance, restarts_run=2)["restarts"] == 0
    assert look_back(instance, restarts_run=3)["restarts"] == 2
    write_crashed_run(instance, restarts=RESTART_BUDGET)
    os.utime(instance.launch_path, ns=(0, 1))
    with pytest.raises(LaunchError):
        look_back(instance, restarts_run=3)


def test_restarts_that_are_older_than_the_window_do_not_count(instance: InstanceLayout) -> None:
    write_crashed_run(instance, restarts=RESTART_BUDGET, ago=RESTART_WINDOW_SECONDS + 60)
    assert look_back(instance)["restarts"] == RESTART_BUDGET + 1


def test_the_window_is_looked_at_when_it_crashed_not_when_it_is_started(
    instance: InstanceLayout,
) -> None:
    write_crashed_run(instance, restarts=RESTART_BUDGET, ago=RESTART_WINDOW_SECONDS - 60)
    os.utime(instance.end_path, (0, time.time() + 120))
    assert look_back(instance)["restarts"] == RESTART_BUDGET + 1


@pytest.mark.parametrize("end", ["success exited 0", "success exited 130", "signal killed INT"])
def test_what_did_not_fail_costs_no_restart(instance: InstanceLayout, end: str) -> None:
    """For instance a restart by `systemctl` on the host."""
    write_crashed_run(instance, restarts=RESTART_BUDGET)
    instance.end_path.write_text(end)
    assert look_back(instance)["restarts"] == RESTART_BUDGET


def test_how_a_game_ended_is_known_without_systemd(instance: InstanceLayout) -> None:
    start(instance)
    run = read_run(instance)
    assert run is not None
    assert read_end(instance, run) is None
    os.kill(run.pid, signal.SIGSEGV)  # The init passes it on.
    wait_until(lambda: not is_locked(instance.run_lock_path), 10, "the game ended")
    assert instance.end_path.read_text() == "signal killed SEGV"
    end = read_end(instance, run)
    assert end is not None
    assert end.at >= run.started_at
    assert not end.is_final
