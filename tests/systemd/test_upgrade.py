"""A unit and a plan of the previous release: a server stays up, and today's launcher restarts it."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from string import Template

import pytest

from hostops.specs import InstanceState
from tests.hostops import old_release
from tests.hostops.hosts import instance_of
from tests.systemd.conftest import ROOT, Machine, unit_of
from tests.systemd.sandbox import REPOSITORY, UID, USER
from tests.waiting import wait_until

pytestmark = pytest.mark.systemd

# The template unit of 3f864e4 for the account's own manager of systemd 252.
OLD_TEMPLATE = Template("""\
# Written by Saferoom for the servers below $root. Change it by drop-ins: this file is replaced.
[Unit]
Description=Left 4 Dead 2 server %i
StartLimitIntervalSec=600
StartLimitBurst=6

[Service]
Type=exec
ExecStart=$python -I -S $code/hostops/launcher.py --foreground $root %i
ExecStop=-$python -I -S $code/hostops/quit.py $root %i
ExecStopPost=-/bin/sh -c 'echo $$$$SERVICE_RESULT $$$$EXIT_CODE $$$$EXIT_STATUS >$root/instances/%i/end'
KillMode=mixed
KillSignal=SIGINT
TimeoutStopSec=20
Restart=on-failure
RestartSec=5
RestartPreventExitStatus=71 75
OOMPolicy=stop
MemoryAccounting=yes
CPUAccounting=yes
TasksAccounting=yes
UMask=0077

# What it may see: the system read-only, the releases and overlays, and its own files.
ProtectSystem=strict
ProtectHome=tmpfs
TemporaryFileSystem=/srv/saferoom:ro
$shown
BindReadOnlyPaths=-$root/releases -$root/overlays -$root/simulator.json
TemporaryFileSystem=$root/home:mode=1777,size=64M
BindReadOnlyPaths=-$root/steamcmd -$root/home/.steam
BindPaths=$root/instances/%i
PrivateTmp=yes
PrivateDevices=yes
ProtectProc=invisible
# No way to a manager, which could start something outside of this box.
InaccessiblePaths=-/run/dbus -/run/systemd/private -/run/systemd/notify
InaccessiblePaths=-%t
InaccessiblePaths=-/etc/saferoom -$code/.env

# What it may do: what a 32-bit srcds with SourceMod's just-in-time compiler needs.
NoNewPrivileges=yes
PrivateUsers=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=user mnt
SystemCallArchitectures=native x86
SystemCallFilter=@system-service @mount
SystemCallFilter=~@clock @cpu-emulation @debug @module @obsolete @raw-io @reboot @swap
SystemCallErrorNumber=EPERM
KeyringMode=private
""")
HIDDEN_DIRS = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")


@pytest.fixture
def upgraded(alpha: Machine) -> Iterator[Machine]:
    """Return the machine with alpha as the previous release made and started it, but by today's launcher."""
    instance = instance_of(alpha.root)
    old_release.write_record(instance, 27015)
    old_release.write_plan(instance, 27015, ROOT)
    os.chown(instance.launch_path, UID, UID)
    units = alpha.root.parent / "home/.config/systemd/user"
    template = units / "saferoom-game@.service"
    drop_in = units / f"{template.name}.d" / "hurry.conf"
    alpha.sandbox.succeed(
        "mkdir", "-p", f"/srv/saferoom/home/.config/systemd/user/{template.name}.d"
    )
    template.write_text(old_template())
    drop_in.write_text("[Service]\nRestartSec=50ms\n")
    alpha.systemctl("daemon-reload")
    script = next((alpha.root / "releases").iterdir()) / "srcds_run"
    text = script.read_text()
    script.write_text("#!/bin/sh\ntouch was-executed\nexit 1\n")
    alpha.systemctl("start", unit_of("alpha"))
    alpha.wait_for(InstanceState.RUNNING)
    yield alpha
    script.write_text(text)
    drop_in.unlink()
    drop_in.parent.rmdir()
    alpha.systemctl("daemon-reload")


def old_system_template() -> str:
    """Return the same for the system's manager."""
    text = old_template().replace("Type=exec", f"User={USER}\nGroup={USER}\nType=exec")
    text = text.replace("PrivateUsers=yes", "RemoveIPC=no")
    return text.replace("InaccessiblePaths=-%t\n", "")


def old_template() -> str:
    """Return the template unit of 3f864e4 for the account's own manager."""
    needed = {Path(sys.base_prefix), Path(sys.prefix), REPOSITORY / "hostops"}
    places = sorted(str(path) for path in {*needed, *(path.resolve() for path in needed)})
    shown = [f"BindReadOnlyPaths={path}" for path in places if path.startswith(HIDDEN_DIRS)]
    return OLD_TEMPLATE.substitute(
        root=ROOT, python=sys.executable, code=REPOSITORY, shown="\n".join(shown)
    )


def restarted(machine: Machine) -> dict[str, object]:
    """Let alpha crash, and return its status when systemd has restarted it."""
    machine.send("sim_crash")
    wait_until(lambda: machine.status()["restarts"] == 1, 20, "it is not restarted")
    return machine.wait_for(InstanceState.RUNNING)


def test_what_an_old_plan_restarts_is_the_engine_with_the_arguments_that_are_left(
    upgraded: Machine,
) -> None:
    status = restarted(upgraded)
    assert status["run"] == 2
    assert status["crashed_runs"] == [
        {"run": 1, "exit_signal": "SIGSEGV", "exit_code": None, "is_out_of_memory": False}
    ]
    assert upgraded.show("alpha", "MainPID") == str(status["pid"])
    argv = upgraded.sandbox.succeed("cat", f"/proc/{status['pid']}/cmdline").split("\0")
    assert argv[argv.index("-game") :] == [
        *("-game", "left4dead2", "-console", "-strictportbind", "-port", "27015"),
        *("+map", "c5m2_park versus", "+sv_tags", "two words", ""),
    ]
    assert "is left out. “-binary” cannot be used" in upgraded.cli("logs", "alpha")
    assert not list(upgraded.root.rglob("was-executed"))


def test_a_server_stays_up_while_the_unit_is_replaced_under_it(upgraded: Machine) -> None:
    pid = upgraded.status()["pid"]
    upgraded.cli("initialize", "alpha", "--port", "27015")
    assert "alpha runs already" in upgraded.cli("start", "alpha")
    template = upgraded.root.parent / "home/.config/systemd/user/saferoom-game@.service"
    # Like any other text: it is replaced at the next start of any server.
    template.write_text(f"{old_template()}# of the release before\n")
    upgraded.cli("initialize", "bravo", "--port", "27016")
    upgraded.cli("start", "bravo")
    assert "# of the release before" not in template.read_text()
    assert upgraded.status()["pid"] == pid
    assert upgraded.status()["state"] == InstanceState.RUNNING
    # Its plan is still the old one; its unit is not.
    assert restarted(upgraded)["run"] == 2
    upgraded.cli("restart", "alpha")
    assert upgraded.status()["restarts"] == 0
    assert not list(upgraded.root.rglob("was-executed"))
