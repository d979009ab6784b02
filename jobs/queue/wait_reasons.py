"""Says in words what a queued job waits for."""

from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from jobs.models import Job, Worker
from jobs.queue.rules import ActiveJob, Rules
from jobs.queue.scheduler import build_scheduler_state
from servers.durations import describe_age

MOST_EARLIER = 1000
"""How many earlier jobs are checked. With more ahead of it, a job is only said to wait for its turn."""

COLUMNS = ("id", "host_id", "server_id", "operation", "requested_by_id")


def explain_waiting(job: Job) -> str:
    """Return one sentence that says why the queued `job` does not run yet."""
    if job.host is None:
        return _("Its host has been removed, so nobody will carry it out. Cancel it.")
    if job.host.is_draining:
        return _("Waits, because host %(host)s is being drained: it takes no jobs now.") % {
            "host": job.host.name
        }
    workers = list(Worker.objects.alive().filter(host=job.host))
    if not workers:
        return _("Waits for a worker: none is running on host %(host)s.") % {"host": job.host.name}
    if not any(worker.is_claiming for worker in workers):
        return _("Waits, because the worker on host %(host)s takes no jobs now.") % {
            "host": job.host.name
        }
    state = build_scheduler_state(job.host)
    earlier_jobs = read_earlier(job)
    if len(earlier_jobs) > MOST_EARLIER:
        text = _("Waits behind more than %(most)s other jobs of host %(host)s.")
        return text % {"most": f"{MOST_EARLIER:,}", "host": job.host.name}
    # A job that has been claimed since `job` was read does not wait for itself.
    rules = Rules(state.host_id, [running for running in state.running if running.id != job.pk])
    for earlier in earlier_jobs:
        rules.admit(earlier)
    this = ActiveJob(job.pk, job.host_id, job.server_id, job.operation, job.requested_by_id)
    blocker = rules.admit(this)
    if blocker and (blocking := Job.objects.filter(pk=blocker.id).first()):
        words = {"job": describe(blocking)}
        if blocking.started_at is None:
            return _("Waits behind %(job)s, which waits too.") % words
        running_for = timezone.now() - blocking.started_at
        words["duration"] = describe_age(running_for.total_seconds())
        return _("Waits for %(job)s, running for %(duration)s.") % words
    slots = sum(worker.concurrency for worker in workers if worker.is_claiming)
    if sum(running.host_id == state.host_id for running in state.running) >= slots:
        return _("Waits for a free slot: host %(host)s runs %(places)s jobs at a time.") % {
            "host": job.host.name,
            "places": slots,
        }
    return _("Starts in a moment.")


def read_earlier(job: Job) -> list[ActiveJob]:
    """Return the earlier queued jobs of its host, oldest first; at most `MOST_EARLIER` and one more."""
    is_older = Q(created_at__lt=job.created_at) | Q(created_at=job.created_at, pk__lt=job.pk)
    queued = Job.objects.queued().filter(is_older, host=job.host, created_at__lte=job.created_at)
    return [ActiveJob(*row) for row in queued.values_list(*COLUMNS)[: MOST_EARLIER + 1]]


def describe(job: Job) -> str:
    """Return a job in words, such as "start of alpha by kim (job 3)"."""
    words = {"subject": job.subject, "person": job.requested_by_name, "job": job.pk}
    if not job.server_name and not job.overlay_name:
        words["operation"] = job.operation_label
        if job.requested_by_name:
            return _("“%(operation)s” on %(subject)s by %(person)s (job %(job)s)") % words
        return _("“%(operation)s” on %(subject)s (job %(job)s)") % words
    words["operation"] = job.operation_label.lower()
    if job.requested_by_name:
        return _("%(operation)s of %(subject)s by %(person)s (job %(job)s)") % words
    return _("%(operation)s of %(subject)s (job %(job)s)") % words
