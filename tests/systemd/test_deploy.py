"""The files in deploy/ are what docs/deploy.md says: real systemd takes them, and the worker lives by them."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostops.layout import HostLayout
from hostops.specs import InstanceState
from hostops.systemctl import Manager
from hostops.unit_files import Installation, template
from tests.hostops.hosts import write_control
from tests.systemd.conftest import Machine, make_state_dir
from tests.systemd.sandbox import REPOSITORY, UID, Sandbox
from tests.waiting import wait_until

DEPLOY = REPOSITORY / "deploy" / "systemd"
WORKER = "saferoom-worker.service"
SETTINGS = """\
SECRET_KEY=only-for-this-throw-away-machine
DATABASE_URL=sqlite:////srv/saferoom/var/saferoom.sqlite3
VAR_DIR=/srv/saferoom/var
GAME_SOURCE=simulator
"""


def test_the_game_unit_in_deploy_is_the_one_that_would_be_written() -> None:
    installation = Installation(
        Path("/opt/saferoom/.venv/bin/python"), Path("/opt/saferoom"), (Path("/usr"),)
    )
    wanted = template(
        HostLayout(Path("/srv/saferoom/host")),
        Manager.SYSTEM,
        version=252,
        installation=installation,
    )
    assert (DEPLOY / "system" / "saferoom-game@.service").read_text() == wanted


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Return a machine of its own with the files of deploy/ in their places, and an empty database."""
    state_dir = make_state_dir(tmp_path_factory.mktemp("deployed"))
    (state_dir / "var").mkdir()
    os.chown(state_dir / "var", UID, UID)
    with Sandbox(state_dir) as sandbox:
        places = {
            DEPLOY / "user" / WORKER: f"/etc/systemd/user/{WORKER}",
            DEPLOY / "saferoom-web.service": "/etc/systemd/system/saferoom-web.service",
            DEPLOY
            / "system"
            / "saferoom-game@.service": "/etc/systemd/system/saferoom-game@.service",
            DEPLOY / "delegate.conf": "/etc/systemd/system/user@.service.d/saferoom.conf",
            DEPLOY / "saferoom.sysusers.conf": "/usr/local/lib/sysusers.d/saferoom.conf",
            DEPLOY / "saferoom.tmpfiles.conf": "/usr/local/lib/tmpfiles.d/saferoom.conf",
        }
        for source, target in places.items():
            sandbox.succeed("install", "-D", "-m", "644", str(source), target, user="root")
        sandbox.succeed("ln", "-s", str(REPOSITORY), "/opt/saferoom", user="root")
        write = 'mkdir -p /etc/saferoom && printf %s "$1" | tee /etc/saferoom/worker.env /etc/saferoom/web.env'
        sandbox.succeed("sh", "-c", write, "sh", SETTINGS, user="root")
        machine = Machine(sandbox, state_dir)
        manage(machine, "migrate", "--verbosity=0")
        machine.systemctl("daemon-reload")
        yield machine


def manage(machine: Machine, *arguments: str) -> str:
    """Run manage.py as the worker's account, with the worker's settings."""
    load = "set -a && . /etc/saferoom/worker.env && HOST_ROOT=/srv/saferoom/host HOST_DRIVER=systemd exec"
    return machine.sandbox.succeed(
        "sh", "-c", f'{load} {sys.executable} manage.py "$@"', "sh", *arguments
    )


def enqueue(machine: Machine, operation: str) -> None:
    """Put a job of the server alpha, or an install, into the queue."""
    code = (
        "from django.contrib.auth.models import User\n"
        "from jobs.queue import enqueue\nfrom servers.models import Blueprint, Host, Server\n"
        "user, _ = User.objects.get_or_create(username='kim')\nhost = Host.local()\n"
        "blueprint, _ = Blueprint.objects.get_or_create(name='plain', owner=user)\n"
        "server, _ = Server.objects.get_or_create(name='alpha', defaults={'owner': user, 'host': host, "
        "'port': 27015, 'blueprint': blueprint})\n"
        f"enqueue('{operation}', server=None if '{operation}' == 'install' else server, host=host, "
        "requested_by=user)\n"
    )
    manage(machine, "shell", "--verbosity=0", "--command", code)


def job_states(machine: Machine) -> list[str]:
    """Return the state of every job, oldest first."""
    code = (
        "import json\nfrom jobs.models import Job\n"
        "print(json.dumps([job.state for job in Job.objects.order_by('id')]))"
    )
    states: list[str] = json.loads(manage(machine, "shell", "--verbosity=0", "--command", code))
    return states


def worker_property(machine: Machine, name: str) -> str:
    return machine.systemctl("show", "--value", f"--property={name}", WORKER).strip()


@pytest.mark.systemd
def test_systemd_finds_nothing_wrong_with_the_units(deployed: Machine) -> None:
    said = deployed.sandbox.run(
        *("systemd-analyze", "verify", "--man=no", "saferoom-web.service"),
        "saferoom-game@alpha.service",
        user="root",
    )
    assert "saferoom" not in said.stdout + said.stderr
    said = deployed.sandbox.run("systemd-analyze", "--user", "--man=no", "verify", WORKER)
    assert "saferoom" not in said.stdout + said.stderr
    for command in ("sysusers", "tmpfiles"):
        arguments = ["--create"] if command == "tmpfiles" else []
        deployed.sandbox.succeed(
            f"systemd-{command}",
            *arguments,
            f"/usr/local/lib/{command}.d/saferoom.conf",
            user="root",
        )


@pytest.mark.systemd
def test_the_command_line_works_from_anywhere(deployed: Machine) -> None:
    command = f"cd / && {REPOSITORY}/deploy/l4d2ctl status"
    assert "There are no servers" in deployed.sandbox.succeed("sh", "-c", command)


@pytest.mark.systemd
def test_the_worker_runs_its_servers_as_units_and_they_outlive_it(deployed: Machine) -> None:
    # The folder of the database is the web account's in the long run; here the worker made it.
    deployed.sandbox.succeed("chown", "-R", f"{UID}:{UID}", "/srv/saferoom/var", user="root")
    deployed.systemctl("enable", "--now", WORKER)
    assert worker_property(deployed, "ActiveState") == "active"
    for operation in ("install", "start"):
        enqueue(deployed, operation)
    wait_until(
        lambda: job_states(deployed) == ["succeeded"] * 2, 60, "the game is installed and started"
    )
    wait_until(
        lambda: worker_property(deployed, "StatusText") == "Carrying out 0 jobs.", 10, "it is idle"
    )
    pid = deployed.status()["pid"]
    assert deployed.show("alpha", "ActiveState") == "active"

    worker_pid = worker_property(deployed, "MainPID")
    deployed.systemctl("kill", "--kill-who=main", "--signal=KILL", WORKER)
    wait_until(
        lambda: (
            worker_property(deployed, "ActiveState") == "active"
            and worker_property(deployed, "MainPID") != worker_pid
        ),
        20,
        "systemd starts the worker again",
    )
    assert deployed.status()["pid"] == pid

    # A first SIGTERM lets the job that runs finish.
    write_control(deployed.root, srcds={"start_seconds": 4})
    enqueue(deployed, "restart")
    wait_until(
        lambda: worker_property(deployed, "StatusText") == "Carrying out 1 job.", 20, "it runs"
    )
    deployed.systemctl("stop", WORKER)
    assert worker_property(deployed, "Result") == "success"
    assert job_states(deployed)[-1] == "succeeded"
    assert deployed.status()["state"] == InstanceState.RUNNING
    write_control(deployed.root)


@pytest.mark.systemd
def test_a_worker_that_hangs_is_replaced(deployed: Machine) -> None:
    drop_in_dir = "/srv/saferoom/home/.config/systemd/user/saferoom-worker.service.d"
    text = "[Service]\\nWatchdogSec=2\\nRestartSec=50ms\\nTimeoutAbortSec=1\\n"
    deployed.sandbox.succeed(
        "sh", "-c", f"mkdir -p {drop_in_dir} && printf '{text}' > {drop_in_dir}/quick.conf"
    )
    deployed.systemctl("daemon-reload")
    deployed.systemctl("restart", WORKER)
    pid = worker_property(deployed, "MainPID")
    deployed.systemctl("kill", "--kill-who=main", "--signal=STOP", WORKER)
    wait_until(
        lambda: (
            worker_property(deployed, "NRestarts") == "1"
            and worker_property(deployed, "ActiveState") == "active"
        ),
        30,
        "the watchdog ends it, and it is started again",
    )
    assert worker_property(deployed, "MainPID") != pid
    deployed.systemctl("stop", WORKER)


@pytest.mark.systemd
def test_the_worker_for_a_try_is_one_command(deployed: Machine) -> None:
    said = (REPOSITORY / "docs" / "deploy.md").read_text()
    command = said.split("```sh for-a-try\n")[1].split("```")[0]
    deployed.sandbox.succeed("sh", "-c", command)
    try:
        said = deployed.systemctl("show", "-p", "ActiveState,StatusText", "saferoom-try")
        assert set(said.splitlines()) == {"ActiveState=active", "StatusText=Carrying out 0 jobs."}
    finally:
        deployed.systemctl("stop", "saferoom-try")
    assert deployed.systemctl("list-units", "--all", "--no-legend", "saferoom-try*") == ""
