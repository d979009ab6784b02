"""`script/bench streams`: what it costs to store lines and to show them to many, and what other ways cost.

A `LogWriter` in this process writes the lines, as a worker does; the product's web server runs in another,
the watchers in a third, all on the same machine. django-eventstream's lines are sent inside the web process,
because without Redis it reaches no further.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.ports import find_free_port
from tests.waiting import wait_until

PROJECT_DIR = Path(__file__).resolve().parent.parent.parent
LINE = "[ 42%] Downloading update (123,456 of 9,876,543 KB) addons/maps/campaign.vpk"
KINDS = ("ours", "naive", "django-eventstream")
LATENCY_LINES = 300
LATENCY_SECONDS = 0.1

Row = dict[str, Any]
NO_LIMITS = dict.fromkeys(
    ("CONNECTIONS_PER_ADDRESS", "STREAMS_PER_ADDRESS", "STREAMS_PER_PERSON"), "100000"
)
"""All watchers of the benchmarks are one person at one address."""


class Web:
    """The product's web server, with the other ways to stream in it."""

    def __init__(self) -> None:
        self.port = find_free_port()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "--config", "deploy/gunicorn.conf.py"),
                *("--log-level", "error", "l4d2site.asgi:application"),
            ],
            cwd=PROJECT_DIR,
            env={**os.environ, "PORT": str(self.port)},
        )
        wait_until(self._answers, 30, "the web server does not answer")

    def _answers(self) -> bool:
        try:
            return bool(self.stats())
        except OSError:
            return False

    def stats(self) -> dict[str, float]:
        """Return what the web process has used so far."""
        url = f"http://localhost:{self.port}/bench/stats"
        with urllib.request.urlopen(url, timeout=60) as response:
            stats: dict[str, float] = json.load(response)
            return stats

    def send(self, line: str) -> None:
        """Have a line sent by django-eventstream."""
        data = json.dumps({"line": line}).encode()
        url = f"http://localhost:{self.port}/bench/send"
        urllib.request.urlopen(url, data, timeout=60).close()

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(30)


@contextmanager
def running_web() -> Iterator[Web]:
    """Start the web server, and end it whatever happens."""
    web = Web()
    try:
        yield web
    finally:
        web.stop()


class Watchers:
    """Watchers of `path`, in a separate process."""

    def __init__(self, web: Web, path: str, cookie: str, count: int) -> None:
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.benchmarks.streams_watchers"),
                *(str(web.port), path, cookie, str(count)),
            ],
            cwd=PROJECT_DIR,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()

    def report(self) -> dict[str, float]:
        """Return what the watchers have seen since the last report."""
        assert self._process.stdin
        self._process.stdin.write("report\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, float]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the watchers could not all connect")
        answer: dict[str, float] = json.loads(line)
        return answer

    def close(self) -> None:
        """End them all at once, like a crowd closing its windows."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()


@contextmanager
def watchers_of(web: Web, path: str, cookie: str, count: int) -> Iterator[Watchers | None]:
    """Connect this many watchers, and disconnect them at the end."""
    watchers = Watchers(web, path, cookie, count) if count else None
    try:
        yield watchers
    finally:
        if watchers:
            watchers.close()


@contextmanager
def running_job() -> Iterator[tuple[Any, Callable[[str], None]]]:
    """Yield a job that runs for this process, and a function that stores a line of it."""
    from django.db import connection
    from django.utils import timezone

    from jobs.claimed_jobs import ClaimedJob
    from jobs.models import Job, JobState, Worker
    from servers.models import Host
    from tests.jobs.logs.storing import storing

    now = timezone.now()
    worker, _ = Worker.objects.get_or_create(
        host=Host.local(),
        pid=os.getpid(),
        defaults={
            "process_started": 1,
            "concurrency": 1,
            "started_at": now,
            "heartbeat_at": now,
        },
    )
    job = Job.objects.create(operation="initialize", state=JobState.RUNNING, worker=worker)
    claimed = ClaimedJob.of(job)
    connection.close()
    try:
        with storing(lambda job: sys.exit(f"job {job.pk} was taken away")) as thread:
            yield job, lambda line: thread.writer.line(claimed, "stdout", line)
    finally:
        Job.objects.filter(pk=job.pk).update(state=JobState.SUCCEEDED)


def stored_lines(job: Any) -> int:
    """Return how many lines of the job are in the database."""
    from django.db import connection

    count: int = job.last_seq()
    connection.close()
    return count


def measure_storing(web: Web, cookie: str, count: int, lines: int) -> Row:
    """Store lines at full speed while this many watch, and wait until they have seen them all."""
    with (
        running_job() as (job, write),
        watchers_of(web, f"/jobs/{job.pk}/events", cookie, count) as watchers,
    ):
        own_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        before, began, cpu_began = web.stats(), time.monotonic(), time.process_time()
        for number in range(lines):
            write(f"{LINE} {number}")
        wait_until(lambda: stored_lines(job) == lines, 600, "not everything is stored")
        stored_seconds, cpu_seconds = time.monotonic() - began, time.process_time() - cpu_began
        seen_seconds = 0.0
        if watchers:
            wait_until(lambda: watchers.report()["fewest"] >= lines, 600, "not all have seen it")
            seen_seconds = time.monotonic() - began
        after = web.stats()
        return {
            "watchers": count,
            "lines": lines,
            "lines/s stored": round(lines / stored_seconds),
            "writer's CPU µs/line": round(cpu_seconds / lines * 1e6, 1),
            "all seen after s": round(seen_seconds, 1),
            "reads": round(after["queries"] - before["queries"]),
            "web MiB": round(after["memory_kib"] / 1024),
            "writer grew MiB": round(
                (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - own_before) / 1024
            ),
        }


def measure_latency(web: Web, cookie: str, kind: str, count: int) -> Row:
    """Write a few lines a second; return when watchers saw them, and what it cost."""
    with running_job() as (job, write):
        paths = {
            "ours": f"/jobs/{job.pk}/events",
            "naive": f"/bench/naive/{job.pk}",
            "django-eventstream": "/bench/eventstream/",
        }
        send = web.send if kind == "django-eventstream" else write
        idle = web.stats()
        try:
            with watchers_of(web, paths[kind], cookie, count) as watchers:
                assert watchers
                joined = web.stats()
                send(f"T={time.time():.6f} the first")
                wait_until(lambda: watchers.report()["seen"], 60, "nothing is seen")
                watchers.report()
                before, began = web.stats(), time.monotonic()
                for number in range(LATENCY_LINES):
                    send(f"T={time.time():.6f} {LINE} {number}")
                    time.sleep(LATENCY_SECONDS)
                seconds = time.monotonic() - began
                time.sleep(2)
                after, seen = web.stats(), watchers.report()
        except (RuntimeError, OSError, AssertionError) as error:
            return {"way": kind, "watchers": count, "fails": str(error)[:60]}
        expected = LATENCY_LINES * count
        return {
            "way": kind,
            "watchers": count,
            "median ms": round(seen["median"] * 1000, 1),
            "p99 ms": round(seen["p99"] * 1000, 1),
            "seen": f"{min(seen['seen'] / expected, 1):.0%}",
            "reads/s": round((after["queries"] - before["queries"]) / (seconds + 2), 1),
            "web CPU": f"{(after['cpu_seconds'] - before['cpu_seconds']) / (seconds + 2):.0%}",
            "KiB/watcher": round((joined["memory_kib"] - idle["memory_kib"]) / count),
            "threads": round(joined["threads"]),
        }


def note(row: Row) -> Row:
    """Print a row as soon as it is measured; return it."""
    print(*(f"{name}: {value}" for name, value in row.items()), sep=", ", file=sys.stderr)
    return row


def print_table(title: str, rows: list[Row]) -> None:
    """Print rows as a Markdown table."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    print(f"\n{title}\n\n| {' | '.join(names)} |\n|{' --- |' * len(names)}")
    for row in rows:
        print(f"| {' | '.join(str(row.get(name, '')) for name in names)} |")
    sys.stdout.flush()


def prepare() -> str:
    """Make the tables and an admin; return the cookie of a session of theirs."""
    import django

    django.setup()
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.db import connection
    from django.test import Client

    call_command("migrate", verbosity=0)
    admin, _ = User.objects.get_or_create(username="bench", is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(admin)
    connection.close()
    return f"sessionid={client.cookies['sessionid'].value}"


def main() -> None:
    """Measure everything, and print the tables."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("parts", nargs="*", default=["storing", "seeing"])
    parser.add_argument("--watchers", type=int, nargs="+", default=[1, 100, 2000])
    parser.add_argument("--lines", type=int, default=300_000)
    parser.add_argument("--flood", type=int, default=1_000_000, help="lines stored in one go")
    parser.add_argument("--crowd-lines", type=int, default=50_000, help="lines seen by the most")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="what to see by")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # So that nothing is left behind.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory(prefix="saferoom-bench-") as folder:
        os.environ.update(
            DJANGO_SETTINGS_MODULE="tests.benchmarks.streams_settings",
            SECRET_KEY="only-for-this-benchmark",
            VAR_DIR=folder,
            **NO_LIMITS,
        )
        os.environ.setdefault("DATABASE_URL", f"sqlite:///{folder}/bench.sqlite3")
        cookie = prepare()
        database = os.environ["DATABASE_URL"].split(":")[0]
        if "storing" in options.parts:
            loads = [(0, options.flood)] * bool(options.flood)
            loads += [(count, options.lines) for count in (0, 1, 100)]
            loads.append((max(options.watchers), options.crowd_lines))
            with running_web() as web:
                rows = [note(measure_storing(web, cookie, *load)) for load in loads]
            print_table(f"Storing, {database}", rows)
        if "seeing" in options.parts:
            rows = []
            for kind in options.kinds:
                for count in options.watchers:
                    # A fresh process, so that its memory is that of these watchers.
                    with running_web() as web:
                        rows.append(note(measure_latency(web, cookie, kind, count)))
            print_table(f"Seeing, 10 lines a second, {database}", rows)


if __name__ == "__main__":
    main()
