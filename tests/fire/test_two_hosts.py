"""Two hosts, each a machine in a network of its own, and one PostgreSQL between them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, LiteralString

import psycopg
import pytest

from jobs.queue.transitions import WORKER_STOPPED
from tests.endtoend.panel import PROJECT_DIR
from tests.fire.networks import Machine, ip, own_network
from tests.fire.postgres import Postgres
from tests.waiting import wait_until

pytestmark = pytest.mark.machines

MANAGE = [sys.executable, str(PROJECT_DIR / "manage.py")]
DESK = """
import json, sys
import django
django.setup()
from django.core.management import call_command
from jobs.queue.requests import enqueue
from servers.models import Host, Server
for line in sys.stdin:
    exec(json.loads(line))
    print("done", flush=True)
"""
"""Stands in for the pages, beside the database: carries out each program that it receives as a line."""

PREPARE = """
call_command("migrate", verbosity=0)
from django.contrib.auth.models import User
from servers.models import Blueprint
owner = User.objects.create_user("alice")
blueprint = Blueprint.objects.create(name="coop", owner=owner)
for name in ("east", "west"):
    host = Host.objects.create(name=name)
    Server.objects.create(name=f"of-{name}", owner=owner, host=host, blueprint=blueprint)
"""


@dataclass
class TwoHosts:
    """The hosts `east` and `west`, their workers, and the database as a test reads it."""

    postgres: Postgres
    machines: dict[str, Machine]
    root: Path
    _desk: "subprocess.Popen[str] | None" = None

    def environment(self, name: str | None = None) -> dict[str, str]:
        """Return the environment of a process on a host, or of one beside the database."""
        address = self.machines[name].gateway if name else None
        return os.environ | {
            "DJANGO_SETTINGS_MODULE": "l4d2site.settings",
            "DATABASE_URL": self.postgres.url(address=address),
            "HOST_ROOT": str(self.root / (name or "nowhere")),
            "VAR_DIR": str(self.root / "var"),
            "JOB_WORKER_LEASE_SECONDS": "5",
        }

    def carry_out(self, program: str) -> None:
        """Carry out a program of Django's beside the database, in one process for all of them."""
        if self._desk is None:
            self._desk = subprocess.Popen(
                [sys.executable, "-c", DESK],
                cwd=PROJECT_DIR,
                env=self.environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._desk.stdin is not None
        assert self._desk.stdout is not None
        self._desk.stdin.write(f"{json.dumps(program)}\n")
        self._desk.stdin.flush()
        assert self._desk.stdout.readline() == "done\n"

    def close(self) -> None:
        """End the process beside the database."""
        if self._desk:
            self._desk.communicate()

    def start_worker(self, name: str) -> "subprocess.Popen[bytes]":
        """Start the worker of a host on its machine."""
        command = [*MANAGE, "runjobs", "--host", name]
        with (self.root / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                self.machines[name].command(command),
                env=self.environment(name),
                stdout=log,
                stderr=log,
            )

    def query(self, sql: LiteralString) -> list[tuple[Any, ...]]:
        """Query the database through its socket."""
        with psycopg.connect(self.postgres.url()) as link:
            return link.execute(sql).fetchall()

    def enqueue(self, operation: str, host: str, server: str | None = None) -> int:
        """Enqueue a job, as a page does; return its id."""
        of_server = f"Server.objects.get(name={server!r})" if server else "None"
        self.carry_out(
            f"enqueue({operation!r}, server={of_server}, host=Host.objects.get(name={host!r}),"
            " requested_by=None)"
        )
        return int(self.query("SELECT max(id) FROM jobs_job")[0][0])

    def enqueue_installs(self) -> list[int]:
        """Enqueue an install of each host at the same moment; return their ids."""
        self.carry_out(
            "for host in Host.objects.all():\n    enqueue('install', host=host, requested_by=None)"
        )
        return [job_id for (job_id,) in self.query("SELECT id FROM jobs_job ORDER BY id")]

    def wait_for_job(self, job_id: int, *states: str, seconds: float = 60) -> None:
        """Wait until a job is in one of the states."""

        def is_there() -> bool:
            return self.query(f"SELECT state FROM jobs_job WHERE id = {job_id}")[0][0] in states

        try:
            wait_until(is_there, seconds, f"job {job_id} is not {states}")
        except AssertionError as error:
            rows = self.query(
                "SELECT id, operation, host_name, state, error FROM jobs_job ORDER BY id"
            )
            raise AssertionError(f"{error}\n{rows}") from None


@pytest.fixture
def machines() -> Iterator[TwoHosts]:
    """Return two hosts without anything that runs on them, and an empty database between them."""
    with ExitStack() as stack:
        # Not in pytest's folder: PostgreSQL runs as another user, and has to get through.
        root = Path(stack.enter_context(TemporaryDirectory(prefix="saferoom-hosts-")))
        root.chmod(0o755)
        stack.enter_context(own_network())
        machines = {}
        for number, name in enumerate(("east", "west"), start=1):
            machines[name] = Machine(number)
            stack.callback(machines[name].remove)
            stack.callback(machines[name].plug_cable)
        gateways = [machine.gateway for machine in machines.values()]
        postgres = Postgres(root / "postgres", fsync=False, addresses=gateways)
        postgres.start()
        stack.callback(postgres.stop, "immediate")
        yield TwoHosts(postgres, machines, root)


@pytest.fixture
def hosts(machines: TwoHosts) -> Iterator[TwoHosts]:
    """Return two hosts with their workers running."""
    hosts = machines
    with ExitStack() as stack:
        stack.callback(hosts.close)
        hosts.carry_out(PREPARE)
        for name in hosts.machines:
            (hosts.root / name).mkdir()
            (hosts.root / name / "simulator.json").write_text(
                '{"steamcmd": {"seconds": 3}, "srcds": {"start_seconds": 0}}'
            )
            worker = hosts.start_worker(name)
            stack.callback(worker.wait, 30)
            stack.callback(worker.kill)
        wait_until(
            lambda: hosts.query("SELECT count(*) FROM jobs_worker")[0][0] == 2, 30, "no workers"
        )
        yield hosts


def test_each_host_does_its_own_jobs_and_they_do_not_wait_for_each_other(hosts: TwoHosts) -> None:
    installs = hosts.enqueue_installs()
    for job_id in installs:
        hosts.wait_for_job(job_id, "succeeded")
    ((begin, end),) = hosts.query("SELECT max(started_at), min(finished_at) FROM jobs_job")
    assert begin < end, "the installs did not run at one time"
    jobs = [
        hosts.enqueue(operation, name, f"of-{name}")
        for operation in ("start", "stop", "delete")
        for name in hosts.machines
    ]
    for job_id in jobs:
        hosts.wait_for_job(job_id, "succeeded")
    strays = hosts.query(
        "SELECT j.id FROM jobs_job j JOIN jobs_worker w ON w.id = j.worker_id"
        " WHERE w.host_id <> j.host_id"
    )
    assert strays == []
    assert (hosts.root / "east/current/srcds_run").exists()
    assert (hosts.root / "west/current/srcds_run").exists()


def test_a_host_that_is_cut_off_is_recovered_by_the_other_and_comes_back(hosts: TwoHosts) -> None:
    simulator = hosts.root / "west/simulator.json"
    simulator.write_text('{"steamcmd": {"seconds": 600}}')
    lost = hosts.enqueue("install", "west")
    hosts.wait_for_job(lost, "running")
    hosts.machines["west"].pull_cable()
    hosts.wait_for_job(lost, "failed", seconds=30)
    ((error,),) = hosts.query(f"SELECT error FROM jobs_job WHERE id = {lost}")
    assert error == WORKER_STOPPED

    simulator.write_text('{"steamcmd": {"seconds": 0}}')
    waiting = hosts.enqueue("install", "west")
    hosts.machines["west"].plug_cable()
    hosts.wait_for_job(waiting, "succeeded", seconds=120)
    ((state, still),) = hosts.query(f"SELECT state, error FROM jobs_job WHERE id = {lost}")
    assert (state, still) == ("failed", error)


def test_a_machine_that_cannot_be_connected_leaves_no_namespace() -> None:
    with own_network():
        ip("link", "add", "cable9", "type", "veth", "peer", "name", "taken")
        with pytest.raises(subprocess.CalledProcessError):
            Machine(9)
    done = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True)
    assert f"saferoom-{os.getpid()}-9" not in done.stdout


HOLD_A_LOCK = """
import time
from django.db import connection, transaction
from l4d2site.backups.database_dumps.postgresql import notice_lost_client
with transaction.atomic(), connection.cursor() as cursor:
    notice_lost_client()
    cursor.execute("SET idle_in_transaction_session_timeout = 0")
    cursor.execute("LOCK TABLE held")
    print("locked", flush=True)
    time.sleep(600)
"""


def test_a_lost_machine_keeps_no_lock_although_a_restore_there_may_pause(
    machines: TwoHosts,
) -> None:
    with psycopg.connect(machines.postgres.url()) as link:
        link.execute("CREATE TABLE held ()")
    west = machines.machines["west"]
    command = west.command([*MANAGE, "shell", "-c", HOLD_A_LOCK])
    with subprocess.Popen(
        command, env=machines.environment("west"), stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert b"locked\n" in iter(holder.stdout.readline, b"")
        west.pull_cable()
        try:
            wait_until(
                lambda: (
                    not machines.query("SELECT 1 FROM pg_locks WHERE relation = 'held'::regclass")
                ),
                30,
                "the table is locked",
            )
        finally:
            holder.kill()
