"""The faults of the chaos run, in its workers and in its database."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from typing import IO, Any

import psycopg
from django.db import connection

from tests.fire.failover import ReplicatedPostgres

LEASE_SECONDS = 5


@dataclass
class WorkerProcess:
    """One worker that the chaos run started."""

    process: subprocess.Popen[bytes]
    host: str
    thaw_timer: threading.Timer | None = None

    @property
    def is_frozen(self) -> bool:
        """Whether it was stopped by SIGSTOP, and has not been continued yet."""
        return self.thaw_timer is not None and self.thaw_timer.is_alive()

    def freeze(self, seconds: float) -> None:
        """Stop it for this long.

        A timer continues it, not the thread that causes the faults, which may itself be waiting for a lock
        that the frozen worker holds.
        """
        self.process.send_signal(signal.SIGSTOP)
        self.thaw_timer = threading.Timer(seconds, self.process.send_signal, [signal.SIGCONT])
        self.thaw_timer.start()

    def thaw(self) -> None:
        """Continue it now."""
        if self.thaw_timer:
            self.thaw_timer.cancel()
        self.process.send_signal(signal.SIGCONT)


@dataclass
class Crew:
    """The worker processes. A killed one is replaced."""

    environments: dict[str, dict[str, str]]
    log: IO[bytes]
    workers: list[WorkerProcess] = field(default_factory=list)
    deaths: defaultdict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    unexpected: list[str] = field(default_factory=list)
    started: int = 0
    unstarted: int = 0

    def hire(self, host: str) -> None:
        """Start a worker of `host`."""
        command = [sys.executable, "-m", "tests.fire.chaos_worker", "--host", host]
        process = subprocess.Popen(
            command,
            env=self.environments[host],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )
        self.workers.append(WorkerProcess(process, host))
        self.started += 1

    def tend(self) -> None:
        """Replace workers that ended by themselves."""
        for worker in list(self.workers):
            exit_code = worker.process.poll()
            if exit_code is not None:
                if exit_code == os.EX_UNAVAILABLE:
                    self.unstarted += 1
                else:
                    self.unexpected.append(f"pid {worker.process.pid}: exit code {exit_code}")
                self._note_death(worker, monotonic())
                self.hire(worker.host)

    def kill(self) -> bool:
        """Kill a worker with SIGKILL, and start another."""
        worker = random.choice(self.workers)
        worker.process.kill()
        # It does nothing from now on. On a busy machine another worker may get its locks before `wait`
        # returns here, and it would look as if both had held them.
        died_at = monotonic()
        worker.process.wait()
        self._note_death(worker, died_at)
        self.hire(worker.host)
        return True

    def freeze(self) -> bool:
        """Stop a worker for longer than its lease, unless one is frozen already."""
        if any(worker.is_frozen for worker in self.workers):
            return False
        worker = random.choice(self.workers)
        worker.freeze(LEASE_SECONDS * random.uniform(1.2, 1.8))
        return True

    def dismiss(self) -> None:
        """Tell all of them to end, and check that they do."""
        for worker in self.workers:
            worker.thaw()
            worker.process.terminate()
        for worker in self.workers:
            try:
                exit_code = worker.process.wait(60)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                exit_code = worker.process.wait()
            # One that was hired a moment ago may not handle signals yet, or may lack its database.
            if exit_code not in (0, -signal.SIGTERM, os.EX_UNAVAILABLE):
                self.unexpected.append(
                    f"pid {worker.process.pid}: exit code {exit_code} at the end"
                )
            self._note_death(worker, monotonic(), replace=False)
        self.workers.clear()

    def _note_death(self, worker: WorkerProcess, died_at: float, *, replace: bool = True) -> None:
        self.deaths[worker.process.pid].append(died_at)
        if replace:
            self.workers.remove(worker)


class Spell:
    """A fault that lasts for a time; no other fault of the same database begins meanwhile.

    A timer ends it, not the thread that causes the faults, which may itself be waiting for the database.
    """

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None
        self._end: Callable[[], object] = lambda: None

    @property
    def is_on(self) -> bool:
        """Whether the fault lasts, or is being repaired."""
        return self._timer is not None and self._timer.is_alive()

    def cast(self, begin: Callable[[], object], end: Callable[[], object], seconds: float) -> bool:
        """Begin the fault, and end it after this long, unless another is active. Returns whether it began."""
        if self.is_on:
            return False
        begin()
        self._timer = threading.Timer(seconds, end)
        self._timer.start()
        return True

    def wait(self) -> None:
        """Return when it is over."""
        if self._timer:
            self._timer.join()


class PostgresFaults:
    """Faults of a PostgreSQL server that has a standby.

    It is frozen for `longest_seconds` at most.
    """

    def __init__(self, servers: ReplicatedPostgres, url: str, longest_seconds: float) -> None:
        self._servers = servers
        self._longest_seconds = longest_seconds
        self._url = url
        self._hoard: list[psycopg.Connection[Any]] = []
        self.spell = Spell()

    def restart(self) -> bool:
        """Restart it in an orderly way: every connection breaks."""
        if self.spell.is_on:
            return False
        self._servers.primary.restart()
        return True

    def crash(self) -> bool:
        """Kill it, and let it recover."""
        if self.spell.is_on:
            return False
        self._servers.primary.crash()
        self._servers.primary.start()
        return True

    def drop_connections(self) -> bool:
        """Break about half of the connections."""
        if self.spell.is_on:
            return False
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend' AND random() < 0.5"
            )
        return True

    def fail_over(self) -> bool:
        """Lose the server; its standby can be read at once, and takes over a moment later."""
        servers = self._servers
        return self.spell.cast(servers.lose_primary, servers.promote, random.uniform(0.3, 2.0))

    def freeze(self) -> bool:
        """Stop it for some seconds."""
        # Its own processes are stopped, so it is continued by a signal, not by a statement.
        primary = self._servers.primary
        seconds = random.uniform(1, self._longest_seconds)
        return self.spell.cast(primary.freeze, primary.thaw, seconds)

    def make_read_only(self) -> bool:
        """Make it read-only for a while."""
        return self.spell.cast(
            partial(self._servers.set_read_only, True),
            partial(self._servers.set_read_only, False),
            random.uniform(0.5, 3.0),
        )

    def take_all_connections(self) -> bool:
        """Take all remaining connections for a while."""
        return self.spell.cast(self._take_all, self._give_all, random.uniform(0.5, 3.0))

    def _take_all(self) -> None:
        try:
            while True:
                self._hoard.append(psycopg.connect(self._url))
        except psycopg.OperationalError:
            return

    def _give_all(self) -> None:
        while self._hoard:
            self._hoard.pop().close()


class SQLiteFaults:
    """Faults of an SQLite database on a healthy disk; it is locked for `longest_seconds` at most."""

    def __init__(self, path: Path, longest_seconds: float) -> None:
        self._path = path
        self._longest_seconds = longest_seconds
        self._locker: sqlite3.Connection | None = None
        self.spell = Spell()

    def lock(self) -> bool:
        """Hold its write lock, as a frozen process does."""
        # The connections of a process share what SQLite has opened. If this one is from a time when the files
        # were read-only, a new one could not write either.
        connection.close()
        seconds = random.uniform(1, self._longest_seconds)
        return self.spell.cast(self._begin, self._rollback, seconds)

    def make_read_only(self) -> bool:
        """Make its files read-only for a while (chattr +i), for processes that have not opened them already."""
        return self.spell.cast(
            partial(self._change_attribute, "+i"),
            partial(self._change_attribute, "-i"),
            random.uniform(0.5, 3.0),
        )

    def can_make_read_only(self) -> bool:
        """Return whether this account and this file system can."""
        try:
            self._change_attribute("+i")
            self._change_attribute("-i")
        except (OSError, subprocess.CalledProcessError):
            return False
        return True

    def _begin(self) -> None:
        self._locker = sqlite3.connect(
            self._path, timeout=20, isolation_level=None, check_same_thread=False
        )
        self._locker.execute("BEGIN IMMEDIATE")

    def _rollback(self) -> None:
        if self._locker:
            self._locker.close()

    def _change_attribute(self, change: str) -> None:
        names = [str(path) for path in self._path.parent.glob(f"{self._path.name}*")]
        subprocess.run(["chattr", change, *names], check=True, capture_output=True)


class FullDisk:
    """A small file system for an SQLite database, which a ballast file can fill."""

    def __init__(self, folder: Path, megabytes: int = 256) -> None:
        self.folder = folder
        self._megabytes = megabytes
        self._ballast = folder / "ballast"
        self.full_until = 0.0

    def mount(self, stack: ExitStack) -> str:
        """Mount it until `stack` ends; return why that is impossible, or nothing."""
        self.folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={self._megabytes}m", "tmpfs"]
        done = subprocess.run([*command, str(self.folder)], capture_output=True, text=True)
        if done.returncode == 0:
            stack.callback(subprocess.run, ["umount", "--lazy", str(self.folder)], check=True)
        return done.stderr.strip()

    def fill(self) -> bool:
        """Fill it to the last byte, unless it is full already."""
        if self.full_until:
            return False
        self.full_until = monotonic() + random.uniform(0.5, 2.0)
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(1 << 20)):
                    pass
            except OSError:
                return True
        return True

    def tend(self) -> None:
        """Make room again when the time is up."""
        if self.full_until and monotonic() > self.full_until:
            self.relieve()

    def relieve(self) -> None:
        """Make room again."""
        self._ballast.unlink(missing_ok=True)
        self.full_until = 0.0


@dataclass
class Trouble:
    """Faults at random moments, `per_minute` on average, with a count of each."""

    per_minute: float
    faults: dict[str, tuple[float, Callable[[], bool]]]
    done: Counter[str] = field(default_factory=Counter)
    _due_at: float = field(default_factory=monotonic)

    def make_if_due(self) -> None:
        """Cause one fault if it is time."""
        if monotonic() < self._due_at:
            return
        names = list(self.faults)
        (name,) = random.choices(names, [self.faults[name][0] for name in names])
        if self.faults[name][1]():
            self.done[name] += 1
        self._due_at = monotonic() + random.expovariate(self.per_minute / 60)
