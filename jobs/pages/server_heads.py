"""The head of every page of a server: its state in words, its buttons, and what its job does."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _

from jobs.models import STARTS, DeferredAction, Job, JobLog, JobState
from jobs.queue import explain_waiting
from servers.config import describe_waiting, find_way_back
from servers.models import ActualState, Crash, Run, Server
from servers.pages import Renewal, choose_renewal
from servers.permissions import Person, Verb, may, verbs_of

LINES_OF_FAILURE = 8


@dataclass(frozen=True)
class Strip:
    """What a server's pages show of its jobs: the running one, else the next one, else the last one.

    `waiting` is what a queued one waits for; `behind_count` jobs of the server wait behind it. A failed start
    `is_overcome` if the server runs all the same.
    """

    job: Job
    is_in_hand: bool
    waiting: str = ""
    behind_count: int = 0
    failure_lines: tuple[JobLog, ...] = ()
    way_back: Run | None = None
    is_overcome: bool = False


@dataclass(frozen=True)
class Tab:
    """One of the pages of a server."""

    name: str
    label: str
    url: str
    count: int = 0


def describe_head(
    request: HttpRequest, server: Server, tab: str, *, has_form: bool = True
) -> dict[str, Any]:
    """Return what `servers/_page.html` shows around a server's tab `tab`. About a dozen queries.

    `has_form` is whether the tab has something to fill in, which a page that renews itself would take away.
    """
    verbs = verbs_of(request.user, server)
    strip = read_strip(request.user, server)
    crashes = server.crashes.count()
    return {
        "server": server,
        "verbs": verbs,
        "operations": server.operations_for(request.user),
        "tab": tab,
        "tabs": list_tabs(server, verbs, crashes),
        "here": request.path,
        "strip": strip,
        "renewal": find_renewal(server, strip, has_form=has_form),
        "is_last_error_told": is_told(server, strip),
        "deferred": DeferredAction.objects.filter(server=server).first(),
        "waiting": describe_waiting(server),
        "up_since": find_start(server),
        "crash": find_crash(server) if crashes else None,
        "removal_obstacle": server.removal_obstacle() if Verb.REMOVE in verbs else "",
    }


def find_renewal(server: Server, strip: Strip | None, *, has_form: bool) -> Renewal:
    """Return how a page of a server is renewed without scripts."""
    job = strip.job if strip else None
    # What waits while the server runs can take long: people go on using the page.
    is_used = has_form or (server.is_up and job is not None and job.state == JobState.QUEUED)
    return choose_renewal(is_running=job is not None and job.is_active, has_form=is_used)


def read_strip(user: Person, server: Server) -> Strip | None:
    """Return the strip about a server's jobs; None if it never had one."""
    active = sorted(
        server.jobs.active().select_related("host", "server", "run"),
        key=lambda job: (job.state != JobState.RUNNING, job.pk),
    )
    job = active[0] if active else server.jobs.select_related("run").first()
    if job is None:
        return None
    job.server = server
    is_in_hand = may(user, job.verb, server)
    if job.state == JobState.QUEUED:
        return Strip(job, is_in_hand, explain_waiting(job), len(active) - 1)
    if job.state != JobState.FAILED:
        return Strip(job, is_in_hand, behind_count=max(len(active) - 1, 0))
    is_way_back_wanted = job.operation in STARTS and not server.is_up and is_in_hand
    return Strip(
        job,
        is_in_hand,
        failure_lines=tuple(job.last_lines(LINES_OF_FAILURE)),
        way_back=find_way_back(server) if is_way_back_wanted else None,
        is_overcome=job.operation in STARTS and server.actual_state == ActualState.RUNNING,
    )


def is_told(server: Server, strip: Strip | None) -> bool:
    """Return whether the strip already shows the server's last error, which contains its job's error."""
    return bool(strip and strip.job.error and strip.job.error in server.last_error)


def list_tabs(server: Server, verbs: frozenset[str], crashes: int) -> list[Tab]:
    """Return the pages of a server that a user with these `verbs` may see."""
    tabs = [Tab("console", _("Console"), server.get_absolute_url())]
    if Verb.CONFIGURE in verbs:
        tabs.append(Tab("config", _("Config"), reverse("servers:config", args=[server.name])))
    return [
        *tabs,
        Tab("map", _("Map"), reverse("jobs:map", args=[server.name])),
        Tab("players", _("Players"), reverse("jobs:players", args=[server.name])),
        Tab("starts", _("History"), reverse("servers:starts", args=[server.name])),
        Tab("jobs", _("Jobs"), reverse("servers:history", args=[server.name])),
        Tab("crashes", _("Crashes"), reverse("servers:crashes", args=[server.name]), crashes),
        Tab("people", _("People"), reverse("server_people", args=[server.name])),
    ]


def find_start(server: Server) -> datetime | None:
    """Return since when a server has been running; None if it does not run, or that is unknown.

    A start by a job is recorded with the job's end, a restart after a crash by the console that it began.
    """
    if server.actual_state != ActualState.RUNNING or server.not_heard_of_since:
        return None
    starts = list(server.runs.values_list("started_at", flat=True)[:1])
    if server.console_run_started_at:
        starts.append(datetime.fromtimestamp(server.console_run_started_at, UTC))
    return max(starts, default=None)


def find_crash(server: Server) -> Crash | None:
    """Return the crash because of which a server is down; None if it is not down after a crash."""
    is_crashed = server.actual_state == ActualState.CRASHED and not server.not_heard_of_since
    return server.crashes.first() if is_crashed else None
