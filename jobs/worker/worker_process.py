"""The worker: claims jobs and carries them out, several at a time, until it is told to stop.

The main thread is the only one that writes for jobs: it stores what they say and how they end
(`jobs.logs.log_writer`), and claims the next ones in the same transaction; threads that fight for a
database's write lock are slow. Several drive the host (`job_threads`); one beats (`jobs.queue.liveness`);
one recovers what other workers left, watches the host (`jobs.watch`), and copies SQLite's log
(`jobs.database.wal_checkpoints`).
"""

import gc
import logging
import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from types import FrameType
from typing import TypeVar

from django.conf import settings
from django.db import connection
from django.utils import timezone

from hostops.specs import CancelToken
from jobs.database import (
    CHECKPOINT_SECONDS,
    ChangeSignal,
    Channel,
    Interrupt,
    copy_log,
    is_away,
    open_change_signal,
)
from jobs.logs import DirectLog, JobSink, LogWriter, faults
from jobs.models import EXCLUSIVE_OPERATIONS, Job, JobState, Worker
from jobs.queue import (
    Heartbeat,
    LeaseWatch,
    claim_jobs,
    claim_next_job,
    claim_within,
    fail_stale_job,
    give_back,
    has_queued_jobs,
    read_cancel_requests,
    record_gone_workers,
    recover_stale_jobs,
    register_worker,
)
from jobs.watch import HostWatch, OverlayWatch, PlayerWatch
from jobs.worker.deaths import EXIT_STUCK, end_process, vital
from jobs.worker.execution import Plan, execute, plan, release_connection
from jobs.worker.expectations import LOOK_SECONDS, ClaimExpectation
from jobs.worker.job_threads import JobThreads
from servers.models import Host

logger = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_RETRY_SECONDS = 0.1
CANCEL_INTERVAL_SECONDS = 0.05
"""How often cancel requests are read at least while it has much to do; and they are at every change."""
FIRST_LOOK_SECONDS = 2.0
"""A worker that has just started has first to claim, and to say how its servers are."""
OVERLAYS_SECONDS = 3.0
"""How long a worker that ends waits for the look at the host's overlays that it is at."""
LONGEST_AWAY_SECONDS = 10.0
"""How long a worker that was told twice to stop waits for the database, to store what its jobs said."""


def run_worker_once(host: Host | None = None) -> bool:
    """Claim one job of `host` (by default the one the settings name) and run it in this thread.

    Returns whether there was one. Claims nothing, as any worker, while `JOB_WORKER_ENABLED` is false.
    """
    if not settings.JOB_WORKER_ENABLED:
        return False
    worker = register_worker(host or Host.local(), concurrency=1, is_claiming=True)
    job = claim_next_job(worker)
    if job is None:
        return False
    with Heartbeat(worker, is_claiming=lambda: True):
        run_job(job.id)
    return True


def run_job(job_id: int, *, sink: JobSink | None = None, cancel: CancelToken | None = None) -> None:
    """Carry out a claimed job in this thread: read what it needs, drive the host, store the outcome.

    Raises nothing that the job did wrong (see `execution`), but ValueError for one that is not running.
    """
    job = Job.objects.select_related("server__host", "server__blueprint", "host").get(pk=job_id)
    if job.state != JobState.RUNNING:
        raise ValueError(f"Job {job.id} is {job.state}: claim it before running it.")
    cancel = cancel or CancelToken()
    carried_out = plan(job)
    release_connection()
    execute(carried_out, sink or DirectLog(on_cancel_request=cancel.cancel), cancel)


@dataclass
class WorkerLoop:
    """One worker process. `run` blocks until `stop` was called, or until the queue is empty.

    The first `stop` drains: nothing more is claimed, and what runs may finish within the grace time. The
    second cancels what runs. Game servers go on running either way. `on_turn` is called in each turn of
    the loop with the number of running jobs and whether it drains; a turn takes `longest_turn_seconds`
    at most while the database answers.
    """

    host: Host
    concurrency: int
    until_empty: bool = False
    on_ready: Callable[[], None] = lambda: None
    on_turn: Callable[[int, bool], None] = lambda _running_jobs, _is_draining: None
    longest_turn_seconds: float = math.inf
    _worker: Worker = field(init=False)
    _heartbeat: Heartbeat = field(init=False)
    _leases: LeaseWatch = field(default_factory=LeaseWatch)
    _watch: HostWatch = field(init=False)
    _signal: ChangeSignal = field(init=False)
    _writer: LogWriter = field(init=False)
    _threads: JobThreads = field(init=False)
    _wake: Interrupt = field(default_factory=Interrupt)
    _away_since: float | None = None
    _has_changed: bool = True
    _cancels_due_at: float = 0.0
    _is_over: threading.Event = field(default_factory=threading.Event)
    _running: dict[int, CancelToken] = field(default_factory=dict)
    _running_lock: threading.Lock = field(default_factory=threading.Lock)
    _unknown: set[int] = field(default_factory=set)
    _late: list[Job] = field(default_factory=list)
    _expectation: ClaimExpectation = field(init=False)
    _overlays_due: threading.Event = field(default_factory=threading.Event)
    _overlays_cancel: CancelToken = field(default_factory=CancelToken)
    _stops: int = 0
    _drain_until: float = 0.0

    def __post_init__(self) -> None:
        self._threads = JobThreads(self.concurrency, self._execute, on_late=self._wake.set)
        self._writer = LogWriter(
            on_due=self._wake.set,
            can_wait=self._threads.has_waiting,
            on_settled=self._forget,
            on_lease_lost=lambda job: self._cancel(job.id),
        )

    def stop(self) -> None:
        """Ask for the end; the second time, impatiently. May be called from a signal handler."""
        self._stops += 1
        self._drain_until = monotonic() + settings.JOB_WORKER_GRACE_SECONDS
        self._wake.set()

    def run(self) -> None:
        """Work until the end. Ends the process if a thread dies that the others cannot do without."""
        self._worker = self._register()
        self._signal = self._until_it_answers(
            lambda: open_change_signal(Channel.QUEUE, settings.JOB_WORKER_POLL_SECONDS)
        )
        self._heartbeat = Heartbeat(
            self._worker, is_claiming=lambda: self.is_claiming, guard=vital("heartbeat")
        )
        with self._heartbeat:
            self._work()
        self._say_goodbye()

    def _work(self) -> None:
        self._watch = HostWatch(self.host)
        self._expectation = ClaimExpectation(self.host)
        Chore(self._recover, 0).do_if_due()
        chores = threading.Thread(target=self._do_chores, name="chores", daemon=True)
        chores.start()
        guard = threading.Thread(target=self._guard_consoles, name="consoles", daemon=True)
        guard.start()
        overlays = threading.Thread(target=self._look_at_overlays, name="overlays", daemon=True)
        overlays.start()
        logger.info("%s is ready, %s jobs at a time", self._worker, self.concurrency)
        self.on_ready()
        # The inner of the two: the jobs' threads wait for this one to store what they say, so that it cannot
        # first wait for their end.
        with self._threads, vital("main"):
            while not self._is_done():
                self.on_turn(len(self._running), self._stops > 0)
                self._take_turn()
        self._is_over.set()
        self._overlays_due.set()
        self._overlays_cancel.cancel()
        chores.join()
        guard.join()
        # It lists files, which no cancel interrupts; what it leaves unfinished the next worker does.
        overlays.join(OVERLAYS_SECONDS)
        self._signal.close()

    def _take_turn(self) -> None:
        """Store what is due and claim what can run; then, unless there may be more, wait for a change."""
        try:
            self._give_back_late()
            has_claimed = self._store_and_claim()
            if self._has_changed or monotonic() >= self._cancels_due_at:
                self._pass_on_cancel_requests()
                self._cancels_due_at = monotonic() + CANCEL_INTERVAL_SECONDS
                self._has_changed = False
            self._away_since = None
            wait_seconds = min(self._writer.due_in_seconds(), self._threads.look_in_seconds())
        except Exception as error:
            if not is_away(error):
                raise
            logger.warning("the database does not answer: %s", error)
            connection.close()
            has_claimed = False
            self._away_since = self._away_since or monotonic()
            wait_seconds = max(FIRST_RETRY_SECONDS, monotonic() - self._away_since)
        if not has_claimed and not self._is_done():
            poll_seconds = min(settings.JOB_WORKER_POLL_SECONDS, self.longest_turn_seconds)
            seconds = min(wait_seconds, poll_seconds)
            if self._threads.has_waiting():
                self._wake.wait(seconds)  # Whatever has changed: the next turn is soon.
            else:
                self._has_changed = self._wait_for_change(seconds)

    def _wait_for_change(self, seconds: float) -> bool:
        try:
            return self._signal.wait(seconds, self._wake)
        except Exception as error:
            if not is_away(error):
                raise
            connection.close()
            self._wake.wait(FIRST_RETRY_SECONDS)
            return True  # Nobody knows.

    def _register(self) -> Worker:
        return self._until_it_answers(
            lambda: register_worker(
                self.host, concurrency=self.concurrency, is_claiming=settings.JOB_WORKER_ENABLED
            )
        )

    def _until_it_answers(self, act: Callable[[], T]) -> T:
        """Return what `act` returns once the database lets it; raises its error once the end is asked for."""
        while True:
            try:
                return act()
            except Exception as error:
                if self._stops or not is_away(error):
                    raise
                logger.warning("the database does not answer: %s", error)
                connection.close()
                self._wake.wait(settings.JOB_WORKER_POLL_SECONDS)

    @property
    def is_claiming(self) -> bool:
        """Whether the worker takes jobs."""
        return settings.JOB_WORKER_ENABLED and not self._stops

    def _is_done(self) -> bool:
        with self._running_lock:
            is_idle = not self._running and self._writer.is_idle
        if self._stops >= 2 or (self._stops == 1 and monotonic() > self._drain_until):
            self._cancel_all()
        if self._stops:
            return is_idle or (self._stops >= 2 and self._has_given_up())
        return self.until_empty and is_idle and not self._has_queued_jobs()

    def _has_given_up(self) -> bool:
        """Return whether nothing can be stored any more; then what waits is dropped, once."""
        if self._writer.is_abandoned:
            return True
        if self._away_since is None or monotonic() - self._away_since < LONGEST_AWAY_SECONDS:
            return False
        logger.error(
            "the database stays away: %s jobs are left to the next worker, and %s lines are lost",
            len(self._running),
            self._writer.abandon(),
        )
        return True

    def _has_queued_jobs(self) -> bool:
        try:
            return has_queued_jobs(self.host)
        except Exception as error:
            if not is_away(error):
                raise
            connection.close()
            return True

    def _store_and_claim(self) -> bool:
        """Store what the jobs have said, claim for every free place; return whether one was claimed."""
        fetch = self._writer.store(self._claim_beside)
        jobs = fetch() if fetch else []
        if not jobs:
            free = self._count_free()
            # Only PostgreSQL tells that somebody has asked for something; SQLite, that anything was written.
            is_likely = self._has_changed and connection.vendor == "postgresql"
            if free > 0:
                jobs = claim_jobs(
                    self._worker, self.host, free, is_likely=is_likely, is_idle=not self._running
                )
        with self._running_lock:
            self._running |= {job.id: CancelToken() for job in jobs}
        # All plans first: from the first one on, the threads want to run as well.
        for plan_of_job in [plan(job) for job in jobs]:
            self._threads.submit(plan_of_job)
        return bool(jobs)

    def _claim_beside(self, ending: int) -> Callable[[], list[Job]] | None:
        """Claim in the transaction that stores how `ending` jobs end."""
        free = self._count_free() + ending
        return claim_within(self._worker, self.host, free) if ending and free > 0 else None

    def _count_free(self) -> int:
        with self._running_lock:
            places = self._threads.places if self.is_claiming else 0
            return places - len(self._running)

    def _give_back_late(self) -> None:
        """Put back into the queue what was claimed ahead, and begun by no thread in time."""
        self._late += self._threads.take_back()
        if self._late:
            give_back(self._worker, self._late)
            logger.info("%s claimed jobs had to wait: they are queued again", len(self._late))
            with self._running_lock:
                for job in self._late:
                    self._running.pop(job.id, None)
            self._late = []

    def _execute(self, plan: Plan) -> None:
        try:
            execute(plan, self._writer, self._running[plan.job.id])
        except BaseException:  # Whatever it is, this thread has more jobs to carry out.
            # It stays known as running only in the database: `_recover` fails it.
            logger.exception("job %s: lost by the worker", plan.job.id)
            self._forget(plan.job, is_stored=False)
            self._wake.set()

    def _forget(self, job: Job, is_stored: bool) -> None:
        """Let go of a job that is over; its thread is free."""
        if not is_stored:
            logger.warning("job %s: its end was not stored here", job.id)
        with self._running_lock:
            self._running.pop(job.id, None)
        if job.operation in EXCLUSIVE_OPERATIONS:
            self._overlays_due.set()  # The release is another one.

    def _pass_on_cancel_requests(self) -> None:
        with self._running_lock:
            is_idle = not self._running
        for job_id in [] if is_idle else read_cancel_requests(self._worker):
            self._cancel(job_id)

    def _cancel(self, job_id: int) -> None:
        with self._running_lock:
            token = self._running.get(job_id)
        if token:
            token.cancel()

    def _cancel_all(self) -> None:
        with self._running_lock:
            tokens = list(self._running.values())
        for token in tokens:
            token.cancel("Cancelled because the worker was stopped.")

    def _do_chores(self) -> None:
        """Recover and watch, each in its own rhythm, until the end."""
        with vital("chores"):
            self._do_each_chore()

    def _do_each_chore(self) -> None:
        players = PlayerWatch(self.host)
        chores = [
            Chore(self._expect_claims, LOOK_SECONDS),
            Chore(self._recover, settings.JOB_WORKER_LEASE_SECONDS / 6),
            Chore(self._watch.report_host, 60),
            Chore(self._watch.store_states, 2),
            Chore(self._watch.store_sizes, 600),
            Chore(copy_log, CHECKPOINT_SECONDS),
            Chore(players.store_players, 0.25),
            Chore(self._watch.consoles.copy, 0.15),
        ]
        while not self._is_over.wait(0.05):
            for chore in chores:
                chore.do_if_due()
        chores[-1].do_if_due()
        players.close()
        connection.close()

    def _expect_claims(self) -> None:
        """End this process if its main thread does not claim what can run."""
        with self._running_lock:
            has_free_thread = self.is_claiming and len(self._running) < self.concurrency
        if reason := self._expectation.find_breach(has_free_thread=has_free_thread):
            logger.critical(reason)
            # The thread that is stuck would hold up any gentler end. Game servers go on; the jobs that run
            # are failed by the next worker.
            end_process(EXIT_STUCK)

    def _guard_consoles(self) -> None:
        """Keep what servers print within bounds until the end, whatever the database and the chores do."""
        wait_seconds = 0.0
        with vital("consoles"):
            while not self._is_over.wait(wait_seconds):
                wait_seconds = self._watch.guard.look()

    def _look_at_overlays(self) -> None:
        """Report overlays and the release until the end, in a thread of its own: a large one takes seconds."""
        with vital("overlays"):
            watch = OverlayWatch(self.host, self._overlays_cancel)
            wait_seconds = FIRST_LOOK_SECONDS
            while True:
                self._overlays_due.wait(wait_seconds)
                self._overlays_due.clear()
                if self._is_over.is_set():
                    return
                wait_seconds = watch.look()
                connection.close()

    def _recover(self) -> None:
        """Fail the jobs of workers that are gone, and those of this one that it knows nothing of."""
        record_gone_workers()
        stale = recover_stale_jobs(has_lapsed=self._has_lapsed)
        with self._running_lock:
            known = set(self._running)
        # Claimed in this moment or ended in it: `_store_and_claim` holds such a job for an instant.
        mine = Job.objects.running().filter(worker=self._worker).exclude(pk__in=known).order_by()
        stale += [job for job in mine if job.id in self._unknown and fail_stale_job(job)]
        self._unknown = {job.id for job in mine}
        if stale:
            self._watch.store_states()

    def _has_lapsed(self, worker: Worker) -> bool:
        """Return whether another worker's silence means that it is gone: only who is heard himself can tell."""
        return self._leases.has_lapsed(worker) and self._heartbeat.is_steady

    def _say_goodbye(self) -> None:
        try:
            Worker.objects.filter(pk=self._worker.pk).update(
                stopped_at=timezone.now(), is_claiming=False
            )
        except Exception as error:
            if not is_away(error):
                raise
            logger.warning(
                "the database does not answer: the lease of %s will run out", self._worker
            )
        connection.close()


class Chore:
    """Something done every `interval_seconds`. What goes wrong in it is logged, and it is done again."""

    def __init__(self, do: Callable[[], None], interval_seconds: float) -> None:
        self._do = do
        self._interval_seconds = interval_seconds
        self._due_at = 0.0

    def do_if_due(self) -> None:
        """Do it if the interval is over."""
        if monotonic() < self._due_at:
            return
        try:
            self._do()
        except Exception as error:  # noqa: BLE001 - told in the log
            if is_away(error):
                logger.warning("%s: the database does not answer: %s", self._do.__name__, error)
                connection.close()
            else:
                faults.tell(logger, f"{self._do.__name__} failed", error)
        self._due_at = monotonic() + self._interval_seconds


def worker_loop(
    *,
    host: Host | None = None,
    concurrency: int | None = None,
    until_empty: bool = False,
    on_ready: Callable[[], None] = lambda: None,
    on_turn: Callable[[int, bool], None] = lambda _running_jobs, _is_draining: None,
    longest_turn_seconds: float = math.inf,
) -> None:
    """Run a worker of `host` in this process's main thread until SIGTERM or SIGINT, or the queue is empty."""
    loop = WorkerLoop(
        host=host or Host.local(),
        concurrency=concurrency or settings.JOB_WORKER_CONCURRENCY,
        until_empty=until_empty,
        on_ready=on_ready,
        on_turn=on_turn,
        longest_turn_seconds=longest_turn_seconds,
    )
    with signals_stop(loop), collecting_seldom():
        loop.run()


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """Look for garbage seldom, and not among what is there now: it takes a tenth of the time of short jobs."""
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(5000, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


@contextmanager
def signals_stop(loop: WorkerLoop) -> Iterator[None]:
    """Let SIGTERM and SIGINT stop `loop`; only the main thread of a process can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signal_number: int, _frame: FrameType | None) -> None:
        loop.stop()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
