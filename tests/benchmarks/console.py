"""What a store of console lines costs: appending, its size, a page of it, a search, pruning.

script/bench console [--megabytes 50] [--trickle-batches 1000] [sqlite] [postgres]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any, Self

from tests.benchmarks.console_lines import RARE_WORD, make_lines
from tests.fire.postgres import Postgres

if TYPE_CHECKING:  # It needs the settings, which the process that measures has.
    from tests.benchmarks.console_stores import ConsoleStore

MEGABYTE = 1_000_000
CHUNK_LINES = 2_800
"""A chunk of a flood: about the 256 KiB that the worker reads at a time."""

TRICKLE_LINES = 10
"""What a busy server prints between two checks of it."""

COLUMNS = {
    "trickle_ms": "10 lines: ms",
    "trickle_cpu_ms": "CPU ms",
    "trickle_kib": "KiB written",
    "flood_seconds": "flood: s",
    "flood_cpu_seconds": "CPU s",
    "flood_written": "MB written",
    "disk": "MB on disk",
    "newest_ms": "newest 1,000: ms",
    "middle_ms": "1,000 in the middle: ms",
    "search_ms": "rare word: ms",
    "common_ms": "word of each 2nd line: ms",
    "prune_ms": "1 MB more, 1 MB pruned: ms",
}


def main() -> None:
    """Measure on each engine in a process of its own, and print a table for each."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("engines", nargs="*", default=["sqlite", "postgres"])
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--trickle-batches", type=int, default=1_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="saferoom-bench-") as folder:
        # PostgreSQL runs as another account when this one is root.
        Path(folder).chmod(0o755)
        for engine in options.engines:
            with running(engine, Path(folder)) as url:
                rows = [
                    measure_apart(name, url, Path(folder), options)
                    for name in ("rows", "segments", "files")
                ]
            print_table(engine, rows)


@contextmanager
def running(engine: str, folder: Path) -> Iterator[str]:
    """Yield the URL of a database."""
    if engine == "sqlite":
        yield f"sqlite:///{folder / 'bench.sqlite3'}"
        return
    server = Postgres(folder / "postgres")
    server.start()
    try:
        yield server.url()
    finally:
        server.stop()


def measure_apart(name: str, url: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one store in a process of its own."""
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "l4d2site.settings",
        "SECRET_KEY": "only-for-this-benchmark",
        "VAR_DIR": str(folder),
        "DATABASE_URL": url,
        "CONSOLE_KEEP_BYTES": str(options.megabytes * MEGABYTE),
    }
    program = (
        "import django; django.setup(); from tests.benchmarks import console;"
        f"console.measure({name!r}, {options.megabytes}, {options.trickle_batches})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(row, file=sys.stderr, flush=True)
    return row


def measure(name: str, megabytes: int, trickle_batches: int) -> None:
    """Measure one store on the database of the settings, and print what came out as JSON."""
    from django.core.management import call_command
    from django.db import connection

    from jobs.database.wal_checkpoints import copy_log
    from tests.benchmarks import console_stores

    kinds: dict[str, Callable[[Any, Path], ConsoleStore]] = {
        "rows": console_stores.Rows,
        "segments": console_stores.Segments,
        "files": console_stores.Files,
    }
    call_command(
        "flush" if "servers_host" in connection.introspection.table_names() else "migrate",
        verbosity=0,
        interactive=False,
    )
    vacuum()
    empty_bytes = disk_bytes()
    with tempfile.TemporaryDirectory() as folder:
        contender = kinds[name](make_server(), Path(folder))
        row: dict[str, Any] = {"name": contender.name}
        lines = make_lines()
        keep = megabytes * MEGABYTE
        batches = [list(islice(lines, TRICKLE_LINES)) for _ in range(trickle_batches)]
        with Meter() as trickle:
            for batch in batches:
                contender.append(batch, keep)
                copy_log()
        row |= {
            "trickle_ms": trickle.seconds / trickle_batches * 1000,
            "trickle_cpu_ms": trickle.cpu_seconds / trickle_batches * 1000,
            "trickle_kib": trickle.written / trickle_batches / 1024,
        }
        chunks = list(make_chunks(lines, int(keep * 0.97)))
        chunks[len(chunks) // 3][7] += f" {RARE_WORD}"
        count = sum(map(len, chunks)) + trickle_batches * TRICKLE_LINES
        with Meter() as flood:
            for chunk in chunks:
                contender.append(chunk, keep)
                copy_log()
        row |= {
            "flood_seconds": flood.seconds,
            "flood_cpu_seconds": flood.cpu_seconds,
            "flood_written": flood.written / MEGABYTE,
        }
        vacuum()
        files = sum(
            path.stat().st_blocks * 512 for path in Path(folder).rglob("*") if path.is_file()
        )
        row["disk"] = (disk_bytes() - empty_bytes + files) / MEGABYTE
        assert contender.newest(1_000) == contender.around(count // 2, 1_000) == 1_000
        assert contender.search(RARE_WORD.upper()) == 1
        row |= {
            "newest_ms": milliseconds(lambda: contender.newest(1_000)),
            "middle_ms": milliseconds(lambda: contender.around(count // 2, 1_000)),
            "search_ms": milliseconds(lambda: contender.search(RARE_WORD), times=5),
            "common_ms": milliseconds(lambda: contender.search("steam_1"), times=5),
        }
        chunks = list(make_chunks(lines, 5 * MEGABYTE))
        with Meter() as pruning:
            for chunk in chunks:
                contender.append(chunk, keep)
                copy_log()
        row["prune_ms"] = pruning.seconds / 5 * 1000
    print(json.dumps(row))


def make_chunks(lines: Iterator[str], size: int) -> Iterator[list[str]]:
    """Yield lines in chunks, with at least `size` bytes in all."""
    while size > 0:
        chunk = list(islice(lines, CHUNK_LINES))
        size -= sum(len(line) + 1 for line in chunk)
        yield chunk


def make_server() -> Any:
    """Return a server whose console is stored."""
    from django.contrib.auth.models import User

    from servers.models import Blueprint, Host, Server

    owner = User.objects.create_user("owner")
    blueprint = Blueprint.objects.create(name="coop", owner=owner)
    return Server.objects.create(name="alpha", owner=owner, host=Host.local(), blueprint=blueprint)


class Meter:
    """Counts time, the CPU time of this process and of its database, and what they write."""

    def __enter__(self) -> Self:
        self._before = self._read()
        return self

    def __exit__(self, *_: object) -> None:
        after = self._read()
        self.seconds, self.cpu_seconds, self.written = (
            now - then for now, then in zip(after, self._before, strict=True)
        )

    def _read(self) -> tuple[float, float, float]:
        """Return time, CPU time, and bytes: for PostgreSQL its WAL, for SQLite what it hands to the kernel."""
        from django.db import connection

        cpu_seconds = process_time()
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid(), pg_current_wal_lsn() - '0/0'::pg_lsn")
                pid, written = cursor.fetchone()
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            cpu_seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        else:
            text = Path("/proc/self/io").read_text()
            written = int(dict(line.split(": ") for line in text.splitlines())["wchar"])
        return perf_counter(), cpu_seconds, float(written)


def vacuum() -> None:
    """Bring everything into the tables' own files, and free what is unused."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("VACUUM FULL" if connection.vendor == "postgresql" else "VACUUM")
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def disk_bytes() -> int:
    """Return the size of the database."""
    from django.db import connection

    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_database_size(current_database())")
        else:
            cursor.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
        return int(cursor.fetchone()[0])


def milliseconds(act: Callable[[], object], times: int = 15) -> float:
    """Return how long it takes: the median of several runs."""
    taken = []
    for _ in range(times):
        began_at = perf_counter()
        act()
        taken.append(perf_counter() - began_at)
    return median(taken) * 1000


def print_table(engine: str, rows: list[dict[str, Any]]) -> None:
    """Print the results as a Markdown table, a row for each measure."""
    print(f"\n| {engine} | " + " | ".join(row["name"] for row in rows) + " |")
    print("| --- |" + " ---: |" * len(rows))
    for column, title in COLUMNS.items():
        cells = " | ".join(f"{row[column]:,.1f}" for row in rows)
        print(f"| {title} | {cells} |")


if __name__ == "__main__":
    main()
