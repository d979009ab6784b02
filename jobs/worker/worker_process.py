"""The worker: claims jobs and carries them out, several at a time, until it is told to stop.

Only its main thread writes what every job has: it stores their output and endings, and claims the next ones in
the same transaction. Threads that fight for a database's write lock are slow. Other threads drive the host
(`job_threads`), one stores the heartbeat (`jobs.queue.liveness`), and some do the `chores`. A job's thread
stores what only its operation has: what a host reports after an install, ports that are taken
(`execution.learn_from`), a version made from an upload, a Steam Guard code that was used, the rest of a console
before a deletion.
"""

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
from django.db import connection, transaction
from django.utils import timezone

from jobs.claimed_jobs import ClaimedJob
from jobs.command_requests import has_waiting_commands
from jobs.database import (
    ChangeSignal,
    Channel,
    Interrupt,
    Pace,
    is_away,
    open_change_signal,
    outage_log,
    write_turn,
    write_watch,
)
from jobs.logs import LogWriter
from jobs.models import EXCLUSIVE_OPERATIONS, Job, Worker
from jobs.queue import (
    ClaimPulse,
    Heartbeat,
    build_scheduler_state,
    claim_jobs,
    give_back,
    read_cancel_requests,
    register_worker,
)
from jobs.worker.chores import Chores
from jobs.worker.deaths import vital
from jobs.worker.execution import Plan, execute, plan
from jobs.worker.job_threads import JobThreads, boot_seconds
from jobs.worker.running_jobs import RunningJobs
from servers.models import Host

logger = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_RETRY_SECONDS = 0.1
REQUESTS_SECONDS = 0.05
REQUESTS_AT_ONCE = 3
"""Requests beside jobs are read once in `REQUESTS_SECONDS`; after a pause, this often in a row at once."""
LONGEST_AWAY_SECONDS = 10.0
"""How long a worker that was told twice to stop waits for the database, to store its jobs' output."""
OUTAGE = "jobs wait"
"""What an outage means to the main thread, for the log."""


@dataclass
class WorkerLoop:
    """One worker process. `run` blocks until `stop` was called, or with `until_empty` until the queue is empty.

    After the first `stop` nothing more is claimed, and running jobs may finish within the grace time. The
    second cancels them. Game servers keep running either way. Each turn of the loop calls `on_turn` with the
    number of running jobs and whether the worker is stopping. A turn waits at most `longest_turn_seconds`. The
    queue is empty when no job of the host waits: `until_empty` also waits, without limit, for jobs that this
    worker may not claim yet.
    """

    host: Host
    concurrency: int
    until_empty: bool = False
    on_ready: Callable[[], None] = lambda: None
    on_turn: Callable[[int, bool], None] = lambda _running_jobs, _is_stopping: None
    longest_turn_seconds: float = math.inf
    _worker: Worker = field(init=False)
    _signal: ChangeSignal = field(init=False)
    _writer: LogWriter = field(init=False)
    _threads: JobThreads = field(init=False)
    _chores: Chores = field(init=False)
    _running: RunningJobs = field(default_factory=RunningJobs)
    _claimed: list[ClaimedJob] = field(default_factory=list)
    _claimed_at: float = 0.0
    _pulse: ClaimPulse = field(default_factory=ClaimPulse)
    _to_give_back: list[ClaimedJob] = field(default_factory=list)
    _wake: Interrupt = field(default_factory=Interrupt)
    _may_have_requests: bool = True
    """Whether anything has changed since requests were last read. It only shortens waits."""
    _requests_pace: Pace = field(default_factory=lambda: Pace(REQUESTS_SECONDS, REQUESTS_AT_ONCE))
    _away_since: float | None = None
    _stops: int = 0
    _grace_until: float = 0.0

    def __post_init__(self) -> None:
        self._threads = JobThreads(self.concurrency, self._execute, on_refused=self._wake.set)
        self._writer = LogWriter(
            on_due=self._wake.set,
            has_jobs_ahead=self._threads.has_ahead,
            on_settled=self._let_go,
            on_given_up=lambda job: self._running.cancel(job.id),
        )

    def stop(self) -> None:
        """Claim nothing more; when called a second time, cancel. May be called from a signal handler."""
        self._stops += 1
        self._grace_until = monotonic() + settings.JOB_WORKER_GRACE_SECONDS
        self._wake.set()

    @property
    def is_claiming(self) -> bool:
        """Whether the worker takes jobs."""
        return settings.JOB_WORKER_ENABLED and not self._stops

    def run(self) -> None:
        """Work until the end. If a thread dies that the others cannot do without, this ends the process."""
        self._worker = self._until_it_answers(self._register)
        self._signal = self._until_it_answers(
            lambda: open_change_signal(Channel.QUEUE, settings.JOB_WORKER_POLL_SECONDS)
        )
        heartbeat = Heartbeat(
            self._worker, is_claiming=lambda: self.is_claiming, guard=vital("heartbeat")
        )
        self._chores = Chores(
            self._worker,
            self._running,
            heartbeat,
            is_claiming=lambda: self.is_claiming,
            has_free_thread=self._has_free_thread,
        )
        with heartbeat, self._chores:
            logger.info("%s is ready, %s jobs at a time", self._worker, self.concurrency)
            self.on_ready()
            # `vital` is the inner one: the jobs' threads wait for this thread to store their output, so it must
            # not first wait for them to end.
            with self._threads, vital("main"):
                while not self._is_done():
                    self.on_turn(len(self._running), self._stops > 0)
                    self._take_turn()
                    self._hasten_end()
        self._signal.close()
        self._say_goodbye()

    # --- A turn -------------------------------------------------------------------------------

    def _take_turn(self) -> None:
        """Take these steps in order; if no job was begun, wait for a change.

        While the database is away, each step keeps what it could not do for a later turn.
        """
        try:
            self._give_back_jobs()
            self._store_and_claim()
            has_begun = self._begin_claimed_jobs()
            self._pass_on_requests()
        except Exception as error:
            if not is_away(error):
                raise
            self._note_outage(error)
            self._pause_for_outage()
            return
        self._away_since = None
        if not has_begun and not self._is_done():
            self._wait(self._due_in_seconds())

    def _give_back_jobs(self) -> None:
        """Put jobs that were claimed and not begun in time, or in an outage, back into the queue."""
        self._to_give_back += self._threads.take_back()
        if jobs := self._to_give_back:
            give_back(self._worker, jobs)
            logger.info("%s claimed jobs were not begun, and are given back", len(jobs))
            self._running.discard(jobs)
            self._to_give_back = []

    def _store_and_claim(self) -> None:
        """Store the output and the endings of jobs, and claim new jobs for the threads that this frees.

        One transaction, because its commit is most of what a short job costs.
        """
        ends = self._writer.take_due()
        # Each job that ends frees its place once the batch is settled, even if the database refuses its end.
        free = self._count_free() + (ends if self.is_claiming else 0)
        # If no job has ended, first check whether there is one to claim: that locks nothing.
        may_claim = free > 0 and (ends > 0 or bool(build_scheduler_state(self.host).pick(1)))
        if self._writer.has_batch and self._store_batch(free if may_claim else 0):
            return
        if may_claim:
            # It opens its own transaction and write turn: with no other transaction around it, it needs no
            # savepoint, which costs two round trips to PostgreSQL.
            self._claim(free)

    def _store_batch(self, to_claim: int) -> bool:
        """Store the log writer's batch, and claim at most `to_claim` jobs; return whether both were done.

        If the database refuses any of it, perhaps only at the commit, nothing is claimed, and each part of the
        batch is stored separately. A savepoint would keep the claim, but SQLite would copy each page that the
        batch changes.
        """
        try:
            with write_turn(), transaction.atomic():
                self._writer.store_batch()
                if to_claim:
                    self._claim(to_claim)
        except Exception as error:
            if is_away(error):
                raise
            self._note_claim([])
            self._writer.store_apart(error)
            return False
        self._writer.settle_batch()
        outage_log.end()
        return True

    def _claim(self, limit: int) -> None:
        """Claim at most `limit` jobs, in the open transaction or else in one of their own."""
        claimed = claim_jobs(
            self._worker, self.host, limit, pulse=self._pulse, on_claimed=self._note_claim
        )
        if not claimed:
            self._note_claim([])

    def _note_claim(self, jobs: list[ClaimedJob]) -> None:
        """Remember jobs whose claim is about to be committed, for `_note_outage`: the answer may be lost.

        They are known as running before their rows can say so: `Chores.recover` relies on it. Those of an
        earlier try of the same claim, whose commit the database has refused, are forgotten.
        """
        self._running.discard(self._claimed)
        self._running.add(jobs)
        self._claimed, self._claimed_at = jobs, boot_seconds()

    def _begin_claimed_jobs(self) -> bool:
        """Hand the jobs claimed in this turn to the threads; return whether there were any."""
        # All plans first: once jobs are submitted, the threads compete for the processor.
        plans = [plan(job) for job in self._claimed]
        self._claimed = []
        if plans:
            self._threads.submit(plans, self._claimed_at)
        return bool(plans)

    def _pass_on_requests(self) -> None:
        """Pass on what people request beside jobs: cancellations, and console commands."""
        if self._requests_pace.wait_seconds:
            return
        self._may_have_requests = False
        self._requests_pace.count()
        for job_id in read_cancel_requests(self._worker) if len(self._running) else []:
            self._running.cancel(job_id)
        # This query costs less than a second listener, for commands alone, and less than waking their thread in
        # each turn, just when jobs begin.
        if has_waiting_commands(self.host):
            self._chores.look_for_commands_soon()

    def _due_in_seconds(self) -> float:
        """Return in how many seconds there is something to do, unless this thread is woken; infinity for never.

        The threads first: a job that ends while others wait for a thread wakes nobody, as this looks again
        soon. If none wait, each later end wakes this thread, and the earlier ones are seen by the second look.
        """
        look_in_seconds = self._threads.look_in_seconds()
        return min(look_in_seconds, self._writer.due_in_seconds())

    def _wait(self, seconds: float) -> None:
        """Wait until the database has changed, a job's thread wakes this one, or the time is over."""
        poll_seconds = min(settings.JOB_WORKER_POLL_SECONDS, self.longest_turn_seconds)
        seconds = min(seconds, poll_seconds)
        if self._may_have_requests:
            seconds = min(seconds, self._requests_pace.wait_seconds)
        if self._threads.has_waiting():
            self._wake.wait(seconds)  # No need for the signal: the next turn is soon anyway.
            return
        try:
            self._may_have_requests |= self._signal.wait(seconds, self._wake)
        except Exception as error:
            if not is_away(error):
                raise
            connection.close()
            self._wake.wait(FIRST_RETRY_SECONDS)
            self._may_have_requests = True

    # --- What the turns rely on ---------------------------------------------------------------

    def _count_free(self) -> int:
        """Return how many more jobs may be claimed now."""
        return self._threads.places - len(self._running) if self.is_claiming else 0

    def _has_free_thread(self) -> bool:
        """Return whether a thread is free for another job. While nothing can be stored, none is."""
        # A claim that hangs has not filled any thread yet.
        busy = len(self._running) - len(self._claimed)
        return self.is_claiming and busy < self.concurrency and self._away_since is None

    def _execute(self, planned: Plan) -> None:
        """Carry out a job, in one of the jobs' threads."""
        try:
            execute(planned, self._writer, self._running.token_of(planned.job))
        except BaseException:  # Whatever it is, this thread has more jobs to carry out.
            # From now on only the database knows the job as running: `Chores.recover` fails it.
            logger.exception("job %s: lost by the worker", planned.job.id)
            self._let_go(planned.job, is_stored=False)
            self._wake.set()

    def _let_go(self, job: ClaimedJob, is_stored: bool) -> None:
        """Forget a job that is over; its thread is free."""
        if not is_stored:
            logger.warning(
                "job %s: its end was not stored, unless by an unconfirmed commit", job.id
            )
        self._running.discard([job])
        if job.operation in EXCLUSIVE_OPERATIONS:
            self._chores.look_at_overlays_soon()  # The current release has changed.

    # --- The end ------------------------------------------------------------------------------

    def _is_done(self) -> bool:
        is_idle = not len(self._running) and self._writer.is_idle
        if self._stops:
            return is_idle or self._writer.is_abandoned
        return self.until_empty and is_idle and not self._has_queued_jobs()

    def _hasten_end(self) -> None:
        """Cancel the jobs once the grace time is over. After the second stop, wait for no database forever."""
        if self._stops >= 2 or (self._stops == 1 and monotonic() > self._grace_until):
            self._running.cancel_all("Cancelled because the worker was stopped.")
        if self._stops >= 2 and self._away_seconds >= LONGEST_AWAY_SECONDS:
            logger.error(
                "the database stays away: %s jobs are left to the next worker, and %s lines are lost",
                len(self._running),
                self._writer.abandon(),
            )

    def _has_queued_jobs(self) -> bool:
        try:
            return Job.objects.queued().filter(host=self.host).exists()
        except Exception as error:
            if not is_away(error):
                raise
            connection.close()
            return True

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

    # --- Outages ------------------------------------------------------------------------------

    def _register(self) -> Worker:
        worker = register_worker(
            self.host, concurrency=self.concurrency, is_claiming=settings.JOB_WORKER_ENABLED
        )
        outage_log.end()
        return worker

    def _until_it_answers(self, act: Callable[[], T]) -> T:
        """Call `act` until the database answers, and return its result. After `stop`, raise its error."""
        while True:
            try:
                return act()
            except Exception as error:
                if self._stops or not is_away(error):
                    raise
                outage_log.tell(OUTAGE, error)
                write_watch.note(error)
                connection.close()
                self._wake.wait(settings.JOB_WORKER_POLL_SECONDS)

    def _note_outage(self, error: Exception) -> None:
        outage_log.tell(OUTAGE, error)
        connection.close()
        self._away_since = self._away_since or monotonic()
        # By the time the database answers, other workers may have failed the jobs that have not begun here. So
        # these are not begun but given back, which affects only those that are still this worker's. If the
        # commit of their claim was not confirmed, it may have succeeded. Until they are given back they count
        # as running here: the worker does not end.
        self._to_give_back += self._claimed
        self._claimed = []

    def _pause_for_outage(self) -> None:
        """Wait the longer, the longer the outage lasts, but for no signal.

        The next connection counts as a change, so while the database can be read and not written, waiting for
        one would not wait at all.
        """
        seconds = max(FIRST_RETRY_SECONDS, self._away_seconds)
        seconds = min(seconds, settings.JOB_WORKER_POLL_SECONDS, self.longest_turn_seconds)
        until, stops = monotonic() + seconds, self._stops
        # Jobs that go on reporting wake this thread. Only a stop is a reason to try again sooner.
        while self._stops == stops and (left := until - monotonic()) > 0:
            self._wake.wait(left)
        self._may_have_requests = True

    @property
    def _away_seconds(self) -> float:
        return 0.0 if self._away_since is None else monotonic() - self._away_since


def worker_loop(
    *,
    host: Host | None = None,
    concurrency: int | None = None,
    until_empty: bool = False,
    on_ready: Callable[[], None] = lambda: None,
    on_turn: Callable[[int, bool], None] = lambda _running_jobs, _is_stopping: None,
    longest_turn_seconds: float = math.inf,
) -> None:
    """Run a worker of `host` in this process's main thread, until SIGTERM or SIGINT or an empty queue."""
    loop = WorkerLoop(
        host=host or Host.local(),
        concurrency=concurrency or settings.JOB_WORKER_CONCURRENCY,
        until_empty=until_empty,
        on_ready=on_ready,
        on_turn=on_turn,
        longest_turn_seconds=longest_turn_seconds,
    )
    with signals_stop(loop):
        loop.run()


@contextmanager
def signals_stop(loop: WorkerLoop) -> Iterator[None]:
    """Make SIGTERM and SIGINT stop `loop`; only a process's main thread can."""
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
