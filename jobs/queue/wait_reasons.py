"""Says in words what a queued job waits for."""

from datetime import timedelta

from django.utils import timezone

from jobs.models import EXCLUSIVE_OPERATIONS, Job, Worker
from jobs.queue.scheduler import build_scheduler_state


def explain_waiting(job: Job) -> str:
    """Return one sentence: why the queued `job` does not run yet, as the rules of the queue have it."""
    if job.host is None:
        return "Its host has been removed: nobody will carry it out. Cancel it."
    if job.host.is_draining:
        return f"Waits, because host {job.host.name} is being drained: it takes no jobs now."
    workers = [worker for worker in Worker.objects.filter(host=job.host) if worker.is_alive]
    if not workers:
        return f"Waits for a worker: none is running on host {job.host.name}."
    if not any(worker.is_claiming for worker in workers):
        return f"Waits, because the worker on host {job.host.name} takes no jobs now."
    running = list(Job.objects.running().filter(host=job.host).order_by("started_at"))
    ahead = find_ahead(job)
    if blocking := find_blocking(job, running):
        return f"Waits for {describe(blocking)}."
    if ahead:
        return f"Waits behind {describe(ahead)}."
    places = sum(worker.concurrency for worker in workers if worker.is_claiming)
    if len(running) >= places:
        return f"Waits for a free place: host {job.host.name} runs {places} jobs at a time."
    return "Starts in a moment."


def find_blocking(job: Job, running: list[Job]) -> Job | None:
    """Return the running job that `job` may not run beside."""
    if job.operation in EXCLUSIVE_OPERATIONS:
        return running[0] if running else None
    for other in running:
        if other.operation in EXCLUSIVE_OPERATIONS:
            return other
    if job.server_id is None:
        return None
    return Job.objects.running().filter(server_id=job.server_id).first()


def find_ahead(job: Job) -> Job | None:
    """Return the queued job that has to run before `job`."""
    earlier = Job.objects.queued().filter(host=job.host, created_at__lte=job.created_at)
    earlier = earlier.exclude(pk=job.pk).exclude(created_at=job.created_at, pk__gt=job.pk)
    if job.operation in EXCLUSIVE_OPERATIONS:
        return earlier.first()
    if build_scheduler_state(job.host).is_exclusive_next:
        return earlier.first()
    return earlier.filter(server_id=job.server_id).first() if job.server_id else None


def describe(job: Job) -> str:
    """Return a job in words, such as "start of alpha by kim, running for 3 min"."""
    asked = f" by {job.requested_by_name}" if job.requested_by_name else ""
    what = f"{job.operation_label.lower()} of {job.subject}{asked} (job {job.pk})"
    if job.started_at is None:
        return f"{what}, which waits too"
    return f"{what}, running for {in_words(timezone.now() - job.started_at)}"


def in_words(duration: timedelta) -> str:
    """Return a duration in its largest unit."""
    seconds = max(int(duration.total_seconds()), 0)
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
