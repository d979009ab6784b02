"""Finds jobs that no worker claims although a live one could, judged by the rows alone."""

from collections.abc import Sequence
from datetime import timedelta

from django.db.models import Q
from django.utils import timezone

from jobs.models import Job, Worker
from jobs.queue.scheduler import build_scheduler_state
from servers.models import Host

CLAIM_SECONDS = 60.0
"""How long a runnable job may wait while a thread is free before the worker counts as stuck."""


def find_overdue_job(host: Host, workers: Sequence[Worker]) -> int | None:
    """Return a job of `host` that one of its live `workers` should have claimed; None if there is none.

    The job is runnable and has waited for `CLAIM_SECONDS`, and a thread is free. No job has begun or ended in
    that time, which could have made this one runnable only just now. A time more than `CLAIM_SECONDS` ahead was
    stored before the clock was set back, and counts as long ago.
    """
    now, wait = timezone.now(), timedelta(seconds=CLAIM_SECONDS)
    lately = (now - wait, now + wait)
    claiming = [
        one for one in workers if one.is_claiming and not lately[0] <= one.started_at <= lately[1]
    ]
    jobs = Job.objects.filter(host=host)
    if not claiming or not jobs.queued().exclude(created_at__range=lately).exists():
        return None
    recent = jobs.filter(updated_at__gte=lately[0])
    if recent.filter(Q(started_at__range=lately) | Q(finished_at__range=lately)).exists():
        return None
    if jobs.running().count() >= sum(one.concurrency for one in claiming):
        return None
    picked = [job.id for job in build_scheduler_state(host).pick(1)]
    overdue = Job.objects.filter(pk__in=picked).exclude(created_at__range=lately)
    return overdue.values_list("pk", flat=True).first()
