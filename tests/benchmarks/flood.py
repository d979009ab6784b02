"""`script/bench flood`: what a game that prints as fast as it can does to pages, worker and disk."""

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hostops.layout import HostLayout
from tests.benchmarks.streams import Row, print_table
from tests.endtoend.panel import Panel

PAGES = ("/servers/", "/servers/quiet/", "/jobs/")
PAUSE_SECONDS = 0.05
MIB = 1024**2


def time_pages(panel: Panel, seconds: float) -> list[float]:
    """Load the pages one after another for this long; return how many milliseconds each took."""
    took = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for path in PAGES:
            began = time.monotonic()
            answer = panel.client.get(path)
            took.append((time.monotonic() - began) * 1000)
            if answer.status != 200:
                raise SystemExit(f"{path} was answered {answer.status}.")
            time.sleep(PAUSE_SECONDS)
    return took


def memory_of(pid: int) -> float:
    """Return the resident memory of a process in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


@contextmanager
def watched_disk(console: Path) -> Iterator[list[float]]:
    """Note twenty times a second how many MiB of the disk a console takes."""
    seen: list[float] = []
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.05):
            seen.append(console.stat().st_blocks * 512 / MIB)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        thread.join()


def row_of(name: str, took: list[float]) -> Row:
    """Return a row of the table."""
    return {
        "": name,
        "pages": len(took),
        "median ms": f"{statistics.median(took):.1f}",
        "95 % ms": f"{statistics.quantiles(took, n=20)[-1]:.1f}",
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="script/bench flood", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each part")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="saferoom-flood-") as folder:
        panel = Panel(Path(folder) / "var")
        panel.start()
        try:
            panel.client.sign_in()
            panel.succeed(panel.install())
            for name in ("quiet", "loud"):
                panel.make_server(name)
                panel.succeed(panel.operate(name, "start"))
            worker = panel.worker_pid() or 0
            time_pages(panel, 2)  # What is loaded first is.
            idle, memory = time_pages(panel, seconds), memory_of(worker)
            instance = HostLayout(panel.host_root).instance("loud")
            with instance.console_input_path.open("w") as stdin:
                stdin.write("sim_flood 99999999\n")
            with watched_disk(instance.console_log_path(1)) as blocks:
                flooded = time_pages(panel, seconds)
            printed = instance.console_log_path(1).stat().st_size / MIB
            grown = memory_of(worker) - memory
            print_table("Pages", [row_of("idle", idle), row_of("beside a flood", flooded)])
            ratio = statistics.median(flooded) / statistics.median(idle)
            print(f"Median beside a flood: {ratio:.2f} times idle.")
            print(f"The game printed {printed:,.0f} MiB, {printed / seconds:,.0f} a second.")
            print(
                f"On the disk: median {statistics.median(blocks):.0f} MiB, at most {max(blocks):.0f}."
            )
            print(f"The worker grew by {grown:.1f} MiB.")
        finally:
            panel.end()


if __name__ == "__main__":
    main()
