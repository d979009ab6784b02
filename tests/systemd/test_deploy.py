"""The files in deploy/ are what docs/deploy.md says: a real systemd accepts them, and a worker runs."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostops.drivers.systemctl import Manager
from hostops.drivers.unit_files import Installation, template
from hostops.layout import HostLayout
from tests.systemd.conftest import Machine
from tests.systemd.deployment import (
    DEPLOY,
    WORKER,
    make_deployed_state_dir,
    set_up,
    worker_property,
)
from tests.systemd.sandbox import REPOSITORY, UID, Sandbox
from tests.waiting import wait_until


def test_the_game_unit_in_deploy_is_the_one_that_would_be_written() -> None:
    installation = Installation(
        Path("/opt/saferoom/current/.venv/bin/python"),
        Path("/opt/saferoom/current"),
        (Path("/usr"),),
    )
    wanted = template(
        HostLayout(Path("/srv/saferoom/host")),
        Manager.SYSTEM,
        version=252,
        installation=installation,
    )
    assert (DEPLOY / "system" / "saferoom-game@.service").read_text() == wanted


@pytest.mark.systemd
@pytest.mark.parametrize(
    ("unit", "most"),
    [
        ("saferoom-web.service", 1.5),
        ("system/saferoom-worker.service", 3.0),
        ("system/saferoom-game@.service", 2.2),
        ("saferoom-backup.service", 3.5),
    ],
)
def test_a_unit_is_exposed_no_more_than_its_work_asks_for(unit: str, most: float) -> None:
    """Of 10, as `systemd-analyze security` counts; docs/security.md has the figures, and what remains open."""
    threshold = f"--threshold={round(most * 10)}"
    command = ["systemd-analyze", "security", "--no-pager", "--offline=true", threshold]
    done = subprocess.run([*command, str(DEPLOY / unit)], capture_output=True, text=True)
    assert "Overall exposure level" in done.stdout
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Return a machine of its own with the files of deploy/ in their places, and an empty database."""
    state_dir = make_deployed_state_dir(tmp_path_factory.mktemp("machine") / "state")
    with Sandbox(state_dir) as sandbox:
        yield set_up(sandbox, state_dir)


@pytest.mark.systemd
def test_systemd_finds_nothing_wrong_with_the_units(deployed: Machine) -> None:
    said = deployed.sandbox.run(
        *("systemd-analyze", "verify", "--man=no", "saferoom-web.service"),
        *("saferoom-web.socket", "saferoom-game@alpha.service"),
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
    # In the end the web account owns the database's folder; here the worker made it.
    deployed.sandbox.succeed("chown", "-R", f"{UID}:{UID}", "/srv/saferoom/var", user="root")


@pytest.mark.systemd
def test_only_the_proxy_and_root_get_to_the_web_process(deployed: Machine) -> None:
    sandbox = deployed.sandbox
    # The tests' Python may be in a home folder, and VAR_DIR belongs to the worker here.
    folder = "/etc/systemd/system/saferoom-web.service.d"
    text = "[Service]\\nProtectHome=no\\nEnvironment=STATIC_ROOT=/tmp/static\\n"
    make = f"mkdir -p {folder} && printf '{text}' >{folder}/home.conf && systemctl daemon-reload"
    sandbox.succeed("sh", "-c", make, user="root")
    sandbox.succeed("systemctl", "start", "saferoom-web.socket", user="root")
    shown = sandbox.succeed("stat", "--format=%U %G %a", "/run/saferoom/web.sock", user="root")
    assert shown.strip() == "root www-data 660"
    program = (
        "from pathlib import Path; from l4d2site.supervisor import Place;"
        " print(Place('unix:/run/saferoom/web.sock', 0).ask('/livez', 'localhost'))"
    )
    ask = ("sh", "-c", f'cd {REPOSITORY} && exec {sys.executable} -c "{program}"')
    # The account that the games run as, and the worker.
    refused = sandbox.run(*ask)
    assert "PermissionError" in refused.stderr
    try:
        # systemd starts the web process for the first visitor, and hands it the socket.
        as_proxy = ("setpriv", "--reuid=nobody", "--regid=www-data", "--clear-groups")
        wait_until(
            lambda: sandbox.run(*as_proxy, *ask, user="root").stdout.startswith("(200, "),
            60,
            "the proxy gets no answer",
        )
        command = ("ss", "--listening", "--tcp", "--numeric", "--no-header", "sport", "=", ":8000")
        assert sandbox.succeed(*command, user="root") == ""
    finally:
        said = sandbox.run("journalctl", "--no-pager", "--unit=saferoom-web", user="root").stdout
        print(said)
        units = ("saferoom-web.service", "saferoom-web.socket")
        sandbox.succeed("systemctl", "stop", *units, user="root")


@pytest.mark.systemd
def test_the_command_line_works_from_anywhere(deployed: Machine) -> None:
    command = f"cd / && {REPOSITORY}/deploy/l4d2ctl status"
    assert "There are no servers" in deployed.sandbox.succeed("sh", "-c", command)


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
