"""The queues that are compared. Each has a way to enqueue a no-op job, and to run its worker."""

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction

from tests.benchmarks.queue_marks import mark

SERVERS = 200
"""How many servers share the jobs of Saferoom, whose jobs of one server never overlap."""


def say_ready() -> None:
    """Tell the benchmark that this worker claims from now on."""
    print("ready", flush=True)


class Contender(ABC):
    """One queue. `enqueue` and `enqueue_many` run in the benchmark, `work` in the worker's process."""

    name: ClassVar[str]
    package: ClassVar[str]
    engines: ClassVar[tuple[str, ...]] = ("sqlite", "postgresql")
    has_threads: ClassVar[bool] = True
    burst: ClassVar[int] = 1000
    """How many jobs a throughput measurement takes, unless they are done within a second."""

    def prepare(self) -> None:  # noqa: B027 - most need nothing
        """Make what it needs in the database, beyond the migrations."""

    def token(self, key: int) -> str:
        """Return what the job `key` writes as its mark."""
        return str(key)

    @abstractmethod
    def enqueue(self, key: int) -> None:
        """Enqueue one job, committed."""

    def enqueue_many(self, keys: Iterable[int]) -> None:
        """Enqueue many jobs that become visible together if the queue can do that."""
        with transaction.atomic():
            for key in keys:
                self.enqueue(key)

    @abstractmethod
    def work(self, threads: int) -> None:
        """Be a worker, until a signal ends the process."""


class Saferoom(Contender):
    """Our own queue with everything on; only the host's verbs do nothing."""

    name = "Saferoom"
    package = "saferoom"
    burst = 2000

    def prepare(self) -> None:
        """Make the host and its servers."""
        from django.contrib.auth.models import User

        from servers.models import Blueprint, Host, Server

        owner = User.objects.create_user("bench")
        blueprint = Blueprint.objects.create(name="bench", owner=owner)
        host = Host.local()
        self._servers = [
            Server.objects.create(
                name=f"s{number}", owner=owner, host=host, port=27015 + number, blueprint=blueprint
            )
            for number in range(SERVERS)
        ]

    def token(self, key: int) -> str:
        """Return the server's name: the host layer is told nothing else."""
        return f"s{key % SERVERS}"

    def enqueue(self, key: int) -> None:
        """Enqueue a job of the next server."""
        from jobs.queue.requests import enqueue

        server = self._servers[key % SERVERS]
        enqueue("initialize", server=server, requested_by=server.owner)

    def work(self, threads: int) -> None:
        """Run the product's worker loop over a host layer that does nothing."""
        from hostops.specs import InstanceState, InstanceStatus
        from jobs import operations
        from jobs.worker.worker_process import worker_loop
        from tests.fakes import FakeHost

        class NoOpHost(FakeHost):
            def initialize(self, spec: Any, **_callbacks: Any) -> None:
                mark(spec.name)

            def status(self, name: str) -> InstanceStatus:
                return InstanceStatus(name, InstanceState.STOPPED)

            def statuses(self, *, with_usage: bool = True) -> dict[str, InstanceStatus]:
                return {f"s{number}": self.status(f"s{number}") for number in range(SERVERS)}

        host = NoOpHost()
        operations.get_host = lambda _name: host  # type: ignore[assignment,return-value]
        worker_loop(concurrency=threads, on_ready=say_ready)


class Procrastinate(Contender):
    """PostgreSQL only; LISTEN and NOTIFY. Its jobs are coroutines here, which is its fastest form."""

    name = "procrastinate"
    package = "procrastinate"
    engines = ("postgresql",)

    def _open(self, connector: Any) -> tuple[Any, Any]:
        import procrastinate

        app = procrastinate.App(connector=connector)

        @app.task(name="no_op")
        async def no_op(key: int) -> None:
            mark(str(key))

        return app, no_op

    def _parameters(self) -> dict[str, Any]:
        wanted = ("dbname", "user", "host", "port", "password")
        parameters = connection.get_connection_params()
        return {name: parameters[name] for name in wanted if parameters.get(name)}

    def prepare(self) -> None:
        """Apply its schema, and open its pool of connections."""
        import procrastinate

        self._app, self._task = self._open(
            procrastinate.SyncPsycopgConnector(kwargs=self._parameters())
        )
        self._app.open()
        self._app.schema_manager.apply_schema()

    def enqueue(self, key: int) -> None:
        """Defer a job."""
        self._task.defer(key=key)

    def enqueue_many(self, keys: Iterable[int]) -> None:
        """Defer jobs in one statement."""
        self._task.batch_defer(*({"key": key} for key in keys))

    def work(self, threads: int) -> None:
        """Run its worker."""
        import procrastinate

        app, _ = self._open(procrastinate.PsycopgConnector(kwargs=self._parameters()))

        async def run() -> None:
            async with app.open_async():
                say_ready()
                await app.run_worker_async(concurrency=threads, install_signal_handlers=True)

        asyncio.run(run())


class Huey(Contender):
    """Threads that poll, with the options of its `huey_consumer`. On SQLite it never syncs to the disk."""

    name = "huey"
    package = "huey"
    burst = 4000
    is_synced: ClassVar[bool] = False

    def _open(self) -> tuple[Any, Any]:
        huey: Any
        if connection.vendor == "sqlite":
            from huey import SqliteHuey

            name = str(settings.DATABASES["default"]["NAME"])
            huey = SqliteHuey("bench", filename=name, fsync=self.is_synced)
        else:
            from huey.contrib.sql_huey import SqlHuey
            from playhouse.postgres_ext import Psycopg3Database

            parameters = connection.get_connection_params()
            database = Psycopg3Database(
                parameters["dbname"], user=parameters["user"], host=parameters["host"]
            )
            huey = SqlHuey("bench", database=database)

        @huey.task(name="no_op")
        def no_op(key: int) -> None:
            mark(str(key))

        return huey, no_op

    def prepare(self) -> None:
        """Open its storage, which makes its tables."""
        self._huey, self._task = self._open()

    def enqueue(self, key: int) -> None:
        """Enqueue a job."""
        self._task(key)

    def enqueue_many(self, keys: Iterable[int]) -> None:
        """Enqueue one after the other: it has nothing else."""
        for key in keys:
            self._task(key)

    def work(self, threads: int) -> None:
        """Run its consumer."""
        huey, _ = self._open()
        consumer = huey.create_consumer(workers=threads, periodic=False)
        say_ready()
        consumer.run()


class SyncedHuey(Huey):
    """Like huey, but its commits survive a power cut, as Saferoom's do."""

    name = "huey, synced"
    package = "huey-synced"
    engines = ("sqlite",)
    is_synced = True


def django_task(key: int) -> None:
    """Mark; what django-tasks-db and django-q2 import."""
    mark(str(key))


class DjangoTasksDb(Contender):
    """Django's task framework on the database: one job at a time in each process, polled each second."""

    name = "django-tasks-db"
    package = "django-tasks-db"
    has_threads = False
    burst = 500

    def prepare(self) -> None:
        """Declare the task."""
        from tests.benchmarks.queue_django_task import no_op

        self._task = no_op

    def enqueue(self, key: int) -> None:
        """Enqueue a job."""
        self._task.enqueue(key)

    def work(self, threads: int) -> None:
        """Run its worker."""
        say_ready()
        call_command("db_worker", startup_delay=False, verbosity=0)


class DjangoQ2(Contender):
    """Its cluster: a process that polls each 0.2 s and as many worker processes as ours has threads."""

    name = "django-q2"
    package = "django-q2"
    burst = 400

    def enqueue(self, key: int) -> None:
        """Enqueue a job."""
        from django_q.tasks import async_task

        async_task("tests.benchmarks.queue_contenders.django_task", key)

    def work(self, threads: int) -> None:
        """Run its cluster."""
        os.environ["BENCH_THREADS"] = str(threads)
        say_ready()
        call_command("qcluster")


CONTENDERS: dict[str, Contender] = {
    contender.package: contender
    for contender in (
        Saferoom(),
        Procrastinate(),
        DjangoTasksDb(),
        Huey(),
        SyncedHuey(),
        DjangoQ2(),
    )
}
