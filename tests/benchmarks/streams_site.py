"""The addresses of the product, beside two other ways to stream, and their costs."""

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from django_eventstream import send_event

from jobs.models import JobLog
from l4d2site.urls import urlpatterns as urls_of_product

NAIVE_SECONDS = 0.5
queries = 0


def count_query(execute: Callable[..., Any], *arguments: Any) -> Any:
    """Count a statement, and execute it."""
    global queries  # noqa: PLW0603 - one number for the process
    queries += 1
    return execute(*arguments)


@receiver(connection_created)
def count_queries(connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Count what is executed on a new connection."""
    if count_query not in connection.execute_wrappers:
        connection.execute_wrappers.append(count_query)


def stats(_request: HttpRequest) -> JsonResponse:
    """Return what this process has used so far."""
    status = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines()
    )
    used = os.times()
    return JsonResponse(
        {
            "queries": queries,
            "memory_kib": int(status["VmRSS"].split()[0]),
            "threads": threading.active_count(),
            "cpu_seconds": used.user + used.system,
        }
    )


async def naive(_request: HttpRequest, pk: int) -> StreamingHttpResponse:
    """Follow a job the naive way: each watcher queries the database again and again."""

    async def ask() -> AsyncIterator[str]:
        after = 0
        newest = JobLog.objects.filter(job_id=pk).order_by("-seq")
        if last := await newest.afirst():
            after = last.seq
        yield ": welcome\n\n"
        while True:
            lines = JobLog.objects.filter(job_id=pk, seq__gt=after).order_by("seq")
            async for line in lines:
                after = line.seq
                yield f"id: {line.seq}\nevent: {line.stream}\ndata: {line.line}\n\n"
            await asyncio.sleep(NAIVE_SECONDS)

    return StreamingHttpResponse(ask(), content_type="text/event-stream")


@csrf_exempt
def send(request: HttpRequest) -> HttpResponse:
    """Send a line through django-eventstream, which without Redis reaches its own process only."""
    send_event("log", "message", json.loads(request.body)["line"])
    return HttpResponse()


urlpatterns = [
    *urls_of_product,
    path("bench/stats", stats),
    path("bench/send", send),
    path("bench/naive/<int:pk>", naive),
    path("bench/eventstream/", include("django_eventstream.urls"), {"channels": ["log"]}),
]
