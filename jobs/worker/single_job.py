"""One job in the calling thread, for scripts: claimed, planned, carried out and stored as a worker does it.

Unlike a worker, this does not wait for a database that is away: what that raises comes out. The job is then
failed by the next worker, as any is whose process has ended.
"""

import logging
import threading

from django.conf import settings
from django.db import connection

from hostops.specs import CancelToken
from jobs.logs import LogWriter
from jobs.models import Job, JobState
from jobs.queue import Heartbeat, claim_next_job, register_worker
from jobs.worker.execution import execute, plan, release_connection
from servers.models import Host

logger = logging.getLogger(__name__)


def run_worker_once(host: Host | None = None) -> bool:
    """Claim one job of `host` (by default the one that the settings name) and run it in this thread.

    Returns whether there was one. Claims nothing, as any worker, while `JOB_WORKER_ENABLED` is false.
    """
    if not settings.JOB_WORKER_ENABLED:
        return False
    worker = register_worker(host or Host.local(), concurrency=1, is_claiming=True)
    job = claim_next_job(worker)
    if job is None:
        return False
    with Heartbeat(worker, is_claiming=lambda: True):
        carry_out(job, CancelToken())
    return True


def run_job(job_id: int, *, cancel: CancelToken | None = None) -> None:
    """Carry out a claimed job in this thread: read what it needs, drive the host, store the outcome.

    Raises nothing that the job did wrong (see `execution`), but ValueError for one that is not running.
    """
    job = Job.objects.select_related("server__host", "server__blueprint", "host", "worker").get(
        pk=job_id
    )
    if job.state != JobState.RUNNING:
        raise ValueError(f"Job {job.id} is {job.state}: claim it before running it.")
    carry_out(job, cancel or CancelToken())


def carry_out(job: Job, cancel: CancelToken) -> None:
    """Carry out a job whose claim is committed."""
    planned = plan(job)
    release_connection()
    execute(planned, OwnLogWriter(job, cancel), cancel)


class OwnLogWriter(LogWriter):
    """A log writer that stores what it is given in the thread that brings it, as no other is there to do it.

    It raises what the database raises. A request to cancel the job is passed on at each line and stage.
    """

    def __init__(self, job: Job, cancel: CancelToken) -> None:
        super().__init__(
            on_due=self._store_in_turn,
            on_settled=self._note_end,
            on_lease_lost=lambda _job: cancel.cancel(),
            batch_seconds=0,
        )
        self._this = Job.objects.filter(pk=job.pk)
        self._cancel = cancel
        self._caller = threading.get_ident()
        self._turn = threading.Lock()  # A command's two outputs come from two threads.

    def line(self, job: Job, stream: str, text: str | bytes) -> None:
        """Store a line."""
        super().line(job, stream, text)
        self._after_storing()

    def stage(self, job: Job, name: str, progress: int | None) -> None:
        """Store where the job is."""
        super().stage(job, name, progress)
        self._after_storing()

    def _store_in_turn(self) -> None:
        with self._turn:
            self.store()

    def _note_end(self, job: Job, is_stored: bool) -> None:
        if not is_stored:
            logger.warning("job %s: its end was not stored here", job.pk)

    def _after_storing(self) -> None:
        self._pass_on_cancel_request()
        # Threads that read a command's output end without closing what they opened.
        if threading.get_ident() != self._caller:
            connection.close()

    def _pass_on_cancel_request(self) -> None:
        if self._this.exclude(cancel_requested_at=None).exists():
            self._cancel.cancel()
