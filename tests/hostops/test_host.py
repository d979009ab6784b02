"""Servers are made, started, stopped and removed, each verb also a second time, and found again."""

import fcntl
import json
import os
import signal
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from hostops.errors import CommandError, HostError, OperationCancelled
from hostops.host import Host
from hostops.instances import runs
from hostops.layout import InstanceLayout
from hostops.linux.proc_stat import read_boot_id
from hostops.linux.process_identity import read_stat
from hostops.specs import (
    LIMIT_NAMES,
    CancelToken,
    ConsolePosition,
    InstanceSpec,
    InstanceState,
    Severity,
)
from tests.hostops.hosts import (
    DRIVER,
    LATER_BUILD_ID,
    Output,
    game_pid,
    game_processes,
    instance_of,
    kill_games,
    latest_run,
    without_box,
    write_control,
)
from tests.ports import find_free_port
from tests.waiting import wait_until

ABSENT, STOPPED, STARTING, RUNNING, CRASHED = InstanceState


def console_text(host: Host, name: str = "alpha") -> str:
    return "\n".join(line for _, line in host.read_console(name, ConsolePosition()).lines)


def test_the_life_of_a_server(host: Host, root: Path, spec: InstanceSpec) -> None:
    assert host.status("alpha").state is ABSENT
    host.initialize(spec)
    assert host.status("alpha").state is STOPPED
    output = Output()
    host.start("alpha", on_line=output.on_line, on_stage=output.on_stage)
    status = host.status("alpha")
    assert status.state is RUNNING
    assert status.pid in game_processes(root)
    assert status.release == host.facts().build_id
    # The game's output belongs to its console, not to the start.
    assert "Connection to Steam servers successful." not in output.text
    assert "Connection to Steam servers successful." in console_text(host)
    begun, waited = output.stages[:2], output.stages[2:]
    assert [name for name, _ in begun] == ["Preparing", "Starting"]
    # It may answer before anybody has waited for it.
    assert all(name.startswith("Waiting for ") for name, _ in waited)
    assert host.statuses() == {"alpha": status}
    host.stop("alpha")
    assert host.status("alpha").state is STOPPED
    assert not game_processes(root)
    host.delete("alpha")
    assert host.status("alpha").state is ABSENT
    assert not list((root / "instances").iterdir())


def test_every_verb_may_be_called_twice(host: Host, root: Path, spec: InstanceSpec) -> None:
    said = []
    for verb in ("start", "stop", "delete"):
        host.initialize(spec)
        host.initialize(spec)
        getattr(host, verb)("alpha")
        output = Output()
        getattr(host, verb)("alpha", on_line=output.on_line)
        said.append(output.lines[0][1])
    assert said == [
        "alpha runs already.",
        "alpha does not run.",
        "alpha has no files on this host.",
    ]


def test_the_config_is_the_servers(host: Host, alpha: Path) -> None:
    host.start("alpha")
    host.send_command("alpha", "hostname")
    wait_until(
        lambda: '"hostname" = "Alpha"' in console_text(host), 5, "the console shows the name"
    )


def test_an_edit_applies_at_the_next_start(host: Host, alpha: Path, spec: InstanceSpec) -> None:
    host.start("alpha")
    output = Output()
    host.initialize(replace(spec, config='hostname "Later"\n'), on_line=output.on_line)
    assert output.text.endswith("alpha is running: this applies at its next start.")
    host.send_command("alpha", "hostname")
    wait_until(lambda: '"hostname" = "Alpha"' in console_text(host), 5, "the name is the old one")
    host.restart("alpha")
    host.send_command("alpha", "hostname")
    wait_until(lambda: '"hostname" = "Later"' in console_text(host), 5, "the name is the new one")
    assert len(list((alpha / "layers").iterdir())) == 1


def test_a_config_that_the_server_wrote_itself_does_not_hide_ours(host: Host, alpha: Path) -> None:
    own = alpha / "upper" / "left4dead2" / "cfg" / "server.cfg"
    own.parent.mkdir(parents=True)
    own.write_text('hostname "Its own"\n')
    output = Output()
    host.start("alpha", on_line=output.on_line)
    host.send_command("alpha", "hostname")
    wait_until(lambda: '"hostname" = "Alpha"' in console_text(host), 5, "the name is ours")
    (saved,) = own.parent.glob("server.cfg.saved-*")
    assert saved.read_text() == 'hostname "Its own"\n'


def test_without_a_config_that_of_the_topmost_overlay_has_the_last_word(
    host: Host, root: Path, spec: InstanceSpec
) -> None:
    for name in ("top", "bottom"):
        path = root / "overlays" / name / "left4dead2" / "cfg" / "server.cfg"
        path.parent.mkdir(parents=True)
        path.write_text(f'hostname "{name}"\nsv_tags "{name}"\n')
    (root / "overlays/top/left4dead2/cfg/server.cfg").write_text('hostname "top"\n')
    host.initialize(replace(spec, config="", overlays=("top", "bottom")))
    host.start("alpha")
    host.send_command("alpha", "hostname; sv_tags")
    wait_until(lambda: '"hostname" = "top"' in console_text(host), 5, "the top overlay's name")
    wait_until(lambda: '"sv_tags" = "bottom"' in console_text(host), 5, "what only one sets")


def test_a_packs_config_and_a_blueprints_both_apply(
    host: Host, root: Path, spec: InstanceSpec
) -> None:
    """The case of an overlay that brings its own server.cfg."""
    folder = root / "overlays" / "pack" / "left4dead2" / "cfg"
    folder.mkdir(parents=True)
    (folder / "server.cfg").write_text("sv_consistency 0\nexec more.cfg\n")
    (folder / "more.cfg").write_text("sv_gravity 700\n")
    host.initialize(replace(spec, config='hostname "Our night"\n', overlays=("pack",)))
    host.start("alpha")
    host.send_command("alpha", "sv_consistency; sv_gravity; hostname")
    wait_until(lambda: '"hostname" = "Our night"' in console_text(host), 5, "the blueprint's line")
    assert '"sv_consistency" = "0"' in console_text(host)
    assert '"sv_gravity" = "700"' in console_text(host)


def test_what_the_server_wrote_survives_an_update(host: Host, root: Path, alpha: Path) -> None:
    host.start("alpha")
    host.send_command("alpha", "banid 0 STEAM_1:0:4242")
    host.send_command("alpha", "writeid")
    bans = alpha / "upper" / "left4dead2" / "cfg" / "banned_user.cfg"
    wait_until(lambda: bans.exists() and "4242" in bans.read_text(), 5, "the ban is written")
    write_control(root, steamcmd={"build_id": "30000000"})
    host.install_runtime()
    host.restart("alpha")
    assert latest_run(root).release == "30000000"
    assert "4242" in bans.read_text()


@pytest.mark.parametrize("name", ["", "..", "a/b", "Alpha", "-a", "a" * 33, "a\n", ".deleting"])
def test_a_bad_name_is_refused_by_every_verb(host: Host, name: str) -> None:
    with pytest.raises(ValueError, match="is not a name"):
        InstanceSpec(name, 27015)
    for verb in (host.start, host.stop, host.restart, host.delete, host.status):
        with pytest.raises(ValueError, match="is not a name"):
            verb(name)
    with pytest.raises(ValueError, match="is not a name"):
        host.send_command(name, "status")
    with pytest.raises(ValueError, match="is not a name"):
        host.read_console(name, ConsolePosition())


def test_a_missing_overlay_is_named_with_the_folder_to_make(host: Host, spec: InstanceSpec) -> None:
    with pytest.raises(
        HostError, match=r"needs the overlay maps, .* make the folder /.*/overlays/maps "
    ):
        host.initialize(replace(spec, overlays=("maps",)))
    assert host.status("alpha").state is ABSENT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arguments": ("-port", "1")}, "Saferoom sets -port itself"),
        ({"arguments": ("+say\n",)}, "control character"),
        ({"config": 'hostname "Bär"'}, "plain ASCII"),
    ],
)
def test_what_srcds_would_choke_on_is_refused(
    host: Host, spec: InstanceSpec, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        host.initialize(replace(spec, **change))  # type: ignore[arg-type]
    assert host.status("alpha").state is ABSENT


def test_a_server_without_files_cannot_be_started(host: Host) -> None:
    for verb in (host.start, host.restart):
        with pytest.raises(HostError, match="alpha has no files on this host: initialize it first"):
            verb("alpha")
    with pytest.raises(HostError, match="alpha does not run"):
        host.send_command("alpha", "status")


def test_a_release_that_cannot_be_started_stops_nothing_and_starts_nothing(
    host: Host, root: Path, alpha: Path, spec: InstanceSpec
) -> None:
    host.start("alpha")
    pid = latest_run(root).pid
    (root / "current" / "srcds_linux").chmod(0o644)
    message = (
        r"Build \d+ on this host .* its srcds_linux may not be executed\. Install the game again\."
    )
    with pytest.raises(HostError, match=message):
        host.restart("alpha")
    with pytest.raises(HostError, match=message):
        host.initialize(spec)
    assert (host.status("alpha").state, latest_run(root).pid) == (RUNNING, pid)
    host.stop("alpha")
    plan = (alpha / "launch.json").read_text()
    # Before the port is checked, and anything written.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", spec.port))
        with pytest.raises(HostError, match=message):
            host.start("alpha")
    assert (alpha / "launch.json").read_text() == plan
    assert latest_run(root).run == 1


@pytest.mark.parametrize("layering", ["overlay", "copy"])
def test_nothing_executes_valves_script(root: Path, spec: InstanceSpec, layering: str) -> None:
    host = Host(root, driver=DRIVER, game_source="simulator", layering=layering)
    script = root / "current" / "srcds_run"
    script.write_text("#!/bin/sh\ntouch was-executed\nexit 1\n")
    host.initialize(spec)
    for verb in (host.start, host.restart):
        verb("alpha")
        assert host.status("alpha").state is RUNNING
    host.stop("alpha")
    script.unlink()
    host.start("alpha")
    host.stop("alpha")
    write_control(root, steamcmd={"build_id": LATER_BUILD_ID})
    host.install_runtime()
    assert not list(root.rglob("was-executed"))


def test_a_server_that_listens_on_one_address_is_asked_there(
    host: Host, root: Path, spec: InstanceSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hostops.drivers.startup_console._LOADED_MARKS", ())
    host.initialize(replace(spec, bind_address="127.0.0.2"))
    host.start("alpha")
    assert host.status("alpha").state is RUNNING
    assert latest_run(root).address == "127.0.0.2"
    assert f"Network: IP 127.0.0.2, mode MP, dedicated Yes, ports {spec.port} SV" in console_text(
        host
    )
    # The port is free on the other addresses: another server may have it there.
    host.initialize(replace(spec, name="bravo", bind_address="127.0.0.3"))
    host.start("bravo")
    host.stop("bravo")
    host.initialize(replace(spec, name="bravo", bind_address="127.0.0.2"))
    with pytest.raises(HostError, match=rf"Port {spec.port} .* in use by the server alpha"):
        host.start("bravo")


def test_a_server_that_listens_everywhere_is_asked_where_all_are(
    host: Host, root: Path, spec: InstanceSpec
) -> None:
    host.initialize(replace(spec, bind_address="0.0.0.0"))  # noqa: S104
    host.start("alpha")
    assert latest_run(root).address == ""
    assert b"\0-ip\0000.0.0.0\0" in Path(f"/proc/{game_pid(root)}/cmdline").read_bytes()


def test_an_address_that_is_not_this_hosts_is_refused(host: Host, spec: InstanceSpec) -> None:
    host.initialize(replace(spec, bind_address="192.0.2.1"))
    with pytest.raises(
        HostError, match=r"192\.0\.2\.1 is no address of this host: an admin sets the bind address"
    ):
        host.start("alpha")
    assert host.status("alpha").state is STOPPED


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_port_in_use_is_named(
    host: Host, alpha: Path, spec: InstanceSpec, kind: socket.SocketKind
) -> None:
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", spec.port))
        if kind is socket.SOCK_STREAM:
            other.listen()
        with pytest.raises(HostError, match=rf"Port {spec.port} .* \(process {os.getpid()}\)"):
            host.start("alpha")
    assert host.status("alpha").state is STOPPED


def test_the_server_that_has_the_port_is_named(host: Host, alpha: Path, spec: InstanceSpec) -> None:
    host.start("alpha")
    host.initialize(replace(spec, name="bravo"))
    with pytest.raises(HostError, match=rf"Port {spec.port} .* in use by the server alpha"):
        host.start("bravo")


def test_two_starts_at_once_make_one_server(host: Host, root: Path, alpha: Path) -> None:
    write_control(root, srcds={"start_seconds": 0.3})
    errors: list[BaseException] = []

    def start() -> None:
        try:
            Host(root, driver=DRIVER, game_source="simulator").start("alpha")
        except BaseException as error:  # noqa: BLE001 - asserted below
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not errors
    assert len(game_processes(root)) == 1
    assert latest_run(root).run == 1


def test_servers_start_side_by_side(host: Host, root: Path) -> None:
    names = ("alpha", "bravo", "charlie")
    for name in names:
        host.initialize(InstanceSpec(name, find_free_port()))
    threads = [threading.Thread(target=host.start, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {name: status.state for name, status in host.statuses().items()} == dict.fromkeys(
        names, RUNNING
    )


# A start that fails


def test_a_game_that_dies_at_its_start_is_told_with_its_last_line(
    host: Host, root: Path, alpha: Path
) -> None:
    write_control(root, srcds={"fail": "crash-at-start"})
    output = Output()
    with pytest.raises(
        HostError, match=r"alpha ended while it was starting\..* Its last line was: ."
    ):
        host.start("alpha", on_line=output.on_line)
    assert host.status("alpha").state is CRASHED
    assert output.lines
    write_control(root)
    host.start("alpha")
    assert host.status("alpha").state is RUNNING


def test_a_cancelled_start_leaves_nothing_running(host: Host, root: Path, alpha: Path) -> None:
    write_control(root, srcds={"start_seconds": 60})
    output, cancel = Output(), CancelToken()
    output.when("Waiting for the map to load", cancel.cancel)
    with pytest.raises(OperationCancelled):
        host.start("alpha", on_line=output.on_line, on_stage=output.on_stage, cancel=cancel)
    assert not game_processes(root)
    assert host.status("alpha").state is STOPPED
    assert "was ended, as its start was cancelled" in output.errors()


@pytest.mark.parametrize(
    ("program", "last_word"),
    [
        (
            'echo "map load failed: c1m1_hotel not found or invalid"',
            "of the console of alpha",
        ),
        ("echo Hello", "of the console of alpha"),
        ("trap : INT", "does not react to quit: sending SIGINT"),
        ("", "It runs in a box"),
    ],
    ids=["a map that is not there", "without a port", "that hangs", "just launched"],
)
def test_a_start_that_can_tell_nobody_anything_ends_the_server_all_the_same(
    root: Path, alpha: Path, program: str, last_word: str
) -> None:
    """Such as when nobody reads the output of the command line any more."""
    (root / "current" / "srcds_linux").write_text(
        f"#!/bin/sh\n{program}\nwhile :; do sleep 0.1; done\n"
    )
    host = Host(root, driver=DRIVER, game_source="simulator", start_timeout_seconds=2)
    output = Output()

    def break_off() -> None:
        raise BrokenPipeError

    output.when(last_word, break_off)
    with pytest.raises(BrokenPipeError):
        host.start("alpha", on_line=output.on_line)
    assert not game_processes(root)
    assert host.status("alpha").state is STOPPED


def test_a_game_that_prints_no_ready_line_is_ready_when_it_answers(
    host: Host, root: Path, alpha: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hostops.drivers.startup_console._LOADED_MARKS", ())
    host.start("alpha")
    assert host.status("alpha").state is RUNNING


def test_a_program_that_cannot_be_executed_is_told(host: Host, root: Path, alpha: Path) -> None:
    program = root / "current" / "srcds_linux"
    program.write_text("#!/no/such/interpreter\n")
    with pytest.raises(CommandError, match="could not be executed: No such file"):
        host.start("alpha")
    assert host.status("alpha").state is CRASHED


# Stopping


@pytest.mark.parametrize(
    ("failures", "said"),
    [
        (["hang-on-quit"], "does not react to quit: sending SIGINT"),
        (["hang-on-quit", "ignore-sigint"], "does not react to SIGINT either: sending SIGKILL"),
    ],
)
def test_a_game_that_hangs_is_ended_all_the_same(
    root: Path, alpha: Path, failures: list[str], said: str
) -> None:
    write_control(root, srcds={"fail": failures})
    host = Host(root, driver=DRIVER, game_source="simulator", stop_timeout_seconds=0.6)
    host.start("alpha")
    output = Output()
    host.stop("alpha", on_line=output.on_line)
    assert said in output.errors()
    assert not game_processes(root)
    assert host.status("alpha").state is STOPPED


def test_the_last_lines_are_handed_on_while_it_stops(host: Host, alpha: Path) -> None:
    host.start("alpha")
    output = Output()
    host.stop("alpha", on_line=output.on_line)
    assert "quit" in output.lines[0][1]
    assert output.lines[-1][1] == "alpha has stopped."
    assert "Connection to Steam" not in output.text


@pytest.mark.skipif(DRIVER != "process", reason="systemd ends by itself what is left")
def test_a_child_that_outlives_its_main_process_is_found_and_ended(
    host: Host, root: Path, alpha: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it has no box; in one it ends with the init."""
    without_box(monkeypatch)
    # A shell script that waits for the program it started.
    program = root / "current" / "srcds_linux"
    program.write_text(program.read_text().replace("exec ", "", 1))
    host.start("alpha")
    both = game_processes(root)
    assert len(both) == 2
    main_process = latest_run(root).pid
    os.kill(main_process, signal.SIGKILL)
    wait_until(lambda: read_stat(main_process) is None, 5, "the shell is gone")

    status = host.status("alpha")
    assert (status.state, status.pid) == (RUNNING, None)
    assert "another process of it is left" in status.detail
    host.stop("alpha")
    assert not game_processes(root)
    assert host.status("alpha").state is STOPPED


# States


def crashes_of(host: Host) -> tuple[int | None, list[int]]:
    """Return the number of alpha's last run, and the numbers of its crashed runs."""
    status = host.status("alpha")
    return status.run, [crash.run for crash in status.crashed_runs]


@pytest.mark.skipif(DRIVER != "process", reason="systemd would start it again by itself")
@pytest.mark.parametrize("was_stopped", [False, True])
def test_while_the_next_run_is_launched_nothing_of_the_last_one_is_left(
    host: Host, root: Path, alpha: Path, was_stopped: bool
) -> None:
    """A launcher takes the lock a moment before it records its run; a busy machine can stretch that."""
    host.start("alpha")
    runs.mark_silent(instance_of(root), latest_run(root), "It did not answer.")
    if was_stopped:
        host.stop("alpha")
    else:
        kill_games(root)
    wait_until(lambda: not game_processes(root), 10, "it does not end")
    with instance_of(root).run_lock_path.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status = host.status("alpha")
    assert (status.state, status.pid, status.detail) == (STARTING, None, "")
    assert not status.is_stopping


def test_a_run_that_is_recorded_while_somebody_looks_is_seen(
    host: Host, root: Path, alpha: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.start("alpha")
    expected = host.status("alpha")
    path = instance_of(root).run_path
    now = path.read_text()
    path.write_text(json.dumps({**json.loads(now), "run": 99, "pid": 2**22, "start_ticks": 1}))
    is_locked = runs.is_launch_locked

    def record_and_look(instance: InstanceLayout) -> bool:
        path.write_text(now)
        return is_locked(instance)

    monkeypatch.setattr(runs, "is_launch_locked", record_and_look)
    assert host.status("alpha") == expected


def test_a_crash_is_told_from_a_stop(host: Host, root: Path, alpha: Path) -> None:
    host.start("alpha")
    os.kill(latest_run(root).pid, signal.SIGKILL)
    wait_until(lambda: host.status("alpha").state is CRASHED, 5, "the crash is seen")
    assert "without having been asked to. Its last line was: " in host.status("alpha").detail
    assert crashes_of(host) == (1, [1])
    host.stop("alpha")
    assert host.status("alpha").state is STOPPED
    assert crashes_of(host) == (1, [1])
    host.start("alpha")
    assert host.status("alpha").state is RUNNING
    assert crashes_of(host) == (2, [1])


def test_a_crash_is_still_known_when_the_server_runs_again(
    host: Host, root: Path, alpha: Path
) -> None:
    host.start("alpha")
    host.restart("alpha")  # No crash: this one was asked to end.
    for run in (2, 3):
        os.kill(latest_run(root).pid, signal.SIGKILL)
        wait_until(lambda: host.status("alpha").state is CRASHED, 5, "the crash is seen")
        host.start("alpha")
        assert crashes_of(host) == (run + 1, list(range(2, run + 1)))
    how = host.status("alpha").crashed_runs[-1].how
    assert how == ("SIGKILL" if DRIVER == "systemd" else "")
    host.delete("alpha")
    assert crashes_of(host) == (None, [])


def test_what_a_reboot_ended_has_not_crashed(host: Host, root: Path, alpha: Path) -> None:
    host.start("alpha")
    host.stop("alpha")
    run = json.loads(instance_of(root).run_path.read_text())
    instance_of(root).run_path.write_text(json.dumps({**run, "run": 9, "boot_id": "another"}))
    assert crashes_of(host) == (9, [])
    host.stop("alpha")
    assert crashes_of(host) == (9, [])
    host.start("alpha")
    assert host.status("alpha").crashed_runs == ()


def test_another_host_object_finds_the_same(host: Host, root: Path, alpha: Path) -> None:
    host.start("alpha")
    other = Host(root, driver=DRIVER, game_source="simulator")
    assert other.status("alpha") == host.status("alpha")
    other.stop("alpha")
    assert host.status("alpha").state is STOPPED


def test_a_process_number_that_is_used_again_is_not_the_game(
    host: Host, root: Path, alpha: Path
) -> None:
    me = read_stat(os.getpid())
    assert me is not None
    run = {
        "run": 1,
        "pid": me.pid,
        "start_ticks": me.start_ticks - 1,
        "boot_id": read_boot_id(),
        "started_at": 1.0,
        "release": "1",
        "port": 27015,
    }
    instance_of(root).run_path.write_text(json.dumps(run))
    assert host.status("alpha").state is CRASHED
    host.stop("alpha")  # and this process still exists
    assert host.status("alpha").state is STOPPED


def test_after_a_restart_of_the_host_it_is_stopped(host: Host, root: Path, alpha: Path) -> None:
    host.start("alpha")
    host.stop("alpha")
    path = instance_of(root).run_path
    path.write_text(path.read_text().replace(read_boot_id(), "an earlier boot"))
    instance_of(root).stop_path.unlink()
    instance_of(root).console_stop_path(1).unlink()
    status = host.status("alpha")
    assert (status.state, status.detail) == (STOPPED, "The host has restarted since it ran.")
    host.start("alpha")
    assert host.status("alpha").state is RUNNING


def test_a_record_of_a_later_version_is_understood(host: Host, root: Path, alpha: Path) -> None:
    host.start("alpha")
    path = instance_of(root).run_path
    path.write_text(json.dumps({**json.loads(path.read_text()), "unheard_of": 1}))
    assert host.status("alpha").state is RUNNING


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"run": 1}', "null"])
def test_a_record_that_a_power_cut_emptied_is_no_run(
    host: Host, root: Path, alpha: Path, content: str
) -> None:
    instance_of(root).run_path.write_text(content)
    assert host.status("alpha").state is STOPPED


def test_a_server_whose_start_nobody_waited_for_is_found_running(
    host: Host, root: Path, alpha: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.start("alpha")
    instance_of(root).ready_path.unlink()
    assert host.status("alpha").state is STARTING
    monkeypatch.setattr("hostops.drivers.status_reader._UNATTENDED_SECONDS", 0.0)
    assert host.status("alpha").state is RUNNING
    assert runs.is_marked_ready(instance_of(root), latest_run(root))


def test_a_server_that_started_before_the_clock_was_set_back_is_found_running_once_it_answers(
    host: Host, root: Path, alpha: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.start("alpha")
    instance = instance_of(root)
    instance.ready_path.unlink()
    record = json.loads(instance.run_path.read_text())
    record["started_at"] += 3600
    instance.run_path.write_text(json.dumps(record))
    with monkeypatch.context() as silence:
        silence.setattr("hostops.drivers.status_reader.find_answering", lambda *_: set())
        assert host.status("alpha").state is STARTING
    monkeypatch.setattr("hostops.drivers.status_reader._ASK_EVERY_SECONDS", 0.0)
    assert host.status("alpha").state is RUNNING


def test_a_start_goes_on_with_one_whose_caller_died(host: Host, root: Path, alpha: Path) -> None:
    host.start("alpha")
    instance_of(root).ready_path.unlink()
    output = Output()
    host.start("alpha", on_line=output.on_line)
    assert output.lines[0][1] == "alpha is starting already."
    assert host.status("alpha").state is RUNNING
    assert latest_run(root).run == 1


# Console


def test_the_console_goes_on_over_a_restart(host: Host, alpha: Path) -> None:
    host.start("alpha")
    first = host.read_console("alpha", ConsolePosition())
    assert {run for run, _ in first.lines} == {1}
    host.restart("alpha")
    second = host.read_console("alpha", first.position)
    assert [run for run, _ in second.lines] == sorted(run for run, _ in second.lines)
    assert {run for run, _ in second.lines} == {1, 2}
    assert "quit" in second.lines[0][1]


def test_a_command_is_one_line(host: Host, alpha: Path) -> None:
    host.start("alpha")
    with pytest.raises(ValueError, match="one line"):
        host.send_command("alpha", "say hi\nquit")
    host.send_command("alpha", "say hi")
    wait_until(lambda: "hi" in console_text(host), 5, "the console shows what was said")


# Deleting


def test_deleting_ends_a_running_server(host: Host, root: Path, alpha: Path) -> None:
    host.start("alpha")
    host.delete("alpha")
    assert not game_processes(root)
    assert not alpha.exists()


def test_deleting_follows_no_link_out_of_the_instance(
    host: Host, alpha: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    outside.chmod(0o500)
    (alpha / "upper" / "folder").symlink_to(outside)
    (alpha / "upper" / "file").symlink_to(outside / "precious")
    host.delete("alpha")
    assert (outside / "precious").exists()
    assert outside.stat().st_mode & 0o777 == 0o500


def test_deleting_finishes_what_was_begun_and_touches_no_neighbour(
    host: Host, root: Path, alpha: Path
) -> None:
    host.initialize(InstanceSpec("alpha-1", find_free_port()))
    (root / "instances" / ".deleting.alpha-1.1").mkdir()
    (root / "instances" / ".deleting.alpha.1" / "work" / "work").mkdir(parents=True, mode=0o000)
    host.delete("alpha")
    left = sorted(path.name for path in (root / "instances").iterdir())
    assert left == [".deleting.alpha-1.1", "alpha-1"]
    host.install_runtime()
    assert [path.name for path in (root / "instances").iterdir()] == ["alpha-1"]
    assert host.status("alpha-1").state is STOPPED


# Facts and advice


def test_the_facts(host: Host, root: Path) -> None:
    facts = host.facts()
    assert (facts.driver, facts.game_source, facts.layering) == (DRIVER, "simulator", "overlay")
    assert facts.layering_detail == ""
    assert facts.disk_free_bytes
    if DRIVER == "process":
        assert facts.limits_without_effect == LIMIT_NAMES


def test_the_doctor_names_what_is_wrong_and_the_cure(tmp_path: Path, installed_root: Path) -> None:
    findings = {finding.subject: finding for finding in Host(tmp_path / "new").doctor()}
    assert not findings["Game"].is_ok
    assert findings["Game"].severity is Severity.TODO
    assert "l4d2ctl install" in findings["Game"].cure
    assert findings["Layers"].is_ok
    assert all(finding.is_ok or finding.cure for finding in findings.values())

    made = f"{tmp_path / 'new'} was not there, and was made just now."
    doctor = Host(tmp_path / "new").doctor
    (tmp_path / "new").rename(tmp_path / "other")
    assert [made in [finding.text for finding in doctor()] for _ in range(2)] == [True, False]

    forced = Host(tmp_path / "new", layering="copy").doctor()
    assert not {finding.subject: finding for finding in forced}["Layers"].is_ok


def test_the_doctor_names_servers_whose_passwords_stand_in_a_config(host: Host, root: Path) -> None:
    host.initialize(InstanceSpec("open", 27020, config='log on; RCON_password "hunter2"'))
    host.initialize(InstanceSpec("kept", 27021, rcon_password="hunter2"))
    (finding,) = [one for one in host.doctor() if one.subject == "Passwords"]
    assert finding.text.startswith("open has its password in a config")
    assert "makesecretskey" in finding.cure
    assert "hunter2" not in finding.text + finding.cure


def test_the_doctor_tells_of_a_folder_it_cannot_use(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (finding,) = Host(tmp_path / "file" / "root").doctor()
    assert not finding.is_ok
    assert finding.text.count("cannot be used") == 1


@pytest.mark.parametrize("option", ["driver", "game_source", "layering"])
def test_a_host_of_an_unknown_kind_is_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(ValueError, match="'wrong' is no"):
        Host(tmp_path, **{option: "wrong"})  # type: ignore[arg-type]
