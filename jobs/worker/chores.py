"""What a worker does beside its jobs, in separate threads: recover jobs, watch the host, talk to servers."""

import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import Self

from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet

from hostops.specs import CancelToken
from jobs.database import CHECKPOINT_SECONDS, Rest, copy_log, is_away
from jobs.logs import faults
from jobs.models import Job, Worker
from jobs.queue import (
    WORKER_LOST_JOB,
    Heartbeat,
    LeaseWatch,
    fail_stale_job,
    record_gone_workers,
    recover_stale_jobs,
)
from jobs.talk import (
    AdminKeeper,
    BanKeeper,
    CommandDesk,
    MapChecker,
    NameReader,
    PlayerReader,
    forget_old_sessions,
)
from jobs.watch import DoctorWatch, EmptyWatch, HostWatch, OverlayWatch, PlayerWatch
from jobs.worker.deaths import EXIT_STUCK, end_process, vital
from jobs.worker.expectations import LOOK_SECONDS, ClaimExpectation, DatabaseExpectation
from jobs.worker.running_jobs import RunningJobs
from servers.store import remove_abandoned, sweep_store_if_due

logger = logging.getLogger(__name__)

FIRST_LOOK_SECONDS = 2.0
"""How long a newly started worker waits before it checks overlays: claiming and states come first."""
READ_PLAYERS_SECONDS = 1.0
READ_NAMES_SECONDS = 5.0
LONGEST_REST_SECONDS = 5.0
"""How long nobody looks at bans, admins and players while nothing is committed: some bans end by themselves."""
FORGET_SECONDS = 3600.0
SWEEP_LOOK_SECONDS = 60.0
SIZES_SECONDS = 600.0
ABANDONED_SECONDS = 3600.0
OVERLAYS_SECONDS = 3.0
"""How long a worker that ends waits for an unfinished check of overlays."""


class Chore:
    """Something done every `interval_seconds`. An error in it is logged, and it is done again."""

    def __init__(self, do: Callable[[], object], interval_seconds: float) -> None:
        self._do = do
        self._interval_seconds = interval_seconds
        self._due_at = 0.0

    @property
    def wait_seconds(self) -> float:
        """How long until it is due."""
        return max(0.0, self._due_at - monotonic())

    def do_if_due(self) -> bool:
        """Do it if the interval has passed; return whether it says that there is more to do, or has failed."""
        if monotonic() < self._due_at:
            return False
        has_more = True
        try:
            has_more = bool(self._do())
        except Exception as error:  # noqa: BLE001 - logged
            faults.tell(logger, f"{self._do.__qualname__} failed", error)
            if is_away(error):
                connection.close()
        self._due_at = monotonic() + self._interval_seconds
        return has_more


class Chores:
    """The chores of one worker. Entering it recovers jobs once and starts the threads; leaving it ends them.

    `is_claiming` returns whether the worker takes jobs, `has_free_thread` whether it could take another one
    now, as far as it knows: a database that can only be read lets it take none.
    """

    def __init__(
        self,
        worker: Worker,
        running: RunningJobs,
        heartbeat: Heartbeat,
        *,
        is_claiming: Callable[[], bool],
        has_free_thread: Callable[[], bool],
    ) -> None:
        self._worker = worker
        self._running = running
        self._heartbeat = heartbeat
        self._has_free_thread = has_free_thread
        self._watch = HostWatch(worker.host, is_claiming)
        self._expectation = ClaimExpectation(worker.host)
        self._database = DatabaseExpectation()
        self._leases = LeaseWatch()
        self._is_over = threading.Event()
        self._overlays_due = threading.Event()
        self._overlays_cancel = CancelToken()
        self._overlays = threading.Thread(
            target=self._look_at_overlays, name="overlays", daemon=True
        )
        self._desk = CommandDesk(worker.host)
        self._threads = [
            threading.Thread(target=self._do_chores, name="chores", daemon=True),
            threading.Thread(target=self._send_commands, name="commands", daemon=True),
            threading.Thread(target=self._read_players, name="players", daemon=True),
            threading.Thread(target=self._guard_consoles, name="consoles", daemon=True),
        ]

    def __enter__(self) -> Self:
        Chore(self.recover, 0).do_if_due()
        for thread in (*self._threads, self._overlays):
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._overlays_due.set()
        self._desk.look_soon()
        self._overlays_cancel.cancel()
        for thread in self._threads:
            thread.join()
        # It lists files, which no cancel interrupts; the next worker does what this one leaves unfinished.
        self._overlays.join(OVERLAYS_SECONDS)

    def look_at_overlays_soon(self) -> None:
        """Check overlays and the release now rather than at the next regular time. From any thread."""
        self._overlays_due.set()

    def look_for_commands_soon(self) -> None:
        """Send console commands that wait. From any thread; costs next to nothing."""
        self._desk.look_soon()

    def _do_chores(self) -> None:
        with vital("chores"):
            players = PlayerWatch(self._worker.host)
            empties = EmptyWatch(self._worker.host, players)
            chores = [
                Chore(self._expect_claims, LOOK_SECONDS),
                Chore(self.recover, settings.JOB_WORKER_LEASE_SECONDS / 6),
                Chore(self._watch.report_host, 60),
                Chore(self._watch.store_states, 2),
                Chore(copy_log, CHECKPOINT_SECONDS),
                Chore(players.store_players, 0.25),
                Chore(empties.look, 0.25),
                Chore(self._watch.consoles.copy, 0.15),
            ]
            while not self._is_over.wait(min(chore.wait_seconds for chore in chores)):
                for chore in chores:
                    chore.do_if_due()
            chores[-1].do_if_due()
            players.close()
            connection.close()

    def _guard_consoles(self) -> None:
        """Keep what servers print within bounds, whatever the database and the chores do."""
        wait_seconds = 0.0
        with vital("consoles"):
            while not self._is_over.wait(wait_seconds):
                wait_seconds = self._watch.guard.look()

    def _send_commands(self) -> None:
        """Send what people type into consoles, whatever jobs and chores do."""
        with vital("commands"):
            look = Chore(self._desk.look, 0)
            while not self._is_over.is_set():
                look.do_if_due()
                self._desk.wait()
            self._desk.close()
            connection.close()

    def _read_players(self) -> None:
        """Apply bans and admins, ask who is on and what is played. A separate thread: some servers hang."""
        with vital("players"):
            known = (self._worker.host, self._desk.refusing)
            chores = [
                Chore(BanKeeper(*known).look, READ_PLAYERS_SECONDS),
                Chore(AdminKeeper(*known).look, READ_PLAYERS_SECONDS),
                Chore(MapChecker(*known).look, READ_PLAYERS_SECONDS),
                Chore(PlayerReader(*known).look, READ_PLAYERS_SECONDS),
                Chore(NameReader(*known).look, READ_NAMES_SECONDS),
                Chore(forget_old_sessions, FORGET_SECONDS),
            ]
            rest = Rest(LONGEST_REST_SECONDS)
            while not self._is_over.wait(READ_PLAYERS_SECONDS):
                if not rest.begin_round():
                    continue
                have_more = [chore.do_if_due() for chore in chores]
                if any(have_more):
                    rest.end()
            connection.close()

    def _look_at_overlays(self) -> None:
        """Report overlays, the release and the doctor, in a separate thread because it can take seconds.

        Also measures what servers have written, removes abandoned uploads, and sweeps the panel's store once a
        day, which only the panel's own machine has.
        """
        with vital("overlays"):
            watch = OverlayWatch(self._worker.host, self._overlays_cancel)
            doctor = DoctorWatch(self._worker.host)
            abandoned = Chore(remove_abandoned, ABANDONED_SECONDS)
            sweep = Chore(sweep_store_if_due, SWEEP_LOOK_SECONDS)
            sizes = Chore(self._watch.store_sizes, SIZES_SECONDS)
            wait_seconds = FIRST_LOOK_SECONDS
            while True:
                is_asked = self._overlays_due.wait(wait_seconds)
                self._overlays_due.clear()
                if self._is_over.is_set():
                    return
                try:
                    wait_seconds = watch.look()
                    if not self._is_over.is_set():
                        doctor.look_if_due(is_asked=is_asked)
                    if not self._is_over.is_set():
                        abandoned.do_if_due()
                        sweep.do_if_due()
                    if not self._is_over.is_set():
                        sizes.do_if_due()
                finally:
                    connection.close()

    def _expect_claims(self) -> None:
        """End this process if its main thread cannot, or does not, claim a job that can run."""
        # The file first: with another one, the question itself may fail.
        if reason := self._database.find_breach() or self._expectation.find_breach(
            has_free_thread=self._has_free_thread()
        ):
            logger.critical(reason)
            # The stuck thread would block any gentler end. Game servers keep running; the next worker fails the
            # jobs that run.
            end_process(EXIT_STUCK)

    def recover(self) -> None:
        """Fail the jobs of workers that are gone, and jobs of this worker that it does not know."""
        record_gone_workers()
        stale = recover_stale_jobs(has_lapsed=self._has_lapsed)
        mine = Job.objects.running().filter(worker=self._worker).order_by()
        for job in self._find_unknown(mine):
            with transaction.atomic():
                # Locked, so that it is not given back and claimed again before it is failed.
                this = mine.filter(pk=job.pk).select_for_update(no_key=True)
                if self._find_unknown(this) and fail_stale_job(job, WORKER_LOST_JOB):
                    stale.append(job)
        if stale:
            self._watch.store_states()

    def _find_unknown(self, mine: QuerySet[Job]) -> list[Job]:
        """Return the jobs that run by their rows, and not in this process.

        The rows are read first: a job is known here before its claim is committed, until its end is.
        """
        jobs = list(mine)
        known = self._running.ids()
        return [job for job in jobs if job.pk not in known]

    def _has_lapsed(self, worker: Worker) -> bool:
        """Return whether another worker's lease is over.

        A worker whose own heartbeat is late cannot judge others.
        """
        # The lease first: it has to be checked regularly, whether or not the own heartbeat is steady.
        return self._leases.has_lapsed(worker) and self._heartbeat.is_steady
