"""The installer itself on bare machines: a running server by one command, which survives everything.

A machine here is Debian with a real systemd, nginx and PostgreSQL, with nothing of Saferoom on it.
"""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.installer import releases
from tests.fire.postgres import find_programs
from tests.hostops.hosts import write_control
from tests.systemd.bare_root import BareRoot, Disk, find_python, make_wheels
from tests.systemd.sandbox import REPOSITORY
from tests.waiting import wait_until

pytestmark = [pytest.mark.systemd, pytest.mark.nginx, pytest.mark.timeout(600)]

NAME = "panel.test"
PASSWORD = "of-the-game-itself"
KIMS_PASSWORD = "of-a-person-who-watches"
HOST = "srv/saferoom/host"

# As a person would, through the pages; the installed worker carries out the jobs.
MAKE_SERVER = f"""
from django.contrib.auth.models import User
from servers.secrets.encryption import ServerSecret
from jobs.queue import enqueue
from servers.models import Blueprint, DesiredState, Host, Server
kim = User.objects.create_user("kim", password="{KIMS_PASSWORD}")
blueprint = Blueprint.objects.create(name="plain", owner=kim)
alpha = Server(name="alpha", owner=kim, host=Host.local(), blueprint=blueprint, port=27015)
alpha.set_secret(ServerSecret.RCON_PASSWORD, "{PASSWORD}")
alpha.save()
enqueue("install", requested_by=kim)
enqueue("start", server=alpha, requested_by=kim)
"""
READ_PASSWORD = """
from servers.secrets.encryption import ServerSecret
from servers.models import Server
print("PASSWORD", Server.objects.get().read_secret(ServerSecret.RCON_PASSWORD))
"""
READ_JOBS = """
from jobs.models import Job, JobLog
for job in Job.objects.order_by("id"):
    print(job.pk, job.operation, job.state, job.error)
for line in JobLog.objects.order_by("-id")[:40]:
    print(line.job_id, line.stream, line.line)
"""
MIGRATION = '''"""What a later version adds."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("jobs", "{newest}")]
    operations = [migrations.RunSQL("CREATE TABLE jobs_later (id integer)", "DROP TABLE jobs_later")]
'''
READ_WALLS = """
from servers.models import Host
host = Host.local()
print("MISSING", [wall["name"] for wall in host.walls if not wall["stands"]], "OF", len(host.walls))
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the packages that Saferoom runs on."""
    return make_wheels(tmp_path_factory.mktemp("packages") / "wheels")


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the code of a later version, which has one more migration."""
    code = tmp_path_factory.mktemp("later") / "saferoom"
    for part in releases.PARTS:
        source = REPOSITORY / part
        if source.is_dir():
            shutil.copytree(source, code / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            code.mkdir(exist_ok=True)
            shutil.copy2(source, code / part)
    migrations = code / "jobs/migrations"
    newest = max(path.stem for path in migrations.glob("0*.py"))
    (migrations / "9999_later.py").write_text(MIGRATION.replace("{newest}", newest))
    return code


def flags(wheels: Path) -> list[str]:
    """Return the flags that a machine without network needs."""
    return [
        *("--wheels", str(wheels), "--python", find_python(), "--no-packages"),
        *("--name", NAME, "--game", "simulator"),
    ]


def status(root: BareRoot) -> dict[str, object]:
    """Return the host's status of the server; an empty one while there is none."""
    document: dict[str, dict[str, object]] = json.loads(
        root.root_succeed("l4d2ctl", "status", "--json")
    )
    return document.get("alpha", {})


def wait_until_it_runs(root: BareRoot) -> dict[str, object]:
    """Return the status of the server, once it runs."""
    listening = ("ss", "--udp", "--listening", "--numeric", "--no-header", "sport", "=", ":27015")
    try:
        # It takes far less time to ask than the status.
        wait_until(lambda: root.run(*listening, user="root").stdout, 60, "alpha does not listen")
        wait_until(lambda: status(root).get("state") == "running", 60, "alpha does not run")
    except AssertionError as error:
        error.add_note(root.run("saferoom", "shell", "-c", READ_JOBS, user="root").stdout)
        error.add_note(root.run("journalctl", "-n", "80", "--no-pager", user="root").stdout)
        raise
    return status(root)


@contextlib.contextmanager
def watched(root: BareRoot) -> Iterator[dict[str, Any]]:
    """Have a crowd around all the while, and fill the dictionary with what happened to it (`crowd_program`)."""
    told: dict[str, Any] = {}
    command = root.command(*program("crowd_program"), user="root")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as crowd:
        try:
            wait_until(
                lambda: (
                    root.run("test", "-e", "/tmp/watching", user="root").returncode == 0
                    or crowd.poll() is not None
                ),
                60,
                "the crowd does not come",
            )
            yield told
        finally:
            root.root_succeed("touch", "/tmp/enough")
            output, _ = crowd.communicate(timeout=120)
        if crowd.returncode != 0:
            log = root.run(
                "journalctl", "-u", "saferoom-web", "-n", "80", "--no-pager", user="root"
            )
            raise AssertionError(f"the crowd did not come\n{output}\n{log.stdout}")
        told.update(json.loads(output))
        print(
            "crowd",
            {name: value for name, value in told.items() if name not in ("seen", "players")},
        )


def program(name: str) -> list[str]:
    """Return a function that runs a program of this folder on the installed machine, as a visitor would."""
    return ["env", "-C", str(REPOSITORY), "python3", "-m", f"tests.systemd.{name}", KIMS_PASSWORD]


def link(disk: Disk) -> str:
    return (disk.folder / "upper/opt/saferoom/current").readlink().name


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Iterator[Disk]:
    """Return the disk of a machine that was bare, was installed, runs a server, and was shut down."""
    with Disk(tmp_path_factory.mktemp("first") / "disk") as disk:
        with BareRoot(disk, wheels) as root:
            planned = root.install("--dry-run", *flags(wheels))
            assert "would link: /opt/saferoom/current" in planned
            assert not (disk.folder / "upper/opt/saferoom").exists()
            began_at = time.monotonic()
            said = root.install(*flags(wheels))
            print(f"installed in {time.monotonic() - began_at:.0f} s\n{said}")
            assert f"runs: https://{NAME}/" in said
            assert "Sign in as admin with this password" in said
            make_server(root, disk)
            print(f"a server runs after {time.monotonic() - began_at:.0f} s")
            root.shut_down()
        yield disk


def make_server(root: BareRoot, disk: Disk) -> None:
    """Have the game installed and a server started, and wait for it."""
    write_control(disk.folder / HOST)  # The simulated game takes no time.
    (disk.folder / HOST / "simulator.json").chmod(0o644)
    root.root_succeed("saferoom", "shell", "-c", MAKE_SERVER)
    wait_until_it_runs(root)


def lend_release(first: Disk, disk: Disk) -> None:
    """Put the release that one machine made, with its packages, onto another: it need not be made again."""
    code = disk.folder / "upper/opt/saferoom"
    code.mkdir(parents=True)
    for part in ("environments", f"releases/{releases.find(REPOSITORY).name}"):
        (code / part).parent.mkdir(exist_ok=True)
        made = first.folder / "upper/opt/saferoom" / part
        subprocess.run(["cp", "-a", made, code / part], check=True)


def test_it_outlasts_a_reboot_an_upgrade_and_the_loss_of_the_machine(
    tmp_path: Path, first: Disk, wheels: Path, later: Path
) -> None:
    with BareRoot(first, wheels, later) as root:
        wait_until_it_runs(root)
        said = root.install(*flags(wheels))
        assert "The admin admin is there already" in said
        make_files(root, first)
        give_commands_of_the_page(root)
        assert "sv_consistency 0" in root.root_succeed(*program("bringing_program"))
        upgrade(root, first, later, wheels)
        assert "verified" in root.root_succeed("saferoom", "backup")
        archive = max((first.folder / "srv/saferoom/backups").iterdir())
        shutil.copy2(archive, tmp_path / "archive")
        shutil.copy2(first.folder / "upper/etc/saferoom/backup.passphrase", tmp_path / "passphrase")
    with Disk(tmp_path / "disk") as disk:
        lend_release(first, disk)
        with BareRoot(disk, wheels, tmp_path) as root:
            passphrase = ("--passphrase-file", str(tmp_path / "passphrase"))
            root.install(*flags(wheels), "--restore", str(tmp_path / "archive"), *passphrase)
            wait_until_it_runs(root)
            layer = disk.folder / HOST / "instances/alpha/upper"
            assert (layer / "mine.txt").read_text() == "by the game"
            assert (disk.folder / HOST / "overlays/maps/one.vpk").read_text() == "by hand"
            told = root.root_succeed("saferoom", "shell", "-c", READ_PASSWORD)
            assert f"PASSWORD {PASSWORD}" in told
            take_off(root, disk)


def give_commands_of_the_page(root: BareRoot) -> None:
    """Give the commands of docs/deploy.md that nothing else here gives, verbatim; a game keeps running."""
    page = (REPOSITORY / "docs/deploy.md").read_text()
    game = status(root)["pid"]
    for command in (
        *("systemctl restart saferoom-web", "saferoom backup --database-only"),
        "systemctl --user --machine=saferoom@ restart saferoom-worker",
        "saferoom --web check --deploy",
    ):
        assert command in page
        root.root_succeed("sh", "-c", command)
    assert root.run("l4d2ctl", "doctor", user="root").returncode in (0, 3)
    assert status(root)["pid"] == game
    for name in root.root_succeed("ls", "/srv/saferoom/backups").split():
        root.root_succeed("rm", f"/srv/saferoom/backups/{name}")


def make_files(root: BareRoot, disk: Disk) -> None:
    """Have a file that the game wrote, and an overlay that somebody put there by hand."""
    (disk.folder / HOST / "instances/alpha/upper/mine.txt").write_text("by the game")
    (disk.folder / HOST / "overlays/maps").mkdir(parents=True)
    (disk.folder / HOST / "overlays/maps/one.vpk").write_text("by hand")
    made = (f"/{HOST}/overlays", f"/{HOST}/instances/alpha/upper/mine.txt")
    root.root_succeed("chown", "-R", "saferoom:saferoom", *made)


@pytest.mark.postgres
def test_a_database_and_units_of_the_system_are_made_too(
    tmp_path: Path, first: Disk, wheels: Path
) -> None:
    with Disk(tmp_path / "disk") as disk:
        lend_release(first, disk)
        with BareRoot(disk, wheels, has_own_boot_id=False) as root:
            version = find_programs().parent.name
            root.root_succeed("pg_createcluster", version, "main")
            more = ("--database", "create", "--driver", "systemd-system", "--nftables")
            said = root.install(*flags(wheels), *more)
            assert f"runs: https://{NAME}/" in said
            make_server(root, disk)
            shown = root.root_succeed(
                "systemctl", "show", "--value", "-p", "User", "saferoom-game@alpha"
            )
            assert shown.strip() == "saferoom"
            require_limits(root, wheels)
            # As the timer does.
            root.root_succeed("systemctl", "start", "saferoom-backup.service")
            assert len(list((disk.folder / "srv/saferoom/backups").iterdir())) == 1
            # Through the socket, which lets accounts in by their names, the games' account does not get in.
            query = ("runuser", "-u", "saferoom", "--", "psql", "-c", "SELECT 1")
            for role in ("saferoom", "saferoom_panel"):
                done = root.run(*query, "-U", role, "saferoom_panel", user="root")
                assert done.returncode != 0
            root.root_succeed(f"{REPOSITORY}/deploy/uninstall", "--data")
            assert "saferoom" not in root.root_succeed(
                "runuser", "-u", "postgres", "--", "psql", "-lqt"
            )


def require_limits(root: BareRoot, wheels: Path) -> None:
    """Fail unless all games together are limited, and what one address may send to them."""
    show = ("systemctl", "show", "--value", "-p")
    assert (
        root.root_succeed(*show, "Slice", "saferoom-game@alpha").strip() == "saferoom-games.slice"
    )
    memory = int(root.root_succeed(*show, "MemoryMax", "saferoom-games.slice"))
    assert 0.8 < memory / (os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) < 0.9
    # systemd covers parts of /proc, so nobody can mount another one.
    told = root.root_succeed("saferoom", "shell", "-c", READ_WALLS)
    assert "MISSING ['Other processes out of sight'] OF 6" in told
    assert "chain games" in root.root_succeed("nft", "list", "table", "inet", "saferoom")
    said = root.install("--no-nftables", "--wheels", str(wheels))
    assert "Let every address send" in said
    assert root.run("nft", "list", "table", "inet", "saferoom", user="root").returncode != 0


def upgrade(root: BareRoot, disk: Disk, later: Path, wheels: Path) -> None:
    """Upgrade across a migration while pages are requested, and switch back; the database stays new."""
    old = link(disk)
    pids = [status(root)["pid"]]
    with watched(root) as crowd:
        said = root.root_succeed(
            f"{later}/deploy/install", "--upgrade", "--wheels", str(wheels), timeout=300
        )
        print(said)
    new = link(disk)
    assert new != old
    assert set(crowd["answers"]) == {
        "GET /accounts/login/ 200",
        "POST /accounts/login/ 403",  # without a token
        "GET /livez 200",
    }
    # The follower of the console was cut off and came back: each line was seen, in order, and once.
    assert crowd["follows"] > 1
    assert crowd["seen"] == list(range(crowd["said"]))
    assert crowd["said"] > 20
    assert crowd["game_answers"] > 3
    # No player is thrown out.
    assert max(crowd["players"]) == 2
    assert set(crowd["players"][crowd["players"].index(2) :]) == {2}
    assert "jobs_later" in tables(root)
    assert len(list((disk.folder / "srv/saferoom/backups").iterdir())) == 1
    root.install("--back")
    assert link(disk) == old
    pids.append(status(root)["pid"])
    assert "jobs_later" in tables(root)
    root.install("--back")
    assert link(disk) == new
    pids.append(status(root)["pid"])
    assert len(set(pids)) == 1
    # By today's code, from the plan and the game of before.
    root.root_succeed("l4d2ctl", "restart", "alpha")
    wait_until_it_runs(root)


def tables(root: BareRoot) -> str:
    program = "from django.db import connection; print(connection.introspection.table_names())"
    return root.root_succeed("saferoom", "shell", "-c", program)


def take_off(root: BareRoot, disk: Disk) -> None:
    """Uninstall: what people made stays, until it is to go too."""
    root.root_succeed(f"{REPOSITORY}/deploy/uninstall")
    assert not (disk.folder / "upper/opt/saferoom/current").is_symlink()
    assert root.run("systemctl", "cat", "saferoom-web.service", user="root").returncode != 0
    assert (disk.folder / HOST / "overlays/maps/one.vpk").exists()
    assert root.run("pgrep", "-u", "saferoom", user="root").stdout == ""
    root.root_succeed(f"{REPOSITORY}/deploy/uninstall", "--data")
    assert not (disk.folder / "srv/saferoom").exists()
    assert root.run("id", "saferoom", user="root").returncode != 0
