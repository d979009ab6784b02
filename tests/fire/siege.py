"""The course of a chaos run: requests and faults together, then peace, then the verdict."""

import random
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import TypeVar

from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import Error, connection

from hostops.host import Host as HostLayer
from jobs.database import find_database_file, is_away
from jobs.models import Job, Operation
from jobs.queue.requests import enqueue
from jobs.queue.transitions import cancel
from servers.models import Blueprint, Host, Server
from tests.fire.chaos import Options, Stage
from tests.fire.faults import LEASE_SECONDS, Crew, PostgresFaults, Spell, SQLiteFaults, Trouble
from tests.fire.verdict import Verdict, judge
from tests.ports import find_free_ports

T = TypeVar("T")

OPERATIONS = {
    Operation.INITIALIZE: 45,
    Operation.STOP: 20,
    Operation.DELETE: 15,
    Operation.START: 8,
    Operation.RESTART: 5,
    Operation.INSTALL: 1,
}
"""How often each operation is requested: mostly the cheap ones, so that there can be many."""

SERVERS_PER_HOST = 12
LONG_JOBS = 1000
"""From this many jobs on a run is a long one, in which the database may be frozen for longer than a lease."""

SHORT_SECONDS = 2.0
LOCKED_OUT_SECONDS = 24.0
"""Longer than a connection to SQLite waits for its lock."""

BACKLOG = 60
"""How many jobs wait at a time: enough for every rule of the scheduler to matter."""


@dataclass
class Requests:
    """Enqueues and cancels, as pages would, however often the database is away."""

    servers: list[Server]
    enqueued: list[int] = field(default_factory=list)
    refused: int = 0
    cancels: int = 0

    def attempt(self, act: Callable[[], T]) -> T | None:
        """Return what `act` returns, or None if the database failed."""
        try:
            return act()
        except Error as error:
            if not is_away(error):
                raise
            self.refused += 1
            connection.close()
            return None

    def enqueue(self) -> None:
        """Request any operation of any server."""
        server = random.choice(self.servers)
        (operation,) = random.choices(list(OPERATIONS), list(OPERATIONS.values()))
        subject = None if operation == Operation.INSTALL else server
        job = self.attempt(
            partial(enqueue, operation, server=subject, host=server.host, requested_by=server.owner)
        )
        if job:
            self.enqueued.append(job.pk)

    def cancel(self) -> None:
        """Ask any unfinished job to end."""
        active = self.attempt(lambda: list(Job.objects.active()))
        if active and self.attempt(partial(cancel, random.choice(active))):
            self.cancels += 1


def lay_siege(options: Options, stage: Stage) -> bool:
    """Run it, print the report, and return whether the verdict is clean."""
    call_command("migrate", verbosity=0)
    requests = Requests(make_servers(list(stage.environments)))
    with ExitStack() as stack:
        log = stack.enter_context((options.scratch / "workers.log").open("ab"))
        crew = Crew(stage.environments, log)
        stack.callback(stop_games, stage)
        stack.callback(crew.dismiss)
        began_at = monotonic()
        trouble = disturb(options, stage, crew, requests)
        disturbed_until = monotonic()
        wait_for_the_end(options, crew, requests)
        ended_at = monotonic()
    verdict = judge(requests.enqueued, options.scratch / "journal", crew.deaths, crew.unexpected)
    rows = [
        ("database", connection.vendor),
        ("jobs enqueued", str(len(requests.enqueued))),
        ("hosts, worker processes", f"{options.hosts}, {options.workers}"),
        ("workers started in all", str(crew.started)),
        ("  of them without a database, and said so", str(crew.unstarted)),
        ("seconds under fire", f"{disturbed_until - began_at:.0f}"),
        ("seconds until the last job was over", f"{ended_at - disturbed_until:.1f}"),
        *((name, str(count)) for name, count in sorted(trouble.done.items())),
        ("cancel requests", str(requests.cancels)),
        ("requests that the database failed", str(requests.refused)),
    ]
    print_report(rows, verdict)
    return verdict.is_clean


def make_servers(hosts: list[str]) -> list[Server]:
    """Make the hosts' rows, and their servers."""
    owner = User.objects.create_user("chaos")
    blueprint = Blueprint.objects.create(name="chaos", owner=owner, arguments="+map c1m1_hotel")
    ports = iter(find_free_ports(len(hosts) * SERVERS_PER_HOST))
    return [
        Server.objects.create(
            name=f"{name}-s{number:02}",
            owner=owner,
            host=Host.objects.get_or_create(name=name)[0],
            port=next(ports),
            blueprint=blueprint,
        )
        for name in hosts
        for number in range(SERVERS_PER_HOST)
    ]


def disturb(options: Options, stage: Stage, crew: Crew, requests: Requests) -> Trouble:
    """Install the game in peace; then keep jobs waiting and faults coming until everything is enqueued."""
    hosts = list(stage.environments)
    for host in hosts:
        install = enqueue(Operation.INSTALL, host=Host.objects.get(name=host), requested_by=None)
        requests.enqueued.append(install.pk)
    for number in range(options.workers):
        crew.hire(hosts[number % len(hosts)])
    wait_for_the_end(options, crew, requests)
    spells: list[Spell] = []
    trouble = Trouble(
        options.faults_per_minute,
        choose_faults(stage, crew, spells, is_long=options.jobs >= LONG_JOBS),
    )
    while len(requests.enqueued) < options.jobs:
        waiting = requests.attempt(Job.objects.queued().count)
        if waiting is not None and waiting < BACKLOG:
            for _ in range(min(10, options.jobs - len(requests.enqueued))):
                requests.enqueue()
        if random.random() < 0.1:
            requests.cancel()
        trouble.make_if_due()
        crew.tend()
        if stage.disk:
            stage.disk.tend()
        sleep(0.02)
    for spell in spells:
        spell.wait()
    if stage.disk:
        stage.disk.relieve()
    return trouble


def choose_faults(
    stage: Stage, crew: Crew, spells: list[Spell], *, is_long: bool
) -> dict[str, tuple[float, Callable[[], bool]]]:
    """Return the possible faults with their frequency; add to `spells` what has to end before peace begins."""
    faults: dict[str, tuple[float, Callable[[], bool]]] = {
        "kill -9 of a worker": (4, crew.kill),
        "worker frozen beyond its lease": (2, crew.freeze),
    }
    if stage.postgres:
        longest_seconds = 2 * LEASE_SECONDS if is_long else SHORT_SECONDS
        postgres = PostgresFaults(stage.postgres, stage.database_url, longest_seconds)
        faults["connections dropped"] = (4, postgres.drop_connections)
        faults["database restarted"] = (1, postgres.restart)
        faults["database crashed"] = (1, postgres.crash)
        faults["database failed over to its standby"] = (2, postgres.fail_over)
        faults["database frozen"] = (1, postgres.freeze)
        faults["database read-only"] = (2, postgres.make_read_only)
        faults["no connection left"] = (1, postgres.take_all_connections)
        spells.append(postgres.spell)
    if path := find_database_file():
        # A long run shows what happens when everything has waited as long as it ever will.
        longest_seconds = LOCKED_OUT_SECONDS if is_long else SHORT_SECONDS
        sqlite = SQLiteFaults(path, longest_seconds)
        faults["database locked by another"] = (1, sqlite.lock)
        if sqlite.can_make_read_only():
            faults["database read-only"] = (2, sqlite.make_read_only)
        else:
            print("No read-only database: chattr(1) cannot be used here.")
        spells.append(sqlite.spell)
    if stage.disk:
        faults["disk full"] = (2, stage.disk.fill)
    return faults


def wait_for_the_end(options: Options, crew: Crew, requests: Requests) -> None:
    """Wait, in peace, until no job waits or runs, or patience runs out."""
    until = monotonic() + options.patience_seconds
    while requests.attempt(Job.objects.active().exists) is not False and monotonic() < until:
        crew.tend()
        sleep(0.05)


def stop_games(stage: Stage) -> None:
    """Leave no game server behind."""
    for environment in stage.environments.values():
        layer = HostLayer(Path(environment["HOST_ROOT"]), game_source="simulator")
        for name in layer.statuses():
            layer.delete(name)


def print_report(rows: list[tuple[str, str]], verdict: Verdict) -> None:
    """Print the table."""
    rows = [*rows, *verdict.rows()]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    print("All is well." if verdict.is_clean else "NOT ALL IS WELL.", flush=True)
