"""`script/bench versions`: what it takes to get a version of an overlay ready on a host: time, and disk."""

import argparse
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hostops.blob_sources import FolderSource
from hostops.callbacks import Callbacks
from hostops.content.version_folders import Needs, hold_ready
from hostops.layout import HostLayout
from hostops.linux.files import make_dir, remove_tree
from tests.hostops.content.stores import add_version

FOLDERS = 300


def main() -> None:
    """Measure, and print one line for each case."""
    parser = argparse.ArgumentParser(prog="script/bench versions", description=__doc__)
    parser.add_argument(
        "--folder", type=Path, help="where to work; a folder of the file system that counts"
    )
    parser.add_argument("--files", type=int, default=3_400)
    parser.add_argument("--bytes", type=int, default=19_000, help="of each file")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    print(f"{time.strftime('%Y-%m-%d')}, Linux {platform.release()}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="saferoom-bench-", dir=options.folder) as folder:
        store, layout = Path(folder) / "store", HostLayout(Path(folder) / "host")
        make_dir(layout.root)
        files = {
            f"left4dead2/addons/sourcemod/{number % FOLDERS}/{number}.smx": os.urandom(
                options.bytes
            )
            for number in range(options.files)
        }
        reference = add_version(store, "pack", 1, files)
        laid_out = layout.overlay_folder(reference)

        def make_ready() -> None:
            needs = Needs("alpha", FolderSource(store), 0)
            with hold_ready(layout, [reference], needs, Callbacks()):
                pass

        def free_bytes() -> int:
            status = os.statvfs(folder)
            return status.f_bfree * status.f_frsize

        print(f"{options.files:,} files of {options.bytes:,} bytes")
        print(f"fetched from the store, and laid out  {milliseconds([make_ready])}")
        makings, computings = [], []
        for _ in range(options.repeat):
            remove_tree(laid_out)
            before, computed = free_bytes(), time.process_time()
            makings.append(seconds(make_ready))
            computings.append(time.process_time() - computed)
            taken = before - free_bytes()
        print(f"laid out, its files being there       {statistics.median(makings) * 1000:,.0f} ms")
        print(
            f"  CPU time                            {statistics.median(computings) * 1000:,.0f} ms"
        )
        print(f"  disk that took                      {taken / 1024:,.0f} KiB")
        print(f"found to be there                     {milliseconds([make_ready] * 5)}")
        before = free_bytes()
        copy = Path(folder) / "copy"
        print(
            f"for comparison: a copy for one server {milliseconds([lambda: copy_all(laid_out, copy)])}"
        )
        print(f"  disk that took                      {(before - free_bytes()) / 1024:,.0f} KiB")


def copy_all(source: Path, target: Path) -> None:
    """Copy a folder on disk, like a panel that keeps a copy of everything for each server."""
    subprocess.run(["cp", "-a", source, target], check=True)
    subprocess.run(["sync", "-f", target], check=True)


def milliseconds(actions: list[Callable[[], None]]) -> str:
    """Return the median of what actions take."""
    return f"{statistics.median(map(seconds, actions)) * 1000:,.1f} ms"


def seconds(action: Callable[[], None]) -> float:
    """Return how long an action takes."""
    began_at = time.perf_counter()
    action()
    return time.perf_counter() - began_at


if __name__ == "__main__":
    main()
