"""The streams that browsers follow (Server-Sent Events). What they carry is in `topics`, how in `hub`."""

from collections.abc import Callable
from typing import ParamSpec

from asgiref.sync import sync_to_async
from django.core.exceptions import BadRequest, PermissionDenied
from django.db import connection
from django.http import HttpRequest, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_GET

from jobs.hub import Hub
from jobs.models import Job
from jobs.topics import ChangesTopic, ConsoleTopic, JobTopic, Topic
from servers.models import Server

P = ParamSpec("P")


@require_GET
async def job_events(request: HttpRequest, pk: int) -> StreamingHttpResponse:
    """Follow a job: its log from `Last-Event-ID` or `?after=` on, its state, and its end."""
    return await follow(request, find_job_topic, request, pk)


@require_GET
async def console_events(request: HttpRequest, name: str) -> StreamingHttpResponse:
    """Follow a server's console from `Last-Event-ID` or `?after=` on."""
    return await follow(request, find_console_topic, request, name)


@require_GET
async def change_events(request: HttpRequest) -> StreamingHttpResponse:
    """Follow whether anything changes that the person may see."""
    return await follow(request, find_changes_topic, request)


async def follow(
    request: HttpRequest, find_topic: Callable[P, Topic], *args: P.args, **kwargs: P.kwargs
) -> StreamingHttpResponse:
    """Answer with the events of the topic that `find_topic` returns, if it does not refuse."""
    after = read_position(request)
    topic = await sync_to_async(find_topic)(*args, **kwargs)
    # A stream may last for days; the connection that authorized it must not.
    await sync_to_async(release_connection)()
    response = StreamingHttpResponse(
        Hub.of_running_loop().watch(topic, after), content_type="text/event-stream"
    )
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"  # nginx would keep events back until its buffer is full
    return response


def read_position(request: HttpRequest) -> int:
    """Return the seq behind which the watcher wants to begin.

    The header wins: a browser sends it when it comes back, to the address that it had at first.
    """
    text = request.headers.get("Last-Event-ID") or request.GET.get("after") or "0"
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise BadRequest(f"A stream begins behind a line's number, not behind {text!r}.")
    return int(text)


def require_person(request: HttpRequest) -> None:
    """Refuse the anonymous with 403: a stream cannot lead to the sign-in page."""
    if not request.user.is_authenticated:
        raise PermissionDenied("Sign in to follow this.")


def find_job_topic(request: HttpRequest, pk: int) -> Topic:
    """Return the topic of a job that the person may see."""
    require_person(request)
    return JobTopic(get_object_or_404(Job.objects.visible_to(request.user), pk=pk).pk)


def find_console_topic(request: HttpRequest, name: str) -> Topic:
    """Return the topic of the console of a server that the person may see."""
    require_person(request)
    return ConsoleTopic(get_object_or_404(Server.objects.visible_to(request.user), name=name).pk)


def find_changes_topic(request: HttpRequest) -> Topic:
    """Return the topic of everything that the person may see."""
    require_person(request)
    return ChangesTopic(None if request.user.is_staff else request.user.pk)


def release_connection() -> None:
    """Close this thread's database connection, unless a test's transaction is open on it."""
    if not connection.in_atomic_block:
        connection.close()
