"""`script/bench lists`: what the lists of servers and of jobs cost with a thousand servers and a million jobs.

Each page is requested in this process, through the middleware, the view and its templates, by a person who
has all the servers. CPU time is measured, because the machine may be busy; on SQLite it includes the
database's.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.streams import NO_LIMITS, Row, note, print_table

PAGES = {
    "servers": "/servers/",
    "servers, the last page by people": "/servers/?sort=people&page=999",
    "servers that run, of a search": "/servers/?q=coop&state=running",
    "servers with a tag": "/servers/?tag=eu",
    "jobs": "/jobs/",
    "jobs that failed": "/jobs/?state=failed",
}


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="script/bench lists", description=__doc__)
    parser.add_argument("--servers", type=int, default=1_000)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="saferoom-bench-") as folder:
        os.environ.update(NO_LIMITS, DJANGO_SETTINGS_MODULE="tests.settings")
        os.environ.setdefault("DATABASE_URL", f"sqlite:///{Path(folder) / 'bench.sqlite3'}")
        import django

        django.setup()
        browser = make_fleet(options.servers, options.jobs)
        rows = [note(measure(browser, name, url, options.rounds)) for name, url in PAGES.items()]
    print_table("Lists", rows)


def make_fleet(servers: int, jobs: int) -> Any:
    """Store the servers and jobs; return a client in which their owner is signed in."""
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.test import Client
    from django.utils import timezone

    from jobs.queue.liveness import register_worker
    from servers.models import Blueprint, Host, Server, ServerTag
    from tests.fire.crowd import fill_jobs

    call_command("migrate", verbosity=0)
    owner = User.objects.create_user("bench")
    host = Host.local()
    Host.objects.update(build_id="200", reported_at=timezone.now())
    register_worker(host, concurrency=4, is_claiming=True)
    blueprint = Blueprint.objects.create(
        name="coop", owner=owner, arguments="+map c5m1_waterfront", config="sv_lan 0\n" * 50
    )
    states = ("running", "running", "running", "stopped", "crashed")
    Server.objects.bulk_create(
        Server(
            name=f"server-{number}",
            owner=owner,
            host=host,
            blueprint=blueprint,
            port=20_000 + number,
            actual_state=states[number % 5],
            actual_state_at=timezone.now(),
            desired_state="running",
            players=number % 9,
            max_players=8,
            map="c5m1_waterfront",
            running_build_id="100" if number % 3 else "200",
        )
        for number in range(servers)
    )
    rows = list(Server.objects.order_by("pk"))
    ServerTag.objects.bulk_create(
        ServerTag(server=server, name=name)
        for number, server in enumerate(rows)
        for name in ("eu" if number % 2 else "us", f"team-{number % 20}")
    )
    fill_jobs(rows, queued=min(10, jobs), finished=jobs)
    client = Client(headers={"host": "localhost"})
    client.force_login(owner)
    return client


def measure(browser: Any, name: str, url: str, rounds: int) -> Row:
    """Request a page this many times; return the time, the queries and the bytes."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as queries:
        page = browser.get(url)
    query_count = len(queries)  # The next request clears what was captured.
    assert page.status_code == 200, page.status_code
    times, spent = [], []
    for _ in range(rounds):
        began, cpu = time.perf_counter(), time.process_time()
        browser.get(url)
        times.append(time.perf_counter() - began)
        spent.append(time.process_time() - cpu)
    return {
        "page": name,
        "CPU ms, median": round(statistics.median(spent) * 1_000, 1),
        "least": round(min(spent) * 1_000, 1),
        "wall ms, median": round(statistics.median(times) * 1_000, 1),
        "queries": query_count,
        "KiB": round(len(page.content) / 1_024),
    }


if __name__ == "__main__":
    main()
