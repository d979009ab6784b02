"""What a hostile game can do, as it reports from the inside: without the box, and in each kind of it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hostops.box.game import MOST_TASKS
from hostops.simulator.game_files import game_files, platform_files
from hostops.simulator.steam_client import DEFAULT_BUILD_ID
from tests.hostops.box.boxes import REPOSITORY, SECRET, Case, Game, HostileHost
from tests.hostops.box.intruder import DONE
from tests.hostops.hosts import ignored_signals
from tests.ports import find_free_port, is_free
from tests.waiting import wait_until

pytestmark = pytest.mark.box

IS_ROOT = os.geteuid() == 0
# The folders on the way to the game's own and to the project's.
WAYS = {
    Path(path).parts[1]
    for path in ("/var/tmp", REPOSITORY, sys.executable, sys.prefix, sys.base_prefix)
}
BOXED = [
    Case(layering="overlay"),
    Case(layering="copy"),
    # Without a PID namespace: an old unit that allows only user and mount namespaces.
    Case(has_pid_namespace=False),
    *(
        [
            Case(is_root=True),
            Case(is_root=True, layering="copy"),
            Case(is_root=True, has_pid_namespace=False),
            Case(has_covered_proc=True),
        ]
        if IS_ROOT
        else []
    ),
]
UNBOXED = [Case(is_boxed=False), Case(is_boxed=False, layering="copy")]

# On kernels without Landlock and seccomp the first walls, the namespaces, stand alone.
FIRST_WALLS = [
    Case(layering=layering, is_root=is_root, has_second_walls=False)
    for layering in ("overlay", "copy")
    for is_root in ((False, True) if IS_ROOT else (False,))
]

# What a game without a PID namespace of its own, or with the host's /proc, can still see.
SEEN_OF_OTHERS = {"see a command line"}
# An old unit forbids that namespace as well.
SHARED_WITHOUT_IPC_NAMESPACE = {"shared memory", "message queue"}


@pytest.fixture(scope="module")
def reports() -> Iterator[Any]:
    """Return the report of a case's game, and its launcher; each case runs once."""
    hosts: dict[bool, HostileHost] = {}
    found: dict[Case, tuple[dict[str, Any], dict[str, Any]]] = {}

    def report(case: Case) -> tuple[dict[str, Any], dict[str, Any]]:
        if case not in found:
            if case.is_root not in hosts:
                hosts[case.is_root] = HostileHost(case.is_root).__enter__()
            host = hosts[case.is_root]
            with host.run(case) as game:
                found[case] = (game.report, game.record)
            assert host.is_victim_alive
            assert host.shm_path.read_text() == SECRET
        return found[case]

    yield report
    for host in hosts.values():
        host.__exit__()


@pytest.fixture
def host() -> Iterator[HostileHost]:
    """Return a host for the runs of one test."""
    with HostileHost(is_root=False) as host:
        yield host


@pytest.mark.parametrize("case", BOXED, ids=str)
def test_nothing_that_a_hostile_game_tries_succeeds(reports: Any, case: Case) -> None:
    report, _ = reports(case)
    done = {name for name, outcome in report["tries"].items() if outcome == DONE}
    allowed: set[str] = set()
    if not case.has_pid_namespace or case.has_covered_proc:
        allowed |= SEEN_OF_OTHERS
    if not case.has_pid_namespace:
        allowed |= SHARED_WITHOUT_IPC_NAMESPACE
    assert done <= allowed


@pytest.mark.parametrize("case", FIRST_WALLS, ids=str)
def test_the_first_walls_keep_it_from_the_machine_by_themselves(reports: Any, case: Case) -> None:
    report, _ = reports(case)
    done = {name for name, outcome in report["tries"].items() if outcome == DONE}
    assert done <= {
        # The two that only Landlock prevents.
        *("connect abstract socket", "console reopened"),
        # Ways into the kernel that by themselves lead to nothing of others.
        *("keyctl", "add_key", "userfaultfd", "io_uring", "bpf", "perf_event_open"),
        # Disk space beyond any limit on a file's size.
        "claim room past the limit",
    }


@pytest.mark.skipif(not IS_ROOT, reason="looking into another's mount namespace takes root")
def test_nothing_of_the_old_root_is_left_in_the_mount_namespace(host: HostileHost) -> None:
    """Somebody who breaks out of the chroot ends up in an empty folder."""
    program = (
        "import ctypes, os, sys; libc = ctypes.CDLL(None, use_errno=True)\n"
        "mounts = os.open(f'/proc/{sys.argv[1]}/ns/mnt', os.O_RDONLY)\n"
        "assert libc.setns(mounts, 0) == 0; print(os.listdir('/'))"
    )
    with host.run(Case()) as game:
        assert game.report
        said = subprocess.run(
            [sys.executable, "-c", program, str(game.pid)], capture_output=True, text=True
        )
    assert said.stdout == "['root']\n", said


@pytest.mark.parametrize("case", UNBOXED, ids=str)
def test_without_the_box_the_same_game_reaches_all_of_it(reports: Any, case: Case) -> None:
    """The tries are real ones: where nothing prevents them they succeed."""
    report, _ = reports(case)
    done = {name for name, outcome in report["tries"].items() if outcome == DONE}
    assert done >= {
        *("read database", "read settings", "read other instance", "read SteamCMD's home"),
        *("write release", "write overlay", "write code", "write other console"),
        *("change host's shm", "list run", "connect database socket", "connect abstract socket"),
        *("shared memory", "message queue", "see a command line", "kill", "pidfd", "sigqueue"),
        *("prlimit", "setpriority", "setaffinity", "unshare user", "clone user", "clone3 user"),
        *("keyctl", "add_key", "io_uring", "own mem", "console reopened"),
        "claim room past the limit",
    }


@pytest.mark.parametrize("case", BOXED, ids=str)
def test_a_game_can_do_what_it_needs(reports: Any, case: Case) -> None:
    report, _ = reports(case)
    assert {name: outcome for name, outcome in report["works"].items() if outcome != DONE} == {}


@pytest.mark.parametrize("case", BOXED, ids=str)
def test_the_root_has_what_is_listed_and_nothing_else(reports: Any, case: Case) -> None:
    report, _ = reports(case)
    system = {"bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "sbin", "tmp", "usr"}
    assert set(report["root"]) <= system | WAYS
    assert set(report["etc"]) <= {
        *("group", "hosts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime"),
        *("nsswitch.conf", "passwd", "pki", "resolv.conf", "ssl"),
    }
    # No private keys, which root's game could read.
    assert set(report["etc/ssl"]) <= {"certs", "openssl.cnf"}
    assert set(report["dev"]) == {
        *("null", "zero", "full", "random", "urandom", "shm"),
        *("fd", "stdin", "stdout", "stderr"),
    }


@pytest.mark.parametrize("case", BOXED, ids=str)
def test_no_capability_and_no_new_privilege_is_left(reports: Any, case: Case) -> None:
    report, _ = reports(case)
    status = report["status"]
    names = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    assert {status[name] for name in names} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


@pytest.mark.parametrize("case", BOXED, ids=str)
def test_only_the_console_is_inherited(reports: Any, case: Case) -> None:
    report, _ = reports(case)
    # Without an init the game itself has to hold the run's lock.
    names = {"console.in", "1.log"} | (set() if case.has_pid_namespace else {"run.lock"})
    assert {path.rsplit("/", 1)[1] for path in report["fds"].values()} == names


@pytest.mark.parametrize("case", BOXED, ids=str)
def test_a_file_has_an_end_and_a_crash_leaves_no_core(reports: Any, case: Case) -> None:
    report, _ = reports(case)
    assert report["past the limit"] == "EFBIG"
    assert report["files"] == [8 << 30, 8 << 30]
    assert report["cores"] == [0, 0]
    assert report["tasks"] == [MOST_TASKS, MOST_TASKS]
    assert int(report["status"]["SigBlk"], 16) == 0


@pytest.mark.parametrize("case", BOXED, ids=str)
def test_it_is_told_which_walls_stand(reports: Any, case: Case) -> None:
    _, record = reports(case)
    missing = {name for name, stands, *_ in record["walls"] if not stands}
    expected = set()
    if not case.has_pid_namespace:
        expected |= {
            "Own processes",
            "Own shared memory and message queues",
            "Other processes out of sight",
        }
    if case.has_covered_proc:
        expected.add("Other processes out of sight")
    assert missing == expected
    # Each with its reason and its cure, as sentences.
    for _, stands, why_not, cure in record["walls"]:
        assert stands or (why_not.endswith(".") and cure.endswith("."))


def test_a_write_past_the_limit_of_a_file_does_not_end_the_game(host: HostileHost) -> None:
    """Reported by a shell, because Python ignores SIGXFSZ by itself, of all signals."""
    with host.run(Case(), argv=["/bin/sh", "-c", "grep SigIgn /proc/self/status"]) as game:
        assert game.wait() == 0
        assert ignored_signals(game.console) == {signal.SIGXFSZ}


def test_the_run_is_found_by_the_number_that_the_host_knows(host: HostileHost) -> None:
    with host.run(Case()) as game:
        report = game.report
        assert report["pid"] == report["group"] == 2
        assert os.getsid(game.pid) == game.pid
        assert game.pid > 2
        assert game.record["session"]


def test_a_folder_of_the_host_below_the_system_does_not_show(host: HostileHost) -> None:
    """A root below /usr would come with /usr, and a visible folder may contain some that must not show."""
    shown = host.dir / "code"
    case = Case()
    with host.run(case) as game:
        plan = json.loads((game.instance_dir / "plan.json").read_text())
        box = plan["box"]
        assert game.report
    box["read_only"] += [str(shown), str(host.dir / "srv")]
    box["hidden"] += [str(host.dir / "srv/panel")]
    for name in ("game_dir", "home_dir"):
        box[name] = box[name].replace(game.instance_dir.name, f"alpha-{Case(layering='copy')}")
    box["game_dir"] = box["game_dir"].replace("merged", "tree")
    with host.run(Case(layering="copy"), box=box) as game:
        tries = game.report["tries"]
    assert tries["read code's settings"] == DONE
    assert tries["write code"] == "EROFS"
    assert (tries["read database"], tries["read other instance"]) == ("ENOENT", "ENOENT")


def test_the_simulated_game_runs_in_its_box(host: HostileHost) -> None:
    """Of the project it only needs the folder hostops, read-only; its port is the host's."""
    port = find_free_port()
    files = game_files(DEFAULT_BUILD_ID, 1) + platform_files("linux", DEFAULT_BUILD_ID)
    for file in files:
        file.write(host.root / "releases/1")
    srcds = str(REPOSITORY / "hostops/simulator/srcds.py")
    arguments = ["-game", "left4dead2", "-port", str(port), "+map", "c1m1_hotel"]
    argv = ["/usr/bin/env", "LD_LIBRARY_PATH=.:bin", host.python, "-I", "-S", srcds, *arguments]
    with host.run(Case(), argv=argv) as game:
        wait_until(
            lambda: (
                "Connection to Steam servers successful." in game.console or not game.is_running
            ),
            20,
            "the game is up",
        )
        assert not is_free(port), game.console
        game.type("quit")
        assert game.wait() == 0, game.console


def test_a_home_full_of_links_leads_nowhere(host: HostileHost) -> None:
    """The game owns its home: the next start must not follow links left there."""
    case = Case()
    game = Game(host, case, f"alpha-{case}", {})
    home = game.instance_dir / "home"
    home.mkdir(parents=True)
    victim = host.dir / "people/anna"
    (home / ".steam").symlink_to(victim)
    try:
        game.start(is_new=False)
        assert game.report["works"]["steamclient"] == DONE
    finally:
        game.end()
    assert not (victim / "sdk32").exists()
    assert (home / ".steam/sdk32/steamclient.so").read_bytes() == b""


@pytest.mark.parametrize("place", [".steam", ".steam/sdk32", ".steam/sdk32/steamclient.so"])
@pytest.mark.parametrize("kind", ["fifo", "file", "folder", "closed"])
def test_whatever_stands_in_the_place_of_steams_library_holds_up_no_start(
    host: HostileHost, place: str, kind: str
) -> None:
    """The game cannot remove a mount point, but it can move the folder above it away."""
    case = Case()
    game = Game(host, case, f"alpha-{case}", {})
    path = game.instance_dir / "home" / place
    path.parent.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        if kind == "fifo":
            os.mkfifo(path)
            # Held open, so that opening it for writing does not block here forever.
            stack.callback(os.close, os.open(path, os.O_RDWR))
        elif kind == "file":
            path.write_text("of the game")
        else:
            path.mkdir(mode=0o755 if kind == "folder" else 0)
        try:
            game.start(is_new=False)
            assert game.report["works"]["steamclient"] == DONE
        finally:
            game.end()
    assert (path.parents[len(Path(place).parts) - 1] / ".steam/sdk32/steamclient.so").is_file()
