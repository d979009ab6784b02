"""Measures the contenders on one database: `python -m tests.benchmarks.queue_measure` with its environment set.

Each result is printed as one line of JSON. `tests.benchmarks.queue` runs this and makes tables of it.
"""

import json
import os
import random
import signal
import statistics
import subprocess
import sys
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, monotonic_ns, sleep
from typing import IO, Any

import django
from django.core.management import call_command
from django.db import connection

from tests.benchmarks.queue_contenders import CONTENDERS, Contender
from tests.benchmarks.queue_marks import MARKS_VARIABLE, Marks
from tests.freezing import freeze

LOAD_PER_SECOND = 50
MOST_JOBS = 20_000


@dataclass
class Bench:
    """What all measurements share: the marks, and where a worker's output goes."""

    marks: Marks
    log: IO[bytes]
    next_key: int = 0

    def keys(self, count: int) -> range:
        """Return `count` keys that no job has had yet."""
        first = self.next_key
        self.next_key += count
        return range(first, first + count)


@contextmanager
def running(
    bench: Bench, contender: Contender, processes: int, threads: int
) -> Iterator[list[int]]:
    """Run the contender's workers; yields the process groups, each ready, one job done to warm up."""
    command = [sys.executable, "-m", "tests.benchmarks.queue_worker"]
    workers = [
        subprocess.Popen(
            [*command, contender.package, str(threads)],
            stdout=subprocess.PIPE,
            stderr=bench.log,
            start_new_session=True,
        )
        for _ in range(processes)
    ]
    try:
        for worker in workers:
            assert worker.stdout
            if worker.stdout.readline() != b"ready\n":
                raise RuntimeError(f"{contender.name}: its worker did not start, see the log")
        for key in bench.keys(4 * processes):
            time_to_start(bench, contender, key)
        yield [worker.pid for worker in workers]
    finally:
        for worker in workers:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
            assert worker.stdout
            worker.stdout.close()


def time_to_start(bench: Bench, contender: Contender, key: int) -> float:
    """Enqueue one job, wait until it runs; return the milliseconds between the two."""
    began_at = monotonic_ns()
    contender.enqueue(key)
    until = monotonic() + 30
    while monotonic() < until:
        for token, at in bench.marks.read(1.0):
            if token == contender.token(key) and at > began_at:
                return (at - began_at) / 1e6
    raise RuntimeError(f"{contender.name}: job {key} did not start within 30 s")


def measure_idle_latency(
    bench: Bench, contender: Contender, samples: int, seconds: float
) -> list[float]:
    """Enqueue jobs one at a time into an idle queue; return the latencies in milliseconds."""
    latencies = []
    until = monotonic() + seconds
    for key in bench.keys(samples):
        # A job that just ended leaves its worker awake, and a steady rhythm could coincide with that of a
        # poll.
        sleep(random.uniform(0.02, 0.06))
        latencies.append(time_to_start(bench, contender, key))
        if monotonic() > until:
            break
    return latencies


def measure_load_latency(bench: Bench, contender: Contender, seconds: float) -> list[float]:
    """Enqueue `LOAD_PER_SECOND` jobs a second at random moments; return the latencies in milliseconds."""
    keys = bench.keys(int(LOAD_PER_SECOND * seconds))
    enqueued: dict[str, deque[int]] = defaultdict(deque)
    latencies: list[float] = []

    def collect(timeout: float) -> None:
        for token, at in bench.marks.read(timeout):
            if enqueued[token]:
                latencies.append((at - enqueued[token].popleft()) / 1e6)

    due_at = monotonic()
    for key in keys:
        due_at += random.expovariate(LOAD_PER_SECOND)
        while (left := due_at - monotonic()) > 0:
            collect(left)
        enqueued[contender.token(key)].append(monotonic_ns())
        contender.enqueue(key)
        collect(0)
    until = monotonic() + 60
    while len(latencies) < len(keys):
        if monotonic() > until:
            raise RuntimeError(f"{contender.name}: {len(latencies)} of {len(keys)} jobs ran")
        collect(1.0)
    return latencies


def measure_rate(bench: Bench, contender: Contender, groups: list[int]) -> float:
    """Return jobs a second, over at least a second: with few jobs, most of it would be workers starting up."""
    rate = measure_throughput(bench, contender, groups, contender.burst)
    if rate <= contender.burst:
        return rate
    return measure_throughput(bench, contender, groups, min(int(1.5 * rate), MOST_JOBS))


def measure_throughput(bench: Bench, contender: Contender, groups: list[int], count: int) -> float:
    """Return the rate, in jobs a second, at which `count` waiting jobs are run.

    The workers are frozen while the jobs are enqueued, so that all begin with a full queue.
    """
    freeze(*processes_of(groups))
    contender.enqueue_many(bench.keys(count))
    began_at = monotonic_ns()
    for group in groups:
        os.killpg(group, signal.SIGCONT)
    times: list[int] = []
    until = monotonic() + 120
    while len(times) < count:
        times += [at for _, at in bench.marks.read(1.0)]
        if monotonic() > until:
            raise RuntimeError(f"{contender.name}: {len(times)} of {count} jobs ran within 120 s")
    return count / ((max(times) - began_at) / 1e9)


def percentile(values: list[float], percent: int) -> float:
    """Return the value below which `percent` percent lie."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def processes_of(groups: list[int]) -> list[int]:
    """Return the ids of the processes in process groups."""
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if group_of(pid) in groups]


def group_of(pid: int) -> int | None:
    """Return the process group of a process; None if it has ended."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def memory_of(groups: list[int]) -> float:
    """Return the MiB of the process groups: private pages, and for each shared page its share (PSS)."""
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in processes_of(groups)]
    return sum(int(rollup.partition("\nPss:")[2].split()[0]) for rollup in rollups) / 1024


def measure_claims(count: int) -> float:
    """Return the median milliseconds of a claim, over `count` claims; each job is finished again."""
    from jobs.queue.liveness import register_worker
    from jobs.queue.transitions import claim_next_job, finish_job
    from servers.models import Host

    worker = register_worker(Host.local(), concurrency=4, is_claiming=True)
    times = []
    for _ in range(count):
        began_at = monotonic_ns()
        job = claim_next_job(worker)
        times.append((monotonic_ns() - began_at) / 1e6)
        if job is None:
            raise RuntimeError("There was nothing to claim.")
        finish_job(job, exit_code=0)
    return statistics.median(times)


def measure_claim_cost(bench: Bench, contender: Contender, queued: int, finished: int) -> None:
    """Print what a claim costs with few rows, with a tenth of the requested number, and with all of it."""
    from jobs.queue.transitions import recover_stale_jobs
    from servers.models import Server
    from tests.fire.crowd import fill_jobs

    recover_stale_jobs()  # Those that workers were running when killed, after the last mark.
    contender.enqueue_many(bench.keys(300))
    settle()
    say(contender, "claim_ms_small", measure_claims(300))
    servers = list(Server.objects.order_by("pk"))
    for what, share in (("tenth", 0.1), ("full", 0.9)):
        fill_jobs(servers, queued=int(queued * share), finished=int(finished * share))
        settle()
        say(contender, f"claim_ms_{what}", measure_claims(300))


def settle() -> None:
    """Let the database do now what it would do in the background after so many new rows."""
    statements = {
        "sqlite": ("PRAGMA wal_checkpoint(TRUNCATE)",),
        "postgresql": ("VACUUM ANALYZE jobs_job", "CHECKPOINT"),
    }
    with connection.cursor() as cursor:
        for statement in statements[connection.vendor]:
            cursor.execute(statement)


def say(contender: Contender, what: str, value: float) -> None:
    """Print one result."""
    result = {"contender": contender.name, "what": what, "value": value}
    print(json.dumps(result), flush=True)


def measure(bench: Bench, contender: Contender, options: dict[str, Any]) -> None:
    """Measure one contender."""
    contender.prepare()
    with running(bench, contender, 1, 4) as groups:
        say(contender, "memory_mib", memory_of(groups))
        idle = measure_idle_latency(bench, contender, options["samples"], options["seconds"])
        load = measure_load_latency(bench, contender, options["seconds"])
    for name, latencies in (("idle", idle), ("load", load)):
        say(contender, f"{name}_median_ms", statistics.median(latencies))
        say(contender, f"{name}_p99_ms", percentile(latencies, 99))
    for processes, threads in options["layouts"]:
        if threads > 1 and not contender.has_threads:
            continue
        with running(bench, contender, processes, threads) as groups:
            rate = measure_rate(bench, contender, groups)
        say(contender, f"{processes}x{threads}_per_second", rate)


def main() -> None:
    """Measure those that the options name."""
    options: dict[str, Any] = json.loads(sys.argv[1])
    django.setup()
    call_command("migrate", verbosity=0)
    scratch = Path(options["scratch"])
    os.environ[MARKS_VARIABLE] = str(scratch / "marks")
    with (scratch / "workers.log").open("wb") as log:
        bench = Bench(Marks(scratch / "marks"), log)
        for package in options["contenders"]:
            contender = CONTENDERS[package]
            if connection.vendor not in contender.engines:
                continue
            try:
                measure(bench, contender, options)
            except RuntimeError as error:
                print(
                    f"{contender.name} on {connection.vendor}: {error}", file=sys.stderr, flush=True
                )
        if options["finished"]:
            ours = CONTENDERS["saferoom"]
            measure_claim_cost(bench, ours, options["queued"], options["finished"])


if __name__ == "__main__":
    main()
