"""The worker: claims jobs and carries them out, several at a time, until it is told to stop.

The main thread claims and listens for changes; executor threads drive the host; one thread stores all
log lines (`jobs.logs`); one beats, recovers what other workers left, and watches the host (`jobs.watch`).
"""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from subprocess import CalledProcessError
from time import monotonic
from types import FrameType
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from hostops.errors import OperationCancelled
from hostops.specs import CancelToken
from jobs import operations
from jobs.liveness import beat, register_worker
from jobs.logs import DirectLog, JobSink, LogWriter
from jobs.models import Job, JobState, LogStream, Operation, Worker
from jobs.queue import claim_next_job, fail_stale_job, finish_job, recover_stale_jobs
from jobs.wakeup import ChangeSignal, Channel, Interrupt, open_change_signal
from jobs.watch import HostWatch
from servers.models import ActualState, DesiredState, Host

logger = logging.getLogger(__name__)

DATABASE_AWAY = (OperationalError, InterfaceError)


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
    with beating(worker):
        run_job(job.pk)
    return True


@contextmanager
def beating(worker: Worker) -> Iterator[None]:
    """Keep the heartbeat of `worker` going, from a thread of its own."""
    is_over = threading.Event()

    def keep_beating() -> None:
        while not is_over.wait(settings.JOB_WORKER_LEASE_SECONDS / 4):
            try:
                beat(worker, is_claiming=True)
            except DATABASE_AWAY:
                logger.warning("the heartbeat of %s cannot be stored", worker)
        connection.close()

    thread = threading.Thread(target=keep_beating, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def run_job(job_id: int, *, sink: JobSink | None = None, cancel: CancelToken | None = None) -> None:
    """Carry out a claimed job: read what it needs, drive the host, store the outcome.

    Raises nothing that the job did wrong: whatever it was, it is in the job's row, its log, and, if it
    was not the host layer's own word, with its traceback in the process log. Holds no transaction and no
    connection while the host is driven.
    """
    job = Job.objects.select_related("server__host", "server__blueprint", "host").get(pk=job_id)
    cancel = cancel or CancelToken()
    sink = sink or DirectLog(on_cancel_request=cancel.cancel)
    if job.state != JobState.RUNNING:
        raise ValueError(f"Job {job.pk} is {job.state}: claim it before running it.")
    logger.info("job %s: %s of %s begins", job.pk, job.operation, job.subject)
    outcome = carry_out(job, sink, cancel)
    server_changes = learn_from(job, outcome)
    release_connection()
    is_stored = sink.finish(
        job,
        lambda: finish_job(
            job,
            exit_code=outcome.exit_code,
            error=outcome.error,
            state=outcome.state,
            server_changes=server_changes,
        ),
    )
    if is_stored:
        logger.info("job %s: %s", job.pk, outcome.state)
    else:
        logger.warning("job %s: ended %s, but its lease was lost before", job.pk, outcome.state)


@dataclass(frozen=True)
class Outcome:
    """How a job ended; `error` is one line for people."""

    state: JobState
    exit_code: int | None
    error: str = ""


def carry_out(job: Job, sink: JobSink, cancel: CancelToken) -> Outcome:
    """Drive the host as the job says, its output into `sink`; return how it ended."""

    def on_line(stream: str, text: str) -> None:
        sink.line(job, stream, text)

    def on_stage(name: str, progress: int | None = None) -> None:
        sink.stage(job, name, progress)

    def fail(exit_code: int, error: Exception, output: str) -> Outcome:
        for line in output.splitlines():
            sink.line(job, LogStream.STDERR, line)
        return Outcome(JobState.FAILED, exit_code, str(error) or type(error).__name__)

    try:
        cancel.raise_if_cancelled()
        operate = operations.prepare(job)
        release_connection()
        operate(on_line=on_line, on_stage=on_stage, cancel=cancel)
    except OperationCancelled:
        sink.line(job, LogStream.STDERR, cancel.reason)
        return Outcome(JobState.CANCELLED, None, cancel.reason)
    except CalledProcessError as error:
        rest = (
            error.stderr.decode(errors="replace")
            if isinstance(error.stderr, bytes)
            else error.stderr
        )
        logger.info("job %s: %s", job.pk, error)
        return fail(error.returncode, error, f"{rest or ''}\n{error}")
    except Exception as error:
        logger.exception("job %s: %s of %s failed", job.pk, job.operation, job.subject)
        return fail(1, error, str(error) or type(error).__name__)
    return Outcome(JobState.SUCCEEDED, 0)


def learn_from(job: Job, outcome: Outcome) -> dict[str, Any]:
    """Ask the host what the job left behind; return what is to be stored in the server's row."""
    if job.server is None:
        if job.operation == Operation.INSTALL and job.host:
            try:
                operations.report_host(job.host)
            except Exception:
                logger.exception("job %s: host %s cannot be read", job.pk, job.host)
        return {}
    actual_state = operations.read_actual_state(job.server)
    changes: dict[str, Any] = {"actual_state": actual_state, "actual_state_at": timezone.now()}
    if actual_state == ActualState.ABSENT:
        # The runs of its next instance are counted from the first one again.
        changes |= {"console_run": 0, "console_offset": 0}
    if outcome.state == JobState.SUCCEEDED:
        changes["last_error"] = ""
    elif outcome.state == JobState.FAILED:
        changes["last_error"] = f"{job.operation_label}: {outcome.error}"
    else:
        # Who cancels a start does not want the server started later; what is, is now what is wanted.
        is_up = actual_state in (ActualState.STARTING, ActualState.RUNNING)
        changes["desired_state"] = DesiredState.RUNNING if is_up else DesiredState.STOPPED
    return changes


def release_connection() -> None:
    """Give back this thread's database connection, unless a caller's transaction is open on it."""
    if not connection.in_atomic_block:
        connection.close()


@dataclass
class WorkerLoop:
    """One worker process. `run` blocks until `stop` was called, or until the queue is empty.

    The first `stop` drains: nothing more is claimed, and what runs may finish within the grace time. The
    second cancels what runs. Game servers go on running either way.
    """

    host: Host
    concurrency: int
    until_empty: bool = False
    on_ready: Callable[[], None] = lambda: None
    _worker: Worker = field(init=False)
    _signal: ChangeSignal = field(init=False)
    _writer: LogWriter = field(init=False)
    _wake: Interrupt = field(default_factory=Interrupt)
    _is_over: threading.Event = field(default_factory=threading.Event)
    _running: dict[int, CancelToken] = field(default_factory=dict)
    _running_lock: threading.Lock = field(default_factory=threading.Lock)
    _unknown: set[int] = field(default_factory=set)
    _stops: int = 0
    _drain_until: float = 0.0

    def stop(self) -> None:
        """Ask for the end; the second time, impatiently. May be called from a signal handler."""
        self._stops += 1
        self._drain_until = monotonic() + settings.JOB_WORKER_GRACE_SECONDS
        self._wake.set()

    def run(self) -> None:
        """Work until the end."""
        self._worker = register_worker(
            self.host, concurrency=self.concurrency, is_claiming=settings.JOB_WORKER_ENABLED
        )
        self._signal = open_change_signal(Channel.QUEUE, settings.JOB_WORKER_POLL_SECONDS)
        self._writer = LogWriter(on_lease_lost=self._cancel_job)
        self._writer.start()
        self._recover()
        chores = threading.Thread(target=self._do_chores, name="chores", daemon=True)
        chores.start()
        logger.info("%s is ready, %s jobs at a time", self._worker, self.concurrency)
        self.on_ready()
        with ThreadPoolExecutor(self.concurrency, thread_name_prefix="job") as executor:
            while not self._is_done():
                try:
                    has_claimed = self._claim(executor)
                    self._pass_on_cancel_requests()
                except DATABASE_AWAY as error:
                    logger.warning("the database does not answer: %s", error)
                    connection.close()
                    has_claimed = False
                if not has_claimed and not self._is_done():
                    self._signal.wait(settings.JOB_WORKER_POLL_SECONDS, self._wake)
        self._writer.close()
        self._is_over.set()
        chores.join()
        self._signal.close()
        self._say_goodbye()

    @property
    def is_claiming(self) -> bool:
        """Whether the worker takes jobs."""
        return settings.JOB_WORKER_ENABLED and not self._stops

    def _is_done(self) -> bool:
        with self._running_lock:
            is_idle = not self._running
        if self._stops >= 2 or (self._stops == 1 and monotonic() > self._drain_until):
            self._cancel_all()
        if self._stops:
            return is_idle
        return self.until_empty and is_idle and not self._has_queued_jobs()

    def _has_queued_jobs(self) -> bool:
        try:
            return Job.objects.queued().filter(host=self.host).exists()
        except DATABASE_AWAY:
            return True

    def _claim(self, executor: ThreadPoolExecutor) -> bool:
        """Claim a job and hand it to the executor; True: there may be another one."""
        with self._running_lock:
            is_full = len(self._running) >= self.concurrency
        if is_full or not self.is_claiming:
            return False
        job = claim_next_job(self._worker)
        if job is None:
            return False
        with self._running_lock:
            self._running[job.pk] = CancelToken()
        executor.submit(self._run_job, job.pk)
        return True

    def _run_job(self, job_id: int) -> None:
        try:
            run_job(job_id, sink=self._writer, cancel=self._running[job_id])
        except Exception:
            logger.exception("job %s: lost by the worker", job_id)
        finally:
            connection.close()
            with self._running_lock:
                del self._running[job_id]
            self._wake.set()

    def _pass_on_cancel_requests(self) -> None:
        with self._running_lock:
            waiting = [job_id for job_id, token in self._running.items() if not token.is_cancelled]
        if waiting:
            requested = Job.objects.filter(pk__in=waiting, cancel_requested_at__isnull=False)
            for job in requested.only("pk"):
                self._cancel_job(job)

    def _cancel_job(self, job: Job, reason: str = "Cancelled on request.") -> None:
        with self._running_lock:
            token = self._running.get(job.pk)
        if token:
            token.cancel(reason)

    def _cancel_all(self) -> None:
        with self._running_lock:
            tokens = list(self._running.values())
        for token in tokens:
            token.cancel("Cancelled because the worker was stopped.")

    def _do_chores(self) -> None:
        """Beat, recover and watch, each in its own rhythm, until the end."""
        watch = HostWatch(self.host)
        chores = [
            Chore(self._beat, settings.JOB_WORKER_LEASE_SECONDS / 6),
            Chore(self._recover, settings.JOB_WORKER_LEASE_SECONDS / 6),
            Chore(watch.report_host, 60),
            Chore(watch.store_states, 2),
            Chore(watch.copy_consoles, 0.15),
        ]
        while not self._is_over.wait(0.05):
            for chore in chores:
                chore.do_if_due()
        chores[-1].do_if_due()
        connection.close()

    def _beat(self) -> None:
        beat(self._worker, is_claiming=self.is_claiming)

    def _recover(self) -> None:
        """Fail the jobs of workers that are gone, and those of this one that it knows nothing of."""
        stale = recover_stale_jobs()
        with self._running_lock:
            known = set(self._running)
        # Claimed in this moment or ended in it: `_claim` and `_run_job` hold such a job for an instant.
        mine = Job.objects.running().filter(worker=self._worker).exclude(pk__in=known)
        stale += [job for job in mine if job.pk in self._unknown and fail_stale_job(job)]
        self._unknown = {job.pk for job in mine}
        for job in stale:
            if job.server and job.server.host_id == self.host.pk:
                job.server.record_actual_state(operations.read_actual_state(job.server))

    def _say_goodbye(self) -> None:
        try:
            Worker.objects.filter(pk=self._worker.pk).update(
                stopped_at=timezone.now(), is_claiming=False
            )
        except DATABASE_AWAY:
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
        except DATABASE_AWAY as error:
            logger.warning("%s: the database does not answer: %s", self._do.__name__, error)
            connection.close()
        except Exception:
            logger.exception("%s failed", self._do.__name__)
        self._due_at = monotonic() + self._interval_seconds


def worker_loop(
    *,
    host: Host | None = None,
    concurrency: int | None = None,
    until_empty: bool = False,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Run a worker of `host` in this process's main thread until SIGTERM or SIGINT, or the queue is empty."""
    loop = WorkerLoop(
        host=host or Host.local(),
        concurrency=concurrency or settings.JOB_WORKER_CONCURRENCY,
        until_empty=until_empty,
        on_ready=on_ready,
    )
    with signals_stop(loop):
        loop.run()


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
