"""The views of the streams (Server-Sent Events). `topics` has what they carry, `fan_out` how it is sent."""

import asyncio
import logging
import resource
from collections.abc import Callable
from typing import ParamSpec, cast

from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.core.exceptions import BadRequest, PermissionDenied
from django.db import connection
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from jobs.live.fan_out import Hub
from jobs.live.open_streams import StreamPlace
from jobs.live.page_topics import PageTopic
from jobs.live.stream_access import Permit, permit_for
from jobs.live.topics import ChangesTopic, ConsoleTopic, JobTopic, Topic
from jobs.models import Job
from servers.models import Server
from servers.permissions import Verb, follows_everything
from servers.quotas import most_streams

logger = logging.getLogger(__name__)

P = ParamSpec("P")
MAX_WATCHERS = 5000
"""The most streams of one web process at a time. Beyond this number, which was measured, pages would wait."""
RETRY_SECONDS = 10


@require_GET
async def job_events(request: HttpRequest, pk: int) -> HttpResponseBase:
    """Follow a job: its log after `Last-Event-ID` or `?after=`, its state, and its end."""
    return await follow(request, find_job_topic, request, pk)


@require_GET
async def console_events(request: HttpRequest, name: str) -> HttpResponseBase:
    """Follow a server's console after `Last-Event-ID` or `?after=`."""
    return await follow(request, find_console_topic, request, name)


@require_GET
async def change_events(request: HttpRequest) -> HttpResponseBase:
    """Follow whether anything changes that the person may see."""
    return await follow(request, find_changes_topic, request)


async def follow(
    request: HttpRequest, find_topic: Callable[P, Topic], *args: P.args, **kwargs: P.kwargs
) -> HttpResponseBase:
    """Answer with the events of the topic that `find_topic` returns, unless it refuses."""
    hub = Hub.of_running_loop()
    if hub.open_streams.total >= most_watchers():
        return refuse_for_now()

    def authorize() -> tuple[Topic, Permit, int | None]:
        topic = find_topic(*args, **kwargs)
        return topic, permit_for(request, topic), most_streams(cast("User", request.user))

    topic, permit, most = await sync_to_async(authorize)()
    # A stream may last for days; the connection that authorized it must not.
    await sync_to_async(release_connection)()
    after = read_position(request)
    # Other streams may have begun while this one was authorized. From here to `take_place` nothing else runs.
    if hub.open_streams.total >= most_watchers():
        return refuse_for_now()
    if most is not None and hub.open_streams.of_person(permit.user_id) >= most:
        return refuse_person(most)
    place = take_place(hub, permit)
    response = StreamingHttpResponse(
        hub.watch(topic, after, permit, place), content_type="text/event-stream"
    )
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"  # nginx would keep events back until its buffer is full
    return response


def take_place(hub: Hub, permit: Permit) -> StreamPlace:
    """Count the stream that is about to begin.

    A stream leaves its place when it ends. One that never begins, because its client has gone, never ends; then
    the end of the task that would have sent it frees the place.
    """
    place = hub.open_streams.add(permit.user_id)
    if task := asyncio.current_task():
        task.add_done_callback(lambda _: place.leave())
    return place


def most_watchers() -> int:
    """Return how many streams may be open: each takes a descriptor, and pages need some too."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return MAX_WATCHERS
    return min(MAX_WATCHERS, descriptors * 3 // 4)


def refuse_for_now() -> HttpResponse:
    """Answer that too many streams are open."""
    logger.warning("a stream was refused: %s are open already", most_watchers())
    return refuse(503, _("Too many pages are following this panel live. Try again in a while."))


def refuse_person(most: int) -> HttpResponse:
    """Answer that this person has too many streams open."""
    return refuse(
        429,
        _(
            "You have reached your limit of pages that follow this panel live (%(most)s). Close some "
            "of them, or try again in %(retry_seconds)s seconds."
        )
        % {"most": most, "retry_seconds": RETRY_SECONDS},
    )


def refuse(status: int, text: str) -> HttpResponse:
    """Return an answer that is not a stream, and says when to try again."""
    return HttpResponse(
        text,
        status=status,
        content_type="text/plain; charset=utf-8",
        headers={"Retry-After": str(RETRY_SECONDS), "Cache-Control": "no-store"},
    )


def read_position(request: HttpRequest) -> int:
    """Return the seq after which the watcher wants to begin.

    The header wins: a browser that reconnects sends it, to the same URL as at first.
    """
    text = request.headers.get("Last-Event-ID") or request.GET.get("after") or "0"
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise BadRequest(f"A stream begins behind a line's number, not behind {text!r}.")
    return int(text)


def require_person(request: HttpRequest) -> None:
    """Refuse the anonymous with 403: a stream cannot lead to the sign-in page."""
    if not request.user.is_authenticated:
        raise PermissionDenied(_("Sign in to follow this."))


def find_job_topic(request: HttpRequest, pk: int) -> Topic:
    """Return the topic of a job that the person may see."""
    require_person(request)
    job = get_object_or_404(Job.objects.visible_to(request.user), pk=pk)
    return with_page(request, JobTopic(job.pk))


def find_console_topic(request: HttpRequest, name: str) -> Topic:
    """Return the topic of the console of a server that the person may see."""
    require_person(request)
    server = get_object_or_404(Server.objects.allowed(request.user, Verb.VIEW), name=name)
    return with_page(request, ConsoleTopic(server.pk))


def with_page(request: HttpRequest, log: JobTopic | ConsoleTopic) -> Topic:
    """Return `log`, or with `?page` in the URL everything that its page follows."""
    return PageTopic(log, changes_topic(request)) if "page" in request.GET else log


def find_changes_topic(request: HttpRequest) -> Topic:
    """Return the topic of everything that the person may see."""
    require_person(request)
    return changes_topic(request)


def changes_topic(request: HttpRequest) -> ChangesTopic:
    """Return the topic of changes to everything that the signed-in person may see."""
    return ChangesTopic(None if follows_everything(request.user) else request.user.pk)


def release_connection() -> None:
    """Close this thread's database connection, unless a test's transaction is open on it."""
    if not connection.in_atomic_block:
        connection.close()
