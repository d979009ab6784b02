"""The queue against its peers, on the same database in the same run: `script/bench queue`.

It measures the latency from the enqueuing call to the job's first instruction, no-op jobs a second, the cost
of a claim as the table grows, and the memory of an idle worker. Prints tables for docs/performance.md.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.fire.postgres import NoPostgresError, Postgres

PACKAGES = ("procrastinate", "django-tasks-db", "huey", "django-q2")
PEERS = (*PACKAGES, "huey-synced")
LAYOUTS = ((1, 1), (1, 2), (1, 4), (1, 8), (2, 4), (4, 4))
COLUMNS = {
    "idle_median_ms": "idle: median ms",
    "idle_p99_ms": "p99",
    "load_median_ms": "50 jobs/s: median ms",
    "load_p99_ms": "p99",
    **{f"{p}x{t}_per_second": f"{p} × {t} jobs/s" for p, t in LAYOUTS},
    "memory_mib": "idle worker MiB",
}

Results = dict[str, dict[str, float]]


def measure(engine: str, url: str, scratch: Path, options: dict[str, Any]) -> Results:
    """Run the measurements on one database; return contender → what → value."""
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "tests.benchmarks.queue_settings",
        "SECRET_KEY": "a-key-that-only-the-benchmark-has",
        "GAME_SOURCE": "simulator",
        "VAR_DIR": str(scratch),
        "HOST_ROOT": str(scratch / "host"),
        "DATABASE_URL": url,
    }
    results: Results = defaultdict(dict)
    command = [sys.executable, "-m", "tests.benchmarks.queue_measure"]
    with subprocess.Popen(
        [*command, json.dumps({**options, "scratch": str(scratch)})],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        for line in process.stdout:
            result = json.loads(line)
            results[result["contender"]][result["what"]] = result["value"]
            print(f"{engine} {result}", file=sys.stderr, flush=True)
    if process.returncode:
        raise SystemExit(f"The measurements on {engine} ended early: see above.")
    return results


def table(results: Results) -> Iterator[str]:
    """Return the results as a Markdown table, a row for each contender."""
    columns = [what for what in COLUMNS if any(what in row for row in results.values())]
    yield "| | " + " | ".join(COLUMNS[what] for what in columns) + " |"
    yield "| --- |" + " ---: |" * len(columns)
    for name, row in results.items():
        cells = (f"{row[what]:,.1f}" if what in row else "–" for what in columns)
        yield f"| {name} | " + " | ".join(cells) + " |"


def ratios(results: Results) -> Iterator[str]:
    """Return how many times better ours is than each peer: above 1 we are ahead."""
    ours = results.get("Saferoom", {})
    for name, row in results.items():
        shared = [what for what in COLUMNS if what in row and what in ours]
        if name == "Saferoom" or not shared:
            continue
        cells = (
            f"{COLUMNS[what].partition(':')[0] if what.endswith('_median_ms') else COLUMNS[what]} "
            f"{row[what] / ours[what] if what.endswith('_ms') else ours[what] / row[what]:.1f}×"
            for what in shared
            if what.endswith(("_median_ms", "_per_second"))
        )
        yield f"- Saferoom ÷ {name}: " + ", ".join(cells)
    if "claim_ms_full" in ours:
        small, tenth, full = (ours[f"claim_ms_{what}"] for what in ("small", "tenth", "full"))
        yield (
            f"- One claim: {small:.2f} ms in a small table, {tenth:.2f} ms in one with a tenth of the rows, "
            f"{full:.2f} ms in a full one: {full / small:.2f}×"
        )


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), action="append")
    parser.add_argument("--contender", choices=("saferoom", *PEERS), action="append")
    parser.add_argument(
        "--layout", action="append", help="PROCESSESxTHREADS for the jobs a second, such as 1x4"
    )
    parser.add_argument("--samples", type=int, default=200, help="of latency")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement of latency")
    parser.add_argument("--queued", type=int, default=100_000)
    parser.add_argument(
        "--finished", type=int, default=1_000_000, help="0: skip the cost of a claim"
    )
    arguments = parser.parse_args()
    layouts = [tuple(map(int, layout.split("x"))) for layout in arguments.layout or []] or LAYOUTS
    options = {
        "contenders": arguments.contender or ["saferoom", *PEERS],
        "samples": arguments.samples,
        "seconds": arguments.seconds,
        "layouts": layouts,
        "queued": arguments.queued,
        "finished": arguments.finished,
    }
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Linux {platform.release()}, ",
        end="",
    )
    print(f"Python {platform.python_version()}, load {os.getloadavg()[0]:.0f}, ", end="")
    print(", ".join(f"{package} {version(package)}" for package in PACKAGES))
    for engine in arguments.engine or ("sqlite", "postgresql"):
        scratch = Path(tempfile.mkdtemp(prefix="saferoom-bench-"))
        scratch.chmod(0o755)
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, scratch)
            url = f"sqlite:///{scratch / 'bench.sqlite3'}"
            if engine == "postgresql":
                try:
                    server = Postgres(scratch / "postgres")
                except NoPostgresError as error:
                    print(f"\nPostgreSQL was not measured: {error}")
                    continue
                server.start()
                stack.callback(server.stop)
                url = server.make_database("bench")
            results = measure(engine, url, scratch, options)
        print(f"\n### {engine}\n", *table(results), "", *ratios(results), sep="\n", flush=True)


if __name__ == "__main__":
    main()
