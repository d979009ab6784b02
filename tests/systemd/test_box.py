"""A game may do what it needs and nothing else: its box is tried from the inside."""

import re

import pytest

from tests.systemd.conftest import ROOT, Machine, unit_of
from tests.systemd.sandbox import REPOSITORY

pytestmark = pytest.mark.systemd
# 0.1 of it is for the namespaces of processes and of shared memory, which the box consists of.
MOST_EXPOSURE = 2.6


def test_it_reads_the_game_and_writes_to_its_own_files(alpha: Machine) -> None:
    seen = alpha.in_the_box("cd left4dead2/cfg && echo mine > own.cfg && cat own.cfg")
    assert "mine" in seen
    assert (alpha.root / "instances/alpha/upper/left4dead2/cfg/own.cfg").read_text() == "mine\n"


def test_it_cannot_write_outside(alpha: Machine) -> None:
    mine = f"{ROOT}/instances/alpha"
    paths = [
        *(
            "/etc/evil",
            "/usr/evil",
            "/var/evil",
            str(REPOSITORY / "hostops/evil"),
            str(REPOSITORY / "evil"),
            "/srv/saferoom/home/evil",
        ),
        *(f"{ROOT}/evil", f"{ROOT}/releases/evil", f"{ROOT}/overlays/evil"),
        *("/proc/sys/kernel/evil", "/sys/fs/cgroup/evil"),
        # What the worker believes.
        *(f"{mine}/run.json", f"{mine}/launch.json", f"{mine}/instance.json"),
        *(f"{mine}/console/9.log", f"{mine}/upper/past-the-overlay"),
    ]
    seen = alpha.in_the_box(
        f"for path in {' '.join(paths)}; do echo x > $path && echo WRITTEN $path; done; "
        f"mv {mine}/console {mine}/elsewhere && echo WRITTEN; echo x > here && echo DONE"
    )
    if REPOSITORY.is_relative_to("/tmp") or REPOSITORY.is_relative_to("/var/tmp"):
        # Its /tmp is its own: what it writes there appears nowhere else.
        seen = seen.replace(f"WRITTEN {REPOSITORY}/evil\n", "")
    assert "WRITTEN" not in seen
    assert "DONE" in seen
    assert alpha.sandbox.run("test", "-e", str(REPOSITORY / "evil")).returncode == 1


def test_it_cannot_read_what_belongs_to_others(alpha: Machine) -> None:
    alpha.cli("initialize", "bravo", "--port", "27016")
    (alpha.root.parent / "secret").write_text("SECRET")
    (alpha.root / "home" / "secret").write_text("SECRET")
    (alpha.root / "instances" / "bravo" / "upper" / "secret").write_text("SECRET")
    paths = f"{ROOT}/instances/bravo/upper/secret /srv/saferoom/secret {ROOT}/home/secret"
    seen = alpha.in_the_box(
        f"cat {paths} {ROOT}/instances/bravo/instance.json; ls {ROOT}/instances /home /root"
    )
    assert "SECRET" not in seen
    assert "bravo" not in re.sub(r"cat: .*: No such file or directory\n", "", seen)
    assert "alpha" in seen


def test_it_reaches_no_manager_that_could_start_something_outside(alpha: Machine) -> None:
    seen = alpha.in_the_box(
        "XDG_RUNTIME_DIR=/run/user/$(id -u) systemd-run --user --wait true && echo ESCAPED; "
        "systemctl stop whatever && echo ESCAPED; ls /run/dbus /run/user /run/systemd/private"
    )
    assert "ESCAPED" not in seen
    assert "bus" not in re.sub(r".*(Failed|cannot).*\n", "", seen)


def test_it_gets_no_power_back(alpha: Machine) -> None:
    seen = alpha.in_the_box("grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status; id")
    assert re.findall(r"Cap\w+:\t(\w+)", seen) == ["0" * 16] * 5
    assert "NoNewPrivs:\t1" in seen
    assert "Seccomp:\t2" in seen
    assert "uid=0" not in seen


def test_it_cannot_see_into_the_processes_outside(alpha: Machine) -> None:
    look = "for p in /proc/[0-9]*; do cat $p/environ 2>/dev/null; done | tr '\\0' '\\n'"
    # The command line that waits for the start has it.
    assert "HOST_DRIVER" in alpha.sandbox.succeed("sh", "-c", look)
    assert "HOST_DRIVER" not in alpha.in_the_box(look)


def test_the_figure_of_systemd_analyze_does_not_get_worse(alpha: Machine) -> None:
    alpha.cli("start", "alpha")
    said = alpha.sandbox.succeed(
        "systemd-analyze", "--user", "--no-pager", "security", unit_of("alpha")
    )
    match = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert match is not None
    assert float(match[1]) <= MOST_EXPOSURE, said
