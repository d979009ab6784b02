"""Runs one job in the calling thread, for scripts: claims, plans, carries out and stores it as a worker does.

Unlike a worker, this does not wait at the job's end while the database is away: it raises the error. A worker
then fails the job, once this process has ended or its lease is over.
"""

import logging
import threading
from time import sleep
from typing import Self

from django.conf import settings
from django.db import connection
from django.utils import timezone

from hostops.specs import CancelToken
from jobs.claimed_jobs import ClaimedJob
from jobs.database import is_away
from jobs.logs import LogWriter
from jobs.models import Job, JobState
from jobs.queue import Heartbeat, claim_next_job, register_worker, store_desired_states
from jobs.worker.execution import execute, plan, release_connection
from servers.models import Host

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.05
"""How often it is checked whether somebody has asked to cancel the job."""


def run_worker_once(host: Host | None = None) -> bool:
    """Claim one job of `host` (by default the one that the settings name) and run it in this thread.

    Returns whether there was one. Like any worker, it claims nothing while `JOB_WORKER_ENABLED` is false.
    """
    if not settings.JOB_WORKER_ENABLED:
        return False
    worker = register_worker(host or Host.local(), concurrency=1, is_claiming=True)
    job = claim_next_job(worker)
    if job is None:
        return False
    with Heartbeat(worker, is_claiming=lambda: True):
        carry_out(ClaimedJob.of(job), CancelToken())
    return True


def run_job(job_id: int, *, cancel: CancelToken | None = None) -> None:
    """Carry out a claimed job in this thread: read what it needs, drive the host, store the outcome.

    Does not raise the job's errors (see `execution`). Raises ValueError for a job that is not running.
    """
    job = Job.objects.select_related("server__host", "server__blueprint", "host", "worker").get(
        pk=job_id
    )
    if job.state != JobState.RUNNING:
        raise ValueError(f"Job {job.id} is {job.state}: claim it before running it.")
    claimed = ClaimedJob.of(job)
    # A script may have made the row without a claim.
    store_desired_states([claimed], timezone.now())
    cancel = cancel or CancelToken()
    if job.cancel_requested_at:
        cancel.cancel()
    carry_out(claimed, cancel)


def carry_out(job: ClaimedJob, cancel: CancelToken) -> None:
    """Carry out a job whose claim is committed, or made in the transaction that is open here."""
    planned = plan(job)
    release_connection()
    if connection.in_atomic_block:
        execute(planned, DirectLogWriter(job, cancel), cancel)
        return
    with OwnLogWriter(job, cancel) as writer:
        execute(planned, writer, cancel)


class OwnLogWriter(LogWriter):
    """A log writer with a thread of its own: it stores what is due, and passes on a request to cancel the job.

    Used in a `with` block. At its end, what the thread could not store is stored in the calling thread, which
    raises what the database raises.
    """

    def __init__(self, job: ClaimedJob, cancel: CancelToken) -> None:
        self._due = threading.Event()
        super().__init__(
            on_due=self._due.set, on_settled=note_end, on_given_up=lambda _job: cancel.cancel()
        )
        self._job = job
        self._cancel = cancel
        self._is_over = False
        self._fault: Exception | None = None
        self._thread = threading.Thread(target=self._store_on, name=f"log of job {job.id}")

    def __enter__(self) -> Self:
        """Begin to store."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Store the rest."""
        self._is_over = True
        self._due.set()
        self._thread.join()
        if self._fault:
            raise self._fault
        while not self.is_idle:
            self.store()

    def _store_on(self) -> None:
        while not self._is_over:
            self._due.wait(min(self.due_in_seconds(), LOOK_SECONDS))
            self._due.clear()
            try:
                self.store()
                pass_on_cancel_request(self._job, self._cancel)
            except Exception as error:  # noqa: BLE001 - raised at the end
                connection.close()
                if not is_away(error):
                    # The job's thread must not wait for a place in the log.
                    self._fault = error
                    self.abandon()
                    return
                sleep(LOOK_SECONDS)
        connection.close()


class DirectLogWriter(LogWriter):
    """A log writer that stores each line in the calling thread, for a transaction that no other thread sees.

    It raises what the database raises. At each line and stage it passes on a request to cancel the job.
    """

    def __init__(self, job: ClaimedJob, cancel: CancelToken) -> None:
        super().__init__(
            on_due=self._store_in_turn,
            on_settled=note_end,
            on_given_up=lambda _job: cancel.cancel(),
            batch_seconds=0,
        )
        self._job = job
        self._cancel = cancel
        self._caller = threading.get_ident()
        self._storing = threading.Lock()  # A command's stdout and stderr come from two threads.

    def line(self, job: ClaimedJob, stream: str, text: str | bytes) -> None:
        """Store a line."""
        super().line(job, stream, text)
        self._after_storing()

    def stage(self, job: ClaimedJob, name: str, progress: int | None) -> None:
        """Store the job's stage and progress."""
        super().stage(job, name, progress)
        self._after_storing()

    def _store_in_turn(self) -> None:
        with self._storing:
            self.store()

    def _after_storing(self) -> None:
        pass_on_cancel_request(self._job, self._cancel)
        # The threads that read a command's output end without closing their connection.
        if threading.get_ident() != self._caller:
            connection.close()


def note_end(job: ClaimedJob, is_stored: bool) -> None:
    """Log that the end of a job was not stored."""
    if not is_stored:
        logger.warning("job %s: its end was not stored", job.id)


def pass_on_cancel_request(job: ClaimedJob, cancel: CancelToken) -> None:
    """Cancel what runs if somebody has asked to cancel the job."""
    if Job.objects.filter(pk=job.id).exclude(cancel_requested_at=None).exists():
        cancel.cancel()
