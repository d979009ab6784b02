"""`script/bench rollout`: a pack and a campaign from a browser to ten servers on two hosts, and back.

A pack of 3,400 files and a campaign of 2 GB (`--mib`) are uploaded in Chromium. Ten servers start with both:
five on the panel's host, and five on another one, whose worker has only the database and `PANEL_URL`. Then
one plugin is replaced in the browser and all servers are restarted, and once more with the previous version.
"""

import argparse
import json
import os
import secrets
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from playwright.sync_api import Page, expect, sync_playwright

from tests.benchmarks.sign_in import children_of
from tests.benchmarks.streams import Row, note, print_table
from tests.chromium import CHROMIUM_ARGUMENTS
from tests.endtoend.panel import PASSWORD, PROJECT_DIR
from tests.fire.postgres import Postgres
from tests.floors import find_chromium
from tests.ports import find_free_port, find_free_ports
from tests.waiting import wait_until

MIB = 1024**2
FILES = 3_400
FILE_BYTES = 19_000
SERVERS_OF_HOST = 5
HOSTS = ("local", "second")
PLUGIN = "left4dead2/addons/sourcemod/plugins/17.smx"
MISSION = b'"mission" { "Name" "bench" "DisplayTitle" "Bench" "modes" { "coop" { "1" { "Map" "bench_1" } } } }'
LONG_MS = 30 * 60_000

MAKE_SERVERS = """
from django.contrib.auth.models import User
from servers.models import Blueprint, BlueprintOverlay, Host, Overlay, Server
admin = User.objects.get(username="admin")
blueprint = Blueprint.objects.create(name="bench", owner=admin)
for position, name in enumerate(("pack", "campaign"), 1):
    overlay = Overlay.objects.get(name=name)
    BlueprintOverlay.objects.create(blueprint=blueprint, overlay=overlay, position=position)
ports = iter({ports})
for name in {hosts}:
    host = Host.objects.get(name=name)
    for number in range({count}):
        server = Server(name=f"{{name}}-{{number}}", host=host, port=next(ports))
        server.owner, server.blueprint = admin, blueprint
        server.adopt_secrets()
        server.save()
"""
ENQUEUE = """
from django.contrib.auth.models import User
from jobs.queue import enqueue
from servers.models import Host, Server
admin = User.objects.get(username="admin")
{what}
"""
INSTALL = 'for host in Host.objects.all(): enqueue("install", host=host, requested_by=admin)'
OPERATE = 'for server in Server.objects.all(): enqueue("{verb}", server=server, requested_by=admin)'
COUNT = """
from jobs.models import Job
states = list(Job.objects.values_list("state", "error"))
print("ACTIVE", sum(state in ("queued", "running", "cancelling") for state, _ in states))
print("FAILED", [error for state, error in states if state == "failed"])
"""
HAS_HOSTS = "from servers.models import Host; print('HOSTS', Host.objects.count())"


class Fleet:
    """A panel with its worker, a second worker of another host, and a database for both."""

    def __init__(self, folder: Path, postgres: Postgres) -> None:
        self.folder = folder
        self.port = find_free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        shared = {
            "DATABASE_URL": postgres.url(),
            "SECRET_KEY": "only-for-this-benchmark",
            "SECRETS_KEYS": "b25seS1mb3ItdGhpcy1iZW5jaG1hcmstMzItYnl0ZXM=",
            "GAME_SOURCE": "simulator",
            "SAFEROOM_ADMIN_PASSWORD": PASSWORD,
        }
        panel = {"VAR_DIR": str(folder / "var"), "PORT": str(self.port)}
        self._environment = os.environ | shared | panel
        self._second = (
            os.environ
            | shared
            | {
                "VAR_DIR": str(folder / "second"),
                "HOST_ROOT": str(folder / "second/host"),
                "HOST_NAME": "second",
                "PANEL_URL": self.url,
            }
        )
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start both, and wait until both hosts are known."""
        for name in ("var", "second"):
            host = self.folder / name / "host"
            host.mkdir(parents=True)
            host.parent.chmod(0o700)
            (host / "simulator.json").write_text(
                '{"steamcmd": {"seconds": 0}, "srcds": {"start_seconds": 0}}'
            )
        self._run("serve", self._environment)
        said = self.folder / "serve.log"
        wait_until(lambda: "Saferoom is ready" in said.read_text(), 180, "no panel")
        self._run("runjobs", self._second)
        wait_until(lambda: "HOSTS 2" in self.shell(HAS_HOSTS), 60, "the second host is not there")

    def _run(self, command: str, environment: dict[str, str]) -> None:
        with (self.folder / f"{command}.log").open("wb") as log:
            argv = [sys.executable, "manage.py", command]
            self._processes.append(
                subprocess.Popen(argv, cwd=PROJECT_DIR, env=environment, stdout=log, stderr=log)
            )

    def shell(self, program: str) -> str:
        """Run a program in the panel; return its output."""
        argv = [sys.executable, "manage.py", "shell", "-c", program]
        done = subprocess.run(
            argv, cwd=PROJECT_DIR, env=self._environment, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout

    def carry_out(self, what: str) -> None:
        """Make jobs, and wait until all have succeeded."""
        self.shell(ENQUEUE.format(what=what))
        wait_until(lambda: "ACTIVE 0" in self.shell(COUNT), 900, "jobs do not end")
        if "FAILED []" not in (told := self.shell(COUNT)):
            raise RuntimeError(told)

    def host_root(self, name: str) -> Path:
        """Return where a host keeps everything."""
        return self.folder / ("var" if name == "local" else "second") / "host"

    def stop(self) -> None:
        """End all processes."""
        for process in reversed(self._processes):
            process.terminate()
            process.wait(60)


def make_campaign(path: Path, mib: int) -> None:
    """Write a VPK with one campaign, whose map has this many MiB.

    The format: Valve Developer Community, "VPK (file format)", version 1.
    """
    size = mib * MIB
    tree = b""
    for extension, folder, name, offset, length in (
        ("txt", "missions", "bench", 0, len(MISSION)),
        ("bsp", "maps", "bench_1", len(MISSION), size),
    ):
        entry = struct.pack("<IHHIIH", 0, 0, 0x7FFF, offset, length, 0xFFFF)
        tree += (
            b"\0".join(text.encode() for text in (extension, folder, name))
            + b"\0"
            + entry
            + b"\0\0"
        )
    tree += b"\0"
    with path.open("wb") as file:
        file.write(struct.pack("<III", 0x55AA1234, 1, len(tree)) + tree + MISSION)
        for _ in range(mib):
            file.write(os.urandom(MIB))


def make_pack(folder: Path) -> None:
    """Write a folder of many files, like a pack of plugins."""
    for number in range(FILES):
        path = folder / "left4dead2/cfg/stripper" / f"{number % 60}/{number}.cfg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"// {number}\n".encode() + secrets.token_hex(FILE_BYTES // 2).encode())
    plugin = folder / PLUGIN
    plugin.parent.mkdir(parents=True)
    plugin.write_bytes(b"the first build " * 1_000)


@contextmanager
def signed_in(url: str) -> Iterator[Page]:
    """Yield a browser page of the admin."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=CHROMIUM_ARGUMENTS
        )
        page = browser.new_page(base_url=url)
        page.set_default_timeout(LONG_MS)
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto("/")
        page.get_by_label("Username").fill("admin")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/servers/")
        yield page
        browser.close()


def make_overlay(page: Page, name: str) -> None:
    """Make an overlay through the form."""
    page.goto("/overlays/new/")
    page.get_by_label("Name").fill(name)
    page.locator("main form button[data-kind=primary]").click()
    page.wait_for_url(f"**/overlays/{name}/**")


def upload(page: Page, name: str, paths: Path | list[Path], number: int) -> None:
    """Upload a folder or files to an overlay, and wait for the resulting version."""
    page.goto(f"/overlays/{name}/uploads/")
    if isinstance(paths, Path):
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Choose a folder").click()
        chooser.value.set_files(paths)
    else:
        page.locator("#upload-input").set_input_files(paths)
        page.get_by_role("button", name="Upload", exact=True).click()
    link = page.get_by_role("link", name=f"Version {number}")
    expect(link.first).to_be_visible(timeout=LONG_MS)


def disk_mib(*folders: Path) -> float:
    """Return what folders take on disk, each file once, however many links it has."""
    found: dict[tuple[int, int], int] = {}
    for folder in folders:
        for path in folder.rglob("*"):
            status = path.lstat()
            found[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(found.values()) / MIB


def timed(what: str, work: Callable[[], object], **more: Any) -> Row:
    """Time some work."""
    began = monotonic()
    work()
    return note({"what": what, "seconds": round(monotonic() - began, 1), **more})


def run_all(fleet: Fleet, page: Page, mib: int) -> list[Row]:
    """Go through all of it."""
    pack, campaign = fleet.folder / "pack", fleet.folder / "bench.vpk"
    make_pack(pack)
    make_campaign(campaign, mib)
    for name in ("pack", "campaign"):
        make_overlay(page, name)
    rows = [
        timed(
            f"{FILES + 1:,} files from the browser to a version",
            lambda: upload(page, "pack", pack, 1),
        ),
        timed(
            f"{mib} MiB from the browser to a version",
            lambda: upload(page, "campaign", [campaign], 1),
        ),
    ]
    fleet.carry_out(INSTALL)
    ports = find_free_ports(SERVERS_OF_HOST * len(HOSTS))
    fleet.shell(MAKE_SERVERS.format(ports=ports, hosts=HOSTS, count=SERVERS_OF_HOST))
    start = OPERATE.format(verb="start")
    rows.append(timed("ten servers, first start", lambda: fleet.carry_out(start)))
    rows.append(measure_disk(fleet))
    fresh = fleet.folder / "fresh" / PLUGIN
    fresh.parent.mkdir(parents=True)
    fresh.write_bytes(b"the second build " * 1_000)
    rows.append(
        timed("one plugin replaced", lambda: upload(page, "pack", fleet.folder / "fresh", 2))
    )
    page.goto("/servers/second-0/")
    waiting = page.locator("#waiting-changes")
    waiting.locator("summary").click()
    print(waiting.inner_text())
    restart = OPERATE.format(verb="restart")
    rows.append(timed("ten servers, restarted with it", lambda: fleet.carry_out(restart)))
    require_plugin(fleet, b"the second build")
    page.goto("/overlays/pack/versions/1/")
    page.get_by_text("Make this the latest again").click()
    page.get_by_role("button", name="Make it the latest").click()
    rows.append(timed("ten servers, back again", lambda: fleet.carry_out(restart)))
    require_plugin(fleet, b"the first build")
    rows.append(measure_disk(fleet))
    return rows


def measure_disk(fleet: Fleet) -> Row:
    """Print what the store and the hosts take, and what a copy for each server would take."""
    store = disk_mib(fleet.folder / "var/content")
    hosts = [disk_mib(root / "blobs", root / "versions") for root in map(fleet.host_root, HOSTS)]
    copies = SERVERS_OF_HOST * disk_mib(fleet.host_root("second") / "versions")
    return note(
        {
            "what": "disk, MiB",
            "store": round(store),
            "each host": [round(one) for one in hosts],
            "copies for each server of a host": round(copies),
        }
    )


def require_plugin(fleet: Fleet, build: bytes) -> None:
    """Raise unless every running game has that build of the plugin among its files."""
    seen = 0
    for host in HOSTS:
        for record in fleet.host_root(host).glob("instances/*/run.json"):
            (game,) = children_of(json.loads(record.read_text())["pid"])
            found = Path(f"/proc/{game}/cwd", PLUGIN).read_bytes()
            if not found.startswith(build):
                raise RuntimeError(f"{record.parent.name} has {found[:20]!r}")
            seen += 1
    if seen != SERVERS_OF_HOST * len(HOSTS):
        raise RuntimeError(f"{seen} games run")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="script/bench rollout", description=__doc__)
    parser.add_argument("--mib", type=int, default=2_000, help="how large the campaign is")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="saferoom-rollout-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL runs as another user if this is root.
        postgres = Postgres(folder / "postgres")
        postgres.start()
        fleet = Fleet(folder, postgres)
        try:
            fleet.start()
            with signed_in(fleet.url) as page:
                rows = run_all(fleet, page, options.mib)
            fleet.carry_out(OPERATE.format(verb="stop"))
        except BaseException:
            print(*(path.read_text()[-3_000:] for path in folder.glob("*.log")), sep="\n")
            raise
        finally:
            fleet.stop()
            postgres.stop()
    print_table("From the browser to ten servers on two hosts", rows)


if __name__ == "__main__":
    main()
