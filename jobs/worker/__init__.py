"""The worker: the process that claims jobs and carries them out."""

from jobs.worker.deaths import EXIT_STUCK, end_process
from jobs.worker.single_job import run_job, run_worker_once
from jobs.worker.systemd_notify import SystemdNotifier
from jobs.worker.worker_process import worker_loop

__all__ = [
    "EXIT_STUCK",
    "SystemdNotifier",
    "end_process",
    "run_job",
    "run_worker_once",
    "worker_loop",
]
