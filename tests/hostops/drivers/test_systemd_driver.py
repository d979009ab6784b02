"""Which commands the systemd driver runs, and how it reads the answers; no systemd is needed here."""

import json
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hostops.callbacks import Callbacks
from hostops.crash_budget import RESTART_BUDGET, RESTART_WINDOW_SECONDS
from hostops.drivers.systemctl import Manager, Systemctl, Unit, parse_show
from hostops.drivers.systemd_driver import UnitDriver
from hostops.drivers.unit_files import (
    TEMPLATE_NAME,
    Installation,
    all_limit_properties,
    template,
    unit_name,
)
from hostops.errors import CommandError, HostError
from hostops.instances import runs
from hostops.launching import EXIT_BUSY
from hostops.layout import HostLayout, InstanceLayout
from hostops.linux import process
from hostops.linux.files import make_dir
from hostops.linux.namespaces import EXIT_FAILED
from hostops.linux.proc_stat import read_boot_id
from hostops.linux.process_identity import read_own_stat
from hostops.specs import CrashedRun, InstanceSpec, InstanceState, InstanceStatus, Limits

SHOW = "show --property=*"
ALPHA = unit_name("alpha")
IDLE = {"Id": ALPHA, "LoadState": "loaded", "ActiveState": "inactive", "SubState": "dead"}


def answer(**values: str) -> str:
    """Return what `systemctl show` prints for alpha's unit."""
    return "".join(f"{name}={value}\n" for name, value in (IDLE | values).items())


class FakeRunner:
    """Answers declared commands, in the order of their answers, and refuses all others."""

    def __init__(self, manager: str) -> None:
        self._prefix = ["systemctl", f"--{manager}", "--no-ask-password", "--no-pager"]
        self._answers: dict[str, list[str | Exception | Callable[[], str]]] = {}
        self.calls: list[str] = []

    def declare(self, command: str, *answers: str | Exception | Callable[[], str]) -> None:
        """Allow a command; its last answer is repeated."""
        self._answers[command] = list(answers) or [""]

    def __call__(self, argv: Sequence[str]) -> str:
        if list(argv) == ["systemctl", "--version"]:
            return "systemd 252 (252.38-1~deb12u1)\n+PAM +AUDIT\n"
        assert list(argv[:4]) == self._prefix, f"not declared: {argv}"
        command = re.sub(r"--property=\S+", "--property=*", " ".join(argv[4:]))
        assert command in self._answers, f"not declared: {command}"
        self.calls.append(command)
        answers = self._answers[command]
        answered = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answered, Exception):
            raise answered
        return answered if isinstance(answered, str) else answered()


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostLayout:
    """Return a host's layout; the account's unit files are in a folder of the test."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return HostLayout(tmp_path / "host")


@pytest.fixture
def instance(layout: HostLayout) -> InstanceLayout:
    """Return the layout of alpha, whose folder exists."""
    make_dir(layout.instance("alpha").dir)
    return layout.instance("alpha")


@pytest.fixture
def units_dir(tmp_path: Path) -> Path:
    """Return the folder of the account's unit files."""
    return tmp_path / "config" / "systemd" / "user"


def make_driver(layout: HostLayout, manager: Manager) -> tuple[UnitDriver, FakeRunner]:
    runner = FakeRunner(manager)
    runner.declare(f"{SHOW} -- {ALPHA}", answer())
    runner.declare(f"reset-failed {ALPHA}")
    return UnitDriver(layout, Systemctl(manager, runner)), runner


def launcher(instance: InstanceLayout, report: str) -> Callable[[], str]:
    """Return a stand-in for the launcher that `systemctl start` starts: it reports, and ends."""

    def act() -> str:
        descriptor = os.open(instance.launch_report_path, os.O_WRONLY | os.O_NONBLOCK)
        os.write(descriptor, report.encode())
        os.close(descriptor)
        return ""

    return act


# Launching


def test_a_launch_writes_the_units_and_starts_one(
    layout: HostLayout, instance: InstanceLayout, units_dir: Path
) -> None:
    driver, runner = make_driver(layout, Manager.USER)
    runner.declare("daemon-reload")
    runner.declare(f"start {ALPHA}", launcher(instance, ""))
    driver.launch(instance, Limits(memory_bytes=2**30, cpu_weight=50), {}, Callbacks())
    assert runner.calls == ["daemon-reload", f"reset-failed {ALPHA}", f"start {ALPHA}"]
    assert str(layout.root) in (units_dir / TEMPLATE_NAME).read_text()
    drop_in = (units_dir / f"{ALPHA}.d" / "50-limits.conf").read_text()
    assert "[Service]\nMemoryMax=1073741824\nMemorySwapMax=0\nCPUWeight=50\n" in drop_in
    assert not instance.launch_report_path.exists()


def test_nothing_is_reloaded_where_nothing_has_changed(
    layout: HostLayout, instance: InstanceLayout
) -> None:
    driver, runner = make_driver(layout, Manager.USER)
    runner.declare("daemon-reload")
    runner.declare(f"start {ALPHA}", launcher(instance, ""))
    driver.launch(instance, Limits(), {}, Callbacks())
    runner.calls.clear()
    driver.launch(instance, Limits(), {}, Callbacks())
    assert "daemon-reload" not in runner.calls


def test_the_systems_units_are_not_ours_to_write(
    layout: HostLayout, instance: InstanceLayout, units_dir: Path
) -> None:
    driver, runner = make_driver(layout, Manager.SYSTEM)
    properties = "TasksMax=64 MemoryMax= MemorySwapMax= CPUWeight="
    runner.declare(f"set-property --runtime {ALPHA} {properties}")
    runner.declare(f"start {ALPHA}", launcher(instance, ""))
    driver.launch(instance, Limits(tasks=64), {}, Callbacks())
    assert runner.calls[-2:] == [
        f"set-property --runtime {ALPHA} {properties}",
        f"start {ALPHA}",
    ]
    assert not units_dir.exists()


def test_limits_of_the_system_are_taken_back(layout: HostLayout, instance: InstanceLayout) -> None:
    driver, runner = make_driver(layout, Manager.SYSTEM)
    path = f"/run/systemd/system.control/{ALPHA}.d/50-MemoryMax.conf"
    runner.declare(f"{SHOW} -- {ALPHA}", answer(DropInPaths=path))
    command = f"set-property --runtime {ALPHA} {' '.join(all_limit_properties(Limits()))}"
    runner.declare(command)
    runner.declare(f"start {ALPHA}", launcher(instance, ""))
    driver.launch(instance, Limits(), {}, Callbacks())
    assert command in runner.calls


def test_the_launchers_words_are_told(layout: HostLayout, instance: InstanceLayout) -> None:
    driver, runner = make_driver(layout, Manager.SYSTEM)
    runner.declare(f"start {ALPHA}", launcher(instance, "71 The disk is on fire."))
    with pytest.raises(CommandError, match=r"alpha could not be started\. The disk is on fire\."):
        driver.launch(instance, Limits(), {}, Callbacks())


def test_a_launcher_that_says_nothing_is_told_with_where_to_look(
    layout: HostLayout, instance: InstanceLayout
) -> None:
    driver, runner = make_driver(layout, Manager.SYSTEM)
    runner.declare(f"start {ALPHA}")
    runner.declare(f"{SHOW} -- {ALPHA}", answer(), answer(ActiveState="failed"), answer())
    with pytest.raises(HostError, match=f"journalctl --system -u {ALPHA}"):
        driver.launch(instance, Limits(), {}, Callbacks())


def test_a_start_that_systemd_refuses_is_cleared_away(
    layout: HostLayout, instance: InstanceLayout
) -> None:
    driver, runner = make_driver(layout, Manager.SYSTEM)
    error = CommandError("systemctl ended with exit code 1.", ["systemctl"], 1, stderr="No.")
    runner.declare(f"start {ALPHA}", error)
    runner.declare(f"stop {ALPHA}")
    runner.declare(f"{SHOW} -- {ALPHA}", answer(), answer(ActiveState="failed"))
    with pytest.raises(CommandError, match="alpha could not be started"):
        driver.launch(instance, Limits(), {}, Callbacks())
    assert runner.calls[-2:] == [f"stop {ALPHA}", f"reset-failed {ALPHA}"]


def test_the_template_of_another_root_is_not_taken_from_its_servers(
    layout: HostLayout, instance: InstanceLayout, units_dir: Path
) -> None:
    make_dir(units_dir)
    other = HostLayout(Path("/srv/other"))
    (units_dir / TEMPLATE_NAME).write_text(template(other, Manager.USER, version=252))
    driver, runner = make_driver(layout, Manager.USER)
    running = answer(Id=unit_name("bravo"), ActiveState="active")
    runner.declare(f"{SHOW} -- {unit_name('*')}", running)
    with pytest.raises(HostError, match=r"saferoom-game@bravo\.service runs\. One account serves"):
        driver.launch(instance, Limits(), {}, Callbacks())


# Ending


def test_settling_calls_off_a_restart(layout: HostLayout, instance: InstanceLayout) -> None:
    driver, runner = make_driver(layout, Manager.USER)
    driver.settle(instance)
    assert runner.calls == [f"{SHOW} -- {ALPHA}"]
    runner.declare(f"{SHOW} -- {ALPHA}", answer(ActiveState="activating", SubState="auto-restart"))
    runner.declare(f"stop {ALPHA}")
    driver.settle(instance)
    assert runner.calls[-2:] == [f"stop {ALPHA}", f"reset-failed {ALPHA}"]


def test_a_unit_that_is_gone_needs_no_reset(layout: HostLayout, instance: InstanceLayout) -> None:
    driver, runner = make_driver(layout, Manager.USER)
    runner.declare(f"{SHOW} -- {ALPHA}", answer(ActiveState="failed"))
    runner.declare(f"stop {ALPHA}")
    said = f"Failed to reset failed state of unit {ALPHA}: Unit {ALPHA} not loaded."
    runner.declare(f"reset-failed {ALPHA}", CommandError("…", ["systemctl"], 1, stderr=said))
    driver.settle(instance)
    runner.declare(f"reset-failed {ALPHA}", CommandError("…", ["systemctl"], 1, stderr="No."))
    with pytest.raises(CommandError):
        driver.settle(instance)


def test_forgetting_removes_the_drop_in(
    layout: HostLayout, instance: InstanceLayout, units_dir: Path
) -> None:
    drop_in_dir = make_dir(units_dir / f"{ALPHA}.d")
    (drop_in_dir / "50-limits.conf").touch()
    driver, runner = make_driver(layout, Manager.USER)
    runner.declare("daemon-reload")
    driver.forget(instance)
    assert not drop_in_dir.exists()
    driver.forget(instance)
    assert runner.calls.count("daemon-reload") == 1


def test_no_process_is_searched_for_after_a_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A start makes three calls, and a search reads all of /proc.
    program = tmp_path / "systemctl"
    program.write_text("#!/bin/sh\necho systemd 252\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    searched: list[int] = []
    monkeypatch.setattr(process, "end_group", lambda group, _seconds: searched.append(group))
    assert Systemctl(Manager.USER).version() == 252
    assert searched == []


def test_a_manager_that_is_away_is_told_with_the_cure(
    layout: HostLayout, instance: InstanceLayout
) -> None:
    driver, runner = make_driver(layout, Manager.USER)
    said = "Failed to connect to bus: No medium found"
    runner.declare(f"{SHOW} -- {ALPHA}", CommandError("…", ["systemctl"], 1, stderr=said))
    with pytest.raises(HostError, match="loginctl enable-linger"):
        driver.settle(instance)


# States


def write_run(instance: InstanceLayout, restarts: int) -> None:
    stat = read_own_stat()
    now = time.time()
    run = runs.Run(3, stat.pid, stat.start_ticks, read_boot_id(), now, "1", 27015)
    times = [now - 5] * restarts
    instance.run_path.write_text(
        json.dumps({**run.__dict__, "restarted_at": times, "restarts": restarts})
    )


def completed(
    layout: HostLayout, state: InstanceState, restarts: int, **values: str
) -> InstanceStatus:
    write_run(layout.instance("alpha"), restarts)
    driver, runner = make_driver(layout, Manager.USER)
    runner.declare(f"{SHOW} -- {ALPHA}", answer(**values))
    crashed = (CrashedRun(2), CrashedRun(3)) if state is InstanceState.CRASHED else (CrashedRun(2),)
    status = InstanceStatus(
        *("alpha", state), detail="It ended.", run=3, restarts=restarts, crashed_runs=crashed
    )
    return driver.complete({"alpha": status})["alpha"]


KILLED = {"ExecMainCode": "2", "ExecMainStatus": "11", "Result": "signal"}


@pytest.mark.parametrize(
    ("restarts", "values", "detail", "note"),
    [
        (
            1,
            {**KILLED, "ActiveState": "activating", "SubState": "auto-restart"},
            "Crashed (SIGSEGV), restarting (2 of 5).",
            "restarting (2 of 5)",
        ),
        (
            5,
            {**KILLED, "ActiveState": "failed"},
            "Crashed (SIGSEGV), gave up after 5 restarts within 10 minutes.",
            "gave up",
        ),
        (
            0,
            {"ActiveState": "failed", "Result": "exit-code"}
            | {"ExecMainCode": "1", "ExecMainStatus": "71"},
            "Crashed (exit code 71).",
            "",
        ),
        # The init of the game's PID namespace reports the signal in its exit status.
        (
            0,
            {"ActiveState": "activating", "Result": "exit-code"}
            | {"ExecMainCode": "1", "ExecMainStatus": "134"},
            "Crashed (SIGABRT), restarting (1 of 5).",
            "restarting (1 of 5)",
        ),
        (
            0,
            {**KILLED, "Result": "oom-kill", "ActiveState": "activating"},
            "Crashed (out of memory), restarting (1 of 5).",
            "restarting (1 of 5)",
        ),
        (0, {"ActiveState": "inactive", "Result": "success"}, "Crashed.", ""),
        # systemd gave up by itself: its own count is a different one.
        (2, {**KILLED, "ActiveState": "failed"}, "Crashed (SIGSEGV), gave up.", "gave up"),
        (
            0,
            {"ActiveState": "unheard-of", "Result": "new", "ExecMainCode": "9"},
            "Crashed, restarting (1 of 5).",
            "restarting (1 of 5)",
        ),
    ],
)
def test_crashes_are_told_apart(
    layout: HostLayout,
    instance: InstanceLayout,
    restarts: int,
    values: dict[str, str],
    detail: str,
    note: str,
) -> None:
    status = completed(layout, InstanceState.CRASHED, restarts, **values)
    cure = " Look at why, then start it: 5 restarts are allowed again." if "after" in detail else ""
    assert status.detail == f"{detail}{cure} It ended."
    assert status.note == note
    assert status.state is InstanceState.CRASHED


def test_how_the_last_run_crashed_is_told_of_that_run_alone(
    layout: HostLayout, instance: InstanceLayout
) -> None:
    status = completed(layout, InstanceState.CRASHED, 1, **KILLED, ActiveState="failed")
    assert status.crashed_runs == (CrashedRun(2), CrashedRun(3, exit_signal="SIGSEGV"))


def test_how_often_it_was_restarted_before_it_gave_up_is_the_same_tomorrow(
    layout: HostLayout, instance: InstanceLayout
) -> None:
    driver, runner = make_driver(layout, Manager.USER)
    yesterday = time.time() - 86_400
    write_run(instance, 0)
    run = json.loads(instance.run_path.read_text())
    times = [yesterday - 60 * number for number in reversed(range(5))]
    run |= {"started_at": yesterday, "restarted_at": times}
    instance.run_path.write_text(json.dumps(run))
    runner.declare(f"{SHOW} -- {ALPHA}", answer(**KILLED, ActiveState="failed"))
    crashed = InstanceStatus("alpha", InstanceState.CRASHED, run=3, crashed_runs=(CrashedRun(3),))
    status = driver.complete({"alpha": crashed})["alpha"]
    assert status.detail.startswith(
        "Crashed (SIGSEGV), gave up after 5 restarts within 10 minutes."
    )


def test_a_launch_that_the_budget_refused_is_told_by_how_the_run_before_ended(
    layout: HostLayout, instance: InstanceLayout
) -> None:
    final = {"run": 3, "end": "signal killed ABRT", "at": time.time()}
    instance.final_path.write_text(json.dumps(final))
    refused = {"ActiveState": "failed", "Result": "exit-code"}
    refused |= {"ExecMainCode": "1", "ExecMainStatus": "71"}
    write_run(instance, 5)
    driver, runner = make_driver(layout, Manager.USER)
    runner.declare(f"{SHOW} -- {ALPHA}", answer(**refused))
    crashed_runs = (CrashedRun(3, exit_signal="SIGABRT"),)
    crashed = InstanceStatus("alpha", InstanceState.CRASHED, run=3, crashed_runs=crashed_runs)
    status = driver.complete({"alpha": crashed})["alpha"]
    assert status.note == "gave up"
    assert status.detail.startswith(
        "Crashed (SIGABRT), gave up after 5 restarts within 10 minutes."
    )
    assert (status.exit_signal, status.exit_code) == ("SIGABRT", None)
    assert status.crashed_runs == crashed_runs


def test_a_restart_that_is_going_to_be_refused_is_not_announced(
    layout: HostLayout, instance: InstanceLayout
) -> None:
    instance.end_path.write_text("signal killed SEGV")
    waiting = {**KILLED, "ActiveState": "activating", "SubState": "auto-restart"}
    assert completed(layout, InstanceState.CRASHED, 4, **waiting).note == "restarting (5 of 5)"
    assert completed(layout, InstanceState.CRASHED, 5, **waiting).note == "gave up"


def test_more_restarts_than_the_budget_are_never_told(
    layout: HostLayout, instance: InstanceLayout
) -> None:
    """A launcher of an earlier version made them after a `daemon-reload`."""
    waiting = {**KILLED, "ActiveState": "activating", "SubState": "auto-restart"}
    assert completed(layout, InstanceState.CRASHED, 7, **waiting).note == "restarting (5 of 5)"
    assert completed(layout, InstanceState.STARTING, 7).note == "restarting (5 of 5)"
    given_up = completed(layout, InstanceState.CRASHED, 7, **KILLED, ActiveState="failed")
    assert "gave up after 5 restarts" in given_up.detail


def test_a_restart_shows_while_it_starts(layout: HostLayout, instance: InstanceLayout) -> None:
    status = completed(layout, InstanceState.STARTING, 2, ActiveState="active")
    assert status.detail == "Restarting after a crash (2 of 5). It ended."
    assert (status.restarts, status.note) == (2, "restarting (2 of 5)")


def test_a_server_that_runs_tells_what_it_uses(
    layout: HostLayout, instance: InstanceLayout
) -> None:
    status = completed(
        layout,
        InstanceState.RUNNING,
        0,
        ActiveState="active",
        MemoryCurrent="4096",
        CPUUsageNSec="1500000000",
    )
    assert (status.memory_bytes, status.cpu_seconds, status.detail) == (4096, 1.5, "It ended.")


def test_all_servers_cost_one_call(layout: HostLayout) -> None:
    driver, runner = make_driver(layout, Manager.USER)
    runner.declare(f"{SHOW} -- {unit_name('*')}", "")
    names = ("alpha", "bravo", "charlie")
    statuses = {name: InstanceStatus(name, InstanceState.STOPPED) for name in names}
    assert driver.complete(statuses) == statuses
    assert runner.calls == [f"{SHOW} -- {unit_name('*')}"]
    assert driver.complete({}) == {}


def test_who_does_not_ask_for_usage_asks_systemd_only_about_crashes(layout: HostLayout) -> None:
    driver, runner = make_driver(layout, Manager.USER)
    running = InstanceStatus("alpha", InstanceState.RUNNING)
    stopped = InstanceStatus("bravo", InstanceState.STOPPED)
    statuses = {"alpha": running, "bravo": stopped}
    assert driver.complete(statuses, with_usage=False) == statuses
    assert runner.calls == []
    runner.declare(f"{SHOW} -- {ALPHA}", answer())
    crashed = replace(running, state=InstanceState.CRASHED)
    driver.complete({"alpha": crashed, "bravo": stopped}, with_usage=False)
    assert runner.calls == [f"{SHOW} -- {ALPHA}"]


# What systemctl prints


@pytest.mark.parametrize("counter", ["[not set]", "", str(2**64 - 1), "infinity"])
def test_a_counter_that_nobody_keeps_is_none(counter: str) -> None:
    text = answer(MemoryCurrent=counter, CPUUsageNSec=counter)
    unit = parse_show(text)[ALPHA]
    assert (unit.memory_bytes, unit.cpu_seconds) == (None, None)


def test_several_units_and_values_with_equals_signs_are_read() -> None:
    text = f"{answer(Result='a=b')}\n{answer(Id=unit_name('bravo'))}\n"
    units = parse_show(text)
    assert list(units) == [ALPHA, unit_name("bravo")]
    assert units[ALPHA].result == "a=b"
    assert parse_show("\n") == {}


def test_an_older_systemd_that_lacks_a_property_is_understood() -> None:
    assert parse_show(f"Id={ALPHA}\nActiveState=active\n")[ALPHA] == Unit(
        ALPHA, "", "active", "", ""
    )


# Unit files


def test_the_box_stays_closed() -> None:
    text = template(HostLayout(Path("/srv/saferoom/host")), Manager.USER, version=252)
    for line in (
        "ProtectHome=tmpfs",
        "TemporaryFileSystem=%t:ro",
        "BindPaths=-%t/systemd/notify",
        "PrivateUsers=yes",
        "NoNewPrivileges=yes",
        "RestrictNamespaces=user mnt pid ipc",
        "SystemCallArchitectures=native x86",
        "TemporaryFileSystem=/srv/saferoom:ro",
        "BindPaths=/srv/saferoom/host/instances/%i",
    ):
        assert line in text.splitlines()
    assert "MemoryDenyWriteExecute" not in text


def test_systemds_own_limit_comes_after_the_budget() -> None:
    lines = template(HostLayout(Path("/srv/saferoom/host")), Manager.USER, version=252).splitlines()
    assert f"StartLimitIntervalSec={RESTART_WINDOW_SECONDS}" in lines
    (burst,) = [int(line.split("=")[1]) for line in lines if line.startswith("StartLimitBurst=")]
    assert burst > RESTART_BUDGET + 1
    # This is the exit code with which the launcher gives up.
    assert f"RestartPreventExitStatus={EXIT_FAILED} {EXIT_BUSY}" in lines


def test_the_back_off_grows_where_systemd_can() -> None:
    layout = HostLayout(Path("/srv/saferoom/host"))
    assert "RestartSteps=" not in template(layout, Manager.USER, version=253)
    assert "RestartSteps=4" in template(layout, Manager.USER, version=254).splitlines()


@pytest.mark.parametrize("path", ["/a b", "/a:b", "/a%b", '/a"b', "/a\nb", "/ä"])
def test_a_path_that_a_unit_file_cannot_carry_is_refused(path: str) -> None:
    with pytest.raises(HostError, match="cannot stand in a unit file"):
        template(HostLayout(Path(path)), Manager.USER, version=252)


@pytest.mark.parametrize(
    "limits", [{"memory_limit_bytes": 1}, {"tasks_limit": 0}, {"cpu_weight": 10_001}]
)
def test_limits_that_cannot_be_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        InstanceSpec("alpha", 27015, **limits)  # type: ignore[arg-type]


def test_a_box_shows_where_links_lead_to(layout: HostLayout, tmp_path: Path) -> None:
    place, link = tmp_path / "real", tmp_path / "link"
    (place / "hostops").mkdir(parents=True)
    link.symlink_to(place)
    installation = Installation(Path("/usr/bin/python3"), link, (link,))
    text = template(layout, Manager.USER, version=252, installation=installation)
    for path in (place, place / "hostops"):
        assert f"BindReadOnlyPaths={path}\n" in text


@pytest.mark.parametrize("manager", Manager)
def test_a_box_shows_all_that_layers_can_be_of(layout: HostLayout, manager: Manager) -> None:
    text = template(layout, manager, version=252)
    shown = [word for line in text.splitlines() if line.startswith("Bind") for word in line.split()]
    for folder in (layout.releases_dir, layout.overlays_dir, layout.versions_dir):
        assert {f"-{folder}", f"BindReadOnlyPaths=-{folder}"} & set(shown)
    assert not [word for word in shown if "blobs" in word]


# Looking before a stop


def test_the_systems_manager_needs_its_template_before_anything_is_stopped(
    layout: HostLayout, instance: InstanceLayout
) -> None:
    driver, runner = make_driver(layout, Manager.SYSTEM)
    driver.require_ready(instance)
    runner.declare(f"{SHOW} -- {ALPHA}", answer(LoadState="not-found"))
    with pytest.raises(HostError, match=rf"the system's manager has no {TEMPLATE_NAME}"):
        driver.require_ready(instance)
    assert set(runner.calls) == {f"{SHOW} -- {ALPHA}"}


def test_a_template_of_another_root_is_in_the_way_as_long_as_another_server_of_it_runs(
    layout: HostLayout, instance: InstanceLayout, units_dir: Path, tmp_path: Path
) -> None:
    driver, runner = make_driver(layout, Manager.USER)
    driver.require_ready(instance)
    other = template(HostLayout(tmp_path / "other"), Manager.USER, version=252)
    make_dir(units_dir)
    (units_dir / TEMPLATE_NAME).write_text(other)
    running = answer(ActiveState="active")
    runner.declare(f"{SHOW} -- {unit_name('*')}", running)
    driver.require_ready(instance)  # Its own unit will have ended by then.
    beta = running.replace(ALPHA, unit_name("beta"))
    runner.declare(f"{SHOW} -- {unit_name('*')}", f"{running}\n{beta}")
    with pytest.raises(HostError, match=f"of which {unit_name('beta')} runs"):
        driver.require_ready(instance)
    assert (units_dir / TEMPLATE_NAME).read_text() == other
