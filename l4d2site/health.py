"""Whether the panel works, for whoever watches it."""

import logging

from django.conf import settings
from django.db import Error as DatabaseError
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from jobs.models import Worker

logger = logging.getLogger(__name__)


@require_safe
@never_cache
def healthz(request: HttpRequest) -> JsonResponse:  # noqa: ARG001 - every view takes it
    """Answer 200 if the web process, the database and a worker are there, else 503 with the reason.

    It needs no sign-in, and tells nothing but what a monitor has to know.
    """
    try:
        workers = list(Worker.objects.alive().select_related("host"))
    except DatabaseError:
        logger.exception("healthz: the database does not answer")
        return unhealthy("The database does not answer.", database="away", workers=[])
    now = timezone.now()
    described = [
        {
            "host": worker.host.name,
            "pid": worker.pid,
            "heartbeat_age_seconds": round((now - worker.heartbeat_at).total_seconds(), 1),
            "is_claiming": worker.is_claiming,
        }
        for worker in workers
    ]
    if not workers:
        lease = f"{settings.JOB_WORKER_LEASE_SECONDS:g}"
        return unhealthy(f"No worker has sent a heartbeat in the last {lease} seconds.", workers=[])
    return JsonResponse({"status": "ok", "web": "ok", "database": "ok", "workers": described})


def unhealthy(reason: str, *, database: str = "ok", workers: list[object]) -> JsonResponse:
    """Return the answer of a panel that cannot do its work."""
    answer = {
        "status": "unhealthy",
        "reason": reason,
        "web": "ok",
        "database": database,
        "workers": workers,
    }
    return JsonResponse(answer, status=503)
