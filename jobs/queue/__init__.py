"""The queue: which job may run next, how jobs change their state, and whether a worker is alive.

One change is in `jobs.logs`: a worker stores the end of a job with its last lines. Nothing here touches a host.
"""

from jobs.queue.deferrals import carry_out_deferral, defer, end_deferral, forget_deferral
from jobs.queue.liveness import (
    ClaimPulse,
    Heartbeat,
    LeaseWatch,
    record_gone_workers,
    register_worker,
)
from jobs.queue.overdue import CLAIM_SECONDS, find_overdue_job
from jobs.queue.requests import (
    ContentRefused,
    Requested,
    RequestRefused,
    TooManyWaiting,
    enqueue,
    request,
    retry,
)
from jobs.queue.scheduler import build_scheduler_state, lock_host
from jobs.queue.transitions import (
    WORKER_LOST_JOB,
    cancel,
    cancel_restored,
    claim_jobs,
    claim_next_job,
    fail_stale_job,
    finish_job,
    give_back,
    prune_jobs,
    read_cancel_requests,
    recover_stale_jobs,
    store_desired_states,
)
from jobs.queue.wait_reasons import explain_waiting

__all__ = [
    "CLAIM_SECONDS",
    "WORKER_LOST_JOB",
    "ClaimPulse",
    "ContentRefused",
    "Heartbeat",
    "LeaseWatch",
    "RequestRefused",
    "Requested",
    "TooManyWaiting",
    "build_scheduler_state",
    "cancel",
    "cancel_restored",
    "carry_out_deferral",
    "claim_jobs",
    "claim_next_job",
    "defer",
    "end_deferral",
    "enqueue",
    "explain_waiting",
    "fail_stale_job",
    "find_overdue_job",
    "finish_job",
    "forget_deferral",
    "give_back",
    "lock_host",
    "prune_jobs",
    "read_cancel_requests",
    "record_gone_workers",
    "recover_stale_jobs",
    "register_worker",
    "request",
    "retry",
    "store_desired_states",
]
