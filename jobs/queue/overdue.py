"""Finds jobs that no worker takes although one beats and could, judged by the rows alone."""

from collections.abc import Sequence
from datetime import timedelta

from django.db.models import Q
from django.utils import timezone

from jobs.models import ASIDE_OPERATIONS, Job, Worker
from jobs.queue.scheduler import build_scheduler_state
from servers.models import Host

CLAIM_SECONDS = 60.0
"""How long a job that may run can wait beside a free thread until the worker counts as stuck."""


def find_overdue_job(host: Host, workers: Sequence[Worker]) -> int | None:
    """Return a job of `host` that one of its `workers`, which all beat, should have taken; None if none is.

    The job may run and has waited for `CLAIM_SECONDS`, a thread is free, and no job has begun or ended for as
    long: a job that became runnable only just now has not waited.
    """
    limit = timezone.now() - timedelta(seconds=CLAIM_SECONDS)
    claiming = [one for one in workers if one.is_claiming and one.started_at < limit]
    jobs = Job.objects.filter(host=host)
    if not claiming or not jobs.queued().filter(created_at__lt=limit).exists():
        return None
    recent = jobs.filter(updated_at__gte=limit)
    if recent.filter(Q(started_at__gte=limit) | Q(finished_at__gte=limit)).exists():
        return None
    in_places = jobs.running().exclude(operation__in=ASIDE_OPERATIONS)
    if in_places.count() >= sum(one.concurrency for one in claiming):
        return None
    picked = build_scheduler_state(host).pick(1)
    return (
        Job.objects.filter(pk__in=picked, created_at__lt=limit).values_list("pk", flat=True).first()
    )
