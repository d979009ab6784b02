"""A machine on which Saferoom is set up as docs/deploy.md says: units in their places, settings, a database."""

import os
import sys
from pathlib import Path

from tests.systemd.conftest import Machine, make_state_dir
from tests.systemd.sandbox import REPOSITORY, UID, Sandbox

DEPLOY = REPOSITORY / "deploy" / "systemd"
WORKER = "saferoom-worker.service"
SETTINGS = """\
SECRET_KEY=only-for-this-throw-away-machine
DATABASE_URL=sqlite:////srv/saferoom/var/saferoom.sqlite3
VAR_DIR=/srv/saferoom/var
GAME_SOURCE=simulator
"""
HURRY = "[Service]\nRestartSec=50ms\n"
"""A drop-in: there is no reason to wait before a restart here."""

_PLACES = {
    DEPLOY / "user" / WORKER: f"/etc/systemd/user/{WORKER}",
    DEPLOY / "saferoom-web.service": "/etc/systemd/system/saferoom-web.service",
    DEPLOY / "saferoom-web.socket": "/etc/systemd/system/saferoom-web.socket",
    DEPLOY / "system/saferoom-game@.service": "/etc/systemd/system/saferoom-game@.service",
    DEPLOY / "saferoom-games.slice": "/etc/systemd/user/saferoom-games.slice",
    DEPLOY / "delegate.conf": "/etc/systemd/system/user@.service.d/saferoom.conf",
    DEPLOY / "saferoom.sysusers.conf": "/usr/local/lib/sysusers.d/saferoom.conf",
    DEPLOY / "saferoom.tmpfiles.conf": "/usr/local/lib/tmpfiles.d/saferoom.conf",
}


def make_deployed_state_dir(path: Path) -> Path:
    """Make what persists of a machine that will be set up, including the folder of the panel's database."""
    state_dir = make_state_dir(path)
    (state_dir / "var").mkdir()
    os.chown(state_dir / "var", UID, UID)
    return state_dir


def set_up(sandbox: Sandbox, state_dir: Path) -> Machine:
    """Put everything in its place, which a boot has cleared, and make the database at the first one."""
    steps = [f"install -D -m 644 {source} {target}" for source, target in _PLACES.items()]
    for unit in (WORKER, "saferoom-game@.service"):
        folder = f"/etc/systemd/user/{unit}.d"
        steps.append(f"mkdir -p {folder} && printf %s '{HURRY}' >{folder}/hurry.conf")
    steps += [
        f"mkdir -p /opt/saferoom && ln -s {REPOSITORY} /opt/saferoom/current",
        "mkdir -p /etc/saferoom",
        f"printf %s '{SETTINGS}' | tee /etc/saferoom/worker.env >/etc/saferoom/web.env",
    ]
    sandbox.succeed("sh", "-c", " &&\n".join(steps), user="root")
    machine = Machine(sandbox, state_dir)
    if not (state_dir / "var/saferoom.sqlite3").exists():
        run_with_settings(machine, "manage.py", "migrate", "--verbosity=0")
    machine.systemctl("daemon-reload")
    return machine


def run_with_settings(machine: Machine, *arguments: str, timeout: float = 60) -> str:
    """Run Python as the worker's account, with the worker's settings, and return its output."""
    load = "set -a && . /etc/saferoom/worker.env && HOST_ROOT=/srv/saferoom/host HOST_DRIVER=systemd exec"
    done = machine.sandbox.run(
        *("sh", "-c", f'{load} {sys.executable} "$@"', "sh", *arguments), timeout=timeout
    )
    assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def worker_property(machine: Machine, name: str) -> str:
    """Return one property of the worker's unit."""
    return machine.systemctl("show", "--value", f"--property={name}", WORKER).strip()
