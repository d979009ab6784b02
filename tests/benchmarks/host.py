"""`script/bench host`: what an instance, an update and the watching cost, against copies and farms of links.

The tree has the game's size and number of files, but the files are sparse. So nothing here measures how fast
a disk writes, and the full copy, which would write all of a real tree, looks better than it is.
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hostops.host import Host
from hostops.layout import HostLayout
from hostops.linux.files import make_dir, remove_tree, switch_symlink
from hostops.specs import CancelToken, InstanceSpec
from hostops.steam import staging
from hostops.steam.staging import Assembly
from tests.hostops.hosts import end_everything, write_control
from tests.ports import find_free_port

PROJECT_DIR = Path(__file__).resolve().parent.parent.parent
FILES_PER_FOLDER = 100
CHANGED_FILES = 60
TICKS = os.sysconf("SC_CLK_TCK")

Row = dict[str, Any]


@dataclass(frozen=True)
class Way:
    """A way to give a server its tree: how it is made and removed, and which folder then takes space."""

    name: str
    make: Callable[[], object]
    remove: Callable[[], object]
    folder: Path


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(prog="script/bench host", description=__doc__)
    parser.add_argument(
        "--folder", type=Path, help="where to work; a folder of the file system that counts"
    )
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--gigabytes", type=float, default=9.0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--servers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to watch the worker")
    options = parser.parse_args()
    print(f"{time.strftime('%Y-%m-%d')}, Linux {platform.release()}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="saferoom-bench-", dir=options.folder) as folder:
        layout = HostLayout(Path(folder) / "host")
        make_release(layout, options.files, int(options.gigabytes * 1e9))
        about = f"{options.files:,} files, {options.gigabytes:g} GB, sparse"
        print_table(
            f"An instance over a game-sized tree ({about})",
            [measure_way(way, options.repeat) for way in ways(layout)],
        )
        print_table(
            f"A new release with {CHANGED_FILES} changed files ({about})",
            [measure_update(layout, options.repeat)],
        )
        remove_tree(layout.root)
    with tempfile.TemporaryDirectory(prefix="saferoom-bench-", dir=options.folder) as folder:
        measure_watching(Path(folder), options.servers, options.seconds)


# --- Trees ------------------------------------------------------------------------------------


def make_release(layout: HostLayout, files: int, size: int) -> None:
    """Make a release of this many files, which seem to take `size` bytes in all, and make it current."""
    release = make_dir(layout.releases_dir / "1")
    for number in range(files - 2):
        path = release / "left4dead2" / f"{number // FILES_PER_FOLDER:04}" / f"{number:06}.bsp"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(b"VBSP")
            file.truncate(max(4, size // files))
    for name in ("srcds_run", "srcds_linux"):
        (release / name).touch(mode=0o755)
    switch_symlink(layout.current_link, "releases/1")


def ways(layout: HostLayout) -> Iterator[Way]:
    """Yield the ways to give a server a tree of its own."""
    host = Host(layout.root, game_source="simulator")
    spec = InstanceSpec("alpha", find_free_port(), config='hostname "Alpha"\n')
    source, farm = layout.releases_dir / "1", layout.root / "farm"
    yield Way(
        "Saferoom: overlay",
        lambda: host.initialize(spec),
        lambda: host.delete("alpha"),
        layout.instance("alpha").dir,
    )
    yield Way(
        "full copy (cp -a)",
        lambda: subprocess.run(["cp", "-a", str(source), str(farm)], check=True),
        lambda: shutil.rmtree(farm),
        farm,
    )
    yield Way("hard links", lambda: plant(source, farm, os.link), lambda: shutil.rmtree(farm), farm)
    yield Way(
        "symbolic links", lambda: plant(source, farm, os.symlink), lambda: shutil.rmtree(farm), farm
    )


def plant(source: Path, farm: Path, link: Callable[[Path, Path], None]) -> None:
    """Make a tree of links to every file of another one."""
    for folder, _, files in os.walk(source):
        target = farm / Path(folder).relative_to(source)
        target.mkdir()
        for name in files:
            link(Path(folder, name), target / name)


def measure_way(way: Way, repeat: int) -> Row:
    """Make and remove a tree several times; return the medians."""
    made, removed, sizes = [], [], []
    way.make()  # once, so that every way finds the source's folders cached
    way.remove()
    for _ in range(repeat):
        made.append(seconds(way.make))
        sizes.append(space(way.folder))
        removed.append(seconds(way.remove))
    return {
        "way": way.name,
        "create": milliseconds(made),
        "delete": milliseconds(removed),
        "on disk": f"{statistics.median(sizes) / 1024:,.0f} KiB",
    }


def measure_update(layout: HostLayout, repeat: int) -> Row:
    """Assemble a release from an overlay in which some files were rewritten."""
    overlaid = staging.begin_overlaid(layout, "1")
    for number in range(CHANGED_FILES):
        path = overlaid.upper_dir / "left4dead2" / "0000" / f"{number:06}.bsp"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(4096))
    times, sizes = [], []
    target = layout.releases_dir / ".new-2"
    for _ in range(repeat):
        times.append(seconds(Assembly(overlaid, target, CancelToken()).build))
        # The changed files are links to those in staging, which is removed once the release exists.
        linked = sum(path.stat().st_blocks * 512 for path in overlaid.upper_dir.rglob("*.bsp"))
        sizes.append(space(target) + linked)
        remove_tree(target)
    return {
        "put together": milliseconds(times),
        "own disk": f"{statistics.median(sizes) / 1024:,.0f} KiB",
    }


def space(folder: Path) -> int:
    """Return what a tree takes on disk: its folders, and the files that no other tree shares."""
    total = 0
    for path, _, files in os.walk(folder):
        own = (Path(path, name).lstat() for name in files)
        total += Path(path).stat().st_blocks + sum(
            status.st_blocks for status in own if status.st_nlink == 1
        )
    return total * 512


# --- Watching ---------------------------------------------------------------------------------


def measure_watching(folder: Path, count: int, watched_seconds: float) -> None:
    """Run an idle worker, without servers and with many, and compare its CPU time."""
    environment = {
        **os.environ,
        "SECRET_KEY": "a-key-that-only-the-benchmark-has",
        "DATABASE_URL": f"sqlite:///{folder / 'saferoom.sqlite3'}",
        "HOST_ROOT": str(folder / "host"),
        "GAME_SOURCE": "simulator",
    }
    os.environ.update(environment)
    os.environ["DJANGO_SETTINGS_MODULE"] = "l4d2site.settings"
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    root = folder / "host"
    root.mkdir()
    write_control(root)
    host = Host(root, game_source="simulator")
    host.install_runtime()
    with idle_worker(environment) as worker:
        without = cpu_share(worker, watched_seconds)
    names = [f"server-{number:02}" for number in range(count)]
    try:
        add_rows(names)
        with ThreadPoolExecutor(4) as executor:
            list(executor.map(lambda name: start(host, name), names))
        calls = measure_calls(host)
        with idle_worker(environment) as worker:
            within = cpu_share(worker, watched_seconds)
    finally:
        end_everything(root)
    print_table(
        f"The worker's CPU, as a share of one core over {watched_seconds:g} s",
        [
            {"an idle worker": "with no server", "share": f"{without:.2%}"},
            {"an idle worker": f"watching {count} running servers", "share": f"{within:.2%}"},
            {"an idle worker": "so the watching", "share": f"{within - without:.2%}"},
        ],
    )
    print_table(f"One round of the watch over {count} servers, CPU time", [calls])


def add_rows(names: list[str]) -> None:
    """Make the rows of the servers."""
    from django.contrib.auth.models import User

    from servers.models import Blueprint, Server
    from servers.models import Host as HostRow

    owner = User.objects.create_user("bench")
    blueprint = Blueprint.objects.create(name="bench", owner=owner)
    ports: set[int] = set()
    while len(ports) < len(names):
        ports.add(find_free_port())
    for name, port in zip(names, ports, strict=True):
        Server.objects.create(
            name=name, owner=owner, host=HostRow.local(), blueprint=blueprint, port=port
        )


def start(host: Host, name: str) -> None:
    """Start a simulated server."""
    from servers.models import Server

    host.initialize(InstanceSpec(name, Server.objects.get(name=name).port))
    host.start(name)


def measure_calls(host: Host) -> Row:
    """Return what each part of a round costs once nothing changes."""
    from jobs.watch.host_watch import HostWatch
    from servers.models import Host as HostRow

    time.sleep(2)  # What has just changed is examined more closely.
    watch = HostWatch(HostRow.local())
    watch.store_states()
    for _ in range(20):
        watch.consoles.copy()
    parts = {
        "statuses() each 2 s": lambda: host.statuses(with_usage=False),
        "store_states() each 2 s": watch.store_states,
        "consoles.copy() each 0.15 s": watch.consoles.copy,
    }
    return {
        name: milliseconds([cpu_seconds(call) for _ in range(20)]) for name, call in parts.items()
    }


@contextmanager
def idle_worker(environment: dict[str, str]) -> Iterator[int]:
    """Run a worker, and yield its process id once it is ready and has seen everything."""
    worker = subprocess.Popen(
        [sys.executable, "manage.py", "runjobs"],
        cwd=PROJECT_DIR,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert worker.stdout is not None
        worker.stdout.readline()
        time.sleep(5)  # The first look at everything costs more than the following ones.
        yield worker.pid
    finally:
        worker.terminate()
        worker.communicate()


def cpu_share(pid: int, over_seconds: float) -> float:
    """Return the share of one core that a process uses, including kernel time."""

    def used() -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    before, began_at = used(), time.monotonic()
    time.sleep(over_seconds)
    return (used() - before) / (time.monotonic() - began_at)


# --- Figures ----------------------------------------------------------------------------------


def seconds(action: Callable[[], object]) -> float:
    """Return how long something takes."""
    began_at = time.perf_counter()
    action()
    return time.perf_counter() - began_at


def cpu_seconds(action: Callable[[], object]) -> float:
    """Return how much CPU time of this process something takes."""
    before = time.process_time()
    action()
    return time.process_time() - before


def milliseconds(times: list[float]) -> str:
    """Return the median of times, for a table."""
    return f"{statistics.median(times) * 1000:,.1f} ms"


def print_table(title: str, rows: list[Row]) -> None:
    """Print rows as a Markdown table."""
    names = list(rows[0])
    print(f"\n{title}\n\n| {' | '.join(names)} |\n|{' --- |' * len(names)}")
    for row in rows:
        print(f"| {' | '.join(str(row[name]) for name in names)} |")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
